"""Surroundings of a design under proof: what may be assumed, what must hold, what must be possible.

A proof starts with one cycle of reset from an arbitrary state: initial values are removed, so that
nothing is shown which only holds where flip-flops and memories start at a known value.
"""

from amaranth.hdl import (
    Assert,
    Assume,
    ClockDomain,
    Cover,
    Module,
    ShapeLike,
    Signal,
    Value,
    ValueLike,
)
from amaranth.lib import wiring

STARTED = "formal_started"
"""Register of the monitor that keeps its initial value: low in the first cycle, which is reset."""

PROBE_PREFIX = "probe_"
INVARIANT_PREFIX = "invariant_"


class Monitor:
    """Builder of the module that contains a design and its properties.

    Inputs of the design that nothing drives are chosen by the solver in every cycle. Properties
    have names, which are what the solver reports.

    Parameters
    ----------
    dut : amaranth.lib.wiring.Component
        The design under proof. It is the submodule `dut`.
    invariants : bool
        Whether :meth:`invariant` does anything.

    Attributes
    ----------
    m : amaranth.hdl.Module
        Module to add the environment's logic to.
    live : amaranth.hdl.Signal
        Level: the reset is over.
    was_live : amaranth.hdl.Signal
        Level: it was over in the cycle before too, so that :meth:`past` has a meaning.
    probes : dict of str to (str, int)
        Signals of this module, the signal inside the design that each one shows, and its width.
    """

    def __init__(self, dut: wiring.Component, *, invariants: bool = True) -> None:
        self.dut = dut
        self._invariants = invariants
        self.m = Module()
        self.live = Signal()
        self.was_live = Signal()
        self.probes: dict[str, tuple[str, int]] = {}
        self._shown: dict[str, Signal] = {}
        self._ports: list[Value] = []
        self._names: set[str] = set()
        started = Signal(name=STARTED, reset_less=True)
        domain = ClockDomain("sync")
        self.m.domains += domain
        self.m.submodules.dut = dut
        self.m.d.comb += [domain.rst.eq(~started), self.live.eq(started)]
        self.m.d.sync += [started.eq(1), self.was_live.eq(1)]
        for _path, member, value in dut.signature.flatten(dut):
            if member.flow is wiring.In:
                self._ports.append(Value.cast(value))

    @property
    def ports(self) -> list[Value]:
        """Signals that the solver, or a probe, drives."""
        return [self.m._domains["sync"].clk, *self._ports]

    def free(self, name: str, shape: ShapeLike = 1) -> Signal:
        """Return a signal that may have another value in each cycle."""
        signal = Signal(shape, name=name)
        self._ports.append(Value.cast(signal))
        return signal

    def constant(self, name: str, shape: ShapeLike = 1) -> Signal:
        """Return a signal of any value, which never changes."""
        signal = self.free(name, shape)
        self.hold(name, signal)
        return signal

    def hold(self, name: str, value: ValueLike) -> None:
        """Suppose that a value never changes."""
        self.suppose(
            f"{name}_is_constant", ~self.was_live | (self.past(value) == Value.cast(value))
        )

    def probe(self, path: str, shape: ShapeLike = 1) -> Signal:
        """Return a signal that shows one inside the design, such as `dut.splitter.s2_valid`."""
        if path not in self._shown:
            name = PROBE_PREFIX + "".join(c if c.isalnum() else "_" for c in path)
            self._shown[path] = self.free(name, shape)
            self.probes[name] = (path, len(Value.cast(self._shown[path])))
        return self._shown[path]

    def probe_memory(self, path: str, depth: int, shape: ShapeLike) -> list[Signal]:
        """Return one signal per row of a memory inside the design."""
        return [self.probe(f"{path}[{row}]", shape) for row in range(depth)]

    def past(self, value: ValueLike) -> Value:
        """Return what a value was one cycle ago; anything in the first cycle."""
        value = Value.cast(value)
        register = Signal(len(value), name="past", reset_less=True)
        self.m.d.sync += register.eq(value)
        return register

    def suppose(self, name: str, condition: ValueLike) -> None:
        """Restrict the environment: the condition holds in every cycle after reset."""
        self.m.d.comb += Assume(~self.live | self._truth(condition), self._named(name))

    def expect(self, name: str, condition: ValueLike) -> None:
        """Require the condition in every cycle after reset."""
        self.m.d.comb += Assert(~self.live | self._truth(condition), self._named(name))

    def invariant(self, name: str, condition: ValueLike) -> None:
        """Require what induction needs to know about the inside of the design.

        It is proven like every other property, but left out of controls, where a property of the
        outside must be the one that fails.
        """
        if self._invariants:
            self.expect(f"{INVARIANT_PREFIX}{name}", condition)

    def reach(self, name: str, condition: ValueLike) -> None:
        """Require that the condition can be met in some cycle."""
        self.m.d.comb += Cover(self.live & self._truth(condition), self._named(name))

    @staticmethod
    def _truth(condition: ValueLike) -> Value:
        return Value.cast(condition).bool()

    def _named(self, name: str) -> str:
        if name in self._names:
            raise ValueError(f"Names of properties must differ, but {name} is there already")
        self._names.add(name)
        return name


def implies(condition: ValueLike, consequence: ValueLike) -> Value:
    """Return that the consequence holds where the condition does."""
    return ~Value.cast(condition).bool() | Value.cast(consequence).bool()
