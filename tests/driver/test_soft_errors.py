"""A soft error: the program runs once more, from host copies, and only once."""

import dataclasses
import logging

import numpy as np
import pytest

from systolith.arch import csr
from systolith.arch.csr import Fault, Part
from systolith.arch.errors import DeviceFault
from systolith.driver.device import Device
from systolith.golden.device import GoldenDevice


def soft_error(transport):
    transport.values["fault"] = csr.pack("fault", code=Fault.SOFT_ERROR, engine=4)
    transport.values["fault_addr_lo"] = Part.ARRAY
    transport.finish(fault=1)


def succeed(transport):
    transport.finish(done=1)


def script(*ends):
    """Return what a fake does at each start: one end after the other, then success."""
    left = list(ends)

    def start(transport):
        (left.pop(0) if left else succeed)(transport)

    return start


def test_a_soft_error_is_followed_by_one_more_run(fake, tiny, copy_program, caplog):
    transport = fake(tiny, script(soft_error))
    device = Device(transport)
    device.load(copy_program())
    before = len(transport.writes)
    with caplog.at_level(logging.WARNING, logger="systolith"):
        device.run(0, {3: bytes(24)})
    assert device.soft_errors == 1
    assert "SOFT_ERROR of engine SEQUENCER" in caplog.text
    assert "in ARRAY" in caplog.text
    # Inputs, what clears the memories, then code, constants and inputs from the host's copies.
    sizes = [size for _, size in transport.writes[before:]]
    assert (sizes[0], sizes[3:]) == (24, [3 * 32, 7, 24])


def test_a_second_soft_error_in_a_row_is_raised(fake, tiny, copy_program):
    device = Device(fake(tiny, script(soft_error, succeed, soft_error)))
    device.load(copy_program())
    with pytest.raises(DeviceFault, match="in ARRAY") as info:
        device.run(0, {3: bytes(24)})
    assert info.value.code == Fault.SOFT_ERROR
    # The next run is not affected.
    device.run(0, {3: bytes(24)})
    assert device.soft_errors == 1


def test_other_faults_are_raised_at_once(fake, tiny, copy_program):
    starts = []

    def fail(transport):
        starts.append(transport)
        transport.values["fault"] = csr.pack("fault", code=Fault.BUS_READ)
        transport.finish(fault=1)

    device = Device(fake(tiny, fail))
    device.load(copy_program())
    with pytest.raises(DeviceFault, match="BUS_READ"):
        device.run(0, {3: bytes(24)})
    assert (len(starts), device.soft_errors) == (1, 0)


@pytest.mark.parametrize("protection", ["none", "memory"])
def test_a_protected_device_is_cleared_before_its_first_program(tiny, copy_program, protection):
    """Parity of what was never written may be anything."""
    transport = GoldenDevice(dataclasses.replace(tiny, protection=protection))
    transport.machine.scratchpad[:] = 7
    device = Device(transport)
    device.load(copy_program())
    cleared = not np.any(transport.machine.scratchpad)
    assert cleared == (protection != "none")
    vector = bytes(range(24))
    assert device.run(0, {3: vector}).outputs[5:] == vector
