"""Runs a program on the RTL device and keeps what its engines did in every cycle."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.arch.program import AcceleratorSegment, Program
from systolith.bench.rtl import RtlDevice
from systolith.bench.timeline import Recording
from systolith.driver import runtime
from systolith.driver.device import Device, SegmentResult

Arrays = Mapping[str, NDArray[Any]]


class Recorder(Device):
    """A driver of the RTL device that keeps a recording of each segment that it runs.

    Parameters
    ----------
    transport : RtlDevice
        The device; it records until `stop` is called.
    """

    def __init__(self, transport: RtlDevice) -> None:
        self._rtl = transport
        self._runs: list[tuple[int, SegmentResult, NDArray[np.int64]]] = []
        self._recording = True
        transport.record_states(True)
        super().__init__(transport)

    def run(self, segment_index: int, inputs: Mapping[int, bytes]) -> SegmentResult:
        """Run a segment of the loaded program, as :class:`Device` does."""
        result = super().run(segment_index, inputs)
        if self._recording:
            self._runs.append((segment_index, result, self._rtl.states()))
        return result

    def stop(self) -> None:
        """Record nothing from now on."""
        self._recording = False
        self._rtl.record_states(False)

    def recordings(self, program: Program) -> list[Recording]:
        """Return what was recorded of a program, in order."""
        result = []
        for index, run, states in self._runs:
            segment = program.segments[index]
            assert isinstance(segment, AcceleratorSegment) and run.cycles is not None
            result.append(Recording(segment, run.cycles, run.timeline, states, dict(run.counters)))
        return result


def record(program: Program, feed: Arrays, **memory: Any) -> list[Recording]:
    """Return the recordings of one inference on a device of its own.

    Parameters
    ----------
    program : Program
        What runs.
    feed : mapping of str to array
        Inputs of one sample.
    memory
        Options of :class:`RtlDevice`.

    Raises
    ------
    DeviceError
        The device faults.
    ToolchainError
        The simulator cannot be built here.
    """
    with RtlDevice(program.config, **memory) as transport:
        device = Recorder(transport)
        runtime.run_sample(device, program, feed)
        return device.recordings(program)
