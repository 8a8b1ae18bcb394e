"""UIO driver: on files that are what the kernel shows, and on the Verilated core."""

import mmap
import os
import struct

import numpy as np
import pytest

from systolith.api import InferenceSession, open_transport
from systolith.arch.errors import DeviceBusy, DeviceError, DeviceTimeout, InputError
from systolith.bench.rtl import RtlDevice
from systolith.driver import lock, uio
from systolith.driver.uio import UioTransport
from systolith.golden.device import GoldenDevice

REGISTER_BYTES = 4096
MEMORY_BYTES = 1 << 14
MEMORY_BASE = 0x7000_0000


class Registers:
    """Words, each access of which reaches a device."""

    def __init__(self, device):
        self.device = device

    def __getitem__(self, index):
        return np.uint32(self.device.read_register(4 * index))

    def __setitem__(self, index, value):
        self.device.write_register(4 * index, int(value))


class Memory(np.ndarray):
    """Bytes of a device, uncached."""

    def __getitem__(self, place):
        data = self.npu.read_memory(self.npu.memory_base + place.start, place.stop - place.start)
        return np.frombuffer(data, np.uint8)

    def __setitem__(self, place, value):
        self.npu.write_memory(self.npu.memory_base + place.start, value.tobytes())


def memory_of(device):
    memory = np.zeros(MEMORY_BYTES, np.uint8).view(Memory)
    memory.npu = device
    return memory


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A UIO device with two maps, and a buffer of u-dma-buf, as files; its folder."""
    monkeypatch.setattr(uio, "SYSFS", tmp_path / "class")
    for index, (addr, size) in enumerate(
        [(0xA000_0000, REGISTER_BYTES), (MEMORY_BASE, MEMORY_BYTES)]
    ):
        folder = tmp_path / "class" / "uio" / "uio3" / "maps" / f"map{index}"
        folder.mkdir(parents=True)
        (folder / "addr").write_text(f"{addr:#018x}\n")
        (folder / "size").write_text(f"{size:#x}\n")
    folder = tmp_path / "class" / "u-dma-buf" / "udmabuf0"
    folder.mkdir(parents=True)
    (folder / "phys_addr").write_text("0x0000000070000000\n")
    (folder / "size").write_text(f"{MEMORY_BYTES}\n")
    # The second map of a real device starts a page behind the first, whatever its address.
    (tmp_path / "uio3").write_bytes(bytes(mmap.PAGESIZE + MEMORY_BYTES))
    (tmp_path / "udmabuf0").write_bytes(bytes(MEMORY_BYTES))
    return tmp_path


def test_maps_are_registers_and_memory(files, rng):
    transport = UioTransport.open(str(files / "uio3"))
    assert (transport.memory_base, transport.memory_size) == (MEMORY_BASE, MEMORY_BYTES)
    data = rng.bytes(100)
    transport.write_register(0x64, 0x12345678)
    transport.write_memory(MEMORY_BASE + 3, data)
    raw = (files / "uio3").read_bytes()
    assert struct.unpack_from("=I", raw, 0x64) == (0x12345678,)
    assert raw[mmap.PAGESIZE + 3 : mmap.PAGESIZE + 103] == data
    assert transport.read_register(0x64) == 0x12345678
    assert transport.read_memory(MEMORY_BASE + 3, 100) == data
    with pytest.raises(DeviceError, match="must be inside 0x70000000 to 0x70003fff"):
        transport.read_memory(MEMORY_BASE + MEMORY_BYTES, 1)
    transport.close()


def test_memory_may_be_a_buffer_of_another_driver(files, rng):
    transport = UioTransport.open(f"{files / 'uio3'},{files / 'udmabuf0'}")
    data = rng.bytes(50)
    transport.write_memory(MEMORY_BASE, data)
    assert (files / "udmabuf0").read_bytes()[:50] == data
    assert transport.memory_size == MEMORY_BYTES
    transport.close()


def test_files_have_one_session_at_a_time(files):
    place = f"{files / 'uio3'},{files / 'udmabuf0'}"
    first = UioTransport.open(place)
    kept = first.read_memory(MEMORY_BASE, 1)
    with pytest.raises(DeviceBusy, match="uio3.*used by a session of process") as info:
        UioTransport.open(str(files / "uio3"), wait_s=0.1)
    assert (info.value.holder, info.value.waited_s) == (os.getpid(), 0.1)
    first.close()
    # Another accelerator may have the buffer.
    buffer = os.open(files / "udmabuf0", os.O_RDWR)
    lock.acquire(buffer, "buffer")
    with pytest.raises(DeviceBusy, match="udmabuf0"):
        UioTransport.open(place)
    lock.release(buffer)
    # The arrays of the first one still exist, and do not keep anybody away.
    UioTransport.open(place).close()
    assert kept == first.read_memory(MEMORY_BASE, 1)


class Line:
    """An interrupt like the kernel's: once counted, it is disabled until a write enables it."""

    def __init__(self, level):
        self.ours, self.theirs = os.pipe()
        self.level, self.enabled = level, 0

    def write(self, file, data):
        assert (file, data) == (self.ours, struct.pack("=I", 1))
        self.enabled += 1
        if self.level():
            os.write(self.theirs, struct.pack("=I", self.enabled))

    def close(self):
        os.close(self.theirs)


@pytest.mark.cosim
def test_program_runs_on_the_verilated_core(tiny, copy_program, samples, monkeypatch):
    with RtlDevice(tiny) as rtl:

        def level():
            # The kernel would be told by the pin; time passes here while waiting for it.
            rtl.wait_interrupt(10.0)
            return True

        line = Line(level)
        original = os.write
        monkeypatch.setattr(
            uio.os,
            "write",
            lambda file, data: (
                line.write(file, data) if file == line.ours else original(file, data)
            ),
        )
        transport = UioTransport(Registers(rtl), memory_of(rtl), rtl.memory_base, line.ours)
        with InferenceSession(copy_program(), transport) as session:
            (got,) = session.run(None, {"x": samples})
        assert rtl.violations == 0
    np.testing.assert_array_equal(got, samples)
    assert line.enabled == len(samples)
    line.close()


def test_interrupt_that_never_comes_is_a_timeout(tiny, monkeypatch):
    device = GoldenDevice(tiny)
    line = Line(lambda: False)
    monkeypatch.setattr(uio.os, "write", line.write)
    transport = UioTransport(Registers(device), memory_of(device), 0, line.ours)
    with pytest.raises(DeviceTimeout, match="within 0.05 s"):
        transport.wait_interrupt(0.05)
    transport.close()
    line.close()


def test_old_interrupt_is_not_taken_for_a_new_one(tiny, monkeypatch):
    device = GoldenDevice(tiny)
    line = Line(lambda: line.enabled == 0)
    os.write(line.theirs, struct.pack("=I", 9))
    monkeypatch.setattr(uio.os, "write", line.write)
    transport = UioTransport(Registers(device), memory_of(device), 0, line.ours)
    with pytest.raises(DeviceTimeout):
        transport.wait_interrupt(0.05)
    # Enabled for the old one, and once more behind it.
    assert line.enabled == 2
    transport.close()
    line.close()


# Opening


def test_absent_device_is_named(tiny):
    with pytest.raises(DeviceError, match='"/dev/uio77" cannot be opened: No such file.*driver'):
        open_transport("uio:/dev/uio77", tiny)


def test_device_that_may_not_be_used_is_explained(files, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(uio.os, "open", refuse)
    with pytest.raises(DeviceError, match="Permission denied; run as root"):
        UioTransport.open(str(files / "uio3"))


def test_device_without_memory_is_told_how_to_get_some(files):
    folder = files / "class" / "uio" / "uio3" / "maps" / "map1"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with pytest.raises(DeviceError, match='as map 1, and has none.*uio3,/dev/udmabuf0"'):
        UioTransport.open(str(files / "uio3"))


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("uio/uio3/maps/map0/size", "0x800", "4096 bytes of registers as map 0, not 2048"),
        ("uio/uio3/maps/map1/size", "0x100000", "cannot map 1048576 bytes"),
        ("uio/uio3/maps/map1/addr", "zero", "must be described in"),
    ],
)
def test_description_that_is_wrong_is_refused(files, path, text, message):
    (files / "class" / path).write_text(text)
    with pytest.raises(DeviceError, match=message):
        UioTransport.open(str(files / "uio3"))


@pytest.mark.parametrize("place", ["", ",/dev/udmabuf0", "/dev/uio0,"])
def test_text_that_names_no_device_is_refused(tiny, place):
    with pytest.raises(InputError, match=f'"uio:{place}" must name a file'):
        open_transport(f"uio:{place}", tiny)
