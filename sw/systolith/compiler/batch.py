"""Give a model another batch: a matrix layer then loads its weights once for all samples of it."""

from dataclasses import replace

from systolith.arch.errors import UnsupportedModelError

from .ir import Graph, Tensor


def with_batch(graph: Graph, batch: int) -> Graph:
    """Return the graph with its activations' leading dimension of 1 replaced by `batch`.

    Operators that keep samples apart in their own way refuse it later, by the rules.

    Raises
    ------
    ValueError
        The batch is not positive.
    UnsupportedModelError
        The model's own batch is not 1; every such tensor is named.
    """
    if batch < 1:
        raise ValueError(f"Batch must be at least 1, not {batch}")
    if batch == 1:
        return graph
    wrong = [
        f'Tensor "{tensor.name}" must have a leading dimension of 1 to be given a batch of {batch}, '
        f"not shape {tensor.shape}; compile the model with its own batch"
        for tensor in graph.tensors.values()
        if tensor.data is None and (not tensor.shape or tensor.shape[0] != 1)
    ]
    if wrong:
        raise UnsupportedModelError(wrong)
    return replace(
        graph, tensors={name: _batched(tensor, batch) for name, tensor in graph.tensors.items()}
    )


def _batched(tensor: Tensor, batch: int) -> Tensor:
    if tensor.data is not None:
        return tensor
    return replace(tensor, shape=(batch, *tensor.shape[1:]))
