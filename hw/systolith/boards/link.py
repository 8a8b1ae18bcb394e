"""Device side of the host link: executes requests, see :mod:`systolith.arch.link`."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from systolith.arch import link
from systolith.gateware import axi
from systolith.gateware.slices import SkidBuffer

from .executor import Executor
from .frames import FrameReceiver, FrameTransmitter
from .ram import HostPort
from .uart import UartReceiver, UartTransmitter, clocks_per_bit


class RegisterAccess(wiring.Component):
    """AXI4-Lite master for one access at a time.

    Members
    -------
    start : ``In(1)``
        Pulse: begin an access with the present values of `write`, `addr` and `value`.
    write, addr, value : ``In(1)``, ``In(16)``, ``In(32)``
        What to do. Addresses beyond those of the bus wrap.
    done : ``Out(1)``
        Pulse: it is done.
    result : ``Out(32)``
        What was read, from `done` on.
    error : ``Out(1)``
        The answer was not OKAY, from `done` on.
    bus : ``Out(axi.LITE)``
    """

    def __init__(self):
        super().__init__(
            {
                "start": In(1),
                "write": In(1),
                "addr": In(16),
                "value": In(32),
                "done": Out(1),
                "result": Out(32),
                "error": Out(1),
                "bus": Out(axi.LITE),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        m.d.comb += [
            bus.aw.p.addr.eq(bus.ar.p.addr),
            bus.w.p.strb.eq(-1),
            bus.r.ready.eq(1),
            bus.b.ready.eq(1),
        ]
        for channel in (bus.ar, bus.aw, bus.w):
            with m.If(channel.ready):
                m.d.sync += channel.valid.eq(0)
        with m.If(self.start):
            m.d.sync += [
                bus.ar.valid.eq(~self.write),
                bus.aw.valid.eq(self.write),
                bus.w.valid.eq(self.write),
                bus.ar.p.addr.eq(self.addr),
                bus.w.p.data.eq(self.value),
            ]
        m.d.sync += self.done.eq(bus.r.valid | bus.b.valid)
        with m.If(bus.r.valid):
            m.d.sync += [self.result.eq(bus.r.p.data), self.error.eq(bus.r.p.resp != axi.OKAY)]
        with m.If(bus.b.valid):
            m.d.sync += self.error.eq(bus.b.p.resp != axi.OKAY)
        return m


class ByteLink(wiring.Component):
    """The link between a stream of bytes and the accelerator.

    Parameters
    ----------
    identity : systolith.arch.link.Identity
        What the device says of itself.

    Members
    -------
    data, valid, error : ``In(8)``, ``In(1)``, ``In(1)``
        Bytes from the host, see :class:`~systolith.boards.frames.FrameReceiver`.
    bytes : ``Out(stream.Signature(8))``
        Bytes to the host.
    control : ``Out(axi.LITE)``
        Registers.
    memory : ``Out(HostPort(identity.memory_size))``
        The memory.
    interrupt : ``In(1)``
        Of the accelerator.
    session : ``Out(1)``
        Level: a host has identified the device.
    """

    def __init__(self, identity):
        self._identity = identity
        super().__init__(
            {
                "data": In(8),
                "valid": In(1),
                "error": In(1),
                "bytes": Out(stream.Signature(8)),
                "control": Out(axi.LITE),
                "memory": Out(HostPort(identity.memory_size)),
                "interrupt": In(1),
                "session": Out(1),
            }
        )

    @property
    def identity(self):
        return self._identity

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = FrameReceiver()
        m.submodules.transmitter = transmitter = FrameTransmitter()
        m.submodules.executor = executor = Executor(self.identity)
        m.submodules.access = access = RegisterAccess()
        m.d.comb += [
            receiver.data.eq(self.data),
            receiver.valid.eq(self.valid),
            receiver.error.eq(self.error),
            executor.header.eq(receiver.header),
            executor.full.eq(receiver.full),
            executor.damaged.eq(receiver.damaged),
            executor.byte.eq(receiver.byte),
            executor.interrupt.eq(self.interrupt),
            receiver.release.eq(executor.release),
            receiver.addr.eq(executor.addr),
            access.start.eq(executor.start),
            access.write.eq(executor.write),
            access.addr.eq(executor.register),
            access.value.eq(executor.value),
            executor.done.eq(access.done),
            executor.result.eq(access.result),
            executor.error.eq(access.error),
            self.session.eq(executor.session),
        ]
        wiring.connect(m, executor.content, transmitter.content)
        wiring.connect(m, transmitter.bytes, wiring.flipped(self.bytes))
        wiring.connect(m, access.bus, wiring.flipped(self.control))
        wiring.connect(m, executor.memory, wiring.flipped(self.memory))
        return m


class Link(wiring.Component):
    """The link between the pins of a UART and the accelerator.

    Parameters
    ----------
    clock_hz : int
        Frequency of the clock.
    baud : int
        Bits per second.
    memory_size : int
        Bytes of the memory that begins at address zero of the accelerator's bus.

    Members
    -------
    rx : ``In(1)``, tx : ``Out(1)``
        Pins.
    control, memory, interrupt, session
        As of :class:`ByteLink`.
    """

    def __init__(self, *, clock_hz, baud, memory_size):
        self._clocks = clocks_per_bit(clock_hz, baud)
        self._identity = link.Identity(
            version=link.VERSION,
            max_data=link.MAX_DATA,
            clock_hz=clock_hz,
            memory_size=memory_size,
            memory_base=0,
        )
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "control": Out(axi.LITE),
                "memory": Out(HostPort(memory_size)),
                "interrupt": In(1),
                "session": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.uart_rx = uart_rx = UartReceiver(self._clocks)
        m.submodules.uart_tx = uart_tx = UartTransmitter(self._clocks)
        m.submodules.bytes = inner = ByteLink(self._identity)
        m.d.comb += [
            uart_rx.rx.eq(self.rx),
            self.tx.eq(uart_tx.tx),
            inner.data.eq(uart_rx.data),
            inner.valid.eq(uart_rx.valid),
            inner.error.eq(uart_rx.error),
            inner.interrupt.eq(self.interrupt),
            self.session.eq(inner.session),
        ]
        # The link makes much of `ready`, so it comes from a register.
        m.submodules.leave = leave = SkidBuffer(8)
        wiring.connect(m, inner.bytes, leave.i)
        wiring.connect(m, leave.o, uart_tx.bytes)
        wiring.connect(m, inner.control, wiring.flipped(self.control))
        wiring.connect(m, inner.memory, wiring.flipped(self.memory))
        return m
