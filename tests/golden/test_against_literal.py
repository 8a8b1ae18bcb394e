"""The golden machine against a slow, literal reading of the instruction set in plain Python.

The literal machine knows one scalar at a time: no NumPy, no `arch.numerics`, no checks.
"""

from fractions import Fraction

import numpy as np
import pytest

from systolith.arch import isa
from systolith.arch.config import AcceleratorConfig
from systolith.bench.random_program import random_program
from systolith.golden.machine import Machine


def small(name, **changes):
    fields = {
        "rows": 4, "cols": 4, "scratchpad_bytes": 1 << 10, "weight_bytes": 1 << 9, "acc_rows": 16,
        "param_bytes": 256, "lanes": 2, "feeds": 1, "axi_data_bits": 32, "banks": 4,
    }  # fmt: skip
    return AcceleratorConfig(name=name, **(fields | changes))


CONFIGS = [
    small("square"),
    small("tall", rows=7, cols=3, lanes=3, feeds=3, scratchpad_bytes=2 << 10),
    small("wide", rows=3, cols=9, lanes=9, feeds=2, scratchpad_bytes=2 << 10, param_bytes=512),
    small("beat", axi_data_bits=128, rows=5, cols=6, lanes=6, feeds=2, scratchpad_bytes=2 << 10),
]


def int32(value):
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def int8(byte):
    return byte - 256 if byte > 127 else byte


def clamp(value, low, high):
    return min(max(value, low), high)


def nearest(numerator, denominator):
    """Nearest integer of a quotient, ties away from zero."""
    magnitude = (2 * abs(numerator) + denominator) // (2 * denominator)
    return -magnitude if numerator < 0 else magnitude


def rescale_double(value, multiplier, shift):
    value = int32(value << max(shift, 0))
    # Half up: ties towards positive infinity.
    high = min((2 * value * multiplier + (1 << 31)) >> 32, (1 << 31) - 1)
    return nearest(high, 1 << max(-shift, 0))


def half_even(value):
    """Nearest integer of a fraction, ties to even."""
    return round(Fraction(value))


def significant(value):
    """Round an integer or fraction to 24 significant bits, ties to even."""
    if value == 0:
        return Fraction(0)
    unit = Fraction(1, 1 << 200)
    while abs(value) >= unit * (1 << 24):
        unit *= 2
    return half_even(value / unit) * unit


def float32_of(bits):
    """Return the number that the bits of a positive normal float32 stand for."""
    return Fraction((1 << 23) | bits % (1 << 23)) * Fraction(2) ** ((bits >> 23) - 150)


def requantize(value, multiplier, shift, rounding):
    if rounding == isa.Rounding.DOUBLE:
        return rescale_double(value, multiplier, shift)
    if rounding == isa.Rounding.SINGLE:
        result = nearest(value * multiplier, 1 << (31 - shift))
        return clamp(result, -(1 << 31), (1 << 31) - 1)
    if rounding == isa.Rounding.FLOAT32:
        result = half_even(significant(significant(value) * float32_of(multiplier)))
        return clamp(result, -(1 << 31), (1 << 31) - 1)
    magnitude = (abs(value) * multiplier + (1 << 30)) >> 31
    return -magnitude if value < 0 else magnitude


class Literal:
    """The instruction set, word by word."""

    def __init__(self, config, regions):
        self.config = config
        self.regions = [bytearray(region.data) for region in regions]
        self.spaces = {
            isa.Space.SCRATCHPAD: bytearray(config.scratchpad_bytes),
            isa.Space.WEIGHTS: bytearray(config.weight_bytes),
            isa.Space.PARAMS: bytearray(config.param_bytes),
            isa.Space.TABLES: bytearray(4 * 256),
        }
        self.scratchpad = self.spaces[isa.Space.SCRATCHPAD]
        self.acc = [[0] * config.cols for _ in range(2 * config.acc_rows)]

    def run(self, instructions):
        for item in instructions:
            getattr(self, type(item).__name__.lower())(item)

    def halt(self, item):
        pass

    def stream(self, item):
        """Pairs of DRAM offset and local address."""
        for n in range(item.total):
            run, byte = divmod(n, item.run)
            segment, place = divmod(n, item.segment)
            group, member = divmod(segment, item.segments)
            local = item.addr + group * item.group_step + member * item.segment_step + place
            yield item.offset + run * item.run_step + byte, local

    def load(self, item):
        for offset, local in self.stream(item):
            self.spaces[item.space][local] = self.regions[item.region][offset]

    def store(self, item):
        for offset, local in self.stream(item):
            self.regions[item.region][offset] = self.scratchpad[local]

    def geometry(self, item):
        self.g = item

    def lane(self, item, step, vector, feed, lane):
        g = self.g
        ky, kx, chunk = step
        row, col = divmod(vector, item.line_vectors)
        feeds = self.config.feeds if g.mode == isa.FeedMode.DEPTHWISE else 1
        kernel_line = ky * feeds + feed
        x = item.x + col * g.col_step + kx * g.kx_step + chunk * g.chunk_step
        line = item.y + row * g.row_lines + kernel_line * g.ky_lines
        addr = item.addr + row * g.row_step + kernel_line * g.ky_step + (x - item.x)
        if lane >= (g.lanes_last if chunk == g.chunk_count - 1 else g.lanes):
            return 0
        if 0 <= x + lane < g.line_bytes and 0 <= line < g.lines:
            return int8(self.scratchpad[addr + lane])
        return g.pad

    def load_tile(self, addr, rows):
        word = self.config.weight_word_bytes
        memory = self.spaces[isa.Space.WEIGHTS]
        self.tile = [
            [
                int8(memory[(addr + r) * word + c]) if r < rows else 0
                for c in range(self.config.cols)
            ]
            for r in range(self.config.rows)
        ]

    def sum_of(self, item, step, s, column):
        rows, total = self.config.rows, 0
        if self.g.mode == isa.FeedMode.DENSE:
            for r in range(rows):
                total += self.lane(item, step, s, 0, r) * self.tile[r][column]
            return total
        feeds = self.config.feeds
        group = rows // feeds
        for r in range(rows):
            feed = min(r // group, feeds - 1)
            vector = s + r - feed * group
            if vector < item.rows * item.line_vectors + item.tail:
                total += self.lane(item, step, vector, feed, column) * self.tile[r][column]
        return total

    def steps(self):
        g = self.g
        return [
            (ky, kx, chunk)
            for ky in range(g.ky_count)
            for kx in range(g.kx_count)
            for chunk in range(g.chunk_count)
        ]

    def step_rows(self, step):
        last = step[2] == self.g.chunk_count - 1
        return self.g.weight_rows_last if last else self.g.weight_rows

    def load_step(self, item, number, step, addr):
        """Load the tile of a step if it has one; return where the next tile starts."""
        if item.weights == isa.WeightMode.KEEP or (
            item.weights == isa.WeightMode.ONCE and number > 0
        ):
            return addr
        rows = self.step_rows(step)
        self.load_tile(addr, rows)
        return addr + rows

    def accumulate(self, row, column, value, op):
        old = self.acc[row][column]
        new = {isa.AccOp.WRITE: value, isa.AccOp.ADD: old + value, isa.AccOp.MAX: max(old, value)}
        self.acc[row][column] = int32(new[op])

    def pass_(self, item):
        addr = item.weight_addr
        for number, step in enumerate(self.steps()):
            addr = self.load_step(item, number, step, addr)
            op = item.next_op if number else item.first_op
            for s in range(item.rows * item.line_vectors + item.tail):
                row, col = divmod(s, item.line_vectors)
                if col < item.cols and row < item.rows:
                    for column in range(self.config.cols):
                        value = self.sum_of(item, step, s, column)
                        self.accumulate(item.acc + row * item.cols + col, column, value, op)

    def quantize(self, item):
        self.q = item

    def elementwise(self, item):
        self.e = item

    def load_params(self, item):
        config, memory = self.config, self.spaces[isa.Space.PARAMS]
        word = config.weight_word_bytes
        words = -(-4 * config.cols // word)

        def int32_at(start, column):
            at = start + 4 * column
            return int.from_bytes(memory[at : at + 4], "little", signed=True)

        start = item.param_addr * word
        self.bias = [int32_at(start, column) for column in range(config.cols)]
        if self.q.per_channel:
            start += words * word
            self.multipliers = [int32_at(start, column) for column in range(config.cols)]
            start += words * word
            self.shifts = [int8(memory[start + column]) for column in range(config.cols)]

    def combine(self, a, b):
        e = self.e
        a_wide, b_wide = a - e.a_zero, b - e.b_zero
        factor = Fraction(2) ** (e.out_shift - 31)
        if e.op == isa.ElementwiseOp.MUL:
            total = rescale_double(a_wide * b_wide, e.out_multiplier, e.out_shift)
            return clamp(total + e.out_zero, e.low, e.high)
        if e.op == isa.ElementwiseOp.SUM:
            total = a_wide * e.a_multiplier + b_wide * e.b_multiplier
            return clamp(half_even(total * factor + e.out_zero), e.low, e.high)
        if e.op == isa.ElementwiseOp.PRODUCT:
            total = a_wide * b_wide * e.out_multiplier
            return clamp(half_even(total * factor + e.out_zero), e.low, e.high)
        scaled_a = rescale_double((a - e.a_zero) << e.left_shift, e.a_multiplier, e.a_shift)
        scaled_b = rescale_double((b - e.b_zero) << e.left_shift, e.b_multiplier, e.b_shift)
        total = rescale_double(int32(scaled_a + scaled_b), e.out_multiplier, e.out_shift)
        return clamp(total + e.out_zero, e.low, e.high)

    def look_up(self, table, byte):
        return self.spaces[isa.Space.TABLES][table * 256 + byte % 256]

    def value(self, item, row, col, column):
        q, first = self.q, item.acc + (row * item.cols + col) * item.reduce
        total = 0
        for k in range(item.reduce):
            total = int32(total + self.acc[first + k][column])
        multiplier, shift = q.multiplier, q.shift
        if item.params != isa.ParamMode.NONE:
            total = int32(total + self.bias[column])
            if q.per_channel:
                multiplier, shift = self.multipliers[column], self.shifts[column]
        value = requantize(total, multiplier, shift, q.rounding) + q.zero_point
        value = clamp(value, q.low, q.high)
        if item.use_table:
            value = int8(self.look_up(item.table, value))
        if item.use_residual:
            at = item.residual + row * item.residual_row_step + col * item.residual_col_step
            value = self.combine(value, int8(self.scratchpad[at + column]))
        return value

    def drain(self, item):
        if item.params == isa.ParamMode.LOAD:
            self.load_params(item)
        for row in range(item.rows):
            for col in range(item.cols):
                lanes = item.lanes_last if col == item.cols - 1 else item.lanes
                for column in range(lanes):
                    at = item.addr + row * item.row_step + col * item.col_step + column
                    self.scratchpad[at] = self.value(item, row, col, column) % 256

    def vector(self, item):
        for row in range(item.rows):
            for i in range(item.length):
                value = self.scratchpad[item.a + row * item.a_step + i]
                if item.op == isa.VectorOp.TABLE:
                    value = self.look_up(item.table, value)
                elif item.op == isa.VectorOp.ELEMENTWISE:
                    other = self.scratchpad[item.b + row * item.b_step + i]
                    value = self.combine(int8(value), int8(other)) % 256
                self.scratchpad[item.addr + row * item.row_step + i] = value


setattr(Literal, "pass", Literal.pass_)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
@pytest.mark.parametrize("number", range(12))
def test_random_program_leaves_the_same_bytes(config, number, seed):
    program = random_program(config, np.random.default_rng([seed, number]), length=30)
    regions = program.golden_regions()
    machine = Machine(config)
    machine.run(program.code, regions)
    literal = Literal(config, program.golden_regions())
    literal.run(program.instructions)

    assert machine.acc.tolist() == literal.acc
    for space, data in literal.spaces.items():
        assert machine.memories.space(space).tobytes() == bytes(data), space.name
    for region, data in zip(regions, literal.regions, strict=True):
        assert region.data.tobytes() == bytes(data)
