# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.hdl import signed
from amaranth.sim import Simulator

from systolith.arch.isa import AccOp
from systolith.gateware.accumulator import Accumulators

CYCLES = 500
SHAPES = [(4, 16, 4), (6, 16, 2), (3, 32, 1), (5, 16, 5)]
WRAP = 1 << 32


def random_operations(rng, acc):
    """Return one operation or None per cycle, no row twice within the turnaround."""
    result, busy = [], []
    for _ in range(CYCLES):
        rows = 2 * acc.bank_rows
        row = int(rng.integers(0, rows)) if rng.random() < 0.5 else int(rng.integers(0, 3))
        new = None
        if rng.random() < 0.8 and row not in busy:
            sums = rng.integers(-(1 << 17), 1 << 17, acc.cols)
            if rng.random() < 0.1:
                sums[:] = (1 << 31) - 1
            new = row, AccOp(int(rng.integers(0, 3))), sums
        busy = [*busy, new[0] if new else None][-(acc.turnaround - 1) :]
        result.append(new)
    return result


class Model:
    """Contents of the accumulators after each cycle, per column: the waves are not modeled."""

    def __init__(self, acc, operations):
        self.acc, self.operations = acc, operations
        self.state = np.zeros((2 * acc.bank_rows, acc.cols), np.int64)
        self.history = [self.state.copy()]
        for operation in operations:
            if operation:
                row, op, sums = operation
                old = self.state[row]
                new = {
                    AccOp.WRITE: sums,
                    AccOp.ADD: old + sums,
                    AccOp.MAX: np.maximum(old, sums),
                }[op]
                self.state[row] = (new + WRAP // 2) % WRAP - WRAP // 2
            self.history.append(self.state.copy())

    def read(self, cycle, row, col, lane):
        """What a read that is issued in `cycle` finds in a column, `lane` cycles later."""
        visible = cycle + lane - self.acc.turnaround - col
        return self.history[max(visible + 1, 0)][row, col]

    def meets(self, cycle, row, group):
        """Whether a read of a group meets an ADD or MAX in the read port of its bank."""
        issued = cycle - group * self.acc.lanes
        operation = self.operations[issued] if issued >= 0 else None
        if not operation or operation[1] == AccOp.WRITE:
            return False
        return operation[0] // self.acc.bank_rows == row // self.acc.bank_rows


async def drive(ctx, acc, operations, reads, seen):
    for cycle in range(CYCLES):
        operation, read = operations[cycle], reads[cycle]
        ctx.set(acc.w_en, operation is not None)
        if operation:
            ctx.set(acc.w_addr, operation[0])
            ctx.set(acc.w_op, int(operation[1]))
        for col in range(acc.cols):
            issued = cycle - acc.lead - col
            due = operations[issued] if issued >= 0 else None
            ctx.set(acc.sums[col], int(due[2][col]) if due else 12345)
        ctx.set(acc.r_en, read is not None)
        if read:
            ctx.set(acc.r_addr, read[0])
            ctx.set(acc.r_group, read[1])
        seen.append((ctx.get(acc.conflict), [ctx.get(lane) for lane in acc.r_data]))
        await ctx.tick()


@pytest.mark.parametrize(("cols", "bank_rows", "lanes"), SHAPES)
def test_random_operations_and_reads_equal_the_model(rng, cols, bank_rows, lanes):
    acc = Accumulators(cols=cols, bank_rows=bank_rows, lanes=lanes)
    operations = random_operations(rng, acc)
    reads = [
        (int(rng.integers(0, 2 * bank_rows)), int(rng.integers(0, acc.groups)))
        if rng.random() < 0.8
        else None
        for _ in range(CYCLES)
    ]
    seen = []

    async def bench(ctx):
        await drive(ctx, acc, operations, reads, seen)

    sim = Simulator(acc)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    model, met, compared = Model(acc, operations), 0, 0
    for cycle in range(CYCLES - acc.read_latency - lanes):
        read = reads[cycle]
        meets = read is not None and model.meets(cycle, *read)
        assert seen[cycle][0] == meets
        met += meets
        if read is None or meets:
            continue
        row, group = read
        for lane in range(lanes):
            col = group * lanes + lane
            got = seen[cycle + acc.read_latency + lane][1][lane]
            assert got == model.read(cycle, row, col, lane), (cycle, row, col)
            compared += 1
    assert met
    assert compared > CYCLES // 4


def test_sums_of_any_width_are_extended(rng):
    acc = Accumulators(cols=1, bank_rows=2, lanes=1, sum_shape=signed(18))

    async def bench(ctx):
        ctx.set(acc.w_en, 1)
        ctx.set(acc.w_op, int(AccOp.WRITE))
        await ctx.tick().repeat(acc.lead)
        ctx.set(acc.sums[0], -(1 << 17))
        await ctx.tick().repeat(acc.turnaround)
        await ctx.tick().repeat(acc.read_latency)
        assert ctx.get(acc.r_data[0]) == -(1 << 17)

    sim = Simulator(acc)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


def test_lanes_that_do_not_divide_the_columns_are_refused():
    with pytest.raises(ValueError, match=r"Lanes must divide the columns \(6\), not be 4"):
        Accumulators(cols=6, bank_rows=16, lanes=4)
