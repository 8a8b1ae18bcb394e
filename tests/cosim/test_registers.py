"""Every register of the simulated hardware as declared: values, locks, interrupts, reports."""

import pytest

from systolith.arch import csr
from systolith.arch.presets import PRESETS
from systolith.bench import counter_laws, registers, windows
from systolith.bench.random_layer import ODD_CONFIGS

pytestmark = pytest.mark.cosim

CONFIGS = {"tiny-4x4": PRESETS["tiny-4x4"], "odd-7x3": ODD_CONFIGS["odd-7x3"]}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("number", range(3))
def test_registers_are_as_declared(config, seed, number):
    assert registers.problems(config, seed + number) == []


def test_what_is_not_as_declared_is_named(seed, monkeypatch):
    monkeypatch.setattr(csr, "constants", lambda config: {"id": 1})
    found = registers.problems(CONFIGS["tiny-4x4"], seed)
    assert "id after reset: 0x4c535953, not 0x1" in found


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_counters_obey_their_laws(config):
    assert counter_laws.problems(config) == []


def test_counters_that_break_a_law_are_named(monkeypatch):
    run = counter_laws.CounterBench.run

    def wrong(bench, *arguments):
        return {**run(bench, *arguments), "write_bytes": 3}

    monkeypatch.setattr(counter_laws.CounterBench, "run", wrong)
    found = counter_laws.problems(CONFIGS["tiny-4x4"])
    assert "write_bytes of store: 3, not 256" in found


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("number", range(3))
def test_windows_may_be_anywhere_and_programs_long(config, seed, number):
    assert list(windows.problems(config, seed + number)) == []


def test_what_is_wrong_with_windows_is_named(seed, monkeypatch):
    read = windows.RtlDevice.read_memory

    def wrong(device, *arguments):
        return bytes([read(device, *arguments)[0] ^ 1])

    monkeypatch.setattr(windows.RtlDevice, "read_memory", wrong)
    found = list(windows.problems(CONFIGS["tiny-4x4"], seed))
    engines = ("LOAD", "EXECUTE", "DRAIN", "STORE")
    long = {f"a long program that ends in {name}: other bytes" for name in engines}
    assert {"copy through all windows: other bytes"} | long == set(found)
