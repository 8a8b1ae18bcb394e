"""Single layers against what a systolic array of this kind should reach with them.

A layer counts from its first vector to its last, without cycles that wait for LOAD: its input and
its weights are there. So a layer of its own and one inside a network are measured alike.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from systolith.arch.config import AcceleratorConfig
from systolith.arch.program import Program
from systolith.bench import lost_cycles
from systolith.bench.layer_spans import LayerSpan, spans
from systolith.bench.record import Recorder
from systolith.bench.rtl import RtlDevice
from systolith.bench.tflite_schema import Tensor
from systolith.bench.tflite_writer import TfliteModel
from systolith.bench.timeline import Recording
from systolith.compiler import pipeline
from systolith.compiler.frontend import tflite
from systolith.compiler.ir import Graph, Operator
from systolith.driver import runtime

DEPTHWISE = "depthwise"
FIRST = "first"
BUBBLE = "bubble"

DEPTHWISE_RATE = 75.0
"""Multiplications per cycle of 3x3 depthwise layers with stride 1, on `DEPTHWISE_MACS` multipliers."""

DEPTHWISE_MACS = 256
DEPTHWISE_CHANNELS = 16
DEPTHWISE_PIXELS = 36

FIRST_SHARE = 0.5
"""Share of the multipliers that a convolution of `FIRST_CHANNELS` keeps busy."""

FIRST_CHANNELS = 3

BUBBLE_SLACK = 30
"""Cycles, beside rows and columns, from the last vector of a layer to the first of the next."""


@dataclass(frozen=True)
class LayerFigures:
    """What was measured of a layer.

    Parameters
    ----------
    network, config : str
        Where it ran.
    shape : str
        Operator, kernel, channels and output image, for people.
    bar : str
        `DEPTHWISE` or `FIRST` if the layer is one of these, else empty.
    macs : int
        Multiplications that the model defines.
    multipliers : int
        Of the array.
    vectors : int
        Cycles with a vector.
    lost : dict of str to int
        Cycles without one between the first and the last, by cause.
    bubble : dict of str to int, or None
        Cycles without one behind the layer before, by cause.
    bubble_limit : int
        How many these may be.
    """

    network: str
    config: str
    shape: str
    bar: str
    macs: int
    multipliers: int
    vectors: int
    lost: Mapping[str, int]
    bubble: Mapping[str, int] | None
    bubble_limit: int

    @property
    def cycles(self) -> int:
        """Cycles from the first vector to the last, but those that wait for loads."""
        return self.vectors + _without_loads(self.lost)

    @property
    def rate(self) -> float:
        """Multiplications per cycle."""
        return self.macs / self.cycles

    @property
    def share(self) -> float:
        """Share of the multipliers that are busy."""
        return self.rate / self.multipliers

    @property
    def bubble_cycles(self) -> int:
        """Cycles without a vector behind the layer before, but those that wait for loads."""
        return _without_loads(self.bubble or {})

    def meets(self, bar: str) -> bool | None:
        """Return whether the layer reaches a bar, or None if it is not one that the bar is for."""
        if bar == BUBBLE:
            return None if self.bubble is None else self.bubble_cycles <= self.bubble_limit
        if bar != self.bar or (bar == DEPTHWISE and self.multipliers != DEPTHWISE_MACS):
            return None
        return self.rate >= DEPTHWISE_RATE if bar == DEPTHWISE else self.share >= FIRST_SHARE


def _without_loads(causes: Mapping[str, int]) -> int:
    return sum(causes.values()) - causes.get(lost_cycles.LOAD, 0)


def layer_figures(
    network: str, program: Program, graph: Graph, recordings: Sequence[Recording]
) -> list[LayerFigures]:
    """Return the figures of each layer with vectors, in order of its first one.

    Parameters
    ----------
    network : str
        Name for people.
    program : Program
        What ran.
    graph : Graph
        The model that it was compiled from.
    recordings : sequence of Recording
        The segments of one inference.
    """
    operators = {operator.outputs[0]: operator for operator in graph.operators}
    config = program.config
    result = []
    for recording in recordings:
        for span in spans(recording):
            layer = program.layers[span.layer]
            result.append(_figures(network, config, graph, operators[layer.name], layer.macs, span))
    return result


def _figures(
    network: str,
    config: AcceleratorConfig,
    graph: Graph,
    operator: Operator,
    macs: int,
    span: LayerSpan,
) -> LayerFigures:
    return LayerFigures(
        network=network,
        config=config.name,
        shape=_describe(graph, operator),
        bar=bar_of(graph, operator),
        macs=macs,
        multipliers=config.macs,
        vectors=span.vectors,
        lost={cause: n for cause, n in span.waits.items() if n},
        bubble=None if span.gap is None else {cause: n for cause, n in span.gap.items() if n},
        bubble_limit=config.rows + config.cols + BUBBLE_SLACK,
    )


def _kernel(graph: Graph, operator: Operator) -> tuple[int, ...]:
    """Return the spatial shape of an operator's window, or nothing."""
    if "filter" in operator.attributes:
        return tuple(operator.attributes["filter"])
    if operator.kind in ("CONV_2D", "DEPTHWISE_CONV_2D") and operator.inputs[1] is not None:
        return graph.tensors[operator.inputs[1]].shape[1:3]
    return ()


def _describe(graph: Graph, operator: Operator) -> str:
    source, target = graph.tensors[operator.inputs[0] or ""], graph.tensors[operator.outputs[0]]
    words = [operator.kind]
    kernel = _kernel(graph, operator)
    if kernel:
        stride = max(operator.attributes["stride"])
        words.append("x".join(map(str, kernel)) + (f"/{stride}" if stride > 1 else ""))
    words.append(
        f"{'x'.join(map(str, source.shape[1:]))} to {'x'.join(map(str, target.shape[1:]))}"
    )
    return " ".join(words)


def bar_of(graph: Graph, operator: Operator) -> str:
    """Return which bar a layer is judged by."""
    if operator.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D") or operator.inputs[0] is None:
        return ""
    source, target = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
    _, height, width, channels = target.shape
    if operator.kind == "CONV_2D":
        first = source.shape[3] == FIRST_CHANNELS and operator.inputs[0] in graph.inputs
        return FIRST if first else ""
    regular = _kernel(graph, operator) == (3, 3) and channels == source.shape[3]
    straight = max(operator.attributes["stride"]) == max(operator.attributes["dilation"]) == 1
    large = channels >= DEPTHWISE_CHANNELS and height * width >= DEPTHWISE_PIXELS
    return DEPTHWISE if regular and straight and large else ""


# Networks of one layer, and chains of layers that depend on each other -----------------------------

_SCALE, _ZERO_POINT = 0.05, -3

DEPTHWISE_LAYERS = [
    (channels, size)
    for channels in (16, 17, 24, 32, 40, 64, 96, 256)
    for size in ((6, 6), (4, 9), (9, 4), (7, 7), (5, 25), (14, 14), (28, 28), (48, 48))
    if channels * size[0] * size[1] <= 48 << 10
]
"""Channels and image of the depthwise layers that are measured."""

FIRST_LAYERS = [
    (kernel, stride, outputs, size)
    for kernel, stride in ((3, 1), (3, 2), (5, 1), (5, 2), (7, 2))
    for outputs in (8, 16, 24, 32, 64)
    for size in (32, 96)
    if outputs * (size // stride) ** 2 <= 80 << 10
]
"""Kernel, stride, output channels and size of the first layers that are measured."""

CHAINS: Mapping[str, str] = {
    "convolutions": "cccc",
    "pointwise": "pppp",
    "separable": "dpdp",
    "mixed": "cdpc",
}
"""Layers of a chain: 3x3 convolution, pointwise, 3x3 depthwise."""

CHAIN_IMAGES = ((16, 6), (16, 20), (32, 10), (64, 6), (64, 12))
"""Channels and size of the images that pass through the chains."""


class Network:
    """A model under construction, with random weights."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._rng = np.random.default_rng(0)
        self._model = TfliteModel()
        self.x: Tensor = self._model.input("input", shape, scale=_SCALE, zero_point=_ZERO_POINT)

    def _weights(self, *shape: int) -> Any:
        return self._rng.integers(-128, 128, shape, dtype=np.int8)

    def _bias(self, channels: int) -> Any:
        return self._rng.integers(-1000, 1000, channels, dtype=np.int32)

    def conv(self, kernel: int, outputs: int, stride: int = 1) -> None:
        """Append a convolution."""
        weights = self._weights(outputs, kernel, kernel, self.x.shape[3])
        self.x = self._model.conv2d(
            self.x, weights, self._bias(outputs), weight_scales=0.01, scale=_SCALE,
            zero_point=_ZERO_POINT, stride=(stride, stride),
        )  # fmt: skip

    def depthwise(self) -> None:
        """Append a 3x3 depthwise convolution."""
        channels = self.x.shape[3]
        weights = self._weights(1, 3, 3, channels)
        self.x = self._model.depthwise_conv2d(
            self.x, weights, self._bias(channels), weight_scales=0.01, scale=_SCALE,
            zero_point=_ZERO_POINT,
        )  # fmt: skip

    def build(self) -> bytes:
        """Return the model file."""
        return self._model.build()


def _chain(kinds: str, channels: int, size: int) -> bytes:
    network = Network((1, size, size, channels))
    append: Mapping[str, Callable[[], None]] = {
        "c": lambda: network.conv(3, channels),
        "p": lambda: network.conv(1, channels),
        "d": network.depthwise,
    }
    for kind in kinds:
        append[kind]()
    return network.build()


def networks() -> Iterator[tuple[str, bytes]]:
    """Yield name and model file of everything that is measured."""
    for channels, (height, width) in DEPTHWISE_LAYERS:
        network = Network((1, height, width, channels))
        network.depthwise()
        yield "single layer", network.build()
    for kernel, stride, outputs, size in FIRST_LAYERS:
        network = Network((1, size, size, FIRST_CHANNELS))
        network.conv(kernel, outputs, stride)
        yield "single layer", network.build()
    for name, kinds in CHAINS.items():
        for channels, size in CHAIN_IMAGES:
            yield f"chain: {name}", _chain(kinds, channels, size)


def measure(
    name: str, model: bytes, config: AcceleratorConfig, transport: RtlDevice | None = None
) -> list[LayerFigures]:
    """Run a model of one input once on the RTL and return the figures of its layers.

    Parameters
    ----------
    name : str
        Name for people.
    model : bytes
        TFLite file.
    config : AcceleratorConfig
        Machine.
    transport : RtlDevice, optional
        Device of that machine; by default, one of its own.
    """
    graph = tflite.parse(model)
    program = pipeline.compile_graph(graph, config)
    info = program.tensors[program.inputs[0]]
    values = np.random.default_rng(0).integers(-128, 128, info.shape, dtype=np.int8)
    device = Recorder(transport or RtlDevice(config))
    runtime.run_sample(device, program, {info.name: values})
    result = layer_figures(name, program, graph, device.recordings(program))
    if transport is None:
        device.close()
    return result


def measure_all(
    config: AcceleratorConfig, say: Callable[[str], None] = lambda _: None
) -> list[LayerFigures]:
    """Return the figures of all :func:`networks` on a configuration."""
    result = []
    with RtlDevice(config) as transport:
        for name, model in networks():
            figures = measure(name, model, config, transport)
            say(figures[-1].shape)
            result += figures
    return result
