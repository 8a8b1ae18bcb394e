# amaranth: UnusedElaboratable=no
"""Weight buffer and parameter memory: beats in, words out."""

import pytest
from amaranth.sim import Simulator

from systolith.gateware.local_memory import LocalMemory

SIZE = 512


@pytest.mark.parametrize(("word_bytes", "beat_bytes"), [(8, 8), (16, 4), (32, 16)])
def test_words_are_made_of_the_beats_written(word_bytes, beat_bytes, rng):
    dut = LocalMemory(size_bytes=SIZE, word_bytes=word_bytes, beat_bytes=beat_bytes)
    expected = bytearray(SIZE)

    async def scenario(ctx):
        for _ in range(3 * SIZE // beat_bytes):
            addr = int(rng.integers(SIZE // beat_bytes)) * beat_bytes
            beat, masked = rng.bytes(beat_bytes), int(rng.integers(4)) == 0
            ctx.set(dut.write.p.addr, addr)
            ctx.set(dut.write.p.data, list(beat))
            ctx.set(dut.write.p.mask, 0 if masked else (1 << beat_bytes) - 1)
            ctx.set(dut.write.valid, 1)
            if not masked:
                expected[addr : addr + beat_bytes] = beat
            await ctx.tick()
            ctx.set(dut.write.valid, 0)
            # Visible to a read of the very next cycle.
            word = addr // word_bytes
            ctx.set(dut.addr, word)
            ctx.set(dut.en, 1)
            await ctx.tick()
            ctx.set(dut.en, 0)
            assert bytes(ctx.get(dut.data)) == expected[word * word_bytes :][:word_bytes]

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(scenario)
    simulator.run()


def test_word_read_while_written_is_the_old_one():
    dut = LocalMemory(size_bytes=SIZE, word_bytes=8, beat_bytes=8)

    async def scenario(ctx):
        ctx.set(dut.en, 1)
        ctx.set(dut.write.p.mask, 0xFF)
        ctx.set(dut.write.valid, 1)
        for value in (1, 2, 3):
            ctx.set(dut.write.p.data, [value] * 8)
            await ctx.tick()
            assert list(ctx.get(dut.data)) == [value - 1] * 8

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(scenario)
    simulator.run()


@pytest.mark.parametrize("sizes", [(512, 8, 16), (16, 32, 8)])
def test_sizes_out_of_order_are_refused(sizes):
    names = ("size_bytes", "word_bytes", "beat_bytes")
    with pytest.raises(ValueError, match="must not be larger than the next"):
        LocalMemory(**dict(zip(names, sizes, strict=True)))
