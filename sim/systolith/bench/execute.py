"""EXECUTE in the Amaranth simulator, between memories of plain arrays, and what its programs mean."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from amaranth.hdl import Module
from amaranth.sim import Simulator
from numpy.typing import NDArray

from systolith.arch.config import AcceleratorConfig
from systolith.arch.isa import AccOp, FeedMode, Geometry, Pass, WeightMode
from systolith.gateware.accumulator import Accumulators
from systolith.gateware.execute import ExecuteEngine
from systolith.gateware.words import HEADER_BITS

Ints = NDArray[np.int64]
Program = Sequence[Geometry | Pass]

FIRST_INDEX = 100
"""Index of the first instruction, off zero so that a forgotten index is seen."""

IDLE_CAUSES = ("wait_drain", "wait_store", "wait_weights", "idle_command")
_CYCLE_LIMIT = 20_000
_WRAP = 1 << 32


@dataclass
class Memories:
    """Local memories, and what the array holds.

    Parameters
    ----------
    scratchpad : int64[bytes]
        Values of int8.
    weights : int64[words, word_bytes]
        Values of int8.
    acc : int64[2 * acc_rows, cols]
        Values of int32.
    tile : int64[rows, cols]
        Weights.
    """

    scratchpad: Ints
    weights: Ints
    acc: Ints
    tile: Ints

    @classmethod
    def random(cls, rng: np.random.Generator, config: AcceleratorConfig) -> Self:
        """Return random scratchpad and weights, and zeros elsewhere, as after power-up."""
        shape = config.weight_words, config.weight_word_bytes
        return cls(
            scratchpad=rng.integers(-128, 128, config.scratchpad_bytes),
            weights=rng.integers(-128, 128, shape),
            acc=np.zeros((2 * config.acc_rows, config.cols), np.int64),
            tile=np.zeros((config.rows, config.cols), np.int64),
        )


def execute(program: Program, memories: Memories, config: AcceleratorConfig) -> None:
    """Execute a legal program on `memories`, one output at a time, from the words of hw/ISA.md."""
    geometry = Geometry()
    for item in program:
        if isinstance(item, Geometry):
            geometry = item
        else:
            _execute_pass(item, geometry, memories, config)


def _execute_pass(item: Pass, g: Geometry, memories: Memories, config: AcceleratorConfig) -> None:
    weight_addr = item.weight_addr
    total = item.rows * item.line_vectors + item.tail
    feeds = config.feeds if g.mode == FeedMode.DEPTHWISE else 1
    steps = list(np.ndindex(g.ky_count, g.kx_count, g.chunk_count))
    for number, (ky, kx, chunk) in enumerate(steps):
        last = chunk == g.chunk_count - 1
        if item.weights == WeightMode.EACH or (item.weights == WeightMode.ONCE and not number):
            count = g.weight_rows_last if last else g.weight_rows
            memories.tile[:] = 0
            words = memories.weights[weight_addr : weight_addr + count]
            memories.tile[:count] = words[:, : config.cols]
            weight_addr += count
        lanes = g.lanes_last if last else g.lanes
        vectors = np.zeros((feeds, total, max(config.rows, config.cols)), np.int64)
        for feed, s in np.ndindex(feeds, total):
            row, col = divmod(s, item.line_vectors)
            line = row * g.row_lines + (ky * feeds + feed) * g.ky_lines
            offset = col * g.col_step + kx * g.kx_step + chunk * g.chunk_step
            step = row * g.row_step + (ky * feeds + feed) * g.ky_step + offset
            for lane in range(lanes):
                x = item.x + offset + lane
                inside = 0 <= x < g.line_bytes and 0 <= item.y + line < g.lines
                byte = memories.scratchpad[item.addr + step + lane] if inside else g.pad
                vectors[feed, s, lane] = byte
        op = item.next_op if number else item.first_op
        for row, col in np.ndindex(item.rows, item.cols):
            new = _sum(row * item.line_vectors + col, vectors, g.mode, memories.tile, config)
            _operate(memories.acc[item.acc + row * item.cols + col], new, op)


def _sum(
    s: int, vectors: Ints, mode: FeedMode, tile: Ints, config: AcceleratorConfig
) -> Ints:  # fmt: skip
    if mode == FeedMode.DENSE:
        product: Ints = vectors[0, s, : config.rows] @ tile
        return product
    total = np.zeros(config.cols, np.int64)
    for row in range(config.rows):
        feed = min(row // config.group_rows, config.feeds - 1)
        source = s + row - feed * config.group_rows
        if source < vectors.shape[1]:
            total += vectors[feed, source, : config.cols] * tile[row]
    return total


def _operate(old: Ints, new: Ints, op: AccOp) -> None:
    if op == AccOp.ADD:
        new = old + new
    elif op == AccOp.MAX:
        new = np.maximum(old, new)
    old[:] = (new + _WRAP // 2) % _WRAP - _WRAP // 2


@dataclass
class Run:
    """What a simulation showed.

    Parameters
    ----------
    streaming, done : list of int
        Cycles of the vectors and of the pulses of `done`.
    fault : tuple of int, optional
        Code, index and address of the fault.
    fault_cycle : int
        Cycle of the fault.
    waits : dict
        Cycles by cause of waiting.
    feed_reads : int
        Windows read.
    acc : int64[2 * acc_rows, cols]
        Accumulators at the end.
    """

    streaming: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    fault: tuple[int, int, int] | None = None
    fault_cycle: int = 0
    waits: dict[str, int] = field(default_factory=lambda: dict.fromkeys(IDLE_CAUSES, 0))
    feed_reads: int = 0
    acc: Ints = field(default_factory=lambda: np.zeros((0, 0), np.int64))


def _never(cycle: int) -> bool:
    return False


@dataclass
class ExecuteBench:
    """`ExecuteEngine` and `Accumulators` with everything around them played.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    read_latency : int
        Of the scratchpad that is played.
    offer : callable
        `offer(cycle, number)`: whether the sequencer offers that instruction yet.
    progress : callable
        `progress(cycle)`: progress of DRAIN and of STORE.
    stop, feed_conflict, acc_conflict : callable
        Of the cycle: level of the input of that name.
    """

    config: AcceleratorConfig
    read_latency: int = 3
    offer: Callable[[int, int], bool] = lambda cycle, number: True
    progress: Callable[[int], tuple[int, int]] = lambda cycle: (0, 0)
    stop: Callable[[int], bool] = _never
    feed_conflict: Callable[[int], bool] = _never
    acc_conflict: Callable[[int], bool] = _never

    def __post_init__(self) -> None:
        config = self.config
        self.engine: Any = ExecuteEngine(config, read_latency=self.read_latency)
        self.acc: Any = Accumulators(
            cols=config.cols, bank_rows=config.acc_rows, lanes=config.lanes
        )

    def run(
        self,
        program: Program,
        memories: Memories,
        *,
        targets: Mapping[int, Sequence[int]] | None = None,
        extra_cycles: int = 0,
    ) -> Run:
        """Run a program until all is done, or a fault or `stop` has left the engine idle.

        Parameters
        ----------
        program : sequence of Geometry and Pass
            Instructions.
        memories : Memories
            Scratchpad and weights; they are only read.
        targets : mapping, optional
            By number of the instruction: the absolute targets of its four waits.
        extra_cycles : int
            Cycles to go on afterwards.
        """
        run, m = Run(), Module()
        m.submodules.engine, m.submodules.acc = self.engine, self.acc
        for name in ("w_en", "w_addr", "w_op"):
            m.d.comb += getattr(self.acc, name).eq(getattr(self.engine, name))
        for left, right in zip(self.acc.sums, self.engine.sums, strict=True):
            m.d.comb += left.eq(right)

        async def bench(ctx: Any) -> None:
            await self._drive(ctx, run, program, memories, targets or {}, extra_cycles)
            run.acc = await self._read_back(ctx)

        sim = Simulator(m)
        sim.add_clock(1e-6)
        sim.add_testbench(bench)
        sim.run()
        return run

    async def _drive(
        self,
        ctx: Any,
        run: Run,
        program: Program,
        memories: Memories,
        targets: Mapping[int, Sequence[int]],
        extra_cycles: int,
    ) -> None:
        engine, accepted, ended = self.engine, 0, False
        nothing: list[int | None] = [None] * self.config.feeds
        windows = deque([nothing] * (self.read_latency + 1), self.read_latency + 1)
        for cycle in range(_CYCLE_LIMIT):
            ctx.set(engine.progress, [0, len(run.done), *self.progress(cycle)])
            for name in ("stop", "feed_conflict", "acc_conflict"):
                ctx.set(getattr(engine, name), getattr(self, name)(cycle))
            valid = accepted < len(program) and self.offer(cycle, accepted)
            ctx.set(engine.command.valid, valid)
            if valid:
                self._offer(ctx, program, accepted, targets)
            self._serve(ctx, windows, memories, run)
            idle = self._observe(ctx, run, cycle)
            stopped = run.fault is not None or self.stop(cycle)
            # Idle means that nothing is left behind, unless something was given up.
            assert not idle or stopped or len(run.done) == accepted
            ended = ended or (idle and (stopped or len(run.done) == len(program)))
            accepted += valid and ctx.get(engine.command.ready)
            weight = ctx.get(engine.weight_addr) if ctx.get(engine.weight_en) else None
            await ctx.tick()
            # Without a read there is rubbish, which must not reach a sum.
            rubbish = np.arange(self.config.weight_word_bytes) * 5 + cycle
            word = rubbish if weight is None else memories.weights[weight]
            ctx.set(engine.weight_data, [int(value) for value in word & 0xFF])
            if ended:
                extra_cycles -= 1
                if extra_cycles <= 0:
                    return
        raise AssertionError(f"{len(run.done)} of {len(program)} instructions done at the limit")

    def _offer(
        self, ctx: Any, program: Program, number: int, targets: Mapping[int, Sequence[int]]
    ) -> None:
        word, command = program[number].encode(), self.engine.command.p
        ctx.set(command.opcode, word & 0xFF)
        ctx.set(command.body, word >> HEADER_BITS)
        ctx.set(command.index, FIRST_INDEX + number)
        ctx.set(command.targets, list(targets.get(number, (0, 0, 0, 0))))

    def _serve(
        self, ctx: Any, windows: deque[list[int | None]], memories: Memories, run: Run
    ) -> None:
        """Answer the reads of `read_latency` cycles ago, and note this cycle's."""
        engine, config = self.engine, self.config
        windows.append(
            [
                ctx.get(addr) if ctx.get(en) else None
                for en, addr in zip(engine.feed_en, engine.feed_addr, strict=True)
            ]
        )
        run.feed_reads += sum(addr is not None for addr in windows[-1])
        lane = np.arange(config.word_bytes)
        for feed, addr in enumerate(windows[0]):
            rubbish = lane * 3 + feed
            place = lane + (addr or 0)
            word = memories.scratchpad[place % config.scratchpad_bytes]
            data = rubbish if addr is None else word
            ctx.set(engine.feed_data[feed], [int(value) for value in data & 0xFF])

    def _observe(self, ctx: Any, run: Run, cycle: int) -> bool:
        """Note what the engine shows in this cycle; return whether it is idle."""
        engine = self.engine
        states = {name: ctx.get(getattr(engine, name)) for name in (*IDLE_CAUSES, "streaming")}
        assert sum(states.values()) <= 1
        if states.pop("streaming"):
            run.streaming.append(cycle)
        for name, value in states.items():
            run.waits[name] += value
        if ctx.get(engine.done):
            run.done.append(cycle)
        if ctx.get(engine.fault_stb):
            assert run.fault is None, "only the first fault may be reported"
            fault = engine.fault
            run.fault = ctx.get(fault.code), ctx.get(fault.index), ctx.get(fault.addr)
            run.fault_cycle = cycle
        return bool(ctx.get(engine.idle))

    async def _read_back(self, ctx: Any) -> Ints:
        """Read all accumulators through their read port, one group of columns per cycle."""
        acc, lanes = self.acc, self.config.lanes
        result = np.zeros((2 * self.config.acc_rows, self.config.cols), np.int64)
        requests = list(np.ndindex(result.shape[0], acc.groups))
        for cycle in range(len(requests) + acc.read_latency + lanes):
            ctx.set(acc.r_en, cycle < len(requests))
            if cycle < len(requests):
                ctx.set(acc.r_addr, requests[cycle][0])
                ctx.set(acc.r_group, requests[cycle][1])
            for lane in range(lanes):
                asked = cycle - acc.read_latency - lane
                if 0 <= asked < len(requests):
                    row, group = requests[asked]
                    result[row, group * lanes + lane] = ctx.get(acc.r_data[lane])
            await ctx.tick()
        return result
