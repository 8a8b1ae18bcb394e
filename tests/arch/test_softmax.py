"""Integer softmax: equal to two runtimes, and to recorded corner cases of the fixed-point parts."""

import numpy as np
import pytest

from systolith.arch import softmax
from systolith.arch.errors import UnsupportedModelError
from systolith.bench import witness
from systolith.bench.tflite_writer import TfliteModel

REFERENCES = ("tflm", "litert_reference")
SCALES = (2e-7, 1e-4, 0.003, 1 / 32, 0.1, 0.183, 0.5, 1.0, 7.3, 15.9)


def model_of(depth, scale, rows=1):
    model = TfliteModel()
    x = model.input("x", (rows, depth), scale=scale, zero_point=3)
    model.softmax(x, name="y")
    return model.build()


def vectors(rng, depth, count):
    """Return random rows, narrow ones, constant ones and the extremes."""
    wide = rng.integers(-128, 128, (count, 1, depth))
    center = rng.integers(-120, 120, (count, 1, 1))
    narrow = center + rng.integers(-7, 8, (count, 1, depth))
    edges = rng.choice([-128, 127], (count // 4, 1, depth))
    flat = np.broadcast_to(rng.integers(-128, 128, (8, 1, 1)), (8, 1, depth))
    return np.concatenate([wide, narrow, edges, flat]).astype(np.int8)


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("depth", [1, 2, 10, 333])
def test_softmax_equals_runtime(rng, reference, scale, depth):
    inputs = vectors(rng, depth, 40)
    expected = witness.run(model_of(depth, scale), {"x": inputs}, reference)["y"]
    attributes = softmax.prepare(1.0, float(np.float32(scale)))
    np.testing.assert_array_equal(softmax.softmax(inputs, attributes), expected)


def test_every_pair_of_values_equals_runtime():
    first, second = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128))
    inputs = np.stack([first.ravel(), second.ravel()], axis=-1).astype(np.int8)
    expected = witness.run(model_of(2, 0.0625, rows=len(inputs)), {"x": inputs[None]}, "tflm")["y"]
    attributes = softmax.prepare(1.0, 0.0625)
    np.testing.assert_array_equal(softmax.softmax(inputs[None], attributes), expected)


def test_long_row_equals_runtime(rng):
    # The runtime stops where the sum of exponentials reaches 512, so most terms must be small.
    inputs = np.full((1, 1, 1001), -100, np.int8)
    inputs[0, 0, rng.integers(0, 1001, 200)] = 127
    expected = witness.run(model_of(1001, 0.1), {"x": inputs}, "tflm")["y"]
    attributes = softmax.prepare(1.0, float(np.float32(0.1)))
    np.testing.assert_array_equal(softmax.softmax(inputs, attributes), expected)


def test_flat_row_beyond_the_runtime_rounds_to_zero():
    inputs = np.zeros((softmax.MAX_DEPTH,), np.int8)
    result = softmax.softmax(inputs, softmax.prepare(1.0, 0.1))
    assert set(result.tolist()) == {softmax.OUTPUT_ZERO_POINT}


def test_attributes_of_known_scale():
    # 2^-5 in Q5.26 is 2^21: multiplier one half, 22 bits to the left.
    assert softmax.prepare(1.0, 1 / 32) == {
        "input_multiplier": 1 << 30,
        "input_left_shift": 22,
        "diff_min": -(31 << 26 >> 22),
    }


def test_beta_is_a_factor_of_the_scale():
    assert softmax.prepare(2.0, 1 / 32) == softmax.prepare(1.0, 1 / 16)


@pytest.mark.parametrize("scale", [0.0, -1.0, 2.0**-26, 16.0, float("inf"), float("nan")])
def test_scale_out_of_range_is_refused(scale):
    with pytest.raises(UnsupportedModelError, match=r"must be between 2\^-26 and 16, not"):
        softmax.prepare(1.0, scale)
