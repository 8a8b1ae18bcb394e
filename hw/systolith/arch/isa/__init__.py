"""The instruction set: one declaration per instruction, from which everything else derives.

An instruction is 32 bytes, little endian, fields packed from bit 0 upwards in the order of
declaration; bits above the last field are reserved and zero. The first fields of each are the
opcode and the four *waits*.

Waits are relative. When an instruction is dispatched, `wait_x = n` means: it may start once engine
x has completed all but the `n` most recent of the instructions dispatched to x before it;
:data:`NO_WAIT` asks for nothing. A program therefore cannot wait for something that was dispatched
later, and no queue depth can deadlock it.
"""

from .code import (
    decode,
    disassemble,
    iterate,
)
from .formats import (
    INSTRUCTIONS,
    Drain,
    Elementwise,
    Geometry,
    Halt,
    Load,
    Pass,
    Quantize,
    Store,
    Vector,
)
from .values import (
    AccOp,
    ElementwiseOp,
    FeedMode,
    ParamMode,
    Rounding,
    Space,
    VectorOp,
    WeightMode,
)
from .word import (
    COUNTER_BITS,
    INSTRUCTION_BITS,
    INSTRUCTION_BYTES,
    ISA_VERSION,
    LOCAL_ADDR_BITS,
    NO_WAIT,
    REGION_COUNT,
    WINDOW_ADDR_BITS,
    Engine,
    Instruction,
    Opcode,
    bits,
    field_range,
)

__all__ = [
    "COUNTER_BITS",
    "INSTRUCTIONS",
    "INSTRUCTION_BITS",
    "INSTRUCTION_BYTES",
    "ISA_VERSION",
    "LOCAL_ADDR_BITS",
    "NO_WAIT",
    "REGION_COUNT",
    "WINDOW_ADDR_BITS",
    "AccOp",
    "Drain",
    "Elementwise",
    "ElementwiseOp",
    "Engine",
    "FeedMode",
    "Geometry",
    "Halt",
    "Instruction",
    "Load",
    "Opcode",
    "ParamMode",
    "Pass",
    "Quantize",
    "Rounding",
    "Space",
    "Store",
    "Vector",
    "VectorOp",
    "WeightMode",
    "bits",
    "decode",
    "disassemble",
    "field_range",
    "iterate",
]
