"""Proofs that every component whose outputs are streams keeps the contract of streams."""

from collections.abc import Callable

from amaranth.lib import wiring

from systolith.arch import csr, rules
from systolith.gateware import (
    burst,
    csr_bank,
    decoder,
    dispatcher,
    drain_walk,
    fetch,
    load,
    move,
    queue,
    read_master,
    sequencer,
    slices,
    steps,
    store,
    write_master,
)

from . import surroundings as around
from .case import Case, Control
from .edit import Edit
from .monitor import Monitor
from .surroundings import LATENCY, TINY

BEAT_BYTES = 4
DATA_BITS = 8 * BEAT_BYTES
OUTSTANDING = 2
QUEUE_DEPTH = 2

SHORT_PREFETCH = (
    Edit("fetch", "PREFETCH_DEPTH = 32", "PREFETCH_DEPTH = 4"),
    Edit("fetch", "REQUEST_INSTRUCTIONS = 8", "REQUEST_INSTRUCTIONS = 2"),
)
"""A small memory for instructions, which have 256 bits each."""


def _control(breaks: str, module: str, old: str, new: str) -> Control:
    return Control(breaks, (Edit(module, old, new),))


def _dispatcher() -> wiring.Component:
    # Looked up when it is called, because an edit replaces the class.
    return dispatcher.Dispatcher()


def _run_walker() -> wiring.Component:
    return move.RunWalker()


def _case(
    name: str,
    design: Callable[[], wiring.Component],
    describe: Callable[[Monitor], None],
    control: Control,
    *,
    cover_depth: int = 8,
    fast: bool = False,
    edits: tuple[Edit, ...] = (),
) -> Case:
    """Return a proof by induction over two cycles: the contract speaks of two."""
    return Case(
        name=f"handshake-{name}",
        design=design,
        describe=describe,
        depth=2,
        cover_depth=cover_depth,
        controls=(control,),
        edits=edits,
        fast=fast,
    )


CASES = (
    _case(
        "fifo",
        lambda: slices.FlowFifo(4, 3, bypass=False),
        around.of_plain,
        _control(
            "o_*_stays",
            "slices",
            "self.advance.eq(~self.o.valid | self.o.ready)",
            "self.advance.eq(1)",
        ),
        fast=True,
    ),
    _case(
        "command-queue",
        lambda: queue.CommandQueue(depth=QUEUE_DEPTH, waits=range(queue.ENGINE_COUNT)),
        around.of_queue,
        _control(
            "o_*_stays",
            "queue",
            "queue.o.ready.eq(self.o.ready & met)",
            "queue.o.ready.eq(self.o.ready | queue.o.p.index[0])",
        ),
    ),
    _case(
        "decoder",
        lambda: decoder.Decoder(rules=rules.field_rules(TINY)),
        around.of_plain,
        _control(
            "o_*_stays",
            "decoder",
            "self.i.ready.eq(self.o.ready | empty)",
            "self.i.ready.eq(1)",
        ),
    ),
    _case(
        "assembler-join",
        lambda: fetch.Assembler(axi_bytes=16),
        around.of_plain,
        _control(
            "o_*_stays",
            "fetch",
            "self.i.ready.eq(~self.o.valid | self.o.ready)]",
            "self.i.ready.eq(1)]",
        ),
    ),
    _case(
        "assembler-split",
        lambda: fetch.Assembler(axi_bytes=64),
        around.of_plain,
        _control(
            "o_*_stays",
            "fetch",
            "with m.Elif(self.o.valid & self.o.ready):",
            "with m.Elif(self.o.valid):",
        ),
    ),
    _case(
        "fetch",
        lambda: fetch.Fetch(axi_bytes=32),
        around.of_fetch,
        _control(
            "request_*_stays",
            "fetch",
            "with m.If(transfer):\n            m.d.sync += asked.eq(asked + size)",
            "with m.If(self.request.valid):\n            m.d.sync += asked.eq(asked + size)",
        ),
        cover_depth=12,
    ),
    _case(
        "dispatcher",
        _dispatcher,
        around.of_dispatcher,
        _control(
            "o?_*_stays",
            "dispatcher",
            "m.d.comb += leave.o.ready.eq(queue.ready)",
            "m.d.comb += leave.o.ready.eq(1)",
        ),
    ),
    _case(
        "sequencer",
        lambda: sequencer.Sequencer(
            rules=rules.field_rules(TINY), queue_depth=QUEUE_DEPTH, axi_bytes=32
        ),
        around.of_sequencer,
        _control(
            "commands?_*_stays",
            "sequencer",
            "queue.o.ready.eq(command.ready & ~stopped)",
            "queue.o.ready.eq(~stopped)",
        ),
        cover_depth=12,
        edits=SHORT_PREFETCH,
    ),
    _case(
        "splitter",
        lambda: burst.BurstSplitter(beat_bytes=BEAT_BYTES, write=False),
        around.of_splitter,
        _control("o_*_stays", "slices", "with m.If(~full):", "with m.If(1):"),
        fast=True,
    ),
    _case(
        "expander",
        lambda: burst.BeatExpander(beat_bytes=BEAT_BYTES),
        around.of_plain,
        _control("o_*_stays", "burst", "with m.Elif(self.o.ready):", "with m.Else():"),
        fast=True,
    ),
    _case(
        "runs",
        _run_walker,
        around.of_plain,
        _control("o_*_stays", "move", "with m.Elif(self.o.ready):", "with m.Else():"),
    ),
    _case(
        "segments",
        lambda: move.SegmentWalker(
            beat_bytes=BEAT_BYTES, data_bits=DATA_BITS, sizes=(256, 128, 64, 32)
        ),
        around.of_plain,
        _control(
            "o_*_stays",
            "slices",
            "self.advance.eq(~self.o.valid | self.o.ready)",
            "self.advance.eq(1)",
        ),
    ),
    _case(
        "read-master",
        lambda: read_master.ReadMaster(data_bits=DATA_BITS, outstanding=OUTSTANDING),
        around.of_reader,
        _control("ar_*_stays", "read_master", "ar_free = ar_empty | self.ar.ready", "ar_free = 1"),
        cover_depth=9,
    ),
    _case(
        "write-master",
        lambda: write_master.WriteMaster(data_bits=DATA_BITS, outstanding=OUTSTANDING),
        around.of_writer,
        _control("w_*_stays", "write_master", "free = ~self.w.valid | self.w.ready", "free = 1"),
        cover_depth=10,
    ),
    _case(
        "skid-buffer",
        lambda: slices.SkidBuffer(4),
        around.of_plain,
        _control("o_*_stays", "slices", "with m.If(~full):", "with m.If(1):"),
    ),
    _case(
        "flow-fifo",
        lambda: slices.FlowFifo(4, 3),
        around.of_plain,
        _control(
            "o_*_stays",
            "slices",
            "self.advance.eq(~self.o.valid | self.o.ready)",
            "self.advance.eq(1)",
        ),
    ),
    _case(
        "load",
        lambda: load.LoadEngine(TINY, LATENCY),
        around.of_load,
        _control(
            "write_*_stays",
            "load",
            "piece.ready.eq(self.write.ready)",
            "piece.ready.eq(1)",
        ),
        cover_depth=9,
    ),
    _case(
        "store",
        lambda: store.StoreEngine(TINY, LATENCY),
        around.of_store,
        _control(
            "read_*_stays",
            "store",
            "piece.ready.eq(self.read.valid & self.read.ready)",
            "piece.ready.eq(self.read.valid)",
        ),
        cover_depth=14,
    ),
    _case(
        "steps",
        lambda: steps.StepSequencer(feeds=TINY.feeds),
        around.of_steps,
        _control(
            "steps_*_stays",
            "steps",
            "advance = active & self.steps.ready",
            "advance = active",
        ),
    ),
    _case(
        "drain-walker",
        lambda: drain_walk.DrainWalker(lanes=2, groups=2),
        around.of_walker,
        _control(
            "read_*_stays",
            "drain_walk",
            "with m.If(loads | plain | granted):",
            "with m.If(1):",
        ),
    ),
    _case(
        "registers",
        lambda: csr_bank.CsrBank(constants=csr.constants(TINY)),
        around.of_registers,
        _control(
            "bus_r_*_stays",
            "csr_bank",
            "with m.Elif(answer.ready):",
            "with m.Else():",
        ),
        cover_depth=17,
    ),
)
