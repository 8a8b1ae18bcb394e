"""STORE: bytes from the scratchpad to DRAM."""

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from systolith.arch import isa
from systolith.arch.csr import Fault

from .burst import RUN, beat_layout
from .move import RUNS, SEGMENTS, RunWalker, SegmentWalker
from .slices import FlowFifo, SkidBuffer
from .words import COMMAND, FAULT_REPORT, body
from .write_master import write_beat_layout

_QUEUE_DEPTH = 4
"""Instructions begun before the first of them has been answered by memory."""

_SLACK = 4
"""Windows on their way beyond the read latency: those between merging, queue and bus."""


class StoreEngine(wiring.Component):
    """Execute STORE: segments of scratchpad bytes become runs of DRAM bytes.

    For each beat the window of the scratchpad is read that has the bytes in the beat's lanes; where
    segments end within a beat, one window per segment is read and they are merged. Faults:
    LOCAL_ADDRESS at the local byte, region faults at the run's DRAM byte, BUS_WRITE at the burst's.

    Timing: 4 cycles from `command` to AW, 7 to `read`; `read_latency + 2` from `read` to W; one beat
    per cycle as long as no beat is cut by the end of a segment, else one piece per cycle. An
    instruction is taken every two cycles; `command.ready` comes in the cycle after it began.

    Parameters
    ----------
    config : systolith.arch.config.AcceleratorConfig
        The accelerator.
    read_latency : int
        Cycles from a transfer on `read` to `data`.

    Members
    -------
    command, done, fault, fault_stb, stop, idle :
        As of every engine.
    request, beats, bus_data, bus_done, bus_error, bus_error_addr :
        To and from the write master.
    read : stream
        Byte addresses of windows of the scratchpad.
    data, data_valid : In
        The first beat's worth of bytes of each window.
    busy : Out(1)
        Level: an instruction is in progress.
    """

    def __init__(self, config, read_latency):
        if not isinstance(read_latency, int) or read_latency < 1:
            raise ValueError(f"Read latency must be at least 1 cycle, not {read_latency!r}")
        self._config = config
        self._read_latency = read_latency
        super().__init__(
            {
                "command": In(stream.Signature(COMMAND)),
                "done": Out(1),
                "fault": Out(FAULT_REPORT),
                "fault_stb": Out(1),
                "stop": In(1),
                "idle": Out(1),
                "request": Out(stream.Signature(RUN)),
                "beats": In(stream.Signature(beat_layout(config.axi_bytes))),
                "bus_data": Out(stream.Signature(write_beat_layout(config.axi_data_bits))),
                "bus_done": In(1),
                "bus_error": In(1),
                "bus_error_addr": In(64),
                "read": Out(stream.Signature(exact_log2(config.scratchpad_bytes))),
                "data": In(config.axi_data_bits),
                "data_valid": In(1),
                "busy": Out(1),
            }
        )

    @property
    def config(self):
        return self._config

    @property
    def read_latency(self):
        return self._read_latency

    def elaborate(self, platform):
        m = Module()

        config = self.config
        # Registered, because it goes to everything: what begins a cycle too late is forgotten.
        halted = Signal()
        runs = RunWalker()
        segments = SegmentWalker(
            beat_bytes=config.axi_bytes,
            data_bits=0,
            sizes=(config.scratchpad_bytes,) * len(isa.Space),
        )
        m.submodules.runs = ResetInserter(halted)(runs)
        m.submodules.segments = ResetInserter(halted)(segments)
        # `ready` of the bus master ends here: it comes late, and would step the walk and take the
        # next command in the same cycle.
        ask = SkidBuffer(RUN)
        m.submodules.ask = ResetInserter(halted)(ask)
        wiring.connect(m, runs.o, ask.i)
        wiring.connect(m, ask.o, wiring.flipped(self.request))

        oldest = self._connect_command(m, runs, segments, halted)
        entry = SkidBuffer(segments.beats.p.shape())
        m.submodules.entry = ResetInserter(halted)(entry)
        wiring.connect(m, entry.o, segments.beats)
        fields = ("lo", "hi", "last", "code")
        m.d.comb += [entry.i.p[name].eq(self.beats.p[name]) for name in fields]
        m.d.comb += [
            entry.i.valid.eq(self.beats.valid),
            self.beats.ready.eq(entry.i.ready & ~halted),
        ]
        piece = segments.o
        room = self._connect_data(m, piece, halted)

        m.d.comb += [
            self.read.valid.eq(piece.valid & (piece.p.code == 0) & room & ~halted),
            self.read.p.eq(piece.p.addr),
            piece.ready.eq(self.read.valid & self.read.ready),
        ]
        self._connect_fault(m, piece, oldest, halted)
        with m.If(self.fault_stb | self.stop):
            m.d.sync += halted.eq(1)
        return m

    def _connect_command(self, m, runs, segments, halted):
        """Give each instruction to both walks; return the index of the oldest one."""
        pending = fifo.SyncFIFO(width=isa.COUNTER_BITS, depth=_QUEUE_DEPTH)
        queue = FlowFifo(SEGMENTS, depth=_QUEUE_DEPTH)
        m.submodules.pending = ResetInserter(halted)(pending)
        m.submodules.queue = ResetInserter(halted)(queue)
        store = body(isa.Store, self.command.p)
        walk = Signal(SEGMENTS)
        fields = ("addr", "segment", "segment_step", "segments", "group_step")
        m.d.comb += [walk[name].eq(store[name]) for name in fields]
        # A command is acknowledged once it is here: that there is room is known late.
        accepted, acknowledge = Signal(), Signal()
        m.d.sync += acknowledge.eq(accepted)
        wanted = self.command.valid & ~acknowledge & pending.w_rdy & ~halted
        m.d.comb += [
            walk.index.eq(self.command.p.index),
            # The queue holds a part of what is pending, so it has room if that has.
            self.command.ready.eq(acknowledge),
            accepted.eq(wanted & runs.i.ready),
            runs.i.valid.eq(wanted),
            pending.w_en.eq(accepted),
            pending.w_data.eq(self.command.p.index),
            pending.r_en.eq(self.bus_done),
            queue.i.valid.eq(accepted),
            queue.i.p.eq(walk),
            self.done.eq(self.bus_done & ~halted),
            self.busy.eq(pending.r_rdy),
        ]
        wiring.connect(m, queue.o, segments.command)
        m.d.comb += [runs.i.p[name].eq(store[name]) for name in RUNS.members]
        return pending.r_data

    def _connect_data(self, m, piece, halted):
        """Merge the windows into beats; return whether there is room for one more."""
        config = self.config
        depth = self.read_latency + _SLACK
        masks = fifo.SyncFIFO(width=config.axi_bytes + 1, depth=depth)
        beats = fifo.SyncFIFO(width=write_beat_layout(config.axi_data_bits).size, depth=depth)
        m.submodules.masks = ResetInserter(halted)(masks)
        m.submodules.beat_queue = ResetInserter(halted)(beats)

        requested = self.read.valid & self.read.ready
        on_the_way = Signal(range(depth + 1))  # windows
        reserved = Signal(range(depth + 1))  # places in the queue of beats, one for each window
        mask = masks.r_data[:-1]
        beat_last = masks.r_data[-1]
        merged_data = Signal(config.axi_data_bits)
        merged_mask = Signal(config.axi_bytes)
        held_data = Signal(config.axi_data_bits, reset_less=True)
        held_mask = Signal(config.axi_bytes)
        lanes = Cat(bit.replicate(8) for bit in mask)
        arrived = self.data_valid & ~halted
        sent = self.bus_data.valid & self.bus_data.ready
        m.d.comb += [
            masks.w_en.eq(requested),
            masks.w_data.eq(Cat(piece.p.mask, piece.p.beat_last)),
            masks.r_en.eq(arrived),
            merged_data.eq((self.data & lanes) | (held_data & ~lanes)),
            merged_mask.eq(mask | held_mask),
            beats.w_en.eq(arrived & beat_last),
            beats.w_data.eq(Cat(merged_data, merged_mask)),
            self.bus_data.valid.eq(beats.r_rdy),
            self.bus_data.p.eq(beats.r_data),
            beats.r_en.eq(self.bus_data.ready),
            self.idle.eq((on_the_way == 0) & ~self.busy),
        ]
        m.d.sync += on_the_way.eq(on_the_way + requested - self.data_valid)
        m.d.sync += reserved.eq(reserved + requested - (arrived & ~beat_last) - sent)
        with m.If(arrived):
            m.d.sync += [held_data.eq(merged_data), held_mask.eq(Mux(beat_last, 0, merged_mask))]
        return reserved != depth

    def _connect_fault(self, m, piece, oldest, halted):
        """Report the fault of a piece at hand, or of the oldest instruction's burst."""
        local = piece.p.code == Fault.LOCAL_ADDRESS
        of_piece = piece.valid & (piece.p.code != 0)
        bus_addr = Signal.like(self.beats.p.addr)
        with m.If(self.beats.valid & self.beats.ready):
            m.d.sync += bus_addr.eq(self.beats.p.addr)
        m.d.comb += self.fault_stb.eq((of_piece | self.bus_error) & ~halted)
        with m.If(self.bus_error):
            m.d.comb += [
                self.fault.code.eq(Fault.BUS_WRITE),
                self.fault.index.eq(oldest),
                self.fault.addr.eq(self.bus_error_addr),
            ]
        with m.Else():
            m.d.comb += [
                self.fault.code.eq(piece.p.code),
                self.fault.index.eq(piece.p.index),
                self.fault.addr.eq(Mux(local, piece.p.local, bus_addr)),
            ]
