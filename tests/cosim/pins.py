"""cocotb side of the tests on the pins: runs inside the simulator, with bus models that are not ours.

The driver runs unchanged: each of its calls becomes cycles on the AXI4-Lite pins, and its memory is
cocotbext-axi's. Both buses are watched by our protocol checkers. Files of the test's folder say what to
run and what resulted.
"""

import json
import os
from pathlib import Path

import cocotb
import numpy as np
from cocotb.task import bridge
from cocotb.triggers import with_timeout

from systolith.api import InferenceSession, Program
from systolith.arch import csr
from systolith.arch.errors import DeviceFault
from systolith.bench.axi_checker import AxiChecker, AxiLiteChecker, Limits
from systolith.bench.cocotb_bus import (
    CONTROL,
    MEMORY,
    PERIOD_NS,
    REGISTER_READS,
    Monitor,
    attach_host,
    attach_memory,
    latency,
    reset,
    set_stalls,
)
from systolith.bench.cocotb_top_bench import CocotbTransport
from systolith.driver.device import Device

FOLDER = Path(os.environ.get("SYSTOLITH_COSIM", "."))
LIMIT_CYCLES = 200_000
CHANNELS = ("ar", "r", "aw", "w", "b")


class Pins(CocotbTransport):
    """The transport, with a checker on each bus."""

    def __init__(self, dut, master, ram):
        super().__init__(dut, master, ram)
        config = programs("copy").config
        limits = Limits(reads=config.axi_outstanding, writes=config.axi_outstanding)
        checker = AxiChecker(data_bits=config.axi_data_bits, limits=limits)
        self.monitors = (
            Monitor(dut, MEMORY, checker),
            Monitor(dut, CONTROL, AxiLiteChecker(reads=REGISTER_READS)),
        )

    def finish(self):
        """Judge the end of a test: nothing is in flight, and every bus was used."""
        for monitor in self.monitors:
            monitor.finish()
            assert monitor.checker.reads and monitor.checker.writes


async def power_on(dut, cycles=40):
    """Start clock, bus models and checkers, reset, and return the transport."""
    transport = Pins(dut, attach_host(dut), attach_memory(dut, latency(cycles), CHANNELS))
    await reset(dut)
    return transport


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
    transport = await power_on(dut, cycles=7)
    data = load("copy")["x"]

    def copies():
        session = InferenceSession(programs("copy"), transport)
        (y,) = session.run(None, {"x": data})
        np.testing.assert_array_equal(y, data)

    await drive(copies)
    transport.finish()


@cocotb.test()
async def bytes_make_a_round_trip_through_a_stalling_memory(dut):
    transport = await power_on(dut, cycles=3)
    data = load("copy")["x"]
    models = (transport.ram.read_if, transport.ram.write_if)
    set_stalls(models, dict.fromkeys(CHANNELS, 0.4), "", seed=1)

    def copies():
        (y,) = InferenceSession(programs("copy"), transport).run(None, {"x": data})
        np.testing.assert_array_equal(y, data)

    await drive(copies)
    transport.finish()


@cocotb.test()
async def region_violation_ends_in_its_fault_and_the_next_run_is_exact(dut):
    transport = await power_on(dut)
    data = load("copy")["x"][:2]

    def violate():
        expected = json.loads((FOLDER / "fault.json").read_text())
        device = Device(transport, validate=False)
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
    transport.finish()


@cocotb.test()
async def network_equals_the_golden_model(dut):
    transport = await power_on(dut, cycles=40)

    def infer():
        session = InferenceSession(programs("network"), transport)
        inputs = load("network")
        expected = inputs.pop("expected")
        (y,) = session.run(None, inputs)
        np.testing.assert_array_equal(y, expected)
        profile = session.profile()
        save("network", cycles=profile.cycles, counters=profile.counters)

    await drive(infer)
    transport.finish()
