"""Runs a whole program for one sample: accelerator and host segments in turn."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.arch.program import AcceleratorSegment, Program

from . import host
from .device import Device, SegmentResult
from .profile import layer_cycles

Tensors = Mapping[str, NDArray[Any]]


@dataclass
class SampleResult:
    """What one inference gave.

    Parameters
    ----------
    tensors : dict
        Every tensor at the edge of a segment, by name, without a samples axis.
    cycles : int or None
        Cycles of all accelerator segments; None if the device counts none.
    counters : dict
        Performance counters, added up over the segments.
    layer_cycles : dict of int to int
        Cycles by index in `Program.layers`, where the device tells.
    """

    tensors: dict[str, NDArray[Any]]
    cycles: int | None = None
    counters: dict[str, int] = field(default_factory=dict)
    layer_cycles: dict[int, int] = field(default_factory=dict)


def run_sample(device: Device, program: Program, inputs: Tensors) -> SampleResult:
    """Run a program for one sample.

    Parameters
    ----------
    device : Device
        Where the accelerator segments run; the program is loaded if it is not.
    program : Program
        Compiled model.
    inputs : mapping of str to array
        Each input of the model, of the shape and dtype that `program.tensors` declares.

    Raises
    ------
    DeviceError
        The device faults or does not end; see :meth:`Device.run`.
    ProgramError
        The program is for another configuration, or needs an unknown host operator.
    """
    device.load(program)
    result = SampleResult(tensors={name: np.asarray(inputs[name]) for name in program.inputs})
    for index, segment in enumerate(program.segments):
        if isinstance(segment, AcceleratorSegment):
            _run_accelerator(device, program, index, segment, result)
        else:
            for name, array in host.run(segment, result.tensors).items():
                result.tensors[name] = array.reshape(program.tensors[name].shape)
    return result


def _run_accelerator(
    device: Device,
    program: Program,
    index: int,
    segment: AcceleratorSegment,
    result: SampleResult,
) -> None:
    inputs = {b.offset: np.ascontiguousarray(result.tensors[b.tensor]) for b in segment.inputs}
    run = device.run(index, {offset: array.tobytes() for offset, array in inputs.items()})
    for binding in segment.outputs:
        info = program.tensors[binding.tensor]
        data = run.outputs[binding.offset : binding.offset + info.nbytes]
        array = np.frombuffer(data, np.dtype(info.dtype)).reshape(info.shape)
        result.tensors[binding.tensor] = array
    _add_figures(segment, run, result)


def _add_figures(segment: AcceleratorSegment, run: SegmentResult, result: SampleResult) -> None:
    for name, value in run.counters.items():
        result.counters[name] = result.counters.get(name, 0) + value
    if run.cycles is None:
        return
    result.cycles = (result.cycles or 0) + run.cycles
    if run.timeline:
        for layer, cycles in layer_cycles(segment, run.timeline, run.cycles).items():
            result.layer_cycles[layer] = result.layer_cycles.get(layer, 0) + cycles
