"""Random models of one layer, and small random networks, that no training would produce.

What is drawn is described in `systolith.bench.random_builder`.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from systolith.arch.config import AcceleratorConfig
from systolith.arch.softmax import MAX_FACTOR
from systolith.bench.random_builder import (
    MAX_BYTES,
    MAX_NETWORK_BYTES,
    Builder,
    RandomModel,
)
from systolith.bench.random_operator import OPERATORS

ODD_CONFIGS: Mapping[str, AcceleratorConfig] = {
    config.name: config
    for config in (
        AcceleratorConfig(
            name="odd-5x6",
            rows=5,
            cols=6,
            scratchpad_bytes=8 << 10,
            weight_bytes=2 << 10,
            acc_rows=32,
            param_bytes=512,
            lanes=3,
            feeds=1,
            axi_data_bits=32,
        ),
        AcceleratorConfig(
            name="odd-7x3",
            rows=7,
            cols=3,
            scratchpad_bytes=16 << 10,
            weight_bytes=4 << 10,
            acc_rows=64,
            param_bytes=1 << 10,
            lanes=1,
            feeds=3,
            axi_data_bits=64,
        ),
        AcceleratorConfig(
            name="odd-12x10",
            rows=12,
            cols=10,
            scratchpad_bytes=32 << 10,
            banks=8,
            weight_bytes=8 << 10,
            acc_rows=128,
            param_bytes=2 << 10,
            lanes=5,
            feeds=2,
            axi_data_bits=128,
        ),
    )
}
"""Arrays that divide nothing, by name."""


def _convolution(b: Builder) -> None:
    b.conv2d(b.image())


def _fully_connected(b: Builder) -> None:
    rows, features = b.between(1, 6), b.between(1, b.pick(20, 100, 400))
    # The leading axes of any input are rows.
    shape = b.pick((rows, features), (1, 1, rows, features), (1, rows * features))
    b.fully_connected(b.input(shape), features)


def _add(b: Builder) -> None:
    a = b.image()
    b.add(a, a if b.chance(0.1) else b.image(a.shape))


def _average_pool(b: Builder) -> None:
    b.average_pool(b.image())


def _network(b: Builder) -> None:
    """Add a residual block with head: two ways to one sum, a pool, logits and their softmax."""
    x = b.image()
    left = b.conv2d(x)
    for _ in range(b.between(0, 2)):
        left = b.conv2d(left)
    total = b.add(left, b.pick(left, b.image(left.shape)))
    if b.chance(0.5):
        total = b.add(total, left)
    pooled = b.average_pool(total)
    features = math.prod(pooled.shape)
    logits = b.fully_connected(b.model.reshape(pooled, (1, features)), features)
    if logits.quantization.scale < MAX_FACTOR and b.chance(0.5):
        b.model.softmax(logits)


KINDS: Mapping[str, Callable[[Builder], None]] = {
    "convolution": _convolution,
    "fully_connected": _fully_connected,
    "add": _add,
    "average_pool": _average_pool,
    "network": _network,
    **OPERATORS,
}
"""What can be drawn, by name."""


def random_model(kind: str, seed: int) -> RandomModel:
    """Return a random model of a kind; the same seed gives the same bytes.

    Parameters
    ----------
    kind : str
        A key of `KINDS`.
    seed : int
        Seed of every choice.
    """
    whole = kind in ("convolution", "fully_connected", "add", "average_pool", "depthwise")
    max_bytes = MAX_BYTES if whole else MAX_NETWORK_BYTES
    builder = Builder(np.random.default_rng(seed), max_bytes)
    KINDS[kind](builder)
    return RandomModel(builder.model.build(builder.outputs), builder.inputs)
