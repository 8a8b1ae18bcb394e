"""Random legal programs at the limits of the instructions' fields.

Passes whose windows are so far from each other that nearly all is padding and every loop leaves the
numbers that it may reach; and instructions whose fields that mean nothing say anything: the step of a
loop that turns once, the length of what is longer than all, the table that is not used.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from systolith.arch import isa
from systolith.arch.config import TABLE_COUNT, AcceleratorConfig
from systolith.bench.differential import Case, dumping_case
from systolith.bench.random_instruction import InstructionSource
from systolith.bench.random_program import RandomProgram, random_program

STEPS = 60
"""Random steps of a program."""

_COUNT_BITS = 12
_DISTANT_SHARE = 0.7
_WIDTHS = {
    "row_step": isa.LOCAL_ADDR_BITS,
    "col_step": 18,
    "ky_step": isa.LOCAL_ADDR_BITS,
    "kx_step": 18,
    "chunk_step": 8,
}
"""Steps of the loops of a pass, and their bits."""


class ExtremeSource(InstructionSource):
    """Draws instructions as its base does, and changes what has no effect."""

    def magnitude(self, bits: int) -> int:
        """Return an integer of any length up to `bits` bits."""
        return self.integer(0, (1 << self.integer(0, bits)) - 1)

    def draw_pass(self) -> list[isa.Instruction]:
        """Draw a geometry and a pass, most often with one loop of many large steps."""
        if self.chance(_DISTANT_SHARE):
            return self._draw_distant_pass()
        geometry, item = super().draw_pass()
        assert isinstance(geometry, isa.Geometry)
        assert isinstance(item, isa.Pass)
        steps: dict[str, Any] = {}
        if item.rows == 1 and not item.tail:
            steps |= {"row_step": self.magnitude(22), "row_lines": self.magnitude(5)}
        if geometry.chunk_count == 1:
            steps |= {"chunk_step": self.magnitude(8)}
        if geometry.kx_count == 1:
            steps |= {"kx_step": self.magnitude(18)}
        if item.weights == isa.WeightMode.KEEP:
            item = replace(item, weight_addr=self.magnitude(16))
        return [replace(geometry, **steps), item]

    def _draw_distant_pass(self) -> list[isa.Instruction]:
        config = self.config
        widest = max(config.rows, config.cols)
        far = list(_WIDTHS)[self.integer(0, len(_WIDTHS) - 1)]
        counts = {**dict.fromkeys(_WIDTHS, 1), far: self.integer(2, 64)}
        steps: dict[str, Any] = {name: self.magnitude(bits) for name, bits in _WIDTHS.items()}
        largest = (1 << _WIDTHS[far]) - 1
        steps[far] = self.integer(largest >> self.integer(1, 5), largest)
        rows, vectors = counts["row_step"], counts["col_step"]
        geometry = isa.Geometry(
            pad=self.integer(-128, 127),
            lines=1 + self.magnitude(13),
            line_bytes=self.integer(1, config.scratchpad_bytes),
            row_lines=self.magnitude(5),
            ky_count=counts["ky_step"],
            ky_lines=self.magnitude(6),
            kx_count=counts["kx_step"],
            chunk_count=counts["chunk_step"],
            lanes=self.integer(1, widest),
            lanes_last=self.integer(1, widest),
            weight_rows=self.integer(1, config.rows),
            weight_rows_last=self.integer(1, config.rows),
            **steps,
        )
        item = isa.Pass(
            weights=isa.WeightMode(self.integer(0, 2)),
            next_op=isa.AccOp(self.integer(0, 2)),
            weight_addr=self.integer(0, config.weight_words // 4),
            addr=self.integer(-99, config.scratchpad_bytes - 1),
            y=self.magnitude(14) * self.integer(-1, 0),
            x=self.magnitude(18) * self.integer(-1, 1),
            acc=self.integer(0, 1) * config.acc_rows,
            rows=rows,
            cols=self.integer(1, min(vectors, max(1, config.acc_rows // rows))),
            line_vectors=vectors,
        )
        return [geometry, item]

    def draw_drain(self) -> list[isa.Instruction]:
        """Draw a drain."""
        (item,) = super().draw_drain()
        assert isinstance(item, isa.Drain)
        fields: dict[str, Any] = {}
        if item.rows == 1:
            fields |= {"row_step": self.magnitude(22), "residual_row_step": self.magnitude(22)}
        if item.cols == 1:
            fields |= {"col_step": self.magnitude(16), "residual_col_step": self.magnitude(16)}
        if not item.use_residual:
            fields |= {"residual": self.magnitude(22), "residual_row_step": self.magnitude(22)}
        if not item.use_table:
            fields |= {"table": self.integer(0, TABLE_COUNT - 1)}
        if item.params != isa.ParamMode.LOAD:
            fields |= {"param_addr": self.magnitude(12)}
        return [replace(item, **fields)]

    def draw_vector(self) -> list[isa.Instruction]:
        """Draw a vector instruction."""
        (item,) = super().draw_vector()
        assert isinstance(item, isa.Vector)
        fields: dict[str, Any] = {}
        if item.rows == 1:
            fields |= {f"{name}_step": self.magnitude(22) for name in ("row", "a", "b")}
        if item.op != isa.VectorOp.ELEMENTWISE:
            fields |= {"b": self.magnitude(22), "b_step": self.magnitude(22)}
        return [replace(item, **fields)]

    def draw_scratchpad_load(self, region: int, data_bytes: int) -> list[isa.Instruction]:
        """Draw a load of the scratchpad."""
        return self._longer(super().draw_scratchpad_load(region, data_bytes))

    def draw_store(self, region: int, region_bytes: int) -> list[isa.Instruction]:
        """Draw a store."""
        return self._longer(super().draw_store(region, region_bytes))

    def _longer(self, items: list[isa.Instruction]) -> list[isa.Instruction]:
        """Let the only run or segment of a move be longer than the move."""
        (item,) = items
        assert isinstance(item, isa.Load | isa.Store)
        fields: dict[str, Any] = {}
        bits = isa.LOCAL_ADDR_BITS
        if item.run >= item.total:
            fields |= {"run": item.total + self.magnitude(bits - 1), "run_step": self.magnitude(24)}
        if item.segment >= item.total:
            fields |= {
                "segment": item.total + self.magnitude(bits - 1),
                "segments": 1 + self.magnitude(_COUNT_BITS),
                "segment_step": self.magnitude(bits),
                "group_step": self.magnitude(bits),
            }
        return [replace(item, **fields)]


def extreme_program(config: AcceleratorConfig, seed: int) -> RandomProgram:
    """Return a random legal program of such instructions."""
    return random_program(config, np.random.default_rng(seed), STEPS, ExtremeSource)


def extreme_case(config: AcceleratorConfig, seed: int) -> Case:
    """Return such a program and its memory; every second one waits for what its bytes ask for only.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    seed : int
        Seed of the program.
    """
    program = extreme_program(config, seed)
    items = program.relaxed(config) if seed % 2 else program.instructions
    name = f"program of extremes of seed {seed} on {config.name}"
    return dumping_case(name, program, items)
