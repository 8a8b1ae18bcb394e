"""Generated one-operator models: kernels evaluated in NumPy against onnxruntime's CPU provider."""

import numpy as np
import pytest

from systolith.bench import onnx_random_layer, onnx_witness
from systolith.compiler import rules_onnx
from systolith.compiler.frontend import onnx as frontend

pytest.importorskip("onnxruntime")

CASES = 50
INEXACT = ("Add", "Mul", "ReduceMean")
"""Operators that the runtime computes by several float32 roundings, and the kernels by one."""


@pytest.mark.parametrize("family", onnx_random_layer.FAMILIES)
def test_layers_equal_onnxruntime(family: str):
    total = onnx_witness.Difference()
    for seed in range(CASES):
        case = onnx_random_layer.layer(family, seed)
        rules_onnx.check(frontend.parse(case.model))
        found = onnx_witness.compare(case.model, case.inputs).whole
        assert found.largest <= 1, f"seed {seed}: {found}"
        total += found
    allowed = total.total // 100_000 + 1 if family in INEXACT else 0
    assert total.differing <= allowed, total


@pytest.mark.slow
@pytest.mark.parametrize("family", onnx_random_layer.FAMILIES)
def test_a_million_bytes_of_each_operator(family: str):
    total, seed = onnx_witness.Difference(), CASES
    while total.total < 1_000_000:
        case = onnx_random_layer.layer(family, seed, samples=8)
        total += onnx_witness.compare(case.model, case.inputs).whole
        seed += 1
    assert total.largest <= 1
    assert total.differing <= total.total // 100_000, f"{total} on {onnx_witness.cpu()}"


def test_cases_are_seeded():
    first, second = (onnx_random_layer.layer("Conv", 7) for _ in range(2))
    assert first.model == second.model
    np.testing.assert_array_equal(first.inputs["x"], second.inputs["x"])
    assert first.model != onnx_random_layer.layer("Conv", 8).model
