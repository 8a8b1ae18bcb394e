"""Frames of the host link in hardware, see :mod:`systolith.arch.link`."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc import catalog
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from systolith.arch import link

HEADER = data.StructLayout({"sequence": 16, "command": 8, "length": 16})
"""First bytes of a frame."""

FRAMED = data.StructLayout({"data": 8, "last": 1})
"""A byte of header or payload, and whether it is the last one of the frame."""

_OVERHEAD = link.HEADER_BYTES + link.CRC_BYTES
_MAX_BYTES = link.MAX_PAYLOAD + _OVERHEAD
_BUFFER_BYTES = 2048


def _crc32():
    return catalog.CRC32_ISO_HDLC(8).create()


class FrameReceiver(wiring.Component):
    """Takes frames out of a stream of bytes, and keeps the payload of one that is undamaged.

    While a frame is kept, others are ignored. Noise before the first flag is ignored too.

    Timing: a frame is reported three cycles after the flag that ends it. Bytes need a distance of
    four cycles.

    Members
    -------
    data, valid, error : ``In(8)``, ``In(1)``, ``In(1)``
        From :class:`~systolith.boards.uart.UartReceiver`.
    header : ``Out(HEADER)``
        Of the frame that is kept.
    full : ``Out(1)``
        Level: a frame is kept.
    release : ``In(1)``
        Pulse: forget it.
    damaged : ``Out(1)``
        Pulse: a frame was not believed.
    addr : ``In``
        Byte of the payload to read.
    byte : ``Out(8)``
        That byte, one cycle later.
    """

    def __init__(self):
        super().__init__(
            {
                "data": In(8),
                "valid": In(1),
                "error": In(1),
                "header": Out(HEADER),
                "full": Out(1),
                "release": In(1),
                "damaged": Out(1),
                "addr": In(range(_BUFFER_BYTES)),
                "byte": Out(8),
            }
        )

    def elaborate(self, platform):
        m = Module()
        inside, bad, escaped, ignored = Signal(), Signal(), Signal(), Signal()
        push, byte = Signal(), Signal(8)
        ended = Signal(3)
        count = Signal(range(_BUFFER_BYTES))

        # First stage: flags, and bytes without their escapes.
        m.d.sync += [push.eq(0), ended.eq(ended << 1)]
        with m.If(self.error):
            m.d.sync += bad.eq(1)
        with m.If(self.valid):
            with m.If(self.data == link.FLAG):
                m.d.sync += [ended[0].eq(1), inside.eq(1)]
            with m.Elif((self.data == link.ESCAPE) & ~escaped):
                m.d.sync += escaped.eq(1)
            with m.Else():
                m.d.sync += [push.eq(inside), escaped.eq(0)]
                m.d.sync += byte.eq(self.data ^ (escaped << link.ESCAPE_XOR.bit_length() - 1))

        # Second stage: header, payload, CRC.
        m.submodules.crc = crc = _crc32()
        m.d.comb += [crc.data.eq(byte), crc.valid.eq(push), crc.start.eq(ended[2])]
        with m.If(push):
            m.d.sync += [count.eq(count + 1), ignored.eq(ignored | self.full)]
            with m.If(count == _MAX_BYTES):
                m.d.sync += [bad.eq(1), count.eq(count)]
        writable = push & ~self.full & ~ignored
        with m.If(writable & (count < link.HEADER_BYTES)):
            m.d.sync += self.header.eq(Cat(self.header.as_value()[8:], byte))
        self._keep_payload(m, writable, count, byte)

        # Third stage: the decision, from registered comparisons.
        complete, matches = Signal(), Signal()
        m.d.sync += [
            complete.eq(count == self.header.length[: len(count)] + _OVERHEAD),
            matches.eq(crc.match_detected & ~bad & ~escaped & (self.header.length[11:] == 0)),
            self.damaged.eq(0),
        ]
        with m.If(self.release):
            m.d.sync += self.full.eq(0)
        with m.If(ended[2]):
            m.d.sync += [count.eq(0), bad.eq(0), escaped.eq(0), ignored.eq(0)]
            with m.If((count != 0) & ~ignored):
                m.d.sync += self.full.eq(complete & matches)
                m.d.sync += self.damaged.eq(~(complete & matches))
        return m

    def _keep_payload(self, m, writable, count, byte):
        """Write what is behind the header to the buffer; the CRC fits behind it."""
        m.submodules.buffer = buffer = Memory(shape=8, depth=_BUFFER_BYTES, init=[])
        w_port, r_port = buffer.write_port(), buffer.read_port()
        m.d.comb += [
            w_port.addr.eq(count - link.HEADER_BYTES),
            w_port.data.eq(byte),
            w_port.en.eq(writable & (count >= link.HEADER_BYTES)),
            r_port.addr.eq(self.addr),
            self.byte.eq(r_port.data),
        ]


class FrameTransmitter(wiring.Component):
    """Puts flags, escapes and the CRC around header and payload.

    Timing: a byte takes three cycles or more, which is nothing beside the line.

    Members
    -------
    content : ``In(stream.Signature(FRAMED))``
        Header and payload of one frame after the other.
    bytes : ``Out(stream.Signature(8))``
        To :class:`~systolith.boards.uart.UartTransmitter`.
    """

    def __init__(self):
        super().__init__(
            {"content": In(stream.Signature(FRAMED)), "bytes": Out(stream.Signature(8))}
        )

    def elaborate(self, platform):
        m = Module()
        flag, plain = Signal(), Signal(8)
        offered, taken = Signal(), Signal()
        m.submodules.crc = crc = _crc32()
        index = Signal(range(link.CRC_BYTES))
        # A byte at a time, from a register: what makes it is far from what is done with it.
        held, byte = Signal(), Signal(FRAMED)
        # The CRC takes it when it comes, not when it goes, which is known late.
        fresh = Signal()
        m.d.comb += [
            self.content.ready.eq(~held),
            crc.data.eq(byte.data),
            plain.eq(byte.data),
        ]
        with m.If(self.content.valid & ~held):
            m.d.sync += [held.eq(1), fresh.eq(1), byte.eq(self.content.p)]
        with m.FSM():
            with m.State("OPEN"):
                m.d.comb += [flag.eq(1), offered.eq(held), crc.start.eq(1)]
                with m.If(taken):
                    m.next = "CONTENT"
            with m.State("CONTENT"):
                m.d.comb += [offered.eq(held), crc.valid.eq(fresh)]
                with m.If(fresh):
                    m.d.sync += fresh.eq(0)
                with m.If(taken):
                    m.d.sync += held.eq(0)
                    with m.If(byte.last):
                        m.next = "CRC"
            with m.State("CRC"):
                m.d.comb += [offered.eq(1), plain.eq(crc.crc.word_select(index, 8))]
                with m.If(taken):
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == link.CRC_BYTES - 1):
                        m.next = "CLOSE"
            with m.State("CLOSE"):
                m.d.comb += [flag.eq(1), offered.eq(1)]
                with m.If(taken):
                    m.next = "OPEN"
        self._escape(m, flag, plain, offered, taken)
        return m

    def _escape(self, m, flag, plain, offered, taken):
        """Send a byte, or two if it must be escaped; `taken` is high with the last of them."""
        escaped = Signal()
        # What to send is judged in one cycle, and sent in the next.
        known, special, byte = Signal(), Signal(), Signal(8)
        m.d.sync += [
            known.eq(offered & ~taken),
            special.eq(~flag & ((plain == link.FLAG) | (plain == link.ESCAPE))),
            byte.eq(Mux(flag, link.FLAG, plain)),
        ]
        free = ~self.bytes.valid | self.bytes.ready
        m.d.comb += taken.eq(known & free & (~special | escaped))
        with m.If(free):
            m.d.sync += self.bytes.valid.eq(known)
            with m.If(special & ~escaped):
                m.d.sync += self.bytes.payload.eq(link.ESCAPE)
            with m.Else():
                m.d.sync += self.bytes.payload.eq(
                    byte ^ (escaped << link.ESCAPE_XOR.bit_length() - 1)
                )
            with m.If(known):
                m.d.sync += escaped.eq(special & ~escaped)
