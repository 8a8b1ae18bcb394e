"""UART with eight data bits, no parity, one stop bit."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

MIN_CLOCKS_PER_BIT = 8
MAX_RATE_ERROR = 0.02
"""Both ends together may be wrong by half a bit in ten, less what the sampling needs."""

_FRAME_BITS = 10


def clocks_per_bit(clock_hz, baud):
    """Return the clock cycles of a bit.

    Raises
    ------
    ValueError
        There are fewer than :data:`MIN_CLOCKS_PER_BIT`, or no whole number of them comes within
        :data:`MAX_RATE_ERROR` of the rate.
    """
    clocks = round(clock_hz / baud)
    if clocks < MIN_CLOCKS_PER_BIT:
        raise ValueError(
            f"Clock must have at least {MIN_CLOCKS_PER_BIT} cycles per bit, not "
            f"{clock_hz / baud:.2f} ({clock_hz} Hz, {baud} baud)"
        )
    error = abs(clock_hz / clocks / baud - 1)
    if error > MAX_RATE_ERROR:
        raise ValueError(
            f"Rate must be within {MAX_RATE_ERROR:.0%} of {baud} baud, but a clock of {clock_hz} "
            f"Hz comes within {error:.1%} at best"
        )
    return clocks


class UartReceiver(wiring.Component):
    """Receiver: two of three samples around the middle of each bit decide, one of the stop bit.

    Timing: a byte is reported once the middle of its stop bit has been sampled, so a sender may be
    faster by a quarter of a bit per byte. There is no backpressure.

    Parameters
    ----------
    clocks : int
        Clock cycles of a bit, see :func:`clocks_per_bit`.

    Members
    -------
    rx : ``In(1)``
        The pin, asynchronous; synchronized here.
    data : ``Out(8)``
        A byte, in the cycle in which `valid` is high.
    valid : ``Out(1)``
        Pulse: a byte was received.
    error : ``Out(1)``
        Pulse: a byte had no stop bit, and is lost.
    """

    def __init__(self, clocks):
        if clocks < MIN_CLOCKS_PER_BIT:
            raise ValueError(f"A bit must have at least {MIN_CLOCKS_PER_BIT} clocks, not {clocks}")
        self._clocks = clocks
        super().__init__({"rx": In(1, init=1), "data": Out(8), "valid": Out(1), "error": Out(1)})

    @property
    def clocks(self):
        return self._clocks

    def elaborate(self, platform):
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, line, init=1)
        # A line that is held low is one error, not one after another: it must be high in between.
        armed, busy = Signal(), Signal()
        clock = Signal(range(self.clocks))
        position = Signal(range(_FRAME_BITS))
        votes = Signal(2)
        level, decided = Signal(), Signal()
        middle, step = self.clocks // 2, self.clocks // 8

        m.d.sync += [decided.eq(0), self.valid.eq(0), self.error.eq(0)]
        # The cycle in which the line is first seen low is the first of the start bit.
        m.d.sync += clock.eq(Mux(busy, Mux(clock == self.clocks - 1, 0, clock + 1), 1))
        with m.If(clock == middle - step):
            m.d.sync += votes[0].eq(line)
        with m.If(clock == middle):
            m.d.sync += votes[1].eq(line)
        with m.If(busy & (clock == middle + step)):
            two = (votes[0] & votes[1]) | (line & votes.any())
            m.d.sync += [level.eq(two), decided.eq(1)]

        with m.If(~busy):
            m.d.sync += [busy.eq(armed & ~line), armed.eq(line), position.eq(0)]
        with m.Elif(position == _FRAME_BITS - 1):
            # One sample has to do here: a fast sender's next start bit may be near.
            with m.If(clock == middle):
                m.d.sync += [busy.eq(0), armed.eq(line), self.valid.eq(line), self.error.eq(~line)]
        with m.Elif(decided):
            m.d.sync += position.eq(position + 1)
            with m.If(position == 0):
                m.d.sync += busy.eq(~level)
            with m.Else():
                m.d.sync += self.data.eq(Cat(self.data[1:], level))
        return m


class UartTransmitter(wiring.Component):
    """Transmitter.

    Timing: a byte takes ten bits, and the next one follows without gap if it is there in time.

    Parameters
    ----------
    clocks : int
        Clock cycles of a bit, see :func:`clocks_per_bit`.

    Members
    -------
    bytes : ``In(stream.Signature(8))``
        What to send.
    tx : ``Out(1)``
        The pin.
    """

    def __init__(self, clocks):
        self._clocks = clocks
        super().__init__({"bytes": In(stream.Signature(8)), "tx": Out(1, init=1)})

    @property
    def clocks(self):
        return self._clocks

    def elaborate(self, platform):
        m = Module()
        clock = Signal(range(self.clocks))
        left = Signal(range(_FRAME_BITS + 1))
        shift = Signal(_FRAME_BITS, init=-1)
        m.d.comb += [self.tx.eq(shift[0]), self.bytes.ready.eq(left == 0)]
        with m.If(left == 0):
            with m.If(self.bytes.valid):
                m.d.sync += [
                    shift.eq(Cat(0, self.bytes.payload, 1)),
                    left.eq(_FRAME_BITS),
                    clock.eq(0),
                ]
        with m.Elif(clock == self.clocks - 1):
            m.d.sync += [clock.eq(0), left.eq(left - 1), shift.eq(Cat(shift[1:], 1))]
        with m.Else():
            m.d.sync += clock.eq(clock + 1)
        return m
