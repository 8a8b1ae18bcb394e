"""Random legal instructions, for programs that compare two implementations.

Fields are drawn so that results depend on them: windows straddle the edges of images, quantized
values rarely saturate, every alignment occurs. Whether addresses are in range is left to the
caller, except where bytes may not overlap.
"""

from typing import Any

import numpy as np

from systolith.arch import float32, isa, numerics
from systolith.arch.config import TABLE_COUNT, TABLE_ENTRIES, AcceleratorConfig

_LARGEST_MOVE = 2048
_MOST_RUNS = 64
_LARGEST_STREAM = 160
_LARGEST_VECTOR = 600
_MOST_STEPS = 8

WAIT_FOR_ALL: dict[str, Any] = {
    "wait_load": 0,
    "wait_execute": 0,
    "wait_drain": 0,
    "wait_store": 0,
}
"""Fields of an instruction that waits for all before it."""


class InstructionSource:
    """Draws instructions of one program.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine that executes the program.
    rng : numpy.random.Generator
        Where every choice comes from.
    """

    def __init__(self, config: AcceleratorConfig, rng: np.random.Generator) -> None:
        self.config = config
        self.rng = rng
        self._quantize = isa.Quantize()
        self._bias_loaded = False
        self._channels_loaded = False

    def integer(self, low: int, high: int) -> int:
        """Return an integer in low..high, or low if the range is empty."""
        return int(self.rng.integers(low, max(low, high) + 1))

    def chance(self, probability: float) -> bool:
        """Return whether an event of this probability happened."""
        return bool(self.rng.random() < probability)

    @property
    def param_slots(self) -> int:
        """Per-channel parameter sets that the parameter memory holds, one behind the other."""
        return self.config.param_words // self.config.param_tile_words

    def accept(self, item: isa.Instruction) -> None:
        """Take note of an instruction that became part of the program."""
        if isinstance(item, isa.Quantize):
            self._quantize = item
        elif isinstance(item, isa.Drain) and item.params == isa.ParamMode.LOAD:
            self._bias_loaded = True
            self._channels_loaded = bool(self._quantize.per_channel)

    def _dense_geometry(self) -> isa.Geometry:
        """Draw a walk of a dense pass: any steps, small enough to fit the smallest scratchpad."""
        config = self.config
        widest = max(config.rows, config.cols)
        ky, kx = self.integer(1, 3), self.integer(1, 3)
        line_bytes = self.integer(1, config.scratchpad_bytes // 8)
        return isa.Geometry(
            mode=isa.FeedMode.DENSE,
            pad=self.integer(-128, 127),
            lines=self.integer(1, 8),
            line_bytes=line_bytes,
            row_lines=self.integer(0, 2),
            row_step=self.integer(0, 2 * line_bytes),
            col_step=self.integer(0, widest + 3),
            ky_count=ky,
            ky_lines=self.integer(0, 2),
            ky_step=self.integer(0, 2 * line_bytes),
            kx_count=kx,
            kx_step=self.integer(0, widest),
            chunk_count=self.integer(1, max(1, _MOST_STEPS // (ky * kx))),
            chunk_step=self.integer(0, widest),
            lanes=self.integer(1, widest),
            lanes_last=self.integer(1, widest),
            weight_rows=self.integer(1, config.rows),
            weight_rows_last=self.integer(1, config.rows),
        )

    def _depthwise_geometry(self) -> isa.Geometry:
        """Draw a walk of a depthwise pass: word-aligned, as feeds other than feed 0 need it."""
        config = self.config
        word = config.word_bytes
        aligned = config.feeds > 1
        pitch = self.integer(1, 2) * word if aligned else self.integer(1, 2 * word)
        line_words = self.integer(1, max(1, config.scratchpad_bytes // word // 8))
        ky_step = line_words * word if aligned else self.integer(0, line_words * word)
        return isa.Geometry(
            mode=isa.FeedMode.DEPTHWISE,
            pad=self.integer(-128, 127),
            lines=self.integer(1, 8),
            line_bytes=self.integer(1, line_words * word),
            row_lines=self.integer(0, 2),
            row_step=self.integer(0, 2) * ky_step,
            col_step=pitch,
            ky_count=self.integer(1, 2),
            ky_lines=self.integer(0, 1),
            ky_step=ky_step,
            kx_count=self.integer(1, 2),
            kx_step=self.integer(0, 3) * pitch,
            lanes=self.integer(1, config.cols),
            lanes_last=self.integer(1, config.cols),
            weight_rows=self.integer(1, config.rows),
            weight_rows_last=self.integer(1, config.rows),
        )

    def draw_pass(self) -> list[isa.Instruction]:
        """Draw a geometry and a pass."""
        config = self.config
        depthwise = self.chance(0.5)
        geometry = self._depthwise_geometry() if depthwise else self._dense_geometry()
        rows = self.integer(1, 4)
        line_vectors = self.integer(1, _LARGEST_STREAM // rows)
        outputs = min(config.acc_rows, rows * line_vectors)
        cols = self.integer(1, outputs // rows)
        bank = self.integer(0, 1) * config.acc_rows
        word = config.word_bytes if depthwise and config.feeds > 1 else 1
        addr = self.integer(-64 // word, config.scratchpad_bytes * 3 // 4 // word) * word
        x = self.integer(-3, 3) * (geometry.col_step if depthwise else 7)
        item = isa.Pass(
            weights=isa.WeightMode(self.integer(0, 2)),
            first_op=isa.AccOp(self.integer(0, 2)),
            next_op=isa.AccOp(self.integer(0, 2)),
            weight_addr=self.integer(0, config.weight_words - 1),
            addr=addr,
            y=self.integer(-3, 3),
            x=x,
            acc=bank + self.integer(0, config.acc_rows - rows * cols),
            rows=rows,
            cols=cols,
            line_vectors=line_vectors,
            tail=self.integer(0, 31) if self.chance(0.5) else 0,
        )
        return [geometry, item]

    def draw_quantize(self) -> list[isa.Instruction]:
        """Draw a quantization: mostly scales that bring sums to a byte, now and then any."""
        rounding = isa.Rounding(self.integer(0, len(isa.Rounding) - 1))
        multiplier, shift = self.integer(1 << 30, numerics.INT32_MAX), self.integer(-14, -4)
        if self.chance(0.2):
            multiplier = self.integer(numerics.INT32_MIN, numerics.INT32_MAX)
            shift = self.integer(-31, 30)
        if rounding == isa.Rounding.FLOAT32 and self.chance(0.8):
            multiplier = float32.to_bits(float(self.rng.uniform(0.5, 1.0)) * 2.0**shift)
        if rounding == isa.Rounding.AVERAGE:
            multiplier = numerics.average_multiplier(self.integer(1, 1024))
        low = self.integer(-128, 0)
        item = isa.Quantize(
            rounding=rounding,
            per_channel=int(rounding != isa.Rounding.AVERAGE and self.chance(0.4)),
            multiplier=multiplier,
            shift=shift,
            zero_point=self.integer(-128, 127),
            low=low,
            high=self.integer(low, 127),
        )
        return [item]

    def draw_elementwise(self) -> list[isa.Instruction]:
        """Draw the parameters of an operation on two operands."""
        op = isa.ElementwiseOp(self.integer(0, len(isa.ElementwiseOp) - 1))
        low, out_shift = self.integer(-128, 0), self.integer(-20, 0)
        if op == isa.ElementwiseOp.MUL:
            out_shift = self.integer(-10, -4)
        size = numerics.INT32_MAX.bit_length()
        if op in (isa.ElementwiseOp.SUM, isa.ElementwiseOp.PRODUCT):
            # One factor for the whole; products of two bytes ask for less of it.
            out_shift = self.integer(-16, 30)
            most = out_shift if op == isa.ElementwiseOp.SUM else out_shift + 7
            size = min(max(size - most, 1), size)
        scales: dict[str, Any] = {
            f"{name}_multiplier": self.integer(1 << (size - 1), (1 << size) - 1)
            for name in ("a", "b", "out")
        }
        return [
            isa.Elementwise(
                op=op,
                left_shift=self.integer(0, 20),
                a_zero=self.integer(-128, 127),
                b_zero=self.integer(-128, 127),
                out_zero=self.integer(-128, 127),
                a_shift=self.integer(-6, 0),
                b_shift=self.integer(-6, 0),
                out_shift=out_shift,
                low=low,
                high=self.integer(low, 127),
                **scales,
            )
        ]

    def _param_mode(self) -> isa.ParamMode:
        modes = [isa.ParamMode.LOAD]
        if not self._quantize.per_channel:
            modes.append(isa.ParamMode.NONE)
        if self._channels_loaded or (self._bias_loaded and not self._quantize.per_channel):
            modes.append(isa.ParamMode.KEEP)
        return modes[self.integer(0, len(modes) - 1)]

    def draw_drain(self) -> list[isa.Instruction]:
        """Draw a drain whose outputs do not overlap each other or a residual of other bytes."""
        config = self.config
        rows, cols, reduce = self.integer(1, 4), self.integer(1, 20), self.integer(1, 4)
        if rows * cols * reduce > config.acc_rows:
            rows = cols = reduce = 1
        lanes, lanes_last = self.integer(1, config.cols), self.integer(1, config.cols)
        widest = max(lanes, lanes_last)
        col_step = self.integer(widest, widest + 5)
        row_step = self.integer(cols * col_step, cols * col_step + 9)
        extent, size = rows * row_step, config.scratchpad_bytes
        addr = self.integer(0, size - extent)
        in_place = self.chance(0.3) or addr + 2 * extent > size
        bank = self.integer(0, 1) * config.acc_rows
        mode = self._param_mode()
        item = isa.Drain(
            acc=bank + self.integer(0, config.acc_rows - rows * cols * reduce),
            rows=rows,
            cols=cols,
            reduce=reduce,
            lanes=lanes,
            lanes_last=lanes_last,
            params=mode,
            param_addr=self.integer(0, self.param_slots - 1) * config.param_tile_words,
            use_table=self.integer(0, 1),
            table=self.integer(0, TABLE_COUNT - 1),
            use_residual=self.integer(0, 1),
            addr=addr,
            row_step=row_step,
            col_step=col_step,
            residual=addr if in_place else addr + extent,
            residual_row_step=row_step,
            residual_col_step=col_step,
        )
        return [item]

    def draw_vector(self) -> list[isa.Instruction]:
        """Draw a vector instruction, its operands behind each other or in place."""
        rows, length = self.integer(1, 4), self.integer(1, _LARGEST_VECTOR)
        size = self.config.scratchpad_bytes
        if 3 * rows * length > size // 2:
            rows, length = 1, self.integer(1, size // 8)
        step = self.integer(length, length + 17)
        extent = rows * step
        first = self.integer(0, size - 3 * extent)
        addr, a, b = (first + extent * int(place) for place in self.rng.permutation(3))
        if self.chance(0.3):
            a = addr
        if self.chance(0.2):
            b = a
        return [
            isa.Vector(
                op=isa.VectorOp(self.integer(0, 2)),
                table=self.integer(0, TABLE_COUNT - 1),
                rows=rows,
                length=length,
                addr=addr,
                row_step=step,
                a=a,
                a_step=step,
                b=b,
                b_step=step,
            )
        ]

    def draw_scratchpad_load(self, region: int, data_bytes: int) -> list[isa.Instruction]:
        """Draw a load of the scratchpad from any of the first `data_bytes` bytes of a region."""
        total = self.integer(1, min(_LARGEST_MOVE, self.config.scratchpad_bytes // 4))
        fewest = -(-total // _MOST_RUNS)
        run = total if self.chance(0.3) else self.integer(fewest, total)
        run_step = self.integer(0, 2 * run)
        extent = -(-total // run) * max(run, run_step)
        return [
            isa.Load(
                region=region,
                offset=self.integer(0, data_bytes - extent),
                run=run,
                run_step=run_step,
                total=total,
                **self._segments(total),
            )
        ]

    def _segments(self, total: int) -> dict[str, Any]:
        """Draw where a stream lies in the scratchpad: no two bytes at one address."""
        segment = total if self.chance(0.3) else self.integer(-(-total // _MOST_RUNS), total)
        segments = self.integer(1, 8)
        segment_step = segment + self.integer(0, 9)
        group_step = segments * segment_step + self.integer(0, 9)
        extent = -(-total // (segment * segments)) * group_step
        return {
            "addr": self.integer(0, self.config.scratchpad_bytes - extent),
            "segment": segment,
            "segments": segments,
            "segment_step": segment_step,
            "group_step": group_step,
        }

    def draw_weight_load(self, region: int, data_bytes: int) -> list[isa.Instruction]:
        """Draw a load of the weight buffer in whole beats."""
        beat = self.config.axi_bytes
        total = self.integer(1, min(_LARGEST_MOVE, self.config.weight_bytes // 4) // beat)
        run, segment = self.integer(1, total), self.integer(1, total)
        step, segment_step = run + self.integer(0, 3), segment + self.integer(0, 3)
        segments = self.integer(1, 4)
        group_step = segments * segment_step + self.integer(0, 3)
        extent = -(-total // (segment * segments)) * group_step
        return [
            isa.Load(
                space=isa.Space.WEIGHTS,
                region=region,
                offset=self.integer(0, data_bytes // beat - -(-total // run) * step) * beat,
                run=run * beat,
                run_step=step * beat,
                total=total * beat,
                addr=self.integer(0, self.config.weight_bytes // beat - extent) * beat,
                segment=segment * beat,
                segments=segments,
                segment_step=segment_step * beat,
                group_step=group_step * beat,
            )
        ]

    def draw_param_load(self, region: int, params: int) -> list[isa.Instruction]:
        """Draw a load of one parameter set from the image at byte `params` of a region."""
        size = self.config.param_tile_words * self.config.weight_word_bytes
        source, target = (
            self.integer(0, self.param_slots - 1),
            self.integer(0, self.param_slots - 1),
        )
        return [
            block(isa.Load, isa.Space.PARAMS, region, params + source * size, target * size, size)
        ]

    def draw_table_load(self, region: int, data_bytes: int) -> list[isa.Instruction]:
        """Draw a load of one table."""
        beat = self.config.axi_bytes
        offset = self.integer(0, (data_bytes - TABLE_ENTRIES) // beat) * beat
        table = self.integer(0, TABLE_COUNT - 1) * TABLE_ENTRIES
        return [block(isa.Load, isa.Space.TABLES, region, offset, table, TABLE_ENTRIES)]

    def draw_store(self, region: int, region_bytes: int) -> list[isa.Instruction]:
        """Draw a store to a region, no two bytes at one address."""
        total = self.integer(1, min(_LARGEST_MOVE, self.config.scratchpad_bytes // 4))
        run = total if self.chance(0.3) else self.integer(-(-total // _MOST_RUNS), total)
        run_step = run + self.integer(0, 9)
        return [
            isa.Store(
                region=region,
                offset=self.integer(0, region_bytes - -(-total // run) * run_step),
                run=run,
                run_step=run_step,
                total=total,
                **self._segments(total),
            )
        ]


def block(
    kind: type[isa.Load] | type[isa.Store],
    space: isa.Space,
    region: int,
    offset: int,
    addr: int,
    size: int,
) -> isa.Instruction:
    """Return a move of `size` consecutive bytes."""
    return kind(
        space=space, region=region, offset=offset, addr=addr, total=size,
        run=size, run_step=size, segment=size, segment_step=size, group_step=size,
    )  # fmt: skip
