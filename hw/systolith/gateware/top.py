"""The accelerator with flat pins, named as vendor tools and test benches expect.

Ports are `ap_clk`, `ap_rst_n` (active low, synchronous), `s_axi_control_*` (AXI4-Lite),
`m_axi_gmem_*` (AXI4) and `interrupt`. Wires `progress_load`, `progress_execute`, `progress_drain`
and `progress_store` show the progress counters to simulators.
"""

from amaranth.hdl import ClockDomain, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from systolith.arch import isa

from . import axi
from .core import Core
from .queue import ENGINE_COUNT

CONTROL_PREFIX = "s_axi_control"
MEMORY_PREFIX = "m_axi_gmem"

PROGRESS_NAMES = tuple(f"progress_{isa.Engine(n).name.lower()}" for n in range(ENGINE_COUNT))
"""Wires of the top module with the instructions completed by each engine."""

UNUSED_ADDRESS_PINS = {"lock": 1, "qos": 4, "region": 4}
"""Pins of AXI4's address channels that are always zero, and their widths."""


def _pins(prefix, signature, constants):
    """Yield (name, flow of the pin, width, channel, field) for a bus of a master.

    The field is `valid`, `ready`, a field of the payload, or None for a pin that is constant.
    """
    for channel, member in signature.members.items():
        out = member.flow is Out
        for name, flow, width in (("valid", Out, 1), ("ready", In, 1)):
            yield f"{prefix}_{channel}{name}", flow if out else flow.flip(), width, channel, name
        for name, field in member.signature.members["payload"].shape:
            yield f"{prefix}_{channel}{name}", member.flow, field.width, channel, name
        if channel.startswith("a"):
            for name, width in constants.items():
                yield f"{prefix}_{channel}{name}", member.flow, width, channel, None


class Top(wiring.Component):
    """Clock, reset and pins around :class:`~systolith.gateware.core.Core`.

    Parameters
    ----------
    config : systolith.arch.config.AcceleratorConfig
        The accelerator.

    Members
    -------
    ap_clk : ``In(1)``
        The clock of everything.
    ap_rst_n : ``In(1)``
        Reset, active low, synchronous to `ap_clk`.
    s_axi_control_* : AXI4-Lite slave
    m_axi_gmem_* : AXI4 master
    interrupt : ``Out(1)``
        Level.
    """

    def __init__(self, config):
        self._config = config
        self._control_pins = list(_pins(CONTROL_PREFIX, axi.LITE, {}))
        memory = axi.Signature(config.axi_data_bits)
        self._memory_pins = list(_pins(MEMORY_PREFIX, memory, UNUSED_ADDRESS_PINS))
        members = {"ap_clk": In(1), "ap_rst_n": In(1)}
        # The host is the master of the registers, so their flows are those of its other side.
        members |= {name: flow.flip()(width) for name, flow, width, *_ in self._control_pins}
        members |= {name: flow(width) for name, flow, width, *_ in self._memory_pins}
        super().__init__(members | {"interrupt": Out(1)})

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = sync = ClockDomain()
        # The pin is the clock, not a copy of it: a simulator may order a copy after its users.
        sync.clk = self.ap_clk
        m.d.comb += sync.rst.eq(~self.ap_rst_n)
        m.submodules.core = core = Core(self.config)
        self._connect(m, core.control, self._control_pins, driven=In)
        self._connect(m, core.memory, self._memory_pins, driven=Out)
        m.d.comb += self.interrupt.eq(core.interrupt)
        for engine, name in enumerate(PROGRESS_NAMES):
            wire = Signal(isa.COUNTER_BITS, name=name)
            m.d.comb += wire.eq(core.progress[engine])
        return m

    def _connect(self, m, bus, pins, *, driven):
        """Connect a bus of the core; it drives the pins whose flow is `driven`."""
        for name, flow, _width, channel, field in pins:
            if field is None:
                continue
            port = getattr(bus, channel)
            signal = getattr(port, field) if field in ("valid", "ready") else port.p[field]
            pin = getattr(self, name)
            m.d.comb += pin.eq(signal) if flow is driven else signal.eq(pin)
