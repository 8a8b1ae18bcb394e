"""Proofs that queues lose nothing, invent nothing and keep the order."""

from typing import Any

from amaranth.hdl import Mux, Signal, Value

from systolith.gateware import queue, slices

from .case import Case, Control
from .edit import Edit
from .fifo import FlowFifoProbe
from .ghost import Ghost
from .monitor import Monitor, implies
from .stream import add_contracts

DEPTH = 3
PAYLOAD_BITS = 2
"""A queue does not look at what it holds: two bits tell four values apart."""


def _describe(t: Monitor, path: str) -> None:
    dut = t.dut
    add_contracts(t)
    _expect_order(t, dut, FlowFifoProbe(t, path, DEPTH, len(Value.cast(dut.i.p))), DEPTH)


def _expect_order(t: Monitor, dut: Any, inside: FlowFifoProbe, depth: int) -> None:
    width = len(Value.cast(dut.i.p))
    taken = Signal(name="taken")
    payload = Signal(width, name="taken_payload", reset_less=True)
    t.m.d.sync += [taken.eq(dut.i.valid & dut.i.ready), payload.eq(Value.cast(dut.i.p))]
    inputs = Ghost(
        t, "held", depth, width, push=taken, value=payload, pop=dut.o.valid & dut.o.ready
    )
    t.expect("level", dut.level == inputs.count)
    t.expect("nothing_invented", implies(dut.o.valid, inputs.count != 0))
    t.expect("order", implies(dut.o.valid, Value.cast(dut.o.p) == inputs.values[0]))
    t.expect("not_lost", implies(inputs.count == depth, ~dut.i.ready))
    t.invariant("count", inputs.count == inside.level)
    t.invariant("first", implies(inside.valid, inside.value == inputs.values[0]))
    for n, row in enumerate(inside.queue.rows):
        expected = Mux(inside.valid, inputs.values[n + 1], inputs.values[n])
        t.invariant(f"row{n}", implies(inside.queue.holds(n), row == expected))
    t.reach("full", inputs.count == depth)
    t.reach("emptied", t.was_live & t.past(inputs.count == 1) & (inputs.count == 0))


def _describe_commands(t: Monitor) -> None:
    dut = t.dut
    for engine, count in enumerate(dut.progress):
        t.suppose(f"progress{engine}_grows", implies(t.was_live, count >= t.past(count)))
    _describe(t, "dut.queue")
    head_valid, met = t.probe("dut.queue.o__valid"), t.probe("dut.met")
    t.invariant("met", implies(met, head_valid))
    for engine in dut.waits:
        reached = dut.progress[engine] >= dut.o.p.targets[engine]
        t.expect(f"waits_for_{engine.name.lower()}", implies(dut.o.valid, reached))
    t.reach("waits", dut.waiting != 0)


CASES = (
    Case(
        name="queue-order",
        design=lambda: slices.FlowFifo(PAYLOAD_BITS, DEPTH, bypass=False),
        describe=lambda t: _describe(t, "dut"),
        depth=1,
        cover_depth=10,
        controls=(
            Control(
                "level",
                (Edit("slices", "arrives.eq(self.i.valid & room)", "arrives.eq(room)"),),
            ),
            Control(
                "order",
                (
                    Edit(
                        "slices",
                        "w_port.data.eq(arriving)",
                        "w_port.data.eq(arriving ^ (behind == 1))",
                    ),
                ),
            ),
        ),
        fast=True,
    ),
    Case(
        name="queue-flow",
        design=lambda: slices.FlowFifo(PAYLOAD_BITS, DEPTH),
        describe=lambda t: _describe(t, "dut"),
        depth=1,
        cover_depth=10,
        controls=(
            Control(
                "level",
                (Edit("slices", "shrinks.eq(popped & ~arrives)", "shrinks.eq(popped)"),),
            ),
            Control(
                "order",
                (Edit("slices", "following.eq(Mux(passes,", "following.eq(Mux(self.i.valid,"),),
            ),
        ),
    ),
    Case(
        name="queue-commands",
        design=lambda: queue.CommandQueue(depth=DEPTH, waits=range(queue.ENGINE_COUNT)),
        describe=_describe_commands,
        depth=1,
        cover_depth=10,
        controls=(
            Control(
                "waits_for_*",
                (
                    Edit(
                        "queue",
                        "command.targets[engine] > self.progress[engine]",
                        "command.targets[engine] > self.progress[engine] + 1",
                    ),
                ),
            ),
            Control(
                "level",
                (
                    Edit(
                        "queue",
                        "queue.o.ready.eq(self.o.ready & met)",
                        "queue.o.ready.eq(self.o.ready)",
                    ),
                ),
            ),
        ),
    ),
)
