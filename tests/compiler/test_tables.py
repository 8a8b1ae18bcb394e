"""Tables of 256 entries: every operator of one operand equals the reference for every input."""

import numpy as np
import pytest

from systolith.arch import tables
from systolith.bench import kernel_reference, witness
from systolith.bench.random_operator import FIXED_OUTPUTS
from systolith.bench.tflite_schema import Quantization
from systolith.bench.tflite_writer import TfliteModel
from systolith.compiler import rules, spec
from systolith.compiler.frontend import tflite
from systolith.compiler.legalize import legalize
from systolith.compiler.signatures import TABLED

CASES = 50
EVERY_INPUT = np.arange(-128, 128, dtype=np.int8)[None]
LACKING = {
    "tflm": {"EXP", "GELU", "RELU_0_TO_1", "RELU_N1_TO_1"},
    "litert_reference": {"ELU"},
}
"""Operators that a runtime does not have for int8."""


def drawn(operator, rng):
    """Return a model with scales from small to large, some of them equal or powers of two."""
    model = TfliteModel()
    octaves = rng.uniform(-8, 1)
    scale = 2.0 ** (round(octaves) if rng.random() < 0.3 else octaves)
    x = model.input("x", EVERY_INPUT.shape, scale=scale, zero_point=int(rng.integers(-128, 128)))
    output = Quantization(scale * 2.0 ** rng.uniform(-3, 3), int(rng.integers(-128, 128)))
    if rng.random() < 0.2:
        output = x.quantization
    output = FIXED_OUTPUTS.get(operator, output)
    alpha, approximate = float(rng.uniform(0, 1.2)), bool(rng.integers(2))
    model.unary(operator, x, output, alpha=alpha, approximate=approximate, name="y")
    return model.build()


# Not every reference has every operator for int8.
WITNESSED = [
    (operator, reference)
    for reference, lacking in LACKING.items()
    for operator in TABLED
    if operator not in lacking
]


@pytest.mark.parametrize(("operator", "reference"), WITNESSED)
def test_every_entry_is_exact(operator, reference, seed):
    rng = np.random.default_rng([seed, *operator.encode()])
    for _ in range(CASES):
        data = drawn(operator, rng)
        graph = tflite.parse(data)
        rules.check(graph)
        kernels = legalize(graph, reference)
        spec.verify(kernels)
        wanted = witness.run(data, {"x": EVERY_INPUT[None]}, reference)["y"][0]
        np.testing.assert_array_equal(
            kernel_reference.run(kernels, {"x": EVERY_INPUT})["y"], wanted
        )


@pytest.mark.parametrize("signed", [(True, True), (True, False), (False, True), (False, False)])
def test_bytes_of_either_type_are_exact(signed, seed):
    rng = np.random.default_rng(seed)
    types = ["int8" if flag else "uint8" for flag in signed]
    low = [-128 if flag else 0 for flag in signed]
    values = np.arange(low[0], low[0] + 256).astype(types[0])[None]
    for _ in range(CASES):
        model = TfliteModel()
        scale = float(2.0 ** rng.uniform(-8, 1))
        x = model.input(
            "x",
            values.shape,
            scale=scale,
            zero_point=int(low[0] + rng.integers(256)),
            dtype=types[0],
        )
        factor = 2.0 ** rng.uniform(-3, 3) if rng.random() < 0.7 else 1.0
        output = Quantization(scale * factor, int(low[1] + rng.integers(256)), types[1])
        model.unary("QUANTIZE", x, output, name="y")
        data = model.build()
        kernels = legalize(tflite.parse(data), "litert_reference")
        wanted = witness.litert_reference(data, {"x": values[None]})["y"][0]
        got = kernel_reference.run(kernels, {"x": values})["y"]
        assert got.dtype == wanted.dtype == types[1]
        np.testing.assert_array_equal(got, wanted)


def test_shift_of_the_zero_point_flips_the_top_bit():
    source = tables.Quantization(0.5, 128, signed=False)
    table = tables.by_byte(tables.requantize(source, tables.Quantization(0.5, 0)), source)
    np.testing.assert_array_equal(table.view(np.uint8), np.arange(256) ^ 0x80)


def test_functions_beyond_the_type_are_clamped():
    wide, narrow = tables.Quantization(1000.0, 0), tables.Quantization(1e-3, 5)
    table = tables.looked_up(wide, narrow, tables.exp)
    assert table[:128].tolist() == [5] * 128
    assert table[129:].tolist() == [127] * 127
