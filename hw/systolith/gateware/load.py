"""LOAD: bytes from DRAM to the local memories."""

from amaranth.hdl import Cat, Module, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from systolith.arch import isa
from systolith.arch.config import TABLE_COUNT, TABLE_ENTRIES
from systolith.arch.csr import Fault

from .burst import RUN
from .move import ADDR_BITS, RUNS, SEGMENTS, RunWalker, SegmentWalker, lanes_layout
from .read_master import read_beat_layout
from .slices import FlowFifo, SkidBuffer
from .words import COMMAND, FAULT_REPORT, body

TABLE_BYTES = TABLE_COUNT * TABLE_ENTRIES

ALIGNED_FIELDS = ("offset", "run_step", "addr", "segment_step", "group_step")
"""Fields that must be multiples of the beat for spaces other than the scratchpad."""

ALIGNED_COUNTS = ("run", "segment", "total")
"""The same for fields that are stored minus one."""


def write_layout(beat_bytes):
    """Return the layout of a write: byte k goes to `addr + k` of `space` if `mask[k]`."""
    return data.StructLayout(
        {
            "space": range(len(isa.Space)),
            "addr": ADDR_BITS,
            "data": data.ArrayLayout(8, beat_bytes),
            "mask": beat_bytes,
        }
    )


class LoadEngine(wiring.Component):
    """Execute LOAD: runs of DRAM bytes become segments of local bytes.

    Runs are asked for as soon as an instruction comes, while beats of those before still arrive, so
    that the bus never waits for an instruction to end. Faults are raised in program order: ALIGNMENT
    and LOCAL_ADDRESS at the local byte, region and bus faults at the DRAM byte.

    Timing: 4 cycles from `command` to AR; 3 cycles from R to `write`; one beat per cycle as long as
    no beat is cut by the end of a segment, else one piece per cycle. An instruction is taken every
    two cycles; `command.ready` comes in the cycle after the one in which it began.

    Parameters
    ----------
    config : systolith.arch.config.AcceleratorConfig
        The accelerator.
    write_latency : int
        Cycles after a transfer on `write` until a read that starts in the next cycle sees it.

    Members
    -------
    command, done, fault, fault_stb, stop, idle :
        As of every engine.
    request, beats : streams
        To and from the read master.
    write : stream of :func:`write_layout`
        To the local memories.
    busy : Out(1)
        Level: an instruction is in progress.
    wait_port : Out(1)
        Level: a write is not accepted.
    """

    def __init__(self, config, write_latency):
        if not isinstance(write_latency, int) or write_latency < 0:
            raise ValueError(f"Write latency must be at least 0 cycles, not {write_latency!r}")
        self._config = config
        self._write_latency = write_latency
        super().__init__(
            {
                "command": In(stream.Signature(COMMAND)),
                "done": Out(1),
                "fault": Out(FAULT_REPORT),
                "fault_stb": Out(1),
                "stop": In(1),
                "idle": Out(1),
                "request": Out(stream.Signature(RUN)),
                "beats": In(stream.Signature(read_beat_layout(config.axi_data_bits))),
                "write": Out(stream.Signature(write_layout(config.axi_bytes))),
                "busy": Out(1),
                "wait_port": Out(1),
            }
        )

    @property
    def config(self):
        return self._config

    @property
    def write_latency(self):
        return self._write_latency

    def elaborate(self, platform):
        m = Module()

        config = self.config
        # Registered, because it goes to everything: what begins a cycle too late is forgotten.
        halted = Signal()
        runs = RunWalker()
        segments = SegmentWalker(
            beat_bytes=config.axi_bytes,
            data_bits=config.axi_data_bits,
            sizes=(config.scratchpad_bytes, config.weight_bytes, config.param_bytes, TABLE_BYTES),
        )
        m.submodules.runs = ResetInserter(halted)(runs)
        m.submodules.segments = ResetInserter(halted)(segments)
        # `ready` of the bus master ends here: it comes late, and would step the walk and take the
        # next command in the same cycle.
        ask = SkidBuffer(RUN)
        m.submodules.ask = ResetInserter(halted)(ask)
        wiring.connect(m, runs.o, ask.i)
        wiring.connect(m, ask.o, wiring.flipped(self.request))

        accepted = self._connect_command(m, runs, segments, halted)
        bus_addr = self._connect_beats(m, segments, halted)

        piece = segments.o
        good = piece.valid & (piece.p.code == 0) & ~halted
        of_bus = (piece.p.code != Fault.LOCAL_ADDRESS) & (piece.p.code != Fault.ALIGNMENT)
        written = self.write.valid & self.write.ready
        m.d.comb += [
            self.write.valid.eq(good),
            self.write.p.space.eq(piece.p.space),
            self.write.p.addr.eq(piece.p.addr),
            self.write.p.data.eq(piece.p.data),
            self.write.p.mask.eq(piece.p.mask),
            piece.ready.eq(self.write.ready),
            self.wait_port.eq(self.write.valid & ~self.write.ready),
            self.fault_stb.eq(piece.valid & (piece.p.code != 0) & ~halted),
            self.fault.code.eq(piece.p.code),
            self.fault.index.eq(piece.p.index),
            self.fault.addr.eq(piece.p.local),
        ]
        with m.If(of_bus):
            m.d.comb += self.fault.addr.eq(bus_addr)
        with m.If(self.fault_stb | self.stop):
            m.d.sync += halted.eq(1)
        self._count(m, accepted, written & piece.p.last, halted)
        return m

    def _connect_command(self, m, runs, segments, halted):
        """Give each instruction to both walks; return the pulse."""
        layout = SEGMENTS
        queue = FlowFifo(layout, depth=max(2, self.config.axi_outstanding))
        m.submodules.queue = ResetInserter(halted)(queue)
        load = body(isa.Load, self.command.p)
        walk = Signal(layout)
        fields = ("space", "addr", "segment", "segment_step", "segments", "group_step")
        m.d.comb += [walk[name].eq(load[name]) for name in fields]
        misaligned = self._misaligned(load)
        with m.If(misaligned):
            m.d.comb += walk.code.eq(Fault.ALIGNMENT)
        # A command is acknowledged once it is here: that there is room is known late.
        accepted, acknowledge = Signal(), Signal()
        m.d.sync += acknowledge.eq(accepted)
        wanted = self.command.valid & ~acknowledge & queue.i.ready & ~halted
        m.d.comb += [
            walk.index.eq(self.command.p.index),
            self.command.ready.eq(acknowledge),
            accepted.eq(wanted & runs.i.ready),
            runs.i.valid.eq(wanted & ~misaligned),
            queue.i.valid.eq(accepted),
            queue.i.p.eq(walk),
        ]
        wiring.connect(m, queue.o, segments.command)
        m.d.comb += [runs.i.p[name].eq(load[name]) for name in RUNS.members]
        return accepted

    def _misaligned(self, load):
        lane_bits = exact_log2(self.config.axi_bytes)
        low = Cat(load[name][:lane_bits] for name in ALIGNED_FIELDS)
        # A multiple minus one has ones below.
        low_counts = Cat(~load[name][:lane_bits] for name in ALIGNED_COUNTS)
        return (load.space != isa.Space.SCRATCHPAD) & (low.any() | low_counts.any())

    def _connect_beats(self, m, segments, halted):
        """Take the beats; return the address of the first fault among them."""
        layout = lanes_layout(self.config.axi_bytes, self.config.axi_data_bits)
        entry = SkidBuffer(layout)
        m.submodules.entry = ResetInserter(halted)(entry)
        beat = Signal(layout)
        m.d.comb += [beat[name].eq(self.beats.p[name]) for name in layout.members]
        m.d.comb += [
            entry.i.valid.eq(self.beats.valid),
            entry.i.p.eq(beat),
            # Held in reset while halted, it takes everything and forgets it.
            self.beats.ready.eq(entry.i.ready),
        ]
        wiring.connect(m, entry.o, segments.beats)
        failed = Signal()
        addr = Signal.like(self.beats.p.addr)
        with m.If(self.beats.valid & self.beats.ready & (beat.code != 0) & ~failed):
            m.d.sync += [failed.eq(1), addr.eq(self.beats.p.addr)]
        return addr

    def _count(self, m, accepted, ended, halted):
        """Delay the end of an instruction until it is visible, and count those in progress."""
        for _cycle in range(self.write_latency):
            delayed = Signal()
            m.d.sync += delayed.eq(ended)
            ended = delayed
        # As many as fit into the queue, the walk, its pieces and the delay.
        limit = self.config.axi_outstanding + self.write_latency + 6
        in_progress = Signal(range(limit + 1))
        m.d.comb += [
            self.done.eq(ended & ~halted),
            self.busy.eq(in_progress != 0),
            self.idle.eq(in_progress == 0),
        ]
        with m.If(halted):
            m.d.sync += in_progress.eq(0)
        with m.Else():
            m.d.sync += in_progress.eq(in_progress + accepted - self.done)
