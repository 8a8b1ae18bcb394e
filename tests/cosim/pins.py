"""cocotb side of the tests on the pins: runs inside the simulator, with bus models that are not ours.

The driver runs unchanged: each of its calls becomes cycles on the AXI4-Lite pins, and its memory is
cocotbext-axi's. Files of the test's folder say what to run and what resulted.
"""

import json
import os
from collections import deque
from pathlib import Path

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.simtime import get_sim_time
from cocotb.task import bridge, resume
from cocotb.triggers import ClockCycles, Event, RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam

from systolith.api import InferenceSession, Program
from systolith.arch import csr
from systolith.arch.errors import DeviceFault, DeviceTimeout
from systolith.driver.device import Device

FOLDER = Path(os.environ.get("SYSTOLITH_COSIM", "."))
PERIOD_NS = 10
MEMORY_BASE = 0x1_0000_0000
MEMORY_SIZE = 1 << 22
LIMIT_CYCLES = 200_000

# Cycles that the models themselves take from the handshake of an address (or of the last data) to
# that of the answer, if the answer is given to them at once.
MODEL_CYCLES = 2


class Delayed:
    """A channel whose items can be had, or are sent, a fixed time after they came."""

    def __init__(self, channel, clock, cycles):
        self._channel, self._clock, self._cycles = channel, clock, cycles
        self._items, self._arrived = deque(), Event()

    def __getattr__(self, name):
        return getattr(self._channel, name)

    def clear(self):
        self._channel.clear()
        self._items.clear()

    async def _take_due(self):
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()
        item, due = self._items[0]
        while cycle() < due:
            await RisingEdge(self._clock)
        self._items.popleft()
        return item

    def _put(self, item):
        self._items.append((item, cycle() + self._cycles))
        self._arrived.set()


class DelayedSink(Delayed):
    """Gives the items of a sink later, and takes any number meanwhile."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        cocotb.start_soon(self._move())

    async def _move(self):
        while True:
            self._put(await self._channel.recv())

    async def recv(self):
        return await self._take_due()


class DelayedSource(Delayed):
    """Hands items to a source later, and does not hold up the sender meanwhile."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        cocotb.start_soon(self._move())

    async def _move(self):
        while True:
            await self._channel.send(await self._take_due())

    async def send(self, item):
        self._put(item)


class CocotbTransport:
    """The driver's transport on the pins; its methods block the driver's thread, not the clock."""

    memory_base = MEMORY_BASE
    memory_size = MEMORY_SIZE

    def __init__(self, dut, master, ram):
        self._dut, self._master, self._ram = dut, master, ram

    def read_register(self, addr):
        return resume(self._master.read_dword)(addr)

    def write_register(self, addr, value):
        resume(self._master.write_dword)(addr, value)

    def write_memory(self, addr, data):
        self._ram.write(addr % MEMORY_SIZE, data)

    def read_memory(self, addr, size):
        return bytes(self._ram.read(addr % MEMORY_SIZE, size))

    def wait_interrupt(self, timeout_s):
        del timeout_s  # real time says nothing here
        resume(self._wait)()

    async def _wait(self):
        for _ in range(LIMIT_CYCLES):
            if self._dut.interrupt.value:
                return
            await RisingEdge(self._dut.ap_clk)
        raise DeviceTimeout(f"no interrupt in {LIMIT_CYCLES} cycles")

    def close(self):
        """Nothing is held."""


def cycle():
    """Return the number of clock periods since the start of the simulation."""
    return int(get_sim_time("ns")) // PERIOD_NS


async def power_on(dut, latency=40):
    """Start clock and bus models, reset, and return the transport."""
    master = AxiLiteMaster(
        AxiLiteBus.from_prefix(dut, "s_axi_control"), dut.ap_clk, dut.ap_rst_n,
        reset_active_level=False,
    )  # fmt: skip
    ram = AxiRam(
        AxiBus.from_prefix(dut, "m_axi_gmem"), dut.ap_clk, dut.ap_rst_n, reset_active_level=False,
        size=MEMORY_SIZE,
    )  # fmt: skip
    for model in (master.write_if, master.read_if, ram.write_if, ram.read_if):
        model.log.setLevel("WARNING")
    delay = latency - MODEL_CYCLES
    reads, writes = ram.read_if, ram.write_if
    reads.ar_channel = DelayedSink(reads.ar_channel, dut.ap_clk, delay)
    writes.b_channel = DelayedSource(writes.b_channel, dut.ap_clk, delay)
    dut.ap_rst_n.value = 0
    Clock(dut.ap_clk, PERIOD_NS, unit="ns").start()
    await ClockCycles(dut.ap_clk, 8)
    dut.ap_rst_n.value = 1
    await ClockCycles(dut.ap_clk, 4)
    return CocotbTransport(dut, master, ram)


async def drive(function):
    """Run blocking driver code with a limit on simulated time."""
    return await with_timeout(bridge(function)(), LIMIT_CYCLES * PERIOD_NS, "ns")


def programs(name):
    return Program.load(FOLDER / f"{name}.systolith")


def load(name):
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return dict(arrays)


def save(name, **result):
    (FOLDER / f"{name}.json").write_text(json.dumps(result))


@cocotb.test()
async def registers_answer_as_declared(dut):
    transport = await power_on(dut)
    config = programs("copy").config
    addr = {register.name: register.addr for register in csr.REGISTERS}

    def accesses():
        for name, value in csr.constants(config).items():
            assert transport.read_register(addr[name]) == value, name
            transport.write_register(addr[name], ~value & 0xFFFFFFFF)
            assert transport.read_register(addr[name]) == value, f"{name} is read-only"
        for n, register in enumerate(csr.REGISTERS):
            if register.access is csr.Access.RW and not register.fields:
                transport.write_register(register.addr, 0xA5000000 + n)
        for n, register in enumerate(csr.REGISTERS):
            if register.access is csr.Access.RW and not register.fields:
                assert transport.read_register(register.addr) == 0xA5000000 + n, register.name
        assert transport.read_register(0xFFC) == 0, "not declared"

    await drive(accesses)


@cocotb.test()
async def bytes_make_a_round_trip(dut):
    transport = await power_on(dut, latency=7)
    data = load("copy")["x"]

    def copies():
        session = InferenceSession(programs("copy"), transport)
        (y,) = session.run(None, {"x": data})
        np.testing.assert_array_equal(y, data)

    await drive(copies)


@cocotb.test()
async def bytes_make_a_round_trip_through_a_stalling_memory(dut):
    transport = await power_on(dut, latency=3)
    data = load("copy")["x"]
    random = np.random.default_rng(len(data))

    def pauses():
        while True:
            yield bool(random.random() < 0.4)

    ram = transport._ram
    reads, writes = ram.read_if, ram.write_if
    for channel in (reads.ar_channel, reads.r_channel, writes.aw_channel, writes.w_channel,
                    writes.b_channel):  # fmt: skip
        channel.set_pause_generator(pauses())

    def copies():
        (y,) = InferenceSession(programs("copy"), transport).run(None, {"x": data})
        np.testing.assert_array_equal(y, data)

    await drive(copies)


@cocotb.test()
async def region_violation_ends_in_its_fault_and_the_next_run_is_exact(dut):
    transport = await power_on(dut)
    data = load("copy")["x"][:2]

    def violate():
        expected = json.loads((FOLDER / "fault.json").read_text())
        device = Device(transport)
        for sample in data:
            for name, code in expected.items():
                bad = programs(name)
                device.load(bad)
                try:
                    device.run(0, {0: sample.tobytes()})
                except DeviceFault as fault:
                    assert csr.Fault(fault.code).name == code, str(fault)
                    assert fault.index == 0
                else:
                    raise AssertionError(f"{name} must end in fault {code}")
            session = InferenceSession(programs("copy"), transport)
            (y,) = session.run(None, {"x": sample})
            np.testing.assert_array_equal(y, sample)

    await drive(violate)


@cocotb.test()
async def network_equals_the_golden_model(dut):
    transport = await power_on(dut, latency=40)

    def infer():
        session = InferenceSession(programs("network"), transport)
        inputs = load("network")
        expected = inputs.pop("expected")
        (y,) = session.run(None, inputs)
        np.testing.assert_array_equal(y, expected)
        profile = session.profile()
        save("network", cycles=profile.cycles, counters=profile.counters)

    await drive(infer)
