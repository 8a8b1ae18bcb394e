"""The compiler's stages in their order, and nothing else."""

from pathlib import Path

from systolith.arch.config import AcceleratorConfig
from systolith.arch.program import Program
from systolith.compiler import backend, rules, spec
from systolith.compiler.frontend import tflite
from systolith.compiler.ir import Graph
from systolith.compiler.legalize import legalize


def compile_file(
    path: str | Path,
    config: AcceleratorConfig,
    *,
    reference: str = "tflm",
    keep_tensors: bool = False,
) -> Program:
    """Compile a TFLite model file; parameters and errors as of `compile_graph`.

    Raises
    ------
    ModelFormatError
        Also if the file cannot be read or is no TFLite model.
    """
    graph = tflite.read(path)
    return compile_graph(graph, config, reference=reference, keep_tensors=keep_tensors)


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
    reference : {"tflm", "litert_reference"}
        Runtime whose rounding is reproduced.
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
    rules.check(graph)
    kernels = legalize(graph, reference)
    spec.verify(kernels)
    return backend.lower(kernels, config, keep_tensors=keep_tensors)
