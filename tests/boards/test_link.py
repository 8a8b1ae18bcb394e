# amaranth: UnusedElaboratable=no
"""Host link: codec, frames, executor, and UART."""

import zlib

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from systolith.arch import csr, link
from systolith.arch.link import Command, Frame, Status
from systolith.arch.presets import PRESETS
from systolith.boards.link import ByteLink
from systolith.boards.ram import BlockRam
from systolith.boards.uart import UartReceiver, UartTransmitter, clocks_per_bit
from systolith.gateware.csr_bank import CsrBank

CONFIG = PRESETS["tiny-4x4"]
MEMORY_BYTES = 8192
CLOCK_HZ = 100_000_000
BYTE_CYCLES = 8
LIMIT_CYCLES = 20_000
IDENTITY = link.Identity(
    version=link.VERSION,
    max_data=link.MAX_DATA,
    clock_hz=CLOCK_HZ,
    memory_size=MEMORY_BYTES,
    memory_base=0,
)
START = csr.pack("control", start=1)


class Board(wiring.Component):
    """The link, a register bank and a memory; `starts` counts what a start may do only once."""

    def __init__(self):
        super().__init__(
            {"data": In(8), "valid": In(1), "error": In(1), "interrupt": In(1), "starts": Out(8)}
        )
        self.link = ByteLink(IDENTITY)

    def elaborate(self, platform):
        m = Module()
        m.submodules.link = self.link
        m.submodules.bank = bank = CsrBank(constants=csr.constants(CONFIG))
        m.submodules.memory = memory = BlockRam(64, MEMORY_BYTES)
        wiring.connect(m, self.link.control, bank.bus)
        wiring.connect(m, self.link.memory, memory.host)
        m.d.comb += [
            self.link.data.eq(self.data),
            self.link.valid.eq(self.valid),
            self.link.error.eq(self.error),
            self.link.interrupt.eq(self.interrupt),
            self.link.bytes.ready.eq(1),
        ]
        with m.If(bank.command.control == START):
            m.d.sync += self.starts.eq(self.starts + 1)
        return m


class Host:
    """Sends bytes, collects answers."""

    def __init__(self, dut):
        self.dut = dut
        self.decoder = link.Decoder()
        self.answers = []

    def run(self, scenario):
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-8)
        simulator.add_process(self.collect)
        simulator.add_testbench(scenario)
        simulator.run()

    async def collect(self, ctx):
        out = self.dut.link.bytes
        async for _, _, valid, byte in ctx.tick().sample(out.valid, out.payload):
            if valid:
                self.answers += self.decoder.feed(bytes([byte]))

    async def send(self, ctx, data):
        for byte in data:
            ctx.set(self.dut.data, byte)
            ctx.set(self.dut.valid, 1)
            await ctx.tick()
            ctx.set(self.dut.valid, 0)
            await ctx.tick().repeat(BYTE_CYCLES - 1)

    async def answer(self, ctx):
        for _ in range(LIMIT_CYCLES):
            if self.answers:
                return self.answers.pop(0)
            await ctx.tick()
        pytest.fail("the device did not answer")

    async def ask(self, ctx, sequence, command, payload=b""):
        """Return payload and status of the answer to a request."""
        await self.send(ctx, Frame(sequence, command, payload).to_bytes())
        answer = await self.answer(ctx)
        assert (answer.sequence, answer.command) == (sequence, command | link.ANSWER)
        return answer.payload[:-1], Status(answer.payload[-1])

    async def identify(self, ctx, sequence=7):
        payload, status = await self.ask(ctx, sequence, Command.IDENTIFY)
        assert status is Status.OK
        assert link.Identity.from_bytes(payload) == IDENTITY

    async def refused(self, ctx):
        """Expect a NAK."""
        answer = await self.answer(ctx)
        assert answer == Frame(0, link.NAK, bytes([Status.DAMAGED]))

    async def silence(self, ctx, cycles=1000):
        await ctx.tick().repeat(cycles)
        assert not self.answers


def write_register(name, value):
    return link.WRITE_REGISTER.pack(csr.BY_NAME[name].addr, value)


def read_register(name):
    return link.READ_REGISTER.pack(csr.BY_NAME[name].addr)


def simulate(scenario):
    """Run `scenario(ctx, host)` on a board of its own, identified already."""
    host = Host(Board())

    async def run(ctx):
        await host.identify(ctx)
        await scenario(ctx, host)

    host.run(run)


# Codec


def test_frame_survives_the_wire_whatever_its_bytes_are(rng):
    decoder = link.Decoder()
    for length in (0, 1, 2, 7, 300, link.MAX_PAYLOAD):
        payload = rng.integers(0x7C, 0x80, length).astype(np.uint8).tobytes()
        frame = Frame(0x7D7E, 0x7E, payload)
        raw = frame.to_bytes()
        assert raw[0] == raw[-1] == link.FLAG
        assert link.FLAG not in raw[1:-1]
        assert list(decoder.feed(raw)) == [frame]
    assert decoder.damaged == 0


def test_crc_is_that_of_ethernet_over_header_and_payload():
    raw = Frame(0x0201, 3, b"123456789").to_bytes()
    body = bytes([1, 2, 3, 9, 0]) + b"123456789"
    assert raw == bytes([0x7E]) + body + zlib.crc32(body).to_bytes(4, "little") + bytes([0x7E])


def test_no_single_damage_of_a_frame_is_believed(rng):
    good = Frame(513, Command.WRITE_MEMORY, rng.bytes(24)).to_bytes()
    others = 0
    for position in range(len(good)):
        for mask in (*(1 << bit for bit in range(8)), 0xFF):
            bad = bytearray(good)
            bad[position] ^= mask
            others += len(list(link.Decoder().feed(bytes(bad))))
        lost = good[:position] + good[position + 1 :]
        twice = good[: position + 1] + good[position:]
        for bad in (lost, twice):
            frames = list(link.Decoder().feed(bad))
            # A flag twice is a border as before, and a flag at the end is not part of the content.
            if bad is twice and position in (0, len(good) - 1):
                assert len(frames) == 1
            else:
                others += len(frames)
    assert others == 0


def test_frame_behind_damage_is_understood():
    first, second = (Frame(n, Command.WAIT, bytes(4)) for n in (1, 2))
    for cut in range(1, len(first.to_bytes())):
        decoder = link.Decoder()
        frames = list(decoder.feed(first.to_bytes()[:cut] + second.to_bytes()))
        assert second in frames
        assert first not in frames or cut == len(first.to_bytes()) - 1


# Executor


def test_device_identifies_itself_and_obeys_nothing_before():
    host = Host(Board())

    async def scenario(ctx):
        for command, payload in (
            (Command.READ_REGISTERS, read_register("id")),
            (Command.WRITE_REGISTERS, write_register("control", START)),
            (Command.WRITE_MEMORY, link.WRITE_MEMORY.pack(0) + b"x"),
        ):
            assert await host.ask(ctx, 1, command, payload) == (b"", Status.SESSION)
        assert not ctx.get(host.dut.link.session)
        await host.identify(ctx)
        assert ctx.get(host.dut.link.session)
        assert ctx.get(host.dut.starts) == 0

    host.run(scenario)


def test_registers_are_written_and_read_in_lists():
    async def scenario(ctx, host):
        names = [f"region{n}_base_lo" for n in range(8)]
        values = [0x7E7D_0000 + 257 * n for n in range(8)]
        entries = b"".join(write_register(n, v) for n, v in zip(names, values, strict=True))
        assert await host.ask(ctx, 8, Command.WRITE_REGISTERS, entries) == (b"", Status.OK)
        addresses = b"".join(read_register(n) for n in ["id", *names])
        payload, status = await host.ask(ctx, 9, Command.READ_REGISTERS, addresses)
        assert status is Status.OK
        got = np.frombuffer(payload, "<u4").tolist()
        assert got == [csr.ID_VALUE, *values]

    simulate(scenario)


def test_memory_takes_and_gives_blocks_of_any_length(rng):
    async def scenario(ctx, host):
        expected = bytearray(MEMORY_BYTES)
        for sequence, (offset, size) in enumerate(
            ((0, 1), (5, 13), (MEMORY_BYTES - 3, 3), (8, 64))
        ):
            data = rng.bytes(size)
            expected[offset : offset + size] = data
            request = link.WRITE_MEMORY.pack(offset) + data
            answer = await host.ask(ctx, 100 + sequence, Command.WRITE_MEMORY, request)
            assert answer == (b"", Status.OK)
        for sequence, (offset, size) in enumerate(((0, 80), (MEMORY_BYTES - 5, 5), (3, 1))):
            request = link.READ_MEMORY.pack(offset, size)
            answer = await host.ask(ctx, 200 + sequence, Command.READ_MEMORY, request)
            assert answer == (bytes(expected[offset : offset + size]), Status.OK)

    simulate(scenario)


def test_memory_ends_where_it_says():
    async def scenario(ctx, host):
        request = link.WRITE_MEMORY.pack(MEMORY_BYTES - 1) + b"xy"
        answer = await host.ask(ctx, 8, Command.WRITE_MEMORY, request)
        assert answer == (b"", Status.ADDRESS)
        request = link.READ_MEMORY.pack(MEMORY_BYTES - 1, 2)
        _, status = await host.ask(ctx, 9, Command.READ_MEMORY, request)
        assert status is Status.ADDRESS
        # The byte that was inside is there, and nothing went round to the beginning.
        answer = await host.ask(ctx, 10, Command.READ_MEMORY, link.READ_MEMORY.pack(0, 1))
        assert answer == (b"\0", Status.OK)

    simulate(scenario)


@pytest.mark.parametrize(
    ("command", "payload"),
    [
        (0, b""),
        (77, b"abc"),
        (Command.READ_REGISTERS, b""),
        (Command.WRITE_REGISTERS, b"\x60\0\1\2\3"),
        (Command.READ_MEMORY, bytes(5)),
        (Command.READ_MEMORY, link.READ_MEMORY.pack(0, 0)),
        (Command.READ_MEMORY, link.READ_MEMORY.pack(0, link.MAX_DATA + 1)),
        (Command.WRITE_MEMORY, b"\0\0\0"),
        (Command.WAIT, b""),
    ],
)
def test_requests_that_make_no_sense_are_refused(command, payload):
    async def scenario(ctx, host):
        assert await host.ask(ctx, 8, command, payload) == (b"", Status.COMMAND)
        await host.identify(ctx, 9)

    simulate(scenario)


def test_repeated_register_write_is_answered_and_not_executed():
    async def scenario(ctx, host):
        request = write_register("control", START)
        for _ in range(3):
            assert await host.ask(ctx, 8, Command.WRITE_REGISTERS, request) == (b"", Status.OK)
        assert ctx.get(host.dut.starts) == 1
        assert await host.ask(ctx, 9, Command.WRITE_REGISTERS, request) == (b"", Status.OK)
        assert ctx.get(host.dut.starts) == 2
        # The first request of a session may have any number, that of the last one included.
        await host.identify(ctx, 9)
        assert await host.ask(ctx, 10, Command.WRITE_REGISTERS, request) == (b"", Status.OK)
        assert ctx.get(host.dut.starts) == 3

    simulate(scenario)


def test_wait_ends_with_the_interrupt_or_the_cycles():
    async def scenario(ctx, host):
        assert await host.ask(ctx, 8, Command.WAIT, link.WAIT.pack(0)) == (b"\0", Status.OK)
        await host.send(ctx, Frame(9, Command.WAIT, link.WAIT.pack(2000)).to_bytes())
        await host.silence(ctx, 1900)
        assert (await host.answer(ctx)).payload == bytes([0, Status.OK])
        await host.send(ctx, Frame(10, Command.WAIT, link.WAIT.pack(0xFFFF_FFFF)).to_bytes())
        await host.silence(ctx)
        ctx.set(host.dut.interrupt, 1)
        assert (await host.answer(ctx)).payload == bytes([1, Status.OK])
        assert await host.ask(ctx, 11, Command.WAIT, link.WAIT.pack(0)) == (b"\1", Status.OK)

    simulate(scenario)


def test_damaged_requests_are_refused_and_never_executed(rng):
    async def scenario(ctx, host):
        good = Frame(8, Command.WRITE_REGISTERS, write_register("control", START)).to_bytes()
        for position in range(1, len(good) - 1):
            bad = bytearray(good)
            bad[position] ^= 1 << int(rng.integers(8))
            if link.FLAG in bad[1:-1] or link.ESCAPE in bad:
                continue
            await host.send(ctx, bytes(bad))
            await host.refused(ctx)
            await host.send(ctx, good[:position] + good[position + 1 :])
            await host.refused(ctx)
        assert ctx.get(host.dut.starts) == 0
        await host.send(ctx, good)
        assert (await host.answer(ctx)).payload == bytes([Status.OK])
        assert ctx.get(host.dut.starts) == 1

    simulate(scenario)


def test_noise_does_not_disturb_what_follows(rng):
    host = Host(Board())

    async def scenario(ctx):
        noise = bytes(b for b in rng.bytes(300) if b != link.FLAG) + bytes([link.ESCAPE])
        await host.send(ctx, noise)
        ctx.set(host.dut.error, 1)
        await ctx.tick()
        ctx.set(host.dut.error, 0)
        await host.identify(ctx)
        # As much as the buffer does not hold, and a frame cut off by the next one.
        await host.send(ctx, bytes([link.FLAG]) + bytes(link.MAX_PAYLOAD + 1200))
        await host.send(ctx, bytes([link.FLAG]))
        await host.refused(ctx)
        await host.send(ctx, Frame(8, Command.IDENTIFY, b"").to_bytes()[:-3])
        await host.send(ctx, Frame(9, Command.IDENTIFY, b"").to_bytes())
        await host.refused(ctx)
        assert (await host.answer(ctx)).sequence == 9
        await host.silence(ctx)

    host.run(scenario)


def test_byte_without_stop_bit_damages_its_frame():
    async def scenario(ctx, host):
        good = Frame(8, Command.IDENTIFY, b"").to_bytes()
        await host.send(ctx, good[:4])
        ctx.set(host.dut.error, 1)
        await ctx.tick()
        ctx.set(host.dut.error, 0)
        await host.send(ctx, good[4:])
        await host.refused(ctx)
        await host.identify(ctx, 8)

    simulate(scenario)


def test_request_during_another_is_ignored():
    async def scenario(ctx, host):
        await host.send(ctx, Frame(8, Command.WAIT, link.WAIT.pack(3000)).to_bytes())
        await host.send(
            ctx, Frame(9, Command.WRITE_REGISTERS, write_register("control", START)).to_bytes()
        )
        assert (await host.answer(ctx)).sequence == 8
        await host.silence(ctx)
        assert ctx.get(host.dut.starts) == 0

    simulate(scenario)


# UART


def test_clock_must_suit_the_rate():
    assert clocks_per_bit(100_000_000, 1_000_000) == 100
    assert clocks_per_bit(25_000_000, 115_200) == 217
    with pytest.raises(ValueError, match="at least 8 cycles per bit, not 5.00"):
        clocks_per_bit(5_000_000, 1_000_000)
    with pytest.raises(ValueError, match="within 2% of 1000000 baud"):
        clocks_per_bit(9_500_000, 1_000_000)


def receive(clocks, bits):
    """Return bytes and errors that a receiver reports for a line, a level per cycle."""
    dut = UartReceiver(clocks)
    reported = []

    async def drive(ctx):
        for level in bits:
            ctx.set(dut.rx, level)
            await ctx.tick()
        await ctx.tick().repeat(2 * clocks)

    async def collect(ctx):
        async for _, _, valid, error, byte in ctx.tick().sample(dut.valid, dut.error, dut.data):
            if valid:
                reported.append(byte)
            if error:
                reported.append(None)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_process(collect)
    simulator.add_testbench(drive)
    simulator.run()
    return reported


def line(data, clocks, stop=1):
    """Return the line of bytes, with a length of the bits that need not be whole cycles."""
    bits = [bit for byte in data for bit in (0, *((byte >> n) & 1 for n in range(8)), stop)]
    count = int(len(bits) * clocks)
    return [1] * 5 + [bits[min(int(n / clocks), len(bits) - 1)] for n in range(count)]


@pytest.mark.parametrize("clocks", [8, 9, 25])
@pytest.mark.parametrize("error", [-0.02, 0.0, 0.02])
def test_receiver_follows_a_sender_of_nearly_its_rate(clocks, error, rng):
    data = [0, 0xFF, 0x55, *rng.integers(0, 256, 20).tolist()]
    assert receive(clocks, line(data, clocks * (1 + error))) == data


def test_receiver_ignores_a_glitch_and_reports_a_break_once():
    assert receive(8, [1] * 10 + [0] * 2 + [1] * 100) == []
    assert receive(8, [1] * 10 + [0] * 400 + [1] * 20 + line([0x42], 8)) == [None, 0x42]


def test_one_wrong_sample_of_three_is_outvoted():
    level = line([0x00, 0xA5], 16)
    # Start and stop bits are not all decided by three samples.
    for bit in (*range(1, 9), *range(11, 19)):
        level[5 + 16 * bit + 8] ^= 1
    assert receive(16, level) == [0x00, 0xA5]


def test_transmitter_sends_what_the_receiver_understands(rng):
    data = rng.integers(0, 256, 12).tolist()
    dut = UartTransmitter(8)
    levels = []

    async def offer(ctx):
        for byte in data:
            ctx.set(dut.bytes.payload, byte)
            ctx.set(dut.bytes.valid, 1)
            for _ in range(100):
                _, _, ready = await ctx.tick().sample(dut.bytes.ready)
                if ready:
                    break
            else:
                pytest.fail("the transmitter was never ready")
        ctx.set(dut.bytes.valid, 0)
        await ctx.tick().repeat(100)

    async def collect(ctx):
        async for _, _, level in ctx.tick().sample(dut.tx):
            levels.append(level)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_process(collect)
    simulator.add_testbench(offer)
    simulator.run()
    assert receive(8, levels) == data
