"""The golden machine: executes a program in program order on byte-exact memories.

Program order is one of the legal orders of a race-free program, so waits have no effect here.
A fault is found before its instruction changes anything; in hardware, how much of the faulting
instruction and of those around it has been done is implementation-defined, as is which of several
faults comes first.
"""

from collections.abc import Callable, Sequence

import numpy as np

from systolith.arch import isa, rules
from systolith.arch.config import AcceleratorConfig
from systolith.arch.csr import Fault
from systolith.arch.errors import EncodingError

from . import drains, moves, passes
from .drains import DrainState
from .memory import NO_REGION, MachineFault, Memories, Region, Trap
from .passes import ArrayState

__all__ = ["Machine", "MachineFault", "Region"]

Trace = Callable[[int, isa.Instruction], None]
"""Called with index and instruction after each instruction has completed."""


class Machine:
    """One accelerator.

    Memories keep their contents from program to program. What setup instructions and passes leave
    in the engines is reset to zero at each start.

    Parameters
    ----------
    config : AcceleratorConfig
        Which accelerator.
    trace : callable, optional
        Called as `trace(index, instruction)` after each instruction.

    Attributes
    ----------
    memories : Memories
        Local memories, also reachable as `scratchpad`, `weights`, `params`, `tables` and `acc`.
    regions : list of Region
        DRAM regions of the program that runs or ran last.
    completed : list of int
        Instructions completed by each of the four engines since the start.
    read_bytes : int
        Bytes of read beats since the start, those of the instructions executed included.
    write_bytes : int
        Bytes written to DRAM since the start.
    """

    def __init__(self, config: AcceleratorConfig, *, trace: Trace | None = None) -> None:
        self.config = config
        self.trace = trace
        self.memories = Memories(config)
        self.scratchpad = self.memories.scratchpad
        self.weights = self.memories.weights
        self.params = self.memories.params
        self.tables = self.memories.tables
        self.acc = self.memories.acc
        self.regions: list[Region] = [NO_REGION] * isa.REGION_COUNT
        self._decoded: dict[int, isa.Instruction] = {}
        self._start()

    def _start(self) -> None:
        shape = self.config.rows, self.config.cols
        self._array = ArrayState(tile=np.zeros(shape, np.int8))
        self._drain = DrainState()
        self.completed = [0] * len(isa.Engine.__members__)
        self.read_bytes = 0
        self.write_bytes = 0

    def run(self, code: bytes, regions: Sequence[Region], *, code_addr: int = 0) -> None:
        """Execute a program up to its `HALT`.

        Parameters
        ----------
        code : bytes
            Instructions; those after the first `HALT` have no effect.
        regions : sequence of Region
            At most 8 regions; those not given have no bytes.
        code_addr : int
            Device address of the code, for the fault of a program without `HALT`.

        Raises
        ------
        MachineFault
            The program was stopped.
        ProgramError
            The program asks for something that has no meaning.
        """
        self._start()
        missing = isa.REGION_COUNT - len(regions)
        if missing < 0:
            raise ValueError(f"Regions must be at most {isa.REGION_COUNT}, not {len(regions)}")
        self.regions = [*regions, *[NO_REGION] * missing]
        count = len(code) // isa.INSTRUCTION_BYTES
        for index in range(count):
            start = index * isa.INSTRUCTION_BYTES
            word = int.from_bytes(code[start : start + isa.INSTRUCTION_BYTES], "little")
            self.read_bytes += isa.INSTRUCTION_BYTES
            item = self._decode(word, index)
            try:
                self.execute(item)
            except Trap as trap:
                raise MachineFault(trap.code, item.ENGINE, index, trap.addr) from None
            self.completed[item.ENGINE] += 1
            if self.trace:
                self.trace(index, item)
            if isinstance(item, isa.Halt):
                return
        end = code_addr + count * isa.INSTRUCTION_BYTES
        raise MachineFault(Fault.REGION_BOUNDS, isa.Engine.SEQUENCER, count, end)

    def _decode(self, word: int, index: int) -> isa.Instruction:
        """Decode and check a word; words seen before are remembered, as loops repeat them."""
        item = self._decoded.get(word)
        if item is None:
            code = decode_fault(word, self.config)
            if code != Fault.NONE:
                raise MachineFault(code, isa.Engine.SEQUENCER, index, 0)
            item = self._decoded[word] = isa.decode(word)
        return item

    def execute(self, item: isa.Instruction) -> None:
        """Execute one legal instruction on the present state.

        Raises
        ------
        Trap
            The instruction faults and has changed nothing.
        """
        config, memories = self.config, self.memories
        match item:
            case isa.Load():
                self.read_bytes += moves.load(item, memories, config, self.regions)
            case isa.Store():
                self.write_bytes += moves.store(item, memories, config, self.regions)
            case isa.Geometry():
                self._array.geometry = item
            case isa.Pass():
                passes.execute(item, self._array, memories, config)
            case isa.Quantize():
                self._drain.quantize = item
            case isa.Elementwise():
                self._drain.elementwise = item
            case isa.Drain():
                drains.drain(item, self._drain, memories, config)
            case isa.Vector():
                drains.vector(item, self._drain, memories)


def decode_fault(word: int, config: AcceleratorConfig) -> Fault:
    """Return the fault that decoding an instruction word raises, in the decoder's order of checks.

    First the opcode, then the reserved bits, then enumerated fields and the configuration's rules.
    """
    opcode = word & 0xFF
    if opcode not in isa.INSTRUCTIONS:
        return Fault.ILLEGAL_OPCODE
    cls = isa.INSTRUCTIONS[isa.Opcode(opcode)]
    used = sum(width for name, width in cls.layout() if name != "reserved")
    if word >> used:
        return Fault.RESERVED_BITS
    try:
        rules.check(isa.decode(word), config)
    except EncodingError:
        return Fault.FIELD_RANGE
    return Fault.NONE
