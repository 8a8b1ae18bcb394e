"""Independent reference runtimes, run on the same model file and inputs as our own devices.

Two references, which differ only in how FULLY_CONNECTED scales its sums (measured):

``tflm``
    TFLite Micro. Convolutions and FULLY_CONNECTED round twice: saturating rounding doubling high
    multiply by the Q31 multiplier, then rounding right shift, ties away from zero.
``litert_reference``
    LiteRT, resolver ``BUILTIN_REF``. Convolutions round twice; FULLY_CONNECTED rounds the product
    with the real (double) multiplier once, ties away from zero. Rounding the product with the Q31
    multiplier once differs from that on exact ties below zero if ties go up, and else only where a
    sum lies so close to a tie that bit 32 of the multiplier decides.

Arrays carry tensor names and the shape ``[samples, *tensor shape]``, one independent inference per
sample. The runtimes are imported on first use: they are test tools, no part of the product.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from systolith.arch.errors import InputError, ModelFormatError, ToolchainError

Reference = Literal["tflm", "litert_reference"]
Arrays = dict[str, NDArray[Any]]

# TFLite Micro plans into one arena. Preserved tensors do not share memory, so the sum of all
# tensors bounds what the plan needs; the rest is its own records and alignment.
ARENA_SLACK_BYTES = 1 << 20
ARENA_BYTES_PER_TENSOR = 1 << 10


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One non-constant tensor of a model file."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    quantized: bool


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the runners need to know of a model file."""

    inputs: list[_Tensor]
    outputs: list[_Tensor]
    quantized: list[_Tensor]
    arena_bytes: int


def tflm(model: bytes, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
    """Run TFLite Micro; return ``{output name: [samples, *shape]}``.

    Parameters
    ----------
    model : bytes
        TFLite flatbuffer with one subgraph.
    inputs : mapping of str to array
        ``{input name: [samples, *shape]}`` in the dtype of the model.

    Raises
    ------
    InputError
        When names, shapes, dtypes or sample counts do not fit the model.
    ModelFormatError
        When the runtime refuses the model.
    ToolchainError
        When the package of the runtime is not installed.
    """
    facts = _read_facts(model)
    return _collect(_tflm_runner(model, facts, facts.outputs), facts, facts.outputs, inputs)


def litert_reference(model: bytes, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
    """Run LiteRT with its reference kernels; parameters, result and errors as of `tflm`."""
    facts = _read_facts(model)
    return _collect(_litert_runner(model, facts, facts.outputs), facts, facts.outputs, inputs)


def run(model: bytes, inputs: Mapping[str, NDArray[Any]], reference: Reference) -> Arrays:
    """Run the runtime named by `reference`; parameters, result and errors as of `tflm`."""
    facts = _read_facts(model)
    runner = _runner_of(reference)(model, facts, facts.outputs)
    return _collect(runner, facts, facts.outputs, inputs)


def all_tensors(model: bytes, inputs: Mapping[str, NDArray[Any]], reference: Reference) -> Arrays:
    """Return every quantized tensor that is not constant, in the order of the model file.

    Parameters, shapes and errors as of `tflm`. Of tensors that share a name, each is called
    ``name:index`` with its number in the file.
    """
    facts = _read_facts(model)
    runner = _runner_of(reference)(model, facts, facts.quantized)
    return _collect(runner, facts, facts.quantized, inputs)


# A runner maps the input arrays of one sample, in the order of the model, to the wanted tensors.
_Runner = Callable[[list[NDArray[Any]]], list[NDArray[Any]]]


def _runner_of(reference: Reference) -> Callable[[bytes, _Facts, list[_Tensor]], _Runner]:
    runners = {"tflm": _tflm_runner, "litert_reference": _litert_runner}
    if reference not in runners:
        raise ValueError(f"Reference must be one of {', '.join(runners)}, not {reference!r}")
    return runners[reference]


def _tflm_runner(model: bytes, facts: _Facts, wanted: list[_Tensor]) -> _Runner:
    try:
        from tflite_micro import runtime
    except ImportError as error:
        raise _missing("tflite-micro", error) from error

    try:
        interpreter = runtime.Interpreter.from_bytes(
            model,
            arena_size=facts.arena_bytes,
            intrepreter_config=runtime.InterpreterConfig.kPreserveAllTensors,
        )
    except RuntimeError as error:
        raise _refused("TFLite Micro", error) from error

    def infer(sample: list[NDArray[Any]]) -> list[NDArray[Any]]:
        for position, array in enumerate(sample):
            interpreter.set_input(array, position)
        interpreter.invoke()
        return [
            np.array(interpreter.GetTensor(tensor.index, 0)["tensor_data"]) for tensor in wanted
        ]

    return infer


def _litert_runner(model: bytes, facts: _Facts, wanted: list[_Tensor]) -> _Runner:
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError as error:
        raise _missing("ai-edge-litert", error) from error

    try:
        interpreter = Interpreter(
            model_content=model,
            experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
            experimental_preserve_all_tensors=True,
        )
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise _refused("LiteRT", error) from error

    def infer(sample: list[NDArray[Any]]) -> list[NDArray[Any]]:
        for tensor, array in zip(facts.inputs, sample, strict=True):
            interpreter.set_tensor(tensor.index, array)
        interpreter.invoke()
        return [interpreter.get_tensor(tensor.index) for tensor in wanted]

    return infer


def _collect(
    runner: _Runner, facts: _Facts, wanted: list[_Tensor], inputs: Mapping[str, NDArray[Any]]
) -> Arrays:
    """Run every sample and stack the wanted tensors."""
    samples = _check_inputs(facts, inputs)
    names = Counter(tensor.name for tensor in wanted)
    results = {
        t.name if names[t.name] == 1 else f"{t.name}:{t.index}": np.empty(
            (samples, *t.shape), t.dtype
        )
        for t in wanted
    }
    for sample in range(samples):
        arrays = [np.ascontiguousarray(inputs[tensor.name][sample]) for tensor in facts.inputs]
        for result, array in zip(results.values(), runner(arrays), strict=True):
            result[sample] = array
    return results


def _check_inputs(facts: _Facts, inputs: Mapping[str, NDArray[Any]]) -> int:
    """Return the number of samples."""
    names = {tensor.name for tensor in facts.inputs}
    if set(inputs) != names:
        raise InputError(f"Inputs must be named {sorted(names)}, not {sorted(inputs)}")
    for tensor in facts.inputs:
        array = inputs[tensor.name]
        if array.dtype != tensor.dtype or array.shape[1:] != tensor.shape:
            raise InputError(
                f'Input "{tensor.name}" must be {tensor.dtype} of shape '
                f"{('samples', *tensor.shape)}, not {array.dtype} of shape {array.shape}"
            )
    counts = {len(array) for array in inputs.values()}
    if len(counts) != 1:
        raise InputError(f"Inputs must have one number of samples, not {sorted(counts)}")
    return counts.pop()


def _read_facts(model: bytes) -> _Facts:
    """Read names, shapes and types with the schema package, not with one of the runtimes."""
    try:
        import tflite
    except ImportError as error:
        raise _missing("tflite", error) from error

    if not tflite.Model.ModelBufferHasIdentifier(model, 0):
        raise ModelFormatError("Model must be a TFLite flatbuffer, but has no identifier TFL3")
    root = tflite.Model.GetRootAs(model, 0)
    if root.SubgraphsLength() != 1:
        raise ModelFormatError(f"Model must have one subgraph, not {root.SubgraphsLength()}")
    graph = root.Subgraphs(0)
    dtypes: dict[int, np.dtype[Any]] = {
        tflite.TensorType.INT8: np.dtype(np.int8),
        tflite.TensorType.UINT8: np.dtype(np.uint8),
        tflite.TensorType.INT16: np.dtype(np.int16),
        tflite.TensorType.INT32: np.dtype(np.int32),
        tflite.TensorType.INT64: np.dtype(np.int64),
        tflite.TensorType.FLOAT32: np.dtype(np.float32),
    }
    tensors = {}
    for index in range(graph.TensorsLength()):
        entry = graph.Tensors(index)
        if root.Buffers(entry.Buffer()).DataLength() or entry.Type() not in dtypes:
            continue
        quantization = entry.Quantization()
        tensors[index] = _Tensor(
            index,
            entry.Name().decode(),
            tuple(entry.Shape(axis) for axis in range(entry.ShapeLength())),
            dtypes[entry.Type()],
            quantization is not None and quantization.ScaleLength() > 0,
        )
    tensor_bytes = sum(int(np.prod(t.shape)) * t.dtype.itemsize for t in tensors.values())
    return _Facts(
        inputs=[tensors[graph.Inputs(i)] for i in range(graph.InputsLength())],
        outputs=[tensors[graph.Outputs(i)] for i in range(graph.OutputsLength())],
        quantized=[t for t in tensors.values() if t.quantized],
        arena_bytes=2 * tensor_bytes
        + ARENA_SLACK_BYTES
        + ARENA_BYTES_PER_TENSOR * graph.TensorsLength(),
    )


def _missing(package: str, error: ImportError) -> ToolchainError:
    return ToolchainError(
        f'This reference needs the package "{package}", which cannot be imported ({error}); '
        f"install it with: pip install --pre {package}"
    )


def _refused(runtime: str, error: Exception) -> ModelFormatError:
    return ModelFormatError(f"Model must be accepted by {runtime}, which says: {error}")
