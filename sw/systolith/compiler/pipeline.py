"""The compiler's stages in their order, and nothing else."""

from pathlib import Path

from systolith.arch.config import AcceleratorConfig
from systolith.arch.errors import InputError
from systolith.arch.program import Program
from systolith.compiler import backend, legalize_onnx, rules, rules_onnx, spec
from systolith.compiler.batch import with_batch
from systolith.compiler.frontend import onnx, tflite
from systolith.compiler.ir import Graph
from systolith.compiler.legalize import ROUNDINGS, legalize

ONNX_SUFFIX = ".onnx"


def compile_file(
    path: str | Path,
    config: AcceleratorConfig,
    *,
    reference: str | None = None,
    keep_tensors: bool = False,
    batch: int = 1,
) -> Program:
    """Compile a model file; parameters and errors as of `compile_graph` and `with_batch`.

    A file with the suffix `.onnx` is an ONNX model, any other is a TFLite model. Without a reference,
    the first of the kind's own is taken: onnxruntime, or TFLite Micro.

    Raises
    ------
    InputError
        The reference is none of those that run this kind of model.
    ModelFormatError
        Also if the file cannot be read or is no model of its kind.
    """
    is_onnx = Path(path).suffix == ONNX_SUFFIX
    known = (legalize_onnx.REFERENCE,) if is_onnx else tuple(ROUNDINGS)
    if reference not in (None, *known):
        raise InputError(
            f'Reference of "{path}" must be one of {", ".join(known)}, not {reference}; leave it out '
            f"for {known[0]}"
        )
    graph = with_batch(onnx.read(path) if is_onnx else tflite.read(path), batch)
    return compile_graph(graph, config, reference=reference or known[0], keep_tensors=keep_tensors)


def compile_graph(
    graph: Graph,
    config: AcceleratorConfig,
    *,
    reference: str = "tflm",
    keep_tensors: bool = False,
) -> Program:
    """Compile a model.

    Parameters
    ----------
    graph : Graph
        Model, from a front end.
    config : AcceleratorConfig
        Machine to compile for.
    reference : {"tflm", "litert_reference", "litert_default", "onnxruntime"}
        Runtime whose rounding is reproduced; onnxruntime's is that of the graphs of ONNX models.
    keep_tensors : bool
        Make every quantized tensor an output of its segment.

    Raises
    ------
    ModelFormatError
        The graph contradicts itself.
    UnsupportedModelError
        The model breaks rules of the compiler; all of them are named.
    AllocationError
        The model does not fit the memories of the configuration.
    ValueError
        The reference is unknown.
    """
    spec.verify(graph)
    if reference == legalize_onnx.REFERENCE:
        rules_onnx.check(graph)
        kernels = legalize_onnx.legalize(graph)
    else:
        rules.check(graph)
        kernels = legalize(graph, reference)
    spec.verify(kernels)
    return backend.lower(kernels, config, keep_tensors=keep_tensors)
