"""The driver on the simulated hardware: faults of every origin, and exact runs after each."""

import dataclasses

import numpy as np
import pytest

from systolith.arch import csr
from systolith.arch.csr import Fault
from systolith.arch.errors import DeviceFault, DeviceTimeout
from systolith.arch.isa import Engine
from systolith.arch.program import Region
from systolith.bench.rtl import RtlDevice
from systolith.driver import device as driver
from systolith.driver.device import Device
from systolith.driver.runtime import run_sample

pytestmark = pytest.mark.cosim

SLVERR, DECERR = 2, 3


@pytest.fixture
def rtl(tiny, waves):
    with RtlDevice(tiny, waves=waves / "device.fst" if waves else None) as transport:
        yield transport


def with_code(program, change):
    """Return the program with bytes of its only segment's code changed."""
    (segment,) = program.segments
    code = bytearray(segment.code)
    change(code)
    segment = dataclasses.replace(segment, code=bytes(code))
    return dataclasses.replace(program, segments=(segment,))


def check_exact(device, program, samples):
    for sample in samples:
        np.testing.assert_array_equal(
            run_sample(device, program, {"x": sample}).tensors["y"], sample
        )


def check_fault(device, program, sample, code, engine, index):
    with pytest.raises(DeviceFault) as info:
        run_sample(device, program, {"x": sample})
    fault = info.value
    assert (Fault(fault.code).name, Engine(fault.engine).name, fault.index) == (
        code.name,
        engine.name,
        index,
    )
    return fault


def set_byte(index, value):
    def change(code):
        code[index] = value

    return change


FAULTS = {
    "illegal opcode": (set_byte(32, 0x77), Fault.ILLEGAL_OPCODE, Engine.SEQUENCER, 1),
    "reserved bits": (set_byte(63, 0x80), Fault.RESERVED_BITS, Engine.SEQUENCER, 1),
    "no halt": (set_byte(64, 0x30), Fault.REGION_BOUNDS, Engine.SEQUENCER, 3),
}


@pytest.mark.parametrize("name", FAULTS)
def test_wrong_code_ends_in_its_fault_and_the_next_run_is_exact(
    rtl, tiny, copy_program, samples, name
):
    change, code, engine, index = FAULTS[name]
    device, good = Device(rtl, tiny, validate=False), copy_program()
    bad = with_code(good, change)
    for sample in samples[:2]:
        check_fault(device, bad, sample, code, engine, index)
        check_exact(device, good, samples[:2])


def test_region_that_may_not_be_read_is_a_fault(rtl, tiny, copy_program, samples):
    device = Device(rtl, tiny, validate=False)
    bad = copy_program(load_region=Region.OUTPUT)
    fault = check_fault(device, bad, samples[0], Fault.REGION_PERMISSION, Engine.LOAD, 0)
    assert "load region=3 offset=3" in str(fault)
    check_exact(device, copy_program(), samples)


def test_burst_that_would_leave_its_region_never_reaches_the_bus(rtl, tiny, copy_program, samples):
    device = Device(rtl, tiny, validate=False)
    good = copy_program()
    (segment,) = good.segments
    # The region ends one byte before the tensor does.
    small = dataclasses.replace(segment, output_bytes=segment.output_bytes - 1)
    bad = dataclasses.replace(good, segments=(small,))
    check_fault(device, bad, samples[0], Fault.REGION_BOUNDS, Engine.STORE, 1)
    assert rtl.violations == 0
    check_exact(device, good, samples)


@pytest.mark.parametrize("response", [SLVERR, DECERR])
@pytest.mark.parametrize(
    ("write", "code", "engine", "index"),
    [(False, Fault.BUS_READ, Engine.LOAD, 0), (True, Fault.BUS_WRITE, Engine.STORE, 1)],
)
def test_bus_error_is_a_fault_and_the_next_run_is_exact(
    rtl, tiny, copy_program, samples, write, code, engine, index, response
):
    device, program = Device(rtl, tiny), copy_program()
    check_exact(device, program, samples[:1])
    register = "region3_base" if write else "region2_base"
    base = sum(
        rtl.read_register(csr.BY_NAME[f"{register}_{half}"].addr) << shift
        for half, shift in (("lo", 0), ("hi", 32))
    )
    rtl.inject_error(base, 64, response, write=write)
    check_fault(device, program, samples[0], code, engine, index)
    rtl.clear_errors()
    check_exact(device, program, samples)


def test_instruction_that_never_completes_meets_the_watchdog(
    tiny, copy_program, samples, monkeypatch
):
    monkeypatch.setattr(driver, "WATCHDOG_CYCLES", 500)
    with RtlDevice(tiny, latency=2000) as slow:
        device = Device(slow, tiny)
        with pytest.raises(DeviceFault) as info:
            run_sample(device, copy_program(), {"x": samples[0]})
        assert info.value.code == Fault.WATCHDOG
        monkeypatch.setattr(driver, "WATCHDOG_CYCLES", 5000)
        check_exact(device, copy_program(), samples[:1])


def test_run_that_takes_too_long_is_aborted(tiny, copy_program, samples):
    with RtlDevice(tiny, latency=1 << 18) as slow:
        device = Device(slow, tiny, timeout_s=0.0)
        with pytest.raises(DeviceTimeout):
            run_sample(device, copy_program(), {"x": samples[0]})
        assert slow.read_register(csr.BY_NAME["fault"].addr) & 0xFF == Fault.ABORTED
        patient = Device(slow, tiny)
        check_exact(patient, copy_program(), samples[:1])


@pytest.mark.parametrize("seed_of_stalls", [1, 2])
def test_stalls_change_cycles_and_not_bytes(rtl, tiny, copy_program, samples, seed_of_stalls):
    program = copy_program()
    with RtlDevice(tiny, stall=0.3, seed=seed_of_stalls) as stalling:
        device = Device(stalling, tiny)
        check_exact(device, program, samples)
        stalled = run_sample(device, program, {"x": samples[0]}).cycles
    assert stalled > run_sample(Device(rtl, tiny), program, {"x": samples[0]}).cycles


def test_equal_runs_take_equal_cycles_that_layers_add_up_to(rtl, tiny, softmax_program, samples):
    device = Device(rtl, tiny)
    results = [run_sample(device, softmax_program, {"x": sample}) for sample in samples]
    assert len({result.cycles for result in results}) == 1
    assert sum(results[0].layer_cycles.values()) == results[0].cycles
    assert results[0].counters["write_bytes"] == 2 * samples[0].size


def test_watchdog_says_what_the_bus_did_not_answer(tiny, copy_program, samples, monkeypatch):
    monkeypatch.setattr(driver, "WATCHDOG_CYCLES", 500)
    with RtlDevice(tiny, latency=700) as slow:
        with pytest.raises(DeviceFault, match="nothing was completed for 500 cycles") as info:
            run_sample(Device(slow, tiny), copy_program(), {"x": samples[0]})
        assert str(info.value).endswith("with the fetch of instruction 0 on the read channel")
