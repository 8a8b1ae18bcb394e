"""Executes the requests of the host link, see :mod:`systolith.arch.link`."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from systolith.arch import link
from systolith.arch.link import Command, Status

from .frames import FRAMED, HEADER
from .ram import HostPort

_ENTRY_BITS = 48
_WORD_BYTES = 4


class Executor(wiring.Component):
    """Executes the request that is in the buffer, and answers it; takes its time.

    A request is taken into entries (an address and a value, an offset, a byte of data). For each
    of them the machine fetches it, acts, and sends what results. An answer begins when the first
    entry is known, because its length may depend on it.

    Timing: beside the line every cycle is cheap. What many bits wait for comes from a register
    that the state set in the cycle before.

    Parameters
    ----------
    identity : systolith.arch.link.Identity
        Answer to IDENTIFY.

    Members
    -------
    header, full, damaged, byte : In; release, addr : Out
        See :class:`~systolith.boards.frames.FrameReceiver`.
    content : ``Out(stream.Signature(FRAMED))``
        Answers.
    start, write, register, value : Out; done, result, error : In
        See :class:`~systolith.boards.link.RegisterAccess`.
    memory : ``Out(HostPort(identity.memory_size))``
        The memory.
    interrupt : ``In(1)``
        Of the accelerator.
    session : ``Out(1)``
        Level: the device was identified.
    """

    def __init__(self, identity):
        self._identity = identity
        super().__init__(
            {
                "header": In(HEADER),
                "full": In(1),
                "damaged": In(1),
                "release": Out(1),
                "addr": Out(range(2 * link.MAX_DATA)),
                "byte": In(8),
                "content": Out(stream.Signature(FRAMED)),
                "start": Out(1),
                "write": Out(1),
                "register": Out(16),
                "value": Out(32),
                "done": In(1),
                "result": In(32),
                "error": In(1),
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
        self._declare()
        m.d.comb += [
            self.addr.eq(self._position),
            self.register.eq(Mux(self.write, self._entry[:16], self._entry[32:])),
            self.value.eq(self._entry[16:]),
            self.write.eq(self._command == Command.WRITE_REGISTERS),
            self.memory.addr.eq(self._offset),
            self.memory.data.eq(self._entry[-8:]),
        ]
        m.d.sync += [
            self._exhausted.eq(self._position == self.header.length),
            self._outside.eq(self._offset >= self.identity.memory_size),
            self._counted.eq(self._count == 0),
            self._command.eq(Mux(self.header.command[3:].any(), 0, self.header.command)),
            self._repeated.eq(self.header.sequence == self._last),
            self._senseless.eq((self._entry[32:] == 0) | (self._entry[32:] > link.MAX_DATA)),
            self._take.eq(0),
            self._load.eq(0),
            self._advance.eq(0),
            self.start.eq(0),
        ]
        with m.If(self.damaged):
            m.d.sync += self._refuse.eq(1)
        with m.FSM():
            self._begin(m)
            self._fetch(m)
            self._send_header(m)
            self._act(m)
            self._send_word(m)
            self._end(m)
        self._count_on(m)
        self._choose(m)
        return m

    def _declare(self):
        # The command, zero if there is no such; a header is there for cycles before it is full.
        self._command = Signal(3)
        # Number of the request before, whether this is the same, and how it ended.
        self._last, self._repeated, self._last_status = Signal(16), Signal(), Signal(8)
        # A damaged frame waits for its NAK.
        self._refuse = Signal()
        # The answer: header, status, and whether there is nothing else in it.
        self._reply, self._status, self._skip = Signal(HEADER), Signal(Status), Signal()
        # Bytes of the payload fetched, those of the entry that are missing, the entry.
        self._position, self._missing = Signal(range(2 * link.MAX_DATA)), Signal(3)
        self._entry, self._senseless = Signal(_ENTRY_BITS), Signal()
        self._exhausted, self._opened, self._held = Signal(), Signal(), Signal()
        # Memory: the next byte. Count: bytes, words or cycles left.
        self._offset, self._outside = Signal(32), Signal()
        self._count, self._counted = Signal(32), Signal()
        # Pulses: a byte belongs to the entry; offset and count begin; they go on by one.
        self._take, self._load, self._advance = Signal(), Signal(), Signal()
        # What results from the command, and the length of its answer, if it succeeds.
        self._result, self._length = Signal(32), Signal(16)
        # Result on its way to the host, lowest byte first.
        self._word, self._left = Signal(32), Signal(3)

    def _count_on(self, m):
        """Do what the pulses ask for."""
        with m.If(self._take):
            m.d.sync += [
                self._entry.eq(Cat(self._entry[8:], self.byte)),
                self._position.eq(self._position + 1),
                self._missing.eq(self._missing - 1),
            ]
        with m.If(self._load):
            m.d.sync += [self._offset.eq(self._entry[16:]), self._count.eq(self._entry[16:])]
            with m.Switch(self._command):
                with m.Case(Command.IDENTIFY):
                    m.d.sync += self._count.eq(link.IDENTITY_BYTES // _WORD_BYTES)
                with m.Case(Command.READ_MEMORY):
                    m.d.sync += [
                        self._offset.eq(self._entry[:32]),
                        self._count.eq(self._entry[32:]),
                    ]
        with m.Elif(self._advance):
            m.d.sync += [self._offset.eq(self._offset + 1), self._count.eq(self._count - 1)]

    def _choose(self, m):
        """Choose result and length by the command alone, whatever the state is."""
        raw = self.identity.to_bytes()
        words = [
            int.from_bytes(raw[n : n + _WORD_BYTES], "little")
            for n in range(0, link.IDENTITY_BYTES, _WORD_BYTES)
        ]
        # By the count of words left; none is left only while nobody looks.
        rom = Array(Const(words[-left], 32) for left in range(len(words) + 1))
        length = Signal(16)
        with m.Switch(self._command):
            with m.Case(Command.IDENTIFY):
                m.d.sync += self._result.eq(rom[self._count[: bits_for(len(words))]])
                m.d.comb += length.eq(link.IDENTITY_BYTES)
            with m.Case(Command.READ_REGISTERS):
                m.d.sync += self._result.eq(self.result)
                m.d.comb += length.eq(self.header.length << 1)
            with m.Case(Command.READ_MEMORY):
                m.d.sync += self._result.eq(self.memory.result)
                m.d.comb += length.eq(self._entry[32:])
            with m.Case(Command.WAIT):
                m.d.sync += self._result.eq(self.interrupt)
                m.d.comb += length.eq(1)
        m.d.sync += self._length.eq(length + 1)

    def _begin(self, m):
        """Choose what to answer, and what must be fetched before."""
        reply, header = self._reply, self.header
        with m.State("IDLE"):
            m.d.sync += [
                self._position.eq(0),
                self._opened.eq(0),
                self._status.eq(Status.OK),
                self._skip.eq(0),
                self._missing.eq(0),
                self._held.eq(self.full),
            ]
            with m.If(self.full):
                m.d.sync += [
                    reply.sequence.eq(header.sequence),
                    reply.command.eq(header.command | link.ANSWER),
                ]
                m.next = "DECODE"
            with m.Elif(self._refuse):
                m.d.sync += [
                    self._refuse.eq(self.damaged),
                    reply.sequence.eq(0),
                    reply.command.eq(link.NAK),
                    self._status.eq(Status.DAMAGED),
                    self._skip.eq(1),
                ]
                m.next = "MEASURE"
        with m.State("DECODE"):
            m.next = "FETCH"
            with m.Switch(self._command):
                for command, bytes_ in (
                    (Command.READ_REGISTERS, link.READ_REGISTER.size),
                    (Command.WRITE_REGISTERS, link.WRITE_REGISTER.size),
                    (Command.READ_MEMORY, link.READ_MEMORY.size),
                    (Command.WRITE_MEMORY, link.WRITE_MEMORY.size),
                    (Command.WAIT, link.WAIT.size),
                ):
                    with m.Case(command):
                        m.d.sync += self._missing.eq(bytes_)
                with m.Case(Command.IDENTIFY):
                    m.next = "MEASURE"
                with m.Default():
                    self._fail(m, Status.COMMAND)
            with m.If(self._command == Command.IDENTIFY):
                m.d.sync += self.session.eq(1)
            with m.Elif(~self.session):
                self._fail(m, Status.SESSION)
            with m.Elif((self._command == Command.WRITE_REGISTERS) & self._repeated):
                self._fail(m, self._last_status)

    def _fail(self, m, status):
        """Answer with a status only, or end an answer that has begun."""
        m.d.sync += [self._status.eq(status), self._skip.eq(1)]
        with m.If(self._opened):
            m.next = "STATUS"
        with m.Else():
            m.next = "MEASURE"

    def _fetch(self, m):
        """Read the bytes of an entry; each takes four cycles, until all comparisons are done."""
        with m.State("FETCH"):
            phase = Signal(range(4))
            m.d.sync += phase.eq(phase + 1)
            with m.If(phase == 1):
                with m.If(self._exhausted):
                    m.d.sync += phase.eq(0)
                    self._fail(m, Status.COMMAND)
                with m.Else():
                    m.d.sync += self._take.eq(1)
            with m.If((phase == 3) & (self._missing == 0)):
                with m.If(self._opened):
                    m.next = "ACT"
                with m.Else():
                    m.next = "MEASURE"

    def _send_header(self, m):
        """Take arguments out of the first entry, know the length of the answer, and begin it."""
        reply = self._reply
        with m.State("MEASURE"):
            m.d.sync += self._load.eq(1)
            with m.If((self._command == Command.READ_MEMORY) & ~self._skip & self._senseless):
                m.d.sync += [self._status.eq(Status.COMMAND), self._skip.eq(1)]
            m.next = "MEASURED"
        with m.State("MEASURED"):
            m.d.sync += [
                reply.length.eq(Mux(self._skip, 1, self._length)),
                self._left.eq(link.HEADER_BYTES),
            ]
            m.next = "HEADER"
        with m.State("HEADER"):
            m.d.comb += [
                self.content.valid.eq(1),
                self.content.p.data.eq(reply.as_value()[:8]),
            ]
            with m.If(self.content.ready):
                m.d.sync += [reply.eq(reply.as_value() >> 8), self._left.eq(self._left - 1)]
                with m.If(self._left == 1):
                    m.d.sync += self._opened.eq(1)
                    m.next = "STATUS"
                    with m.If(~self._skip):
                        m.next = "ACT"
                        with m.If(self._command == Command.WRITE_MEMORY):
                            m.next = "NEXT"

    def _act(self, m):
        """Do what the entry asks for; then send what results, or go on with the next entry."""
        command = self._command
        with m.State("ACT"):
            m.d.sync += self._advance.eq(1)
            with m.Switch(command):
                with m.Case(Command.IDENTIFY):
                    m.next = "LOAD"
                with m.Case(Command.READ_REGISTERS, Command.WRITE_REGISTERS):
                    m.d.sync += self.start.eq(1)
                    m.next = "REGISTER"
                with m.Case(Command.READ_MEMORY, Command.WRITE_MEMORY):
                    reading = command == Command.READ_MEMORY
                    m.d.comb += [
                        self.memory.read.eq(reading),
                        self.memory.write.eq(~reading & ~self._outside),
                    ]
                    m.next = "NEXT"
                    with m.If(self._outside):
                        m.d.sync += self._status.eq(Status.ADDRESS)
                    with m.If(reading):
                        m.next = "MEMORY"
                with m.Case(Command.WAIT):
                    with m.If(self.interrupt | self._counted):
                        m.next = "LOAD"
        with m.State("REGISTER"), m.If(self.done):
            with m.If(self.error):
                m.d.sync += self._status.eq(Status.BUS)
            m.next = "LOAD"
            with m.If(self.write):
                m.next = "NEXT"
        with m.State("MEMORY"), m.If(self.memory.result_valid):
            m.next = "LOAD"

    def _send_word(self, m):
        """Send what resulted, and go on where the command says."""
        with m.State("LOAD"):
            m.d.sync += [self._word.eq(self._result), self._left.eq(1)]
            with m.If(
                (self._command == Command.IDENTIFY) | (self._command == Command.READ_REGISTERS)
            ):
                m.d.sync += self._left.eq(_WORD_BYTES)
            m.next = "SEND"
        with m.State("SEND"):
            m.d.comb += [self.content.valid.eq(1), self.content.p.data.eq(self._word[:8])]
            with m.If(self.content.ready):
                m.d.sync += [self._word.eq(self._word >> 8), self._left.eq(self._left - 1)]
                with m.If(self._left == 1):
                    m.next = "NEXT"
        with m.State("NEXT"):
            m.next = "STATUS"
            with m.Switch(self._command):
                with m.Case(Command.IDENTIFY, Command.READ_MEMORY):
                    with m.If(~self._counted):
                        m.next = "ACT"
                with m.Case(Command.READ_REGISTERS, Command.WRITE_REGISTERS, Command.WRITE_MEMORY):
                    with m.If(~self._exhausted):
                        m.next = "FETCH"
                    with m.Switch(self._command):
                        with m.Case(Command.READ_REGISTERS):
                            m.d.sync += self._missing.eq(link.READ_REGISTER.size)
                        with m.Case(Command.WRITE_REGISTERS):
                            m.d.sync += self._missing.eq(link.WRITE_REGISTER.size)
                        with m.Default():
                            m.d.sync += self._missing.eq(1)

    def _end(self, m):
        """Send the status, remember it, and make room for the next request."""
        with m.State("STATUS"):
            m.d.comb += [
                self.content.valid.eq(1),
                self.content.p.data.eq(self._status),
                self.content.p.last.eq(1),
            ]
            with m.If(self.content.ready):
                m.next = "IDLE"
                with m.If(self._held):
                    m.d.comb += self.release.eq(1)
                    m.d.sync += [
                        self._last.eq(self.header.sequence),
                        self._last_status.eq(self._status),
                    ]
