"""Memories of the golden machine, DRAM regions, and the faults of accesses to them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systolith.arch import isa
from systolith.arch.config import TABLE_COUNT, TABLE_ENTRIES, AcceleratorConfig
from systolith.arch.csr import Fault
from systolith.arch.errors import SystolithError

Bytes = NDArray[np.uint8]
Index = NDArray[np.int64]


class MachineFault(SystolithError):
    """A program was stopped by a fault.

    Parameters
    ----------
    code : Fault
        Reason.
    engine : Engine
        Engine that raised it; `SEQUENCER` for faults of fetch and decode.
    index : int
        Index of the instruction.
    addr : int
        Offending address: DRAM byte address of regions, byte address of the scratchpad and of
        spaces that `LOAD` writes, word of weight buffer and parameter memory, accumulator row;
        0 where none is meant.
    """

    def __init__(self, code: Fault, engine: isa.Engine, index: int, addr: int) -> None:
        self.code = code
        self.engine = engine
        self.index = index
        self.addr = addr
        super().__init__(
            f"Instruction {index} stopped the program with fault {code.name} of {engine.name} "
            f"at address {addr:#x}"
        )


class Trap(Exception):
    """A fault within an instruction, before index and engine are known."""

    def __init__(self, code: Fault, addr: int = 0) -> None:
        self.code = code
        self.addr = addr
        super().__init__(code.name)


@dataclass(frozen=True)
class Region:
    """A DRAM region as a program sees it.

    Parameters
    ----------
    data : uint8[n]
        Memory behind the region, a view that stores write through. Bytes of the region beyond it
        answer with a bus error.
    base : int
        Device address of the first byte, for the addresses of faults.
    read, write : bool
        Permissions.
    size : int, optional
        Bytes of the region; those of `data` if not given.
    """

    data: Bytes
    base: int = 0
    read: bool = True
    write: bool = True
    size: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the region."""
        return self.data.size if self.size is None else self.size


NO_REGION = Region(np.empty(0, np.uint8), read=False, write=False)
"""A region without bytes and permissions: what the registers hold after reset."""


class Memories:
    """Local memories of one accelerator, zero after construction.

    Attributes
    ----------
    scratchpad : uint8[scratchpad_bytes]
    weights : uint8[weight_words, W]
    params : uint8[param_words, W]
    tables : uint8[4, 256]
        Entry `v mod 256` of a table belongs to the int8 value v.
    acc : int32[2 * acc_rows, cols]
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        word = config.weight_word_bytes
        self.scratchpad: Bytes = np.zeros(config.scratchpad_bytes, np.uint8)
        self.weights: Bytes = np.zeros((config.weight_words, word), np.uint8)
        self.params: Bytes = np.zeros((config.param_words, word), np.uint8)
        self.tables: Bytes = np.zeros((TABLE_COUNT, TABLE_ENTRIES), np.uint8)
        self.acc: NDArray[np.int32] = np.zeros((2 * config.acc_rows, config.cols), np.int32)

    def space(self, space: isa.Space) -> Bytes:
        """Return the bytes of a space as one flat view."""
        views = {
            isa.Space.SCRATCHPAD: self.scratchpad,
            isa.Space.WEIGHTS: self.weights,
            isa.Space.PARAMS: self.params,
            isa.Space.TABLES: self.tables,
        }
        return views[space].reshape(-1)


def check_span(start: int, count: int, size: int) -> None:
    """Trap unless words `start` to `start + count - 1` are inside a memory of `size` words.

    Raises
    ------
    Trap
        LOCAL_ADDRESS, with the first word outside.
    """
    if start < 0 or start + count > size:
        raise Trap(Fault.LOCAL_ADDRESS, start if start < 0 else max(start, size))


def check_addresses(addresses: Index, size: int) -> None:
    """Trap unless all byte addresses are inside a memory of `size` bytes.

    Raises
    ------
    Trap
        LOCAL_ADDRESS, with the first address outside, in the array's order.
    """
    flat = addresses.reshape(-1)
    if flat.size and (int(flat.min()) < 0 or int(flat.max()) >= size):
        outside = (flat < 0) | (flat >= size)
        raise Trap(Fault.LOCAL_ADDRESS, int(flat[int(np.argmax(outside))]))
