"""The benchmark suite: models with inputs and expected bytes, on golden model and RTL.

A figure is one of the hardware's own counters in the Verilated RTL, from doorbell to done, with the
memory of `MemoryModel`: it counts only if every byte is right on several inputs, at equal cycles.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.arch.config import AcceleratorConfig
from systolith.arch.errors import InputError
from systolith.arch.program import Program
from systolith.bench import ethos_u55, layer_bars, lost_cycles
from systolith.bench.layer_bars import LayerFigures
from systolith.bench.record import Recorder
from systolith.bench.rtl import RtlDevice
from systolith.bench.timeline import Recording, chrome_trace
from systolith.compiler import cost, pipeline
from systolith.compiler.frontend import tflite
from systolith.driver import runtime
from systolith.driver.device import Device
from systolith.golden.device import GoldenDevice

Arrays = Mapping[str, NDArray[Any]]

MODEL_FILE = "model.tflite"
INPUT_FILE = "inputs.npz"
EXPECTED_FILE = "expected_tflm.npz"

MIN_SAMPLES = 4
"""Different inputs that a figure needs."""


@dataclass(frozen=True)
class Case:
    """A model with inputs `[samples, *shape]` and the bytes that must result.

    Parameters
    ----------
    name : str
        Name for people.
    model : Path
        TFLite file.
    inputs, expected : mapping of str to array
        By name of the tensor; inputs may have arrays that the model does not know.
    """

    name: str
    model: Path
    inputs: Arrays
    expected: Arrays


@dataclass
class Figures:
    """What was measured of a model on a configuration.

    Parameters
    ----------
    model, config : str
        Names.
    multipliers, port_bytes : int
        Of the machine.
    samples : int
        Inputs that ran on the RTL.
    cycles : int
        Cycles of each of them, which are equal.
    macs : int
        Multiplications that the model defines.
    ideal : int
        Cycles if every multiplier were busy in every cycle.
    utilization : float
        Multiplications per cycle and multiplier.
    ethos_cycles : int or None
        See `systolith.bench.ethos_u55`.
    read_bytes, write_bytes : int
        DRAM traffic.
    roofline : str
        What bounds the network on this machine: compute or memory.
    roofline_share : float
        Cycles of that bound by cycles.
    predicted : int
        Cycles by the cost model.
    worst_layer_error : float
        Largest relative error of the cost model on a layer above `LARGE_LAYER` cycles.
    compile_seconds : float
        Processor time to compile, in seconds.
    simulated_per_second : float
        Cycles per second of processor time that the simulator takes.
    lost : mapping of str to int
        Cycles by cause, see `systolith.bench.lost_cycles`.
    layers : list of LayerFigures
        Layers with vectors, by themselves.
    """

    model: str
    config: str
    multipliers: int
    port_bytes: int
    samples: int
    cycles: int
    macs: int
    ideal: int
    utilization: float
    ethos_cycles: int | None
    read_bytes: int
    write_bytes: int
    roofline: str
    roofline_share: float
    predicted: int
    worst_layer_error: float
    compile_seconds: float
    simulated_per_second: float
    lost: dict[str, int] = field(default_factory=dict)
    layers: list[LayerFigures] = field(default_factory=list)

    @property
    def prediction_error(self) -> float:
        """Relative error of the cost model."""
        return self.predicted / self.cycles - 1

    @property
    def key(self) -> tuple[str, str]:
        """Model and configuration."""
        return self.model, self.config


LARGE_LAYER = 1000
"""Cycles above which a layer's error is judged."""


def find_cases(folder: Path) -> list[Case]:
    """Return the cases below a folder, one per sub-folder with a TFLite model, by name.

    Raises
    ------
    InputError
        There are none.
    """
    cases = [_read(path.parent) for path in sorted(folder.glob(f"*/{MODEL_FILE}"))]
    if not cases:
        raise InputError(f'Folder "{folder}" must have models as NAME/{MODEL_FILE}')
    return cases


def digits_case(folder: Path) -> Case:
    """Return the digits example in a folder as a case."""
    inputs = dict(np.load(folder / "test_images.npz"))
    inputs.pop("labels")
    expected = dict(np.load(folder / EXPECTED_FILE))
    return Case("digits", folder / "digits.tflite", inputs, expected)


def with_axi(config: AcceleratorConfig, data_bits: int) -> AcceleratorConfig:
    """Return a configuration with another width of the AXI port, or itself if that is its own."""
    if data_bits == config.axi_data_bits:
        return config
    return dataclasses.replace(
        config, name=f"{config.name}-axi{data_bits}", axi_data_bits=data_bits
    )


def run_case(
    case: Case,
    config: AcceleratorConfig,
    *,
    samples: int = MIN_SAMPLES,
    golden_samples: int = 1,
    trace: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Figures:
    """Compile a case, check it on golden model and RTL, and return its figures.

    Parameters
    ----------
    case : Case
        What to run.
    config : AcceleratorConfig
        Machine.
    samples, golden_samples : int
        Inputs to run on the RTL and on the golden model.
    trace : Path, optional
        File for the timeline of the first inference.
    say : callable
        Called with what is being done.

    Raises
    ------
    InputError
        Bytes differ from those expected, or cycles between inputs.
    """
    say(f"{case.name} on {config.name}: compiling")
    begun = time.process_time()
    program = pipeline.compile_file(case.model, config)
    compile_seconds = time.process_time() - begun
    if golden_samples:
        say(f"{case.name} on {config.name}: golden model")
        golden = Device(GoldenDevice(config))
        for index in range(golden_samples):
            _check(
                case,
                program,
                index,
                runtime.run_sample(golden, program, _feed(case, program, index)),
            )
        golden.close()
    say(f"{case.name} on {config.name}: RTL")
    return _measure(case, program, samples, compile_seconds, trace)


def _measure(
    case: Case, program: Program, samples: int, compile_seconds: float, trace: Path | None
) -> Figures:
    """Run the samples on the RTL; the first one, which is recorded, does not count for speed."""
    rtl = RtlDevice(program.config)
    device = Recorder(rtl)
    all_cycles: set[int] = set()
    seconds = 0.0
    layers: dict[int, int] = {}
    recordings: list[Recording] = []
    for index in range(samples):
        begun, simulated = time.process_time(), rtl.cycle
        result = runtime.run_sample(device, program, _feed(case, program, index))
        seconds = time.process_time() - begun
        simulated = rtl.cycle - simulated
        _check(case, program, index, result)
        assert result.cycles is not None
        all_cycles.add(result.cycles)
        if index == 0:
            layers = result.layer_cycles
            recordings = device.recordings(program)
            device.stop()
    device.close()
    if len(all_cycles) > 1:
        raise InputError(f"Cycles of {case.name} must not depend on its input: {all_cycles}")
    if trace is not None:
        trace.write_text(chrome_trace(recordings, program.layers), encoding="utf-8")
    speed = simulated / seconds
    return _figures(case, program, samples, recordings, layers, compile_seconds, speed)


def _figures(
    case: Case,
    program: Program,
    samples: int,
    recordings: Sequence[Recording],
    layers: Mapping[int, int],
    compile_seconds: float,
    speed: float,
) -> Figures:
    config = program.config
    cycles = sum(recording.cycles for recording in recordings)
    macs = sum(layer.macs for layer in program.layers)
    read = sum(recording.counters["read_bytes"] for recording in recordings)
    written = sum(recording.counters["write_bytes"] for recording in recordings)
    compute, memory = macs / config.macs, max(read, written) / config.axi_bytes
    predicted = cost.estimate_program(program)
    errors = [
        predicted.layers[layer] / measured - 1
        for layer, measured in layers.items()
        if measured > LARGE_LAYER
    ]
    lost = lost_cycles.table(recordings, program.layers, config)
    assert sum(lost.values()) == cycles
    return Figures(
        model=case.name,
        config=config.name,
        multipliers=config.macs,
        port_bytes=config.axi_bytes,
        samples=samples,
        cycles=cycles,
        macs=macs,
        ideal=round(compute),
        utilization=compute / cycles,
        ethos_cycles=ethos_u55.cycles_of(case.name, config.macs),
        read_bytes=read,
        write_bytes=written,
        roofline="compute" if compute >= memory else "memory",
        roofline_share=max(compute, memory) / cycles,
        predicted=predicted.cycles,
        worst_layer_error=max(errors, key=abs, default=0.0),
        compile_seconds=compile_seconds,
        simulated_per_second=speed,
        lost=lost,
        layers=layer_bars.layer_figures(case.name, program, tflite.read(case.model), recordings),
    )


def _read(folder: Path) -> Case:
    return Case(
        folder.name,
        folder / MODEL_FILE,
        dict(np.load(folder / INPUT_FILE)),
        dict(np.load(folder / EXPECTED_FILE)),
    )


def _feed(case: Case, program: Program, index: int) -> dict[str, NDArray[Any]]:
    return {name: case.inputs[name][index] for name in program.inputs}


def _check(case: Case, program: Program, index: int, result: runtime.SampleResult) -> None:
    """Compare the outputs of a sample with what must result."""
    for name in program.outputs:
        found, wanted = result.tensors[name], case.expected[name][index]
        different = int(np.count_nonzero(found != wanted))
        if found.shape != wanted.shape or different:
            raise InputError(
                f'Output "{name}" of {case.name} on {program.config.name} must equal '
                f"{EXPECTED_FILE} on sample {index}, but {different} elements differ"
            )
