"""Memories of a package: instances of the wrapper modules in place of arrays of registers."""

from collections import Counter
from dataclasses import dataclass

from amaranth.hdl import ClockSignal, Const, Instance, Shape, Value
from amaranth.lib.memory import Memory, ReadPort, WritePort

SYNC_MODULE = "systolith_ram"
ASYNC_MODULE = "systolith_lutram"
"""Modules of `files/systolith_ram.v`, by how their read port works."""


@dataclass(frozen=True, order=True)
class MemoryShape:
    """Parameters of one kind of memory: module, bits of a word, words, write enables."""

    module: str
    width: int
    depth: int
    lanes: int


class PackagePlatform:
    """What Amaranth asks how a memory is made; it makes no other choice.

    Attributes
    ----------
    memories : Counter of MemoryShape
        Memories made so far. Every component of the design has one write and one read port per
        memory, and contents that need no initial value; :meth:`get_memory` refuses others.
    """

    def __init__(self) -> None:
        self.memories: Counter[MemoryShape] = Counter()

    def get_memory(self, memory: Memory) -> Instance:
        """Return the instance that stands for an :class:`amaranth.lib.memory.Memory`."""
        (w_port,), (r_port,) = memory.write_ports, memory.read_ports
        if any(memory.init) or r_port.transparent_for:
            raise ValueError("Memory must have neither initial contents nor transparent ports")
        w_en, width = w_port.en, Shape.cast(memory.shape).width
        shape = MemoryShape(
            ASYNC_MODULE if r_port.domain == "comb" else SYNC_MODULE,
            width,
            memory.depth,
            len(w_en),
        )
        self.memories[shape] += 1
        addr_bits = max(1, len(w_port.addr))
        ports = {"i_r_en": r_port.en} if shape.module == SYNC_MODULE else {}
        return Instance(
            shape.module,
            p_WIDTH=width,
            p_DEPTH=memory.depth,
            p_ADDR_BITS=addr_bits,
            p_LANES=len(w_en),
            i_clk=ClockSignal(w_port.domain),
            i_w_en=w_en,
            i_w_addr=_address(w_port),
            i_w_data=w_port.data,
            i_r_addr=_address(r_port),
            o_r_data=r_port.data,
            **ports,
        )


def _address(port: ReadPort | WritePort) -> Value:
    """Return the address of a port; a memory of one word still has an address of one bit."""
    return port.addr if len(port.addr) else Const(0, 1)
