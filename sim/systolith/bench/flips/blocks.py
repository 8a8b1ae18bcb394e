"""The protected blocks, each with random inputs and what of its outputs counts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from systolith.arch.errors import ToolchainError

from .simulator import TOP, Bits, BlockSimulator, put

_DENSE_STEPS = 4


@dataclass(frozen=True)
class Stimulus:
    """Inputs of a run, and which bits of the outputs count, one row per cycle."""

    inputs: Bits
    mask: Bits


@dataclass(frozen=True)
class Block:
    """A block of the hardware.

    Parameters
    ----------
    name : str
        For people.
    make : callable
        Returns the component.
    alarms : tuple of str
        Outputs that say that an error was noticed.
    stimulus : callable
        Returns random inputs for a simulator of the block.
    memories : bool
        Whether it is the bits of its memories that count as injected, or those of its registers.
    depthwise : bool
        Whether depthwise sums are what counts, for which nothing is promised.
    """

    name: str
    make: Callable[[], Any]
    alarms: tuple[str, ...]
    stimulus: Callable[[BlockSimulator, np.random.Generator], Stimulus]
    memories: bool
    depthwise: bool = False

    def simulator(self) -> BlockSimulator:
        """Return its simulator."""
        try:
            from amaranth.back import verilog
            from amaranth.hdl import Signal, Value
        except ImportError as error:
            raise ToolchainError(
                f'Generating hardware needs the package "amaranth", which cannot be imported '
                f'({error}); run "make setup"'
            ) from error
        component = self.make()
        members = (Value.cast(m) for _, _, m in component.signature.flatten(component))
        # What is always ready is no port.
        ports = [member for member in members if isinstance(member, Signal)]
        text = verilog.convert(
            component, name=TOP, ports=ports, strip_internal_attrs=True, emit_src=False
        )
        return BlockSimulator(text, self.alarms)


def array_block(rows: int, cols: int, feeds: int, *, depthwise: bool = False) -> Block:
    """Return the array with its checksum column and with parity, on dense or on mixed steps."""

    def make() -> Any:
        from systolith.gateware.array import make_array

        return make_array("plain", rows=rows, cols=cols, feeds=feeds, checked=True, protected=True)

    def stimulus(sim: BlockSimulator, rng: np.random.Generator) -> Stimulus:
        return _array_stimulus(sim, rng, (rows, cols, feeds), depthwise=depthwise)

    return Block(
        name=f"array {rows}x{cols}" + (", depthwise steps" if depthwise else ""),
        make=make,
        alarms=("sum_error", "activation_error"),
        stimulus=stimulus,
        memories=False,
        depthwise=depthwise,
    )


def _array_stimulus(
    sim: BlockSimulator,
    rng: np.random.Generator,
    size: tuple[int, int, int],
    *,
    depthwise: bool,
) -> Stimulus:
    """Steps of random length with new tiles, whose weights shift in at random times."""
    rows, cols, feeds = size
    latency = rows + 2
    lengths = rng.integers(1, 2 * rows + 2, _DENSE_STEPS)
    begins, at, ready = [], 1, 1
    for length in lengths:
        ready += rows + int(rng.integers(0, 3))
        at = max(at, ready)
        begins.append(at)
        ready = at
        at += int(length) + int(rng.integers(0, 3))
    total = at + latency + cols + 6
    inputs, mask = sim.inputs.new(total), sim.outputs.new(total)

    def column(name: str) -> Bits:
        return sim.inputs.part(inputs, name)

    lanes = max(rows, cols)
    for begin, length in zip(begins, lengths, strict=True):
        mode = depthwise and bool(rng.integers(0, 2))
        for row in range(rows):
            cycle = begin - 1 - row
            put(column("w_en"), cycle, 1)
            put(column("w_first"), cycle, int(row == rows - 1))
            for col in range(cols):
                put(column(f"w_row__{col}"), cycle, int(rng.integers(0, 256)))
        put(column("switch"), begin, 1)
        put(column("first"), begin, 1)
        for position in range(int(length)):
            cycle = begin + position
            put(column("valid"), cycle, 1)
            put(column("depthwise"), cycle, int(mode))
            for feed in range(feeds if mode else 1):
                for lane in range(lanes if mode else rows):
                    put(column(f"feed__{feed}__{lane}"), cycle, int(rng.integers(0, 256)))
            # Only dense sums count where only these are run, and only depthwise ones elsewhere.
            if mode == depthwise:
                for col in range(cols):
                    sim.outputs.part(mask, f"sums__{col}")[cycle + latency + col] = 1
    return Stimulus(inputs, mask)
