"""Performance counters: one per entry of `systolith.arch.csr.COUNTERS`, and the cycles."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith.arch import csr

COUNTER_BITS = 32
BYTES_SUFFIX = "_bytes"
"""Counters with this ending grow by a number of bytes, the others by one per cycle."""

VALUES = data.StructLayout(
    {"cycles": COUNTER_BITS, **{name: COUNTER_BITS for name, _ in csr.COUNTERS}}
)
"""Value of each counter, by the name of its register."""


def events_layout(axi_bytes):
    """Return what each counter grows by in a cycle: one bit, or a number of bytes of a beat."""
    return data.StructLayout(
        {
            name: range(axi_bytes + 1) if name.endswith(BYTES_SUFFIX) else 1
            for name, _ in csr.COUNTERS
        }
    )


class PerformanceCounters(wiring.Component):
    """Counters of a program's run; they wrap.

    Timing: a value counts the events up to two cycles ago.

    Parameters
    ----------
    axi_bytes : int
        Bytes of an AXI beat, the most that the counters of bytes can grow by in a cycle.

    Members
    -------
    clear : ``In(1)``
        Pulse: back to zero.
    enable : ``In(1)``
        Level: the program runs; events at other times are not counted.
    events : ``In(events_layout(axi_bytes))``
        What to add.
    values : ``Out(VALUES)``
        The counters.
    """

    def __init__(self, *, axi_bytes):
        self._axi_bytes = axi_bytes
        super().__init__(
            {
                "clear": In(1),
                "enable": In(1),
                "events": In(events_layout(axi_bytes)),
                "values": Out(VALUES),
            }
        )

    @property
    def axi_bytes(self):
        return self._axi_bytes

    def elaborate(self, platform):
        m = Module()
        # Events come from all over the core, some through a population count: a register of their
        # own keeps the adders out of those paths.
        enabled = Signal()
        events = Signal(events_layout(self.axi_bytes), reset_less=True)
        m.d.sync += [enabled.eq(self.enable), events.eq(self.events)]
        with m.If(enabled):
            m.d.sync += self.values.cycles.eq(self.values.cycles + 1)
            for name, _ in csr.COUNTERS:
                m.d.sync += self.values[name].eq(self.values[name] + events[name])
        with m.If(self.clear):
            m.d.sync += [enabled.eq(0), self.values.eq(0)]
        return m
