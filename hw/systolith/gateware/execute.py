"""EXECUTE: from commands to sums on their way into the accumulators."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from systolith.arch.config import ceil_div
from systolith.arch.csr import Fault

from .accumulator import BANK_COUNT, LEAD, TURNAROUND
from .array import make_array
from .delay import delayed
from .loader import TileLoader
from .queue import PROGRESS
from .slices import FlowFifo
from .steps import STEP, TILE, StepSequencer
from .streamer import VectorStreamer
from .systolic import sum_shape
from .window import FAULT_LATENCY, WindowReader
from .words import COMMAND, FAULT_REPORT

_SPARE_STEPS = 3
"""Steps in the queues beside those that are streamed while a tile shifts in: setup, and transit."""

_FLUSH_CYCLES = 4
"""Cycles beyond the last sum after which nothing of an instruction is left, `done` included."""


class ExecuteEngine(wiring.Component):
    """The engine of GEOMETRY and PASS: loader, streamer and array.

    Timing: 1 vector per cycle. A step takes as many cycles as it has vectors, but at least `rows`
    if this step and the next have new tiles, and at least `turnaround` of the accumulators; steps
    and instructions follow each other without gap if nothing has to be waited for. An instruction
    is done `latency` cycles after its last vector was issued: a read of the accumulators that starts
    then finds every sum, though the last columns may still be under way.

    Parameters
    ----------
    config : AcceleratorConfig
        The accelerator.
    read_latency : int
        Cycles from `feed_en` to `feed_data` of the scratchpad.

    Members
    -------
    command, done, fault, fault_stb, stop, idle, progress
        As of every engine, see hw/README.md.
    weight_en, weight_addr, weight_data
        Read port of the weight buffer, data one cycle later.
    feed_en, feed_addr, feed_data, feed_conflict
        Feeds of the scratchpad.
    w_en, w_addr, w_op, sums
        Write side of the accumulators.
    acc_conflict : ``In(1)``
        The accumulators' `conflict`.
    queue_error, sum_error, activation_error : ``Out(1)``, as far as protected
        Wrong parity of a step or tile, wrong checksum of a dense position, wrong parity of what
        travels through the array.
    streaming, wait_drain, wait_store, wait_weights, idle_command : ``Out(1)``
        For the performance counters: a vector was issued, or why not.
    """

    def __init__(self, config, *, read_latency):
        self._config, self._read_latency = config, read_latency
        self._acc_rows = BANK_COUNT * config.acc_rows
        word = data.ArrayLayout(unsigned(8), config.word_bytes)
        super().__init__(
            {
                "command": In(stream.Signature(COMMAND)),
                "progress": In(PROGRESS),
                "done": Out(1),
                "fault": Out(FAULT_REPORT),
                "fault_stb": Out(1),
                "stop": In(1),
                "idle": Out(1),
                "weight_en": Out(1),
                "weight_addr": Out(ceil_log2(config.weight_words)),
                "weight_data": In(data.ArrayLayout(unsigned(8), config.weight_word_bytes)),
                "feed_en": Out(1).array(config.feeds),
                "feed_addr": Out(ceil_log2(config.scratchpad_bytes)).array(config.feeds),
                "feed_data": In(word).array(config.feeds),
                "feed_conflict": In(1),
                "w_en": Out(1),
                "w_addr": Out(range(self._acc_rows)),
                "w_op": Out(2),
                "sums": Out(sum_shape(config.rows)).array(config.cols),
                "acc_conflict": In(1),
                "streaming": Out(1),
                "wait_drain": Out(1),
                "wait_store": Out(1),
                "wait_weights": Out(1),
                "idle_command": Out(1),
            }
            | self._soft_errors(config)
        )
        # Made here, because latencies are theirs.
        self._array = make_array(
            config.multiplier,
            rows=config.rows,
            cols=config.cols,
            feeds=config.feeds,
            checked=config.protects_array,
            protected=config.protects_activations,
        )
        self._window = WindowReader(
            lanes=max(config.rows, config.cols),
            feeds=config.feeds,
            word_bytes=config.word_bytes,
            size_bytes=config.scratchpad_bytes,
            acc_rows=self._acc_rows,
            read_latency=read_latency,
        )

    @staticmethod
    def _soft_errors(config):
        """Return the members that say where soft errors were noticed."""
        names = {
            "queue_error": config.protects_memories,
            "sum_error": config.protects_array,
            "activation_error": config.protects_activations,
        }
        return {name: Out(1) for name, present in names.items() if present}

    @property
    def config(self):
        return self._config

    @property
    def read_latency(self):
        return self._read_latency

    @property
    def look_ahead(self):
        """Steps that are taken apart before the streamer needs them.

        Steps that keep their tile may take as few as `turnaround` cycles. The tile of a later one
        takes `rows` cycles to shift in, and is known in time if those steps fit in here.
        """
        return ceil_div(self.config.rows, TURNAROUND) + _SPARE_STEPS

    @property
    def latency(self):
        """Cycles from an instruction's last vector to `done`: window, array, accumulator.

        Columns come a cycle apart and lanes are read a cycle apart, so that a read may follow column
        0 at once. Each further group of lanes is read a cycle later, but comes `lanes` cycles later.
        """
        groups = self.config.cols // self.config.lanes
        return self._write_latency + TURNAROUND + (groups - 1) * (self.config.lanes - 1)

    @property
    def _settled(self):
        """Cycles from an instruction's last vector until the sum of the last column is written."""
        return self._write_latency + TURNAROUND - 1 + self.config.cols

    @property
    def _write_latency(self):
        return self._window.latency + self._array.latency - LEAD

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.array = array = self._array
        m.submodules.window = window = self._window
        m.submodules.sequencer = sequencer = StepSequencer(feeds=config.feeds)
        queue = {"depth": self.look_ahead, "protected": config.protects_memories, "bypass": False}
        m.submodules.step_queue = step_queue = FlowFifo(STEP, **queue)
        m.submodules.tile_queue = tile_queue = FlowFifo(TILE, **queue)
        m.submodules.loader = loader = TileLoader(
            rows=config.rows,
            cols=config.cols,
            word_bytes=config.weight_word_bytes,
            words=config.weight_words,
            latency=window.latency - 1,
        )
        m.submodules.streamer = streamer = VectorStreamer(
            acc_rows=self._acc_rows, turnaround=TURNAROUND
        )
        # `stop` counts a cycle late, a fault of its own does not: much waits for their sum.
        halted, stopped = Signal(), Signal()
        m.d.sync += stopped.eq(stopped | self.stop | self.fault_stb)

        # A tile leaves its queue before its step does, so that queue is never the fuller one.
        wiring.connect(m, sequencer.steps, step_queue.i)
        wiring.connect(m, sequencer.tiles, tile_queue.i)
        wiring.connect(m, step_queue.o, streamer.steps)
        wiring.connect(m, tile_queue.o, loader.tiles)
        m.d.comb += [
            sequencer.command.p.eq(self.command.p),
            sequencer.command.valid.eq(self.command.valid & ~stopped),
            self.command.ready.eq(sequencer.command.ready & ~stopped),
            streamer.progress.eq(self.progress),
            streamer.stop.eq(stopped),
            streamer.tile_ready.eq(loader.ready),
            streamer.tile_soon.eq(loader.soon),
            streamer.tile_bad.eq(loader.bad),
            loader.taking.eq(streamer.valid & streamer.vector.switch),
            window.valid.eq(streamer.valid),
            window.vector.eq(streamer.vector),
            self.streaming.eq(streamer.valid),
        ]
        m.d.comb += [
            getattr(self, name).eq(getattr(streamer, name))
            for name in ("wait_drain", "wait_store", "wait_weights", "idle_command")
        ]
        self._connect_memories(m, window, loader)
        self._connect_array(m, array, window, loader, streamer)
        if config.protects_memories:
            m.d.comb += self.queue_error.eq(step_queue.soft_error | tile_queue.soft_error)
        if config.protects_array:
            valid = delayed(m, streamer.valid, window.latency, name="valid", reset_less=False)
            m.d.comb += [array.valid.eq(valid), self.sum_error.eq(array.sum_error)]
        if config.protects_activations:
            m.d.comb += self.activation_error.eq(array.activation_error)
        self._elaborate_done(m, streamer, step_queue, stopped)
        self._elaborate_faults(m, window, loader, streamer, halted)
        return m

    def _connect_memories(self, m, window, loader):
        m.d.comb += [
            self.weight_en.eq(loader.weight_en),
            self.weight_addr.eq(loader.weight_addr),
            loader.weight_data.eq(self.weight_data),
            window.feed_conflict.eq(self.feed_conflict),
        ]
        for feed in range(self.config.feeds):
            m.d.comb += [
                self.feed_en[feed].eq(window.feed_en[feed]),
                self.feed_addr[feed].eq(window.feed_addr[feed]),
                window.feed_data[feed].eq(self.feed_data[feed]),
            ]

    def _connect_array(self, m, array, window, loader, streamer):
        vector = streamer.vector
        first = streamer.valid & vector.first
        for name, token in (
            ("first", first),
            ("switch", first & vector.switch),
            ("depthwise", vector.walk.depthwise),
        ):
            m.d.comb += getattr(array, name).eq(delayed(m, token, window.latency, name=name))
        for feed, lanes in enumerate(window.lane):
            m.d.comb += [array.feed[feed][lane].eq(value) for lane, value in enumerate(lanes)]
        m.d.comb += [array.w_en.eq(loader.w_en), array.w_first.eq(loader.w_first)]
        for col in range(self.config.cols):
            m.d.comb += [
                array.w_row[col].eq(loader.w_row[col]),
                self.sums[col].eq(array.sums[col]),
            ]
        kept, wait = streamer.valid & vector.keep, self._write_latency
        m.d.comb += [
            self.w_en.eq(delayed(m, kept, wait, name="w_en", reset_less=False)),
            self.w_addr.eq(delayed(m, vector.acc[: len(self.w_addr)], wait, name="w_addr")),
            self.w_op.eq(delayed(m, vector.op, wait, name="w_op")),
        ]

    def _elaborate_done(self, m, streamer, step_queue, stopped):
        """Count instructions through the pipeline; two may end at once, setup and pass."""
        marks = []
        for name, mark in (
            ("pass_done", streamer.valid & streamer.vector.done),
            ("setup_done", streamer.setup_done),
        ):
            marks.append(delayed(m, mark, self.latency - 1, name=name, reset_less=False))
        pending = Signal(range(_FLUSH_CYCLES))
        m.d.sync += pending.eq(pending + marks[0] + marks[1] - self.done)
        m.d.comb += self.done.eq(pending != 0)

        in_flight = Signal(range(self._settled + _FLUSH_CYCLES + 1))
        with m.If(streamer.valid | streamer.setup_done):
            m.d.sync += in_flight.eq(self._settled + _FLUSH_CYCLES)
        with m.Elif(in_flight != 0):
            m.d.sync += in_flight.eq(in_flight - 1)
        nothing = ~self.command.valid & (step_queue.level == 0) & ~streamer.busy
        m.d.comb += self.idle.eq((in_flight == 0) & ~streamer.valid & (stopped | nothing))

    def _elaborate_faults(self, m, window, loader, streamer, halted):
        """Report the first fault; nothing is issued afterwards."""
        # As late as the faults of the vectors before the step that needs the tile.
        bad_tile = delayed(m, streamer.tile_fault, FAULT_LATENCY, name="bad_tile", reset_less=False)
        conflict = delayed(
            m, self.acc_conflict, FAULT_LATENCY - 1, name="acc_conflict", reset_less=False
        )
        m.d.comb += self.fault.index.eq(window.fault.index)
        with m.If(window.fault_stb):
            m.d.comb += self.fault.eq(window.fault)
        with m.Elif(bad_tile):
            m.d.comb += [
                self.fault.code.eq(Fault.LOCAL_ADDRESS),
                self.fault.index.eq(streamer.tile_fault_index),
                self.fault.addr.eq(loader.bad_addr),
            ]
        with m.Else():
            m.d.comb += self.fault.code.eq(Fault.PORT_CONFLICT)
        m.d.comb += self.fault_stb.eq((window.fault_stb | bad_tile | conflict) & ~halted)
        with m.If(self.fault_stb):
            m.d.sync += halted.eq(1)
