"""Instruction decoder: which engine, and whether the instruction is legal on this machine."""

from dataclasses import dataclass, fields

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from systolith.arch import isa, rules
from systolith.arch.csr import Fault

from .slices import complement_of
from .words import instruction_layout

FETCHED = data.StructLayout({"word": isa.INSTRUCTION_BITS, "index": isa.COUNTER_BITS})
"""An instruction word and its index in the program."""

DECODED = data.StructLayout(
    {
        "word": isa.INSTRUCTION_BITS,
        "index": isa.COUNTER_BITS,
        "engine": range(len(isa.Engine)),
        "fault": 8,
    }
)
"""The same with the engine that executes it and the fault that it is, if any."""


@dataclass(frozen=True)
class StoredRange:
    """Range of a field as it is stored; None where every stored value is within the bound.

    Parameters
    ----------
    field : str
        Name of the field.
    signed : bool
        The stored bits are two's complement.
    low, high : int or None
        Smallest and largest legal stored value.
    other : str or None
        Field whose stored value, plus `offset`, is the largest legal one.
    offset : int
        Correction where only one of the two fields is stored minus one.
    """

    field: str
    signed: bool
    low: int | None
    high: int | None
    other: str | None = None
    offset: int = 0


def stored_range(cls, rule):
    """Return a rule of `systolith.arch.rules` in terms of the bits stored in instruction `cls`."""
    metadata = {f.name: f.metadata for f in fields(cls)}
    own = metadata[rule.field]
    smallest, largest = isa.field_range(own)
    bias = 1 if own["count"] else 0
    low = rule.low - bias if rule.low > smallest else None
    if isinstance(rule.high, str):
        other_bias = 1 if metadata[rule.high]["count"] else 0
        return StoredRange(rule.field, own["signed"], low, None, rule.high, other_bias - bias)
    high = rule.high - bias if rule.high < largest else None
    return StoredRange(rule.field, own["signed"], low, high)


class Decoder(wiring.Component):
    """Decoder of instruction words; everything it knows comes from `systolith.arch`.

    Checks in this order: the opcode is declared (fault ILLEGAL_OPCODE), the bits above the last
    field are zero (RESERVED_BITS), the fields obey the rules of the configuration (FIELD_RANGE).

    Timing: latency 1 cycle; 1 instruction per cycle; stalls without bubbles.

    Parameters
    ----------
    rules : sequence of systolith.arch.rules.Rule
        Rules of the configuration.

    Members
    -------
    i : ``In(stream.Signature(FETCHED))``
        Instruction words.
    o : ``Out(stream.Signature(DECODED))``
        The same, judged.
    """

    def __init__(self, *, rules):
        self._rules = tuple(rules)
        super().__init__({"i": In(stream.Signature(FETCHED)), "o": Out(stream.Signature(DECODED))})

    @property
    def rules(self):
        return self._rules

    def elaborate(self, platform):
        m = Module()
        engine = Signal(range(len(isa.Engine)))
        fault = Signal(8)
        opcode = self.i.p.word[:8]
        with m.Switch(opcode):
            for code, cls in isa.INSTRUCTIONS.items():
                with m.Case(int(code)):
                    m.d.comb += engine.eq(int(cls.ENGINE))
                    view = data.View(instruction_layout(cls), self.i.p.word)
                    reserved = view.reserved.any() if "reserved" in view.shape().members else 0
                    m.d.comb += fault.eq(
                        Mux(
                            reserved,
                            int(Fault.RESERVED_BITS),
                            Mux(self._out_of_range(cls, view), int(Fault.FIELD_RANGE), 0),
                        )
                    )
            with m.Default():
                m.d.comb += [
                    engine.eq(int(isa.Engine.SEQUENCER)),
                    fault.eq(int(Fault.ILLEGAL_OPCODE)),
                ]
        judged = Signal(DECODED, reset_less=True)
        m.d.comb += self.o.p.eq(judged)
        empty = complement_of(self.o.valid)
        m.d.comb += self.i.ready.eq(self.o.ready | empty)
        with m.If(self.i.ready):
            m.d.sync += [self.o.valid.eq(self.i.valid), empty.eq(~self.i.valid)]
        with m.If(self.o.ready | ~self.o.valid):
            m.d.sync += [
                judged.word.eq(self.i.p.word),
                judged.index.eq(self.i.p.index),
                judged.engine.eq(engine),
                judged.fault.eq(fault),
            ]
        return m

    def _out_of_range(self, cls, view):
        """Return whether the instruction breaks a rule."""
        broken = [Const(0)]
        for rule in self.rules:
            if rule.opcode != cls.OPCODE:
                continue
            bounds = stored_range(cls, rule)
            value = view[rule.field].as_signed() if bounds.signed else view[rule.field]
            concerned = view.op.matches(*rule.ops) if rule.ops else 1
            if bounds.low is not None:
                broken.append((value < bounds.low) & concerned)
            if bounds.high is not None:
                broken.append((value > bounds.high) & concerned)
            if bounds.other is not None:
                broken.append((value > view[bounds.other] + bounds.offset) & concerned)
        return Cat(broken).any()


def decoder_for(config):
    """Return the decoder of a configuration."""
    return Decoder(rules=rules.field_rules(config))
