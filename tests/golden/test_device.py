import pytest

from systolith.arch import csr, isa
from systolith.arch.csr import BY_NAME, Fault
from systolith.arch.errors import DeviceError, DeviceTimeout
from systolith.golden.device import GoldenDevice

BASE = 0x3_0000_0000
SIZE = 1 << 16


@pytest.fixture
def device(tiny):
    return GoldenDevice(tiny, memory_size=SIZE, memory_base=BASE)


def read(device, name):
    return device.read_register(BY_NAME[name].addr)


def write(device, name, value):
    device.write_register(BY_NAME[name].addr, value)


def set_region(device, number, base, size, flags=3):
    write(device, f"region{number}_base_lo", base & 0xFFFFFFFF)
    write(device, f"region{number}_base_hi", base >> 32)
    write(device, f"region{number}_size", size)
    write(device, f"region{number}_flags", flags)


def start(device, *items, offset=0, count=None, flags=1, size=4096):
    code = b"".join(item.to_bytes() for item in items)
    device.write_memory(BASE + offset, code)
    set_region(device, 0, BASE, size, flags)
    write(device, "program_offset", offset)
    write(device, "program_count", len(items) if count is None else count)
    write(device, "control", 1)


def fault(device):
    value = read(device, "fault")
    addr = read(device, "fault_addr_hi") << 32 | read(device, "fault_addr_lo")
    code = Fault(csr.field_value("fault", "code", value))
    engine = isa.Engine(csr.field_value("fault", "engine", value))
    return code, engine, read(device, "fault_index"), addr


def copy(size):
    steps = {"run": size, "run_step": size, "total": size, "segment": size, "addr": 16}
    return isa.Load(region=1, offset=8, **steps), isa.Store(region=2, offset=4, **steps), isa.Halt()


def test_constants_identify_the_configuration(device, tiny):
    for name, value in csr.constants(tiny).items():
        assert read(device, name) == value
        write(device, name, 0)
        assert read(device, name) == value


@pytest.mark.parametrize("register", csr.REGISTERS, ids=lambda register: register.name)
def test_writes_do_what_the_access_says(device, register):
    before = device.read_register(register.addr)
    if register.name == "control":
        device.write_register(register.addr, 0xFFFFFFFE)
        assert device.read_register(register.addr) == 0
        return
    device.write_register(register.addr, 0xFFFFFFFF)
    legal = sum(((1 << f.width) - 1) << f.low for f in register.fields) or 0xFFFFFFFF
    expected = legal if register.access == csr.Access.RW else before
    assert device.read_register(register.addr) == expected


def test_undeclared_addresses_read_zero(device):
    device.write_register(0xFFC, 5)
    assert device.read_register(0xFFC) == 0


def test_program_copies_between_regions(device):
    data = bytes(range(100, 200))
    device.write_memory(BASE + 0x2008, data)
    set_region(device, 1, BASE + 0x2000, 108, flags=1)
    set_region(device, 2, BASE + 0x3000, 104, flags=2)
    write(device, "irq_enable", 1)
    start(device, *copy(100), offset=96)

    device.wait_interrupt(0.0)
    assert read(device, "status") == csr.pack("status", done=1)
    assert device.read_memory(BASE + 0x3003, 102) == b"\0" + data + b"\0"
    assert (read(device, "progress_load"), read(device, "progress_store")) == (1, 1)
    assert (read(device, "progress_execute"), read(device, "progress_drain")) == (0, 0)
    assert read(device, "read_bytes") == 3 * 32 + 104
    assert read(device, "write_bytes") == 100
    assert read(device, "cycles") == 0


def test_interrupt_is_the_enabled_events(device):
    start(device, isa.Halt())
    assert read(device, "irq_status") == 1
    with pytest.raises(DeviceTimeout, match=r"Interrupt must rise within 1\.5 s"):
        device.wait_interrupt(1.5)
    write(device, "irq_enable", 2)
    with pytest.raises(DeviceTimeout):
        device.wait_interrupt(0.0)
    start(device, *copy(100))
    assert read(device, "irq_status") == 3
    device.wait_interrupt(0.0)
    write(device, "irq_status", 2)
    assert read(device, "irq_status") == 1
    with pytest.raises(DeviceTimeout):
        device.wait_interrupt(0.0)


def test_fault_is_kept_until_the_next_start(device):
    set_region(device, 1, BASE + 0x2000, 50, flags=1)
    start(device, *copy(100))
    assert read(device, "status") == csr.pack("status", fault=1)
    assert fault(device) == (Fault.REGION_BOUNDS, isa.Engine.LOAD, 0, BASE + 0x2000 + 50)
    start(device, isa.Halt())
    assert fault(device) == (Fault.NONE, isa.Engine.LOAD, 0, 0)
    assert read(device, "status") == csr.pack("status", done=1)


@pytest.mark.parametrize(
    ("region", "code", "addr"),
    [
        ((BASE + SIZE - 10, 200, 1), Fault.BUS_READ, BASE + SIZE),
        ((BASE - 0x1000, 200, 1), Fault.BUS_READ, BASE - 0x1000 + 8),
        ((0xFFFFFFFF_00000000, 200, 1), Fault.BUS_READ, 0xFFFFFFFF_00000008),
        ((BASE, 200, 2), Fault.REGION_PERMISSION, BASE + 8),
        ((BASE, 200, 0), Fault.REGION_PERMISSION, BASE + 8),
        ((BASE, 0, 3), Fault.REGION_BOUNDS, BASE + 8),
    ],
)
def test_regions_are_checked(device, region, code, addr):
    set_region(device, 1, *region)
    start(device, *copy(100))
    assert fault(device) == (code, isa.Engine.LOAD, 0, addr)


@pytest.mark.parametrize(
    ("changes", "code", "index", "addr"),
    [
        ({"count": 0}, Fault.REGION_BOUNDS, 0, BASE),
        ({"count": 1}, Fault.REGION_BOUNDS, 1, BASE + 32),
        ({"size": 32}, Fault.REGION_BOUNDS, 1, BASE + 32),
        ({"size": 50}, Fault.REGION_BOUNDS, 1, BASE + 32),
        ({"flags": 2}, Fault.REGION_PERMISSION, 0, BASE),
        ({"offset": 64, "size": 32}, Fault.REGION_BOUNDS, 0, BASE + 64),
    ],
)
def test_fetch_is_checked(device, changes, code, index, addr):
    start(device, isa.Quantize(), isa.Halt(), **changes)
    assert fault(device) == (code, isa.Engine.SEQUENCER, index, addr)


def test_fetch_from_absent_memory_is_a_bus_error(device):
    set_region(device, 0, 0x1000, 64, flags=1)
    write(device, "program_count", 2)
    write(device, "control", 1)
    assert fault(device) == (Fault.BUS_READ, isa.Engine.SEQUENCER, 0, 0x1000)


@pytest.mark.parametrize("addr", [BASE - 1, BASE + SIZE - 3, 0])
def test_memory_access_outside_dram_is_refused(device, addr):
    with pytest.raises(DeviceError, match="Memory access must be inside 0x300000000 to"):
        device.read_memory(addr, 4)
    with pytest.raises(DeviceError, match=f"not 4 bytes at {addr:#x}"):
        device.write_memory(addr, bytes(4))


def test_trace_is_passed_to_the_machine(tiny):
    seen = []
    device = GoldenDevice(tiny, memory_size=SIZE, memory_base=BASE, trace=lambda *a: seen.append(a))
    start(device, isa.Halt())
    assert seen == [(0, isa.Halt())]
    device.close()
