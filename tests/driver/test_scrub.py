"""What a client leaves on a device is gone before the next one finds it."""

import pytest

from systolith.arch.presets import PRESETS
from systolith.bench.rtl import RtlDevice
from systolith.bench.spy import SENTINEL, fill_program, spy_programs
from systolith.driver.device import REGION_ALIGNMENT, Device
from systolith.golden.device import GoldenDevice

MEMORY_BYTES = 1 << 18

HIDDEN = {"array"}
"""What the hardware's own reset keeps from programs."""


def fill(transport, config):
    device = Device(transport)
    device.load(fill_program(config, MEMORY_BYTES, REGION_ALIGNMENT))
    device.run(0, {})


def spy(transport, program, *, scrub):
    device = Device(transport, scrub=scrub)
    device.load(program)
    return device.run(0, {}).outputs


def check_switches(transport, config, switches):
    spies = list(spy_programs(config).items())
    for number in range(switches):
        name, program = spies[number % len(spies)]
        fill(transport, config)
        assert not any(spy(transport, program, scrub=True)), name


@pytest.mark.parametrize("name", ["tiny-4x4", "edge-8x16"])
def test_spies_find_what_is_left_and_nothing_after_scrubbing(name):
    config = PRESETS[name]
    transport = GoldenDevice(config, memory_size=MEMORY_BYTES)
    for memory, program in spy_programs(config).items():
        fill(transport, config)
        assert any(spy(transport, program, scrub=False)) == (memory not in HIDDEN), memory
    check_switches(transport, config, len(spy_programs(config)))


def test_memory_is_cleared_on_the_chip_and_off_it_when_closed():
    config = PRESETS["tiny-4x4"]
    transport = GoldenDevice(config, memory_size=MEMORY_BYTES)
    fill(transport, config)
    device = Device(transport, scrub=True)
    device.load(spy_programs(config)["tables"])
    device.run(0, {})
    device.close()
    memories = transport.machine.memories
    for memory in (memories.scratchpad, memories.weights, memories.params, memories.tables):
        assert not memory.any()
    assert not memories.acc.any()
    arena = transport.read_memory(transport.memory_base + MEMORY_BYTES // 2, MEMORY_BYTES // 2)
    assert not any(arena)


def test_sentinels_are_in_memory_before():
    config = PRESETS["tiny-4x4"]
    transport = GoldenDevice(config, memory_size=MEMORY_BYTES)
    fill(transport, config)
    arena = transport.read_memory(transport.memory_base + MEMORY_BYTES // 2, MEMORY_BYTES // 2)
    assert arena.count(SENTINEL) > len(arena) // 2


@pytest.mark.cosim
@pytest.mark.parametrize("switches", [6, pytest.param(1000, marks=pytest.mark.slow)])
def test_hardware_is_scrubbed_between_clients(switches):
    config = PRESETS["tiny-4x4"]
    with RtlDevice(config, memory_size=MEMORY_BYTES) as transport:
        fill(transport, config)
        assert any(spy(transport, spy_programs(config)["accumulators"], scrub=False))
        check_switches(transport, config, switches)
