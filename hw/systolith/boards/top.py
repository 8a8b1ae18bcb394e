"""What is the same on every board: accelerator, block RAM, host link."""

from amaranth.back import verilog
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from systolith.gateware.core import Core

from .link import Link
from .ram import BlockRam


class BoardTop(wiring.Component):
    """Accelerator with a memory of its own, served over a UART; all in the domain `sync`.

    The memory begins at address zero of the accelerator's bus.

    Parameters
    ----------
    config : systolith.arch.config.AcceleratorConfig
        The accelerator.
    clock_hz : int
        Frequency of `sync`.
    baud : int
        Bits per second of the UART; at least 8 clock cycles per bit.
    memory_bytes : int
        Bytes of block RAM; a multiple of 4096.

    Members
    -------
    rx : ``In(1)``
        From the host, asynchronous, high when idle.
    tx : ``Out(1)``
        To the host, from a register.
    led : ``Out(1)``
        High once a host has identified the device.
    """

    def __init__(self, config, *, clock_hz, baud, memory_bytes):
        self._config = config
        self._link = Link(clock_hz=clock_hz, baud=baud, memory_size=memory_bytes)
        self._memory = BlockRam(config.axi_data_bits, memory_bytes)
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "led": Out(1)})

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()
        m.submodules.accelerator = accelerator = Core(self.config)
        m.submodules.memory = memory = self._memory
        m.submodules.link = link = self._link
        wiring.connect(m, link.control, accelerator.control)
        wiring.connect(m, accelerator.memory, memory.bus)
        wiring.connect(m, link.memory, memory.host)
        m.d.comb += [
            link.rx.eq(self.rx),
            self.tx.eq(link.tx),
            link.interrupt.eq(accelerator.interrupt),
            self.led.eq(link.session),
        ]
        return m


def generate(config, *, clock_hz, baud, memory_bytes, name="board"):
    """Return the Verilog of a :class:`BoardTop`, with pins `clk`, `rst`, `rx`, `tx` and `led`."""
    top = BoardTop(config, clock_hz=clock_hz, baud=baud, memory_bytes=memory_bytes)
    return verilog.convert(top, name=name, strip_internal_attrs=True)
