"""The one face for users: configure, compile, run, and read the figures.

program = compile_model("model.tflite", find_config("edge-16x16"))
session = InferenceSession(program, device="rtl")
(output,) = session.run(None, {"input": array})
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from systolith.arch.config import AcceleratorConfig
from systolith.arch.errors import InputError
from systolith.arch.presets import PRESETS, find_config
from systolith.arch.program import Layer, Program, TensorInfo
from systolith.driver import samples
from systolith.driver.device import Device
from systolith.driver.runtime import SampleResult, run_sample
from systolith.driver.transport import DEVICES, Transport

__all__ = [
    "PRESETS",
    "AcceleratorConfig",
    "InferenceSession",
    "LayerProfile",
    "Profile",
    "Program",
    "TensorInfo",
    "compile_model",
    "find_config",
    "open_transport",
]

Array = NDArray[Any]

_PRIVATE_DEVICES = ("golden", "rtl")


def compile_model(
    path: str | Path,
    config: AcceleratorConfig | str | Path,
    *,
    reference: str | None = None,
    keep_tensors: bool = False,
    batch: int = 1,
) -> Program:
    """Compile a quantized TFLite or ONNX (QDQ) model.

    Parameters
    ----------
    path : str or Path
        Model file.
    config : AcceleratorConfig, str or Path
        Machine to compile for, or what :func:`find_config` knows it by.
    reference : {"tflm", "litert_reference", "litert_default", "onnxruntime"}, optional
        Runtime whose rounding is reproduced: to the byte for the first two; as far as it has a rule
        for the others. TFLite Micro, or onnxruntime for ONNX models, if not given.
    keep_tensors : bool
        Make every quantized tensor of the model readable after a run.
    batch : int
        Samples that one run takes: matrix layers load their weights once for all of them.

    Raises
    ------
    InputError
        The reference does not run this kind of model.
    ModelFormatError
        The file is no model of its kind, or a damaged one.
    UnsupportedModelError
        The model breaks rules of the compiler; all of them are named.
    AllocationError
        The model does not fit the machine.
    """
    from systolith.compiler import pipeline

    machine = config if isinstance(config, AcceleratorConfig) else find_config(config)
    return pipeline.compile_file(
        path, machine, reference=reference, keep_tensors=keep_tensors, batch=batch
    )


def open_transport(
    device: str,
    config: AcceleratorConfig,
    *,
    latency: int | None = None,
    stall: float = 0.0,
    seed: int = 0,
    waves: Path | None = None,
    wait_s: float = 0.0,
) -> Transport:
    """Open the golden model, the simulated RTL, or hardware.

    Parameters
    ----------
    device : str
        "golden" or "rtl", which need no hardware; "uart:PORT" for a board on a serial port, see
        :class:`systolith.driver.uart.UartTransport`; "pynq" on a PYNQ image, see
        :class:`systolith.driver.pynq.PynqTransport`; or "uio:FILE" on other Linux systems with the
        accelerator on their bus, see :class:`systolith.driver.uio.UioTransport`.
    config : AcceleratorConfig
        Machine. Hardware is what it is, and is compared with the program when that is loaded.
    latency, stall, seed, waves
        Of the RTL's memory, see :class:`systolith.bench.rtl.RtlDevice`; by default, as the
        performance figures are defined. Other devices take no notice of them.
    wait_s : float
        Seconds to wait for another session, of this or another process, that has the hardware.

    Raises
    ------
    ToolchainError
        The simulator cannot be built here, or a package that the device needs is missing.
    DeviceBusy
        Another session has the hardware.
    DeviceError
        There is no such hardware, or it does not answer.
    InputError
        There is no such device.
    """
    if device == "golden":
        from systolith.golden.device import GoldenDevice

        return GoldenDevice(config)
    if device == "rtl":
        from systolith.bench.rtl import DEFAULT_LATENCY, RtlDevice

        cycles = DEFAULT_LATENCY if latency is None else latency
        return RtlDevice(config, latency=cycles, stall=stall, seed=seed, waves=waves)
    kind, _, place = device.partition(":")
    if kind == "uart":
        from systolith.driver.uart import UartTransport

        return UartTransport.open(place, wait_s=wait_s)
    if kind == "pynq":
        from systolith.driver.pynq import PynqTransport

        return PynqTransport.open(place, wait_s=wait_s)
    if kind == "uio":
        from systolith.driver.uio import UioTransport

        return UioTransport.open(place, wait_s=wait_s)
    raise InputError(f'Device must be one of {", ".join(DEVICES)}, not "{device}"')


@dataclass(frozen=True)
class LayerProfile:
    """Figures of one layer.

    Parameters
    ----------
    layer : Layer
        Name, operator, target and multiplications.
    cycles : int or None
        Cycles, None if the device does not tell, or on the host.
    utilization : float or None
        Multiplications per cycle and cell of the array.
    """

    layer: Layer
    cycles: int | None
    utilization: float | None


@dataclass(frozen=True)
class Profile:
    """Figures of the last call of :meth:`InferenceSession.run`.

    Parameters
    ----------
    cycles : list of int, or None
        Cycles of each sample, from doorbell to done; None if the device counts none.
    macs : int
        Multiplications that the model defines for one sample.
    utilization : float or None
        Multiplications per cycle and cell of the array, over all samples.
    counters : list of dict
        Performance counters of each sample, by the names of `systolith.arch.csr.COUNTERS`.
    layers : list of LayerProfile
        Layers in order of execution, with the figures of the first sample.
    """

    cycles: list[int] | None
    macs: int
    utilization: float | None
    counters: list[dict[str, int]]
    layers: list[LayerProfile]


class InferenceSession:
    """A compiled model on a device, in the shape of onnxruntime's session.

    Parameters
    ----------
    program : Program
        Compiled model.
    device : str or Transport
        Where it runs, as for :func:`open_transport`.
    latency, stall, seed, waves, wait_s
        As for :func:`open_transport`.
    timeout_s : float, optional
        Seconds after which a run is stopped. By default, what follows from the cycles that the
        compiler predicted, see :func:`systolith.driver.timeout.allowance`.

    Raises
    ------
    ProgramError
        The program was compiled for another configuration than the device has.
    ToolchainError, DeviceError, InputError
        The device cannot be opened, see :func:`open_transport`.
    """

    def __init__(
        self,
        program: Program,
        device: str | Transport = "golden",
        *,
        latency: int | None = None,
        stall: float = 0.0,
        seed: int = 0,
        waves: Path | None = None,
        wait_s: float = 0.0,
        timeout_s: float | None = None,
    ) -> None:
        self._program = program
        self._results: list[SampleResult] = []
        transport = (
            open_transport(
                device,
                program.config,
                latency=latency,
                stall=stall,
                seed=seed,
                waves=waves,
                wait_s=wait_s,
            )
            if isinstance(device, str)
            else device
        )
        try:
            # Simulated devices are made anew for each session; hardware has had other clients.
            shared = isinstance(device, str) and device not in _PRIVATE_DEVICES
            self._device = Device(transport, timeout_s=timeout_s, scrub=shared)
            self._device.load(program)
        except BaseException:
            if transport is not device:
                transport.close()
            raise

    @property
    def program(self) -> Program:
        """The compiled model."""
        return self._program

    def get_inputs(self) -> list[TensorInfo]:
        """Return name, shape, dtype, scale and zero point of each input."""
        return [self._program.tensors[name] for name in self._program.inputs]

    def get_outputs(self) -> list[TensorInfo]:
        """Return name, shape, dtype, scale and zero point of each output."""
        return [self._program.tensors[name] for name in self._program.outputs]

    def get_tensors(self) -> list[TensorInfo]:
        """Return what is known of every tensor that :meth:`run` can return."""
        return list(self._program.tensors.values())

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Array],
        *,
        on_sample: Callable[[int], None] | None = None,
    ) -> list[Array]:
        """Run the model on one sample, or on each sample of a stack.

        Parameters
        ----------
        output_names : sequence of str, or None
            Tensors to return: outputs, or any of :meth:`get_tensors`. None asks for all outputs.
        input_feed : mapping of str to array
            Each input, in the model's own shape; or `[samples, *shape]` for all inputs; or with a
            leading dimension that is a multiple of the model's.
        on_sample : callable, optional
            Called with the number of samples done, after each.

        Returns
        -------
        list of array
            In the order of `output_names`, with the samples where the inputs have them.

        Raises
        ------
        InputError
            A name, shape or dtype does not fit the model.
        DeviceFault, DeviceTimeout
            The device stopped, or did not end. The session can be used again.
        """
        names = self._check_outputs(output_names)
        stacks, joined = samples.split(self.get_inputs(), input_feed)
        count = samples.check(self.get_inputs(), stacks)
        self._results = []
        for index in range(1 if count is None else count):
            feed = stacks if count is None else {n: a[index] for n, a in stacks.items()}
            self._results.append(run_sample(self._device, self._program, feed))
            if on_sample:
                on_sample(index + 1)
        if count is None:
            return [self._results[0].tensors[name] for name in names]
        infos = [self._program.tensors[name] for name in names]
        results = [
            samples.stack(info, [result.tensors[info.name] for result in self._results])
            for info in infos
        ]
        return [array.reshape(-1, *array.shape[2:]) for array in results] if joined else results

    def profile(self) -> Profile:
        """Return the figures of the last run.

        Raises
        ------
        InputError
            Nothing was run yet.
        """
        if not self._results:
            raise InputError("A session must have run before it has a profile")
        counted = [result.cycles for result in self._results if result.cycles is not None]
        macs = sum(layer.macs for layer in self._program.layers)
        cells = self._program.config.macs
        first = self._results[0].layer_cycles
        return Profile(
            cycles=counted or None,
            macs=macs,
            utilization=macs * len(counted) / sum(counted) / cells if counted else None,
            counters=[result.counters for result in self._results],
            layers=[
                LayerProfile(layer, first.get(i), _utilization(layer.macs, first.get(i), cells))
                for i, layer in enumerate(self._program.layers)
            ],
        )

    def close(self) -> None:
        """Release the device."""
        self._device.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_outputs(self, names: Sequence[str] | None) -> list[str]:
        if names is None:
            return list(self._program.outputs)
        for name in names:
            if name not in self._program.tensors:
                raise InputError(
                    f'Output "{name}" must be one of {sorted(self._program.tensors)}; '
                    f"inner tensors exist only if the model was compiled to keep them"
                )
        return list(names)


def _utilization(macs: int, cycles: int | None, cells: int) -> float | None:
    return macs / cycles / cells if cycles else None
