"""PYNQ driver against a fake PYNQ whose MMIO and memory are those of the Verilated core."""

import builtins
import functools
import os
import platform
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from systolith.api import InferenceSession, open_transport
from systolith.arch import csr
from systolith.arch.errors import DeviceBusy, DeviceError, DeviceTimeout, InputError, ToolchainError
from systolith.bench.rtl import RtlDevice
from systolith.driver import lock
from systolith.driver.pynq import PynqTransport
from systolith.golden.device import GoldenDevice

MEMORY_BYTES = 1 << 16
BASE = 0xA001_0000


class Registers:
    """What `pynq.MMIO.array` is: words, each access of which reaches the device."""

    def __init__(self, device):
        self.npu = device

    def __getitem__(self, index):
        return np.uint32(self.npu.read_register(4 * index))

    def __setitem__(self, index, value):
        assert type(value) is np.uint32
        self.npu.write_register(4 * index, int(value))


class Buffer(np.ndarray):
    """What `pynq.allocate` gives: an array that is only a cache of the device's memory.

    Without `flush` the device does not see what was written, without `invalidate` the array does
    not show what the device wrote. Slices know their place, as PYNQ's do.
    """

    def __array_finalize__(self, parent):
        if isinstance(parent, Buffer) and hasattr(parent, "npu"):
            start = self.__array_interface__["data"][0] - parent.__array_interface__["data"][0]
            self.npu, self.owner = parent.npu, parent.owner
            self.device_address = parent.device_address + start

    def flush(self):
        self.npu.write_memory(self.device_address, self.tobytes())

    def invalidate(self):
        data = self.npu.read_memory(self.device_address, self.nbytes)
        self[:] = np.frombuffer(data, np.uint8)

    def freebuffer(self):
        self.owner.freed += 1


class FakePynq(SimpleNamespace):
    """The module."""

    def __init__(self, device):
        super().__init__(npu=device, freed=0, mapped=[], loaded=[], ip_dict={})

    def MMIO(self, base, length):  # noqa: N802 - PYNQ's name
        self.mapped.append((base, length))
        return SimpleNamespace(array=Registers(self.npu))

    def allocate(self, shape, dtype):
        buffer = np.zeros(shape, dtype).view(Buffer)
        buffer.npu, buffer.owner = self.npu, self
        buffer.device_address = self.npu.memory_base
        return buffer

    def Overlay(self, bitfile):  # noqa: N802 - PYNQ's name
        self.loaded.append(bitfile)
        return SimpleNamespace(ip_dict=self.ip_dict)


@pytest.fixture(autouse=True)
def locks(tmp_path, monkeypatch):
    """A folder of their own for the locks of these tests."""
    monkeypatch.setattr(lock, "LOCK_FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
def fake(tiny, monkeypatch):
    """PYNQ around a golden device."""
    pynq = FakePynq(GoldenDevice(tiny))
    monkeypatch.setitem(sys.modules, "pynq", pynq)
    return pynq


@pytest.mark.cosim
def test_program_runs_on_the_verilated_core(tiny, copy_program, samples, monkeypatch):
    with RtlDevice(tiny) as rtl:
        pynq = FakePynq(rtl)
        monkeypatch.setitem(sys.modules, "pynq", pynq)
        # As much as the board has would take minutes to clear, access by access.
        little = functools.partial(PynqTransport.open, memory_bytes=MEMORY_BYTES)
        monkeypatch.setattr(PynqTransport, "open", little)
        # Real time says nothing about a simulator.
        with InferenceSession(copy_program(), f"pynq:@{BASE:#x}", timeout_s=600.0) as session:
            (got,) = session.run(None, {"x": samples})
            assert session.profile().cycles is not None
        assert rtl.violations == 0
    np.testing.assert_array_equal(got, samples)
    assert pynq.mapped == [(BASE, 4096)]
    assert pynq.freed == 1


def test_buffer_is_flushed_and_invalidated_as_far_as_the_access_goes(fake, rng):
    transport = PynqTransport(BASE, memory_bytes=MEMORY_BYTES)
    base, device = transport.memory_base, fake.npu
    data = rng.bytes(13)
    device.write_memory(base, b"\xaa" * 40)
    transport.write_memory(base + 7, data)
    assert device.read_memory(base, 40) == b"\xaa" * 7 + data + b"\xaa" * 20
    device.write_memory(base + 9, b"new")
    assert transport.read_memory(base + 8, 5) == data[1:2] + b"new" + data[5:6]
    with pytest.raises(DeviceError, match="must be inside"):
        transport.write_memory(base + MEMORY_BYTES - 2, b"end")


def test_interrupt_is_read_from_the_registers(fake):
    transport = PynqTransport(BASE, memory_bytes=MEMORY_BYTES)
    with pytest.raises(DeviceTimeout, match="within 0.01 s"):
        transport.wait_interrupt(0.01)
    # A program without any instruction faults, which is an event if it is enabled.
    transport.write_register(csr.BY_NAME["irq_enable"].addr, csr.pack("irq_enable", fault=1))
    transport.write_register(csr.BY_NAME["control"].addr, csr.pack("control", start=1))
    transport.wait_interrupt(1.0)


@pytest.mark.parametrize("machine", ["aarch64", "armv7l"])
def test_registers_are_where_the_block_design_puts_them(fake, tiny, monkeypatch, machine):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    open_transport("pynq", tiny).close()
    assert fake.mapped == [({"aarch64": 0xA000_0000, "armv7l": 0x4000_0000}[machine], 4096)]


def test_bitfile_is_loaded_and_tells_the_address(fake, tiny):
    fake.ip_dict = {
        "dma": {"type": "xilinx.com:ip:axi_dma:7.1", "phys_addr": 1},
        "npu": {"type": "systolith:systolith:systolith:1.0", "phys_addr": BASE},
    }
    open_transport("pynq:design.bit", tiny).close()
    assert (fake.loaded, fake.mapped) == (["design.bit"], [(BASE, 4096)])
    open_transport("pynq:design.bit@4096", tiny).close()
    assert fake.mapped[1] == (4096, 4096)


def test_address_that_nobody_tells_is_asked_for(fake, tiny, monkeypatch):
    with pytest.raises(InputError, match='write "pynq:design.bit@ADDRESS"'):
        open_transport("pynq:design.bit", tiny)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(InputError, match='write "pynq:@ADDRESS"'):
        open_transport("pynq", tiny)
    with pytest.raises(InputError, match='not "@there"'):
        open_transport("pynq:@there", tiny)


def test_registers_have_one_session_and_a_bitfile_the_whole_logic(fake, tiny, locks):
    first = open_transport(f"pynq:@{BASE}", tiny)
    with pytest.raises(DeviceBusy, match=f'"pynq:@{BASE:#x}" must have one session') as info:
        open_transport(f"pynq:@{BASE}", tiny)
    assert info.value.holder == os.getpid()
    # Other registers are another device, but whoever loads a bitfile replaces both.
    open_transport(f"pynq:@{BASE + 4096}", tiny).close()
    with pytest.raises(DeviceBusy, match="the programmable logic"):
        open_transport(f"pynq:design.bit@{BASE + 4096}", tiny)
    assert fake.loaded == []
    first.close()
    whole = open_transport(f"pynq:design.bit@{BASE}", tiny)
    with pytest.raises(DeviceBusy, match="the programmable logic"):
        open_transport(f"pynq:@{BASE + 4096}", tiny)
    whole.close()
    open_transport(f"pynq:@{BASE}", tiny).close()
    assert len(list(locks.iterdir())) == 3


def test_lock_that_cannot_be_made_is_explained(fake, tiny, locks, monkeypatch):
    monkeypatch.setattr(lock, "LOCK_FOLDER", locks / "absent")
    with pytest.raises(DeviceError, match='pynq-logic.lock" cannot be opened: No such file'):
        open_transport(f"pynq:@{BASE}", tiny)


def raiser(error):
    def fail(*arguments, **options):
        raise error

    return fail


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("MMIO", RuntimeError("Root permissions required."), "cannot be mapped: Root.*as root"),
        ("allocate", RuntimeError("Failed to allocate"), "16777216 bytes of contiguous memory"),
        ("Overlay", OSError("no such file"), 'Bitfile "design.bit" cannot be loaded: no such file'),
    ],
)
def test_failures_of_pynq_are_explained(fake, tiny, name, error, text):
    setattr(fake, name, raiser(error))
    with pytest.raises(DeviceError, match=text):
        open_transport("pynq:design.bit" if name == "Overlay" else f"pynq:@{BASE}", tiny)


def test_missing_package_is_named_with_the_command(tiny, monkeypatch):
    original = builtins.__import__

    def refuse(name, *arguments):
        if name == "pynq":
            raise ImportError("No module named 'pynq'")
        return original(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ToolchainError, match='"pynq".*"pip install pynq"'):
        open_transport(f"pynq:@{BASE}", tiny)
