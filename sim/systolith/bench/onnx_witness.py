"""onnxruntime as an independent reference for ONNX models, and what of it was measured on.

All graph optimizations are on, so that quantized operators run as the runtime's fused integer
kernels. On x86 the runtime leaves int8 activations of convolutions in float unless
`session.qdqisint8allowed` is set: `integer` sets it, `default` does not.
"""

import functools
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from systolith.arch.errors import InputError, ModelFormatError, ToolchainError
from systolith.compiler import legalize_onnx
from systolith.compiler.frontend import onnx as frontend
from systolith.compiler.ir import Graph, HostKernel, Kernel, KernelGraph, ViewKernel
from systolith.compiler.layout_onnx import MOVES, Orders

from . import kernel_reference_onnx

Arrays = dict[str, NDArray[Any]]
Kernels = Literal["integer", "default"]

_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
_ERRORS_ONLY = 3


@functools.cache
def cpu() -> str:
    """Return what the runtime's choice of kernels depends on: architecture and flags."""
    path = Path("/proc/cpuinfo")
    words = set(path.read_text(encoding="utf-8").split()) if path.exists() else set()
    present = [flag for flag in _FLAGS if flag in words]
    return f"{platform.machine()} {' '.join(present)}".strip()


def _session(model: bytes, kernels: Kernels) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ToolchainError(
            f'This reference needs the package "onnxruntime", which cannot be imported ({error}); '
            "install it with: pip install onnxruntime"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.qdqisint8allowed", str(int(kernels == "integer")))
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelFormatError(
            f"Model must be accepted by onnxruntime, which says: {error}"
        ) from error


def run(model: bytes, inputs: Mapping[str, NDArray[Any]], kernels: Kernels = "integer") -> Arrays:
    """Return `{output name: [samples, *shape]}` for inputs of the same form.

    Raises
    ------
    InputError
        The names are not those of the model's inputs.
    ModelFormatError
        The runtime refuses the model.
    ToolchainError
        The runtime is not installed.
    """
    session = _session(model, kernels)
    names = {item.name for item in session.get_inputs()}
    if set(inputs) != names:
        raise InputError(f"Inputs must be named {sorted(names)}, not {sorted(inputs)}")
    outputs = [item.name for item in session.get_outputs()]
    samples = len(next(iter(inputs.values())))
    rows = [session.run(None, {k: v[i] for k, v in inputs.items()}) for i in range(samples)]
    return {name: np.stack([row[i] for row in rows]) for i, name in enumerate(outputs)}


def all_tensors(
    model: bytes, inputs: Mapping[str, NDArray[Any]], kernels: Kernels = "integer"
) -> Arrays:
    """Return every quantized tensor (as made by `QuantizeLinear`), as `run`; errors as of it.

    To the runtime they are further outputs of the model, which keeps each operator's kernel.
    """
    import onnx

    proto = onnx.load_from_string(model)
    present = {item.name for item in proto.graph.output}
    for node in proto.graph.node:
        if node.op_type == "QuantizeLinear" and node.output[0] not in present:
            proto.graph.output.append(onnx.ValueInfoProto(name=node.output[0]))
    return run(proto.SerializeToString(), inputs, kernels)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How many of `total` bytes differ from the reference, and by how much at most."""

    total: int = 0
    differing: int = 0
    largest: int = 0

    def __add__(self, other: "Difference") -> "Difference":
        return Difference(
            total=self.total + other.total,
            differing=self.differing + other.differing,
            largest=max(self.largest, other.largest),
        )


def difference(values: NDArray[Any], expected: NDArray[Any]) -> Difference:
    """Compare two integer arrays of one size."""
    distance = np.abs(values.reshape(-1).astype(np.int64) - expected.reshape(-1))
    return Difference(
        total=distance.size,
        differing=int(np.count_nonzero(distance)),
        largest=int(distance.max(initial=0)),
    )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A model against the runtime: by operator with the reference's inputs, and as a whole."""

    layers: Mapping[str, Difference]
    whole: Difference
    cpu: str


def compare(
    model: bytes, inputs: Mapping[str, NDArray[Any]], kernels: Kernels = "integer"
) -> Comparison:
    """Compare the kernels of a model with onnxruntime.

    Parameters
    ----------
    model : bytes
        ONNX model in QDQ form.
    inputs : mapping of str to array
        Inputs as the model takes them, `[samples, *shape]`.
    kernels : {"integer", "default"}
        Which kernels of the runtime to compare with.
    """
    graph = frontend.parse(model)
    program = legalize_onnx.legalize(graph)
    expected = all_tensors(model, inputs, kernels)
    aliases = _quantized_names(model)
    layers: dict[str, Difference] = {}
    whole = Difference()
    for sample in range(len(next(iter(inputs.values())))):
        reference = {
            name: expected[alias][sample]
            for name, alias in aliases.items()
            if alias in expected and name in graph.tensors
        }
        for name in graph.inputs:
            reference.setdefault(name, inputs[name][sample])
        _fill_moves(graph, reference)
        result = kernel_reference_onnx.run(program, {n: reference[n] for n in graph.inputs})
        for name in graph.outputs:
            whole += difference(result[name], reference[name])
        for op, found in _layers(graph, program, reference):
            layers[op] = layers.get(op, Difference()) + found
    return Comparison(layers=layers, whole=whole, cpu=cpu())


def _quantized_names(model: bytes) -> dict[str, str]:
    """Return the runtime's tensor for each tensor of our graph that bears another name."""
    import onnx

    proto = onnx.load_from_string(model)
    names: dict[str, str] = {}
    outputs = {item.name for item in proto.graph.output}
    given = {item.name for item in proto.graph.input}
    for node in proto.graph.node:
        if node.op_type == "QuantizeLinear":
            names[node.output[0]] = node.output[0]
            if node.input[0] in given:
                names[node.input[0]] = node.output[0]
        elif node.op_type == "DequantizeLinear" and node.output[0] in outputs:
            names[node.output[0]] = node.input[0]
    return names


def _fill_moves(graph: Graph, reference: Arrays) -> None:
    """Add the results of operators that move no byte, which the runtime need not keep."""
    for operator in graph.operators:
        source, output = operator.inputs[0], operator.outputs[0]
        if operator.kind in MOVES and source in reference:
            reference.setdefault(output, reference[source].reshape(graph.tensors[output].shape))


def _layers(graph: Graph, program: KernelGraph, reference: Arrays) -> list[tuple[str, Difference]]:
    """Evaluate each operator on the reference's inputs."""
    found = []
    for operator in graph.operators:
        names = [name for name in operator.inputs if name and graph.tensors[name].data is None]
        output = operator.outputs[0]
        if output not in reference or any(name not in reference for name in names):
            continue
        kernels = [kernel for kernel in program.kernels if kernel.layer == operator.index]
        tensors = {_inner(program, n): _forward(graph, n, reference[n]) for n in names}
        for kernel in kernels:
            if not _is_edge(kernel):
                kernel_reference_onnx.evaluate(kernel, program, tensors)
        if not kernels or all(isinstance(kernel, ViewKernel) for kernel in kernels):
            continue
        wanted = _forward(graph, output, reference[output])
        name = str(operator.attributes.get("outer", operator.kind))
        if wanted.size == tensors[_inner(program, output)].size:
            found.append((name, difference(tensors[_inner(program, output)], wanted)))
    return found


def _is_edge(kernel: Kernel) -> bool:
    return isinstance(kernel, HostKernel) and kernel.op == "rearrange"


def _inner(program: KernelGraph, name: str) -> str:
    return f"{name}:int8" if f"{name}:int8" in program.tensors else name


def _forward(graph: Graph, name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Return a tensor of the model in the accelerator's type and order."""
    order = Orders(graph).of[name]
    flat = values.reshape(-1)[order]
    return flat if flat.dtype == np.int8 else (flat ^ np.uint8(0x80)).view(np.int8)
