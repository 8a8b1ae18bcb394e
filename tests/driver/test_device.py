"""Driver of one device: identity, memory map, doorbell, faults, time-outs, counters."""

import dataclasses

import pytest

from systolith.arch import csr
from systolith.arch.errors import (
    DeviceError,
    DeviceFault,
    DeviceTimeout,
    ProgramError,
    RunTimeout,
)
from systolith.arch.isa import Engine
from systolith.arch.presets import PRESETS
from systolith.arch.program import Region
from systolith.driver import device as driver
from systolith.driver.device import REGION_ALIGNMENT, Device
from systolith.golden.device import GoldenDevice


def succeed(transport):
    transport.finish(done=1)


def test_open_accepts_the_configuration_of_the_device(fake, tiny):
    assert Device(fake(tiny), tiny).digest == tiny.digest
    assert Device(fake(tiny)).digest == tiny.digest


def test_open_refuses_hardware_that_is_no_systolith(fake, tiny):
    transport = fake(tiny)
    transport.values["id"] = 0xDEADBEEF
    with pytest.raises(DeviceError, match="as 0x4c535953, not 0xdeadbeef; check its address"):
        Device(transport)


def test_open_refuses_another_instruction_set(fake, tiny):
    transport = fake(tiny)
    transport.values["isa_version"] = 77
    with pytest.raises(DeviceError, match="version 1 of the instruction set, not 77; generate"):
        Device(transport)


def test_open_refuses_another_configuration_and_names_the_difference(fake, tiny, edge):
    with pytest.raises(DeviceError, match="rows is 4 in the device, not 16; open it with") as info:
        Device(fake(tiny), edge)
    assert f"{tiny.digest:016x}" in str(info.value)
    assert f"{edge.digest:016x}" in str(info.value)


def test_load_refuses_a_program_for_another_configuration(fake, copy_program):
    other = PRESETS["edge-8x8"]
    with pytest.raises(ProgramError, match="rows is 8 in the device, not 4; compile it") as info:
        Device(fake(other)).load(copy_program())
    assert f"{other.digest:016x}" in str(info.value)


def test_load_refuses_a_program_larger_than_memory(fake, tiny, copy_program):
    transport = fake(tiny)
    transport.memory_size = REGION_ALIGNMENT
    with pytest.raises(DeviceError, match="but the device has 4096; give it more"):
        Device(transport).load(copy_program())


def test_program_is_written_once_while_it_stays_loaded(fake, tiny, copy_program):
    transport = fake(tiny, succeed)
    device = Device(transport, validate=False)
    first, second = copy_program(), copy_program(size=20)
    for program in (first, first, second, first):
        device.load(program)
    assert [size for _, size in transport.writes] == 3 * [3 * 32, 7]


def test_regions_have_the_declared_sizes_and_permissions(fake, tiny, copy_program):
    transport = fake(tiny, succeed)
    device = Device(transport)
    device.load(copy_program())
    device.run(0, {3: bytes(24)})
    regions = [transport.region(number) for number in range(8)]
    assert [region[1:] for region in regions] == [
        (96, 1, 0),
        (7, 1, 0),
        (27, 1, 0),
        (29, 0, 1),
        *4 * [(0, 0, 0)],
    ]
    bases = [base for base, size, *_ in regions if size]
    assert all(base % REGION_ALIGNMENT == 0 and base > transport.memory_base for base in bases)
    assert len(set(bases)) == 4
    assert transport.values["program_count"] == 3
    assert transport.values["watchdog"] > 0


def test_every_segment_starts_at_a_beat(fake, tiny, softmax_program):
    wide = dataclasses.replace(tiny, axi_data_bits=512, weight_bytes=8 << 10, param_bytes=4 << 10)
    transport = fake(wide, succeed)
    device = Device(transport)
    device.load(dataclasses.replace(softmax_program, config=wide))
    for segment, offset in ((0, 0), (2, 128)):
        device.run(segment, {})
        assert transport.values["program_offset"] == offset
        assert transport.values["region0_size"] == 128 + 96


def test_run_needs_a_program(fake, tiny):
    with pytest.raises(ProgramError, match="must be loaded"):
        Device(fake(tiny)).run(0, {})


def test_run_returns_cycles_and_every_counter(fake, tiny, copy_program):
    def count(transport):
        transport.values.update(cycles=1234, read_bytes=99)
        transport.finish(done=1)

    device = Device(fake(tiny, count))
    device.load(copy_program())
    result = device.run(0, {})
    assert result.cycles == 1234
    assert list(result.counters) == [name for name, _ in csr.COUNTERS]
    assert result.counters["read_bytes"] == 99


def test_fault_names_code_engine_instruction_and_address(fake, tiny, copy_program):
    def fail(transport):
        transport.values.update(
            fault=csr.pack("fault", code=csr.Fault.BUS_WRITE, engine=Engine.STORE),
            fault_index=1,
            fault_addr_lo=0x10,
            fault_addr_hi=2,
        )
        transport.finish(fault=1)

    device = Device(fake(tiny, fail))
    device.load(copy_program())
    with pytest.raises(DeviceFault, match=r"BUS_WRITE of engine STORE at instruction 1") as info:
        device.run(0, {})
    fault = info.value
    assert (fault.code, fault.engine, fault.index) == (csr.Fault.BUS_WRITE, Engine.STORE, 1)
    assert fault.address == 0x2_0000_0010
    assert "(store [load] region=3 offset=5 run=24" in str(fault)


@pytest.mark.parametrize(
    ("index", "text"), [(3, "beyond the program"), (1, "no instruction: ff7e")]
)
def test_fault_of_no_instruction_is_described(fake, tiny, copy_program, index, text):
    def fail(transport):
        transport.values.update(fault_index=index, fault=99 | 7 << 8)
        transport.finish(fault=1)

    program = copy_program()
    (segment,) = program.segments
    damaged = bytearray(segment.code)
    damaged[32:34] = b"\xff\x7e"
    segment = dataclasses.replace(segment, code=bytes(damaged))
    device = Device(fake(tiny, fail), validate=False)
    device.load(dataclasses.replace(program, segments=(segment,)))
    with pytest.raises(DeviceFault, match=f"fault 99 of engine 7 .*{text}"):
        device.run(0, {})


def test_interrupt_without_done_or_fault_is_an_error(fake, tiny, copy_program):
    device = Device(fake(tiny, lambda transport: transport.values.update(irq_status=1)))
    device.load(copy_program())
    with pytest.raises(DeviceError, match="status is 0x0"):
        device.run(0, {})


def test_program_that_does_not_end_is_aborted(fake, tiny, copy_program):
    transport = fake(tiny)
    transport.busy = True
    device = Device(transport, timeout_s=1.5)
    device.load(copy_program())
    with pytest.raises(RunTimeout, match=r"within 1\.5 s \(as asked for; no cycles") as info:
        device.run(0, {})
    assert (info.value.predicted, info.value.allowed_s) == (None, 1.5)
    assert transport.aborted
    transport.on_start = succeed
    device.run(0, {})


def test_device_that_stays_busy_is_reported(fake, tiny, copy_program, monkeypatch):
    transport = fake(tiny, succeed)
    device = Device(transport)
    device.load(copy_program())
    transport.finish = lambda **event: None
    transport.values["status"] = csr.pack("status", busy=1, fault=1)
    monkeypatch.setattr(driver, "ABORT_TIMEOUT_S", 0.01)
    with pytest.raises(DeviceTimeout, match=r"idle within 0\.01 s of a stopped run.*; reset it"):
        device.run(0, {})
    with pytest.raises(DeviceTimeout, match="; reset it"):
        Device(transport)


def test_device_that_is_busy_when_opened_is_stopped(fake, tiny, copy_program):
    transport = fake(tiny, succeed)
    transport.values.update(
        status=csr.pack("status", busy=1),
        irq_status=csr.pack("irq_status", done=1, fault=1),
    )
    device = Device(transport)
    assert transport.aborted
    assert transport.values["irq_status"] == 0
    device.load(copy_program())
    device.run(0, {})


def predicted(program, cycles):
    (segment,) = program.segments
    return dataclasses.replace(program, segments=(dataclasses.replace(segment, cycles=cycles),))


@pytest.mark.parametrize(
    ("clock_hz", "cycles", "options", "seconds"),
    [
        (1e6, 1000, {}, (8 * 1000 + (1 << 22)) / 1e6),
        (None, 1000, {}, (8 * 1000 + (1 << 22)) / 10e6),
        (1e6, 1000, {"timeout_s": 3.0}, 3.0),
        (1e6, None, {}, 600.0),
        (1e6, None, {"timeout_s": 3.0}, 3.0),
    ],
)
def test_time_that_is_allowed_follows_from_predicted_cycles(
    fake, tiny, copy_program, clock_hz, cycles, options, seconds
):
    transport = fake(tiny)
    transport.busy, transport.clock_hz = True, clock_hz
    device = Device(transport, **options)
    device.load(predicted(copy_program(), cycles))
    with pytest.raises(RunTimeout) as info:
        device.run(0, {})
    error = info.value
    assert (error.predicted, error.allowed_s) == (cycles, seconds)
    assert 0 <= error.elapsed_s < 10
    assert f'Program "copy", segment 0, must end within {seconds:.3g} s (' in str(error)
    if cycles and not options:
        assert "8 times the 1000 cycles predicted, and the watchdog's 4194304, at 1" in str(error)
    transport.on_start = succeed
    device.run(0, {})


@pytest.mark.parametrize("error", [KeyboardInterrupt, DeviceError("the line is dead")])
def test_run_that_is_interrupted_is_stopped(fake, tiny, copy_program, error):
    transport = fake(tiny)
    transport.busy = True
    device = Device(transport)
    device.load(copy_program())

    def fail(timeout_s):
        raise error

    transport.wait_interrupt = fail
    with pytest.raises(error if error is KeyboardInterrupt else DeviceError):
        device.run(0, {})
    assert transport.aborted


def test_error_of_the_line_is_the_one_that_is_told(fake, tiny, copy_program):
    transport = fake(tiny)
    device = Device(transport)
    device.load(copy_program())

    def fail(timeout_s):
        transport.read_register = broken
        raise DeviceError("the line is dead")

    def broken(addr):
        raise DeviceError("and stays dead")

    transport.wait_interrupt = fail
    with pytest.raises(DeviceError, match="the line is dead"):
        device.run(0, {})


def test_close_closes_the_transport(fake, tiny):
    transport = fake(tiny)
    Device(transport).close()
    assert transport.closed


def test_golden_device_copies_and_recovers_from_a_fault(tiny, copy_program, samples):
    device = Device(GoldenDevice(tiny), tiny, validate=False)
    good, bad = copy_program(), copy_program(load_region=Region.OUTPUT)
    for sample in samples:
        device.load(bad)
        with pytest.raises(DeviceFault) as info:
            device.run(0, {3: sample.tobytes()})
        assert (info.value.code, info.value.index) == (csr.Fault.REGION_PERMISSION, 0)
        device.load(good)
        result = device.run(0, {3: sample.tobytes()})
        assert result.outputs[5:] == sample.tobytes()
        assert result.cycles is None
