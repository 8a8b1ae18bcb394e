"""Legalization: kernels evaluated in plain NumPy give the bytes of the reference runtimes."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from systolith.arch.isa import Rounding
from systolith.bench import kernel_reference, witness
from systolith.bench.random_layer import KINDS, random_model
from systolith.bench.random_operator import OPERATORS
from systolith.bench.tflite_writer import TfliteModel
from systolith.compiler import geometry, legal_moves, legal_sums, spec
from systolith.compiler.factors import fully_connected_factors
from systolith.compiler.frontend import tflite
from systolith.compiler.ir import Requantization, TableKernel, Tensor
from systolith.compiler.legalize import REFERENCES, legalize


def first_difference(kernels, expected, inputs):
    """Return where the first tensor differs, in the order of the model, or None."""
    for sample in range(len(next(iter(inputs.values())))):
        got = kernel_reference.run(kernels, {n: a[sample] for n, a in inputs.items()})
        for name, wanted in expected.items():
            differs = np.argwhere(got[name] != wanted[sample])
            if len(differs):
                at = tuple(differs[0])
                return sample, name, at, int(wanted[sample][at]), int(got[name][at])
    return None


@pytest.mark.shared_models
@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize(
    ("name", "macs", "samples"),
    [
        ("mlperf_resnet8", 12_501_632, 8),
        ("mlperf_ad_fcae", 264_192, 8),
        ("mlperf_kws_dscnn", 2_656_768, 8),
        ("mlperf_vww_mbv1", 7_489_664, 8),
        ("coral_mbv2_100_224_ptq", 300_775_552, 1),
    ],
)
def test_every_tensor_of_real_models_is_exact(shared_models, name, macs, samples, reference):
    data = (shared_models / name / "model.tflite").read_bytes()
    with np.load(shared_models / name / "inputs.npz") as arrays:
        inputs = {key: array[:samples] for key, array in arrays.items()}
    kernels = legalize(tflite.parse(data), reference)
    spec.verify(kernels)
    expected = witness.all_tensors(data, inputs, reference)
    assert len(expected) == len(kernels.tensors)
    assert first_difference(kernels, expected, inputs) is None
    assert sum(macs for _, _, macs in kernels.layers) == macs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", range(20))
def test_random_models_are_exact(kind, number, seed):
    drawn = random_model(kind, seed + number)
    kernels = legalize(tflite.parse(drawn.model), "tflm")
    spec.verify(kernels)
    expected = witness.all_tensors(drawn.model, drawn.inputs, "tflm")
    assert first_difference(kernels, expected, drawn.inputs) is None


@pytest.mark.parametrize("kind", ["fully_connected", "add", "average_pool", *OPERATORS])
@pytest.mark.parametrize("number", range(20))
def test_random_models_are_exact_in_the_other_reference(kind, number, seed):
    # The other reference has no int8 ELU: the first model without one is taken.
    models = (random_model(kind, seed + number + 1000 * attempt) for attempt in count())
    drawn = next(
        model
        for model in models
        if all(operator.kind != "ELU" for operator in tflite.parse(model.model).operators)
    )
    kernels = legalize(tflite.parse(drawn.model), "litert_reference")
    expected = witness.all_tensors(drawn.model, drawn.inputs, "litert_reference")
    assert first_difference(kernels, expected, drawn.inputs) is None


def dense(weight_scale=0.01, **changes):
    model = TfliteModel()
    x = model.input("x", (1, 3), scale=0.5, zero_point=10)
    settings = {"scale": 0.25, "zero_point": 4, "name": "y"} | changes
    weights = np.array([[1, 2, 3], [-128, 127, 0]], np.int8)
    bias = np.array([100, 2**31 - 1], np.int32)
    model.fully_connected(x, weights, bias, weight_scale=weight_scale, **settings)
    return tflite.parse(model.build())


def test_zero_point_is_folded_into_the_bias():
    (kernel,) = legalize(dense(), "tflm").kernels
    # The second bias wraps: 2^31 - 1 + 10.
    np.testing.assert_array_equal(kernel.bias, [100 - 10 * 6, -(2**31) + 9])
    assert kernel.pad_value == 10


@pytest.mark.parametrize(
    ("reference", "rounding"),
    [("tflm", Rounding.DOUBLE), ("litert_reference", Rounding.SINGLE)],
)
def test_rounding_of_matrices_follows_the_reference(reference, rounding):
    (kernel,) = legalize(dense(), reference).kernels
    assert kernel.requantization.rounding == rounding


@pytest.mark.parametrize("reference", REFERENCES)
def test_convolutions_round_twice_in_every_reference(reference):
    model = random_model("convolution", 1).model
    (kernel,) = legalize(tflite.parse(model), reference).kernels
    assert kernel.requantization.rounding == Rounding.DOUBLE


def test_unknown_reference_is_refused():
    with pytest.raises(
        ValueError, match="must be one of tflm, litert_reference, litert_default, not 'xnnpack'"
    ):
        legalize(dense(), "xnnpack")


def test_matrices_multiply_scales_in_float32_unless_per_channel():
    x = Tensor(name="x", shape=(1, 3), dtype="int8", scales=(float(np.float32(0.1)),))
    y = replace(x, name="y", scales=(1.0,))
    weights = replace(x, name="w", scales=(float(np.float32(0.3)),))
    exact = x.scale * weights.scale
    single = float(np.float32(exact))
    assert exact != single
    assert fully_connected_factors(x, weights, y, 2) == [single] * 2
    weights = replace(weights, scales=weights.scales * 2)
    assert fully_connected_factors(x, weights, y, 2) == [exact] * 2


@pytest.mark.parametrize("reference", REFERENCES)
def test_matrices_with_scales_per_channel_are_exact(rng, reference):
    model = TfliteModel()
    x = model.input("x", (1, 40), scale=0.1, zero_point=-20)
    weights = rng.integers(-128, 128, (9, 40), dtype=np.int8)
    y = model.fully_connected(x, weights, None, weight_scale=0.3, scale=40.0, zero_point=1)
    # The builder writes one scale; the tensor of the weights gets the others afterwards.
    parameters = model._tensors[1].quantization
    parameters.scale = rng.uniform(0.05, 0.6, 9).astype(np.float32)
    parameters.zeroPoint = np.zeros(9, np.int64)
    data, inputs = model.build([y]), {"x": rng.integers(-128, 128, (8, 1, 40), dtype=np.int8)}
    kernels = legalize(tflite.parse(data), reference)
    assert kernels.kernels[0].requantization.per_channel
    expected = witness.all_tensors(data, inputs, reference)
    assert first_difference(kernels, expected, inputs) is None


def test_tensors_between_kernels_have_names_of_their_own():
    model = TfliteModel()
    x = model.input("y/operand1", (1, 2, 3, 4), scale=0.5, zero_point=0)
    pixel = model.input("pixel", (1, 1, 1, 4), scale=0.5, zero_point=0)
    model.binary("ADD", x, pixel, scale=1.0, zero_point=0, name="y")
    kernels = legalize(tflite.parse(model.build()), "tflm")
    spec.verify(kernels)
    assert [type(kernel).__name__ for kernel in kernels.kernels] == ["ResizeKernel", "AddKernel"]
    assert set(kernels.tensors) == {"y/operand1", "pixel", "y/operand1'", "y"}


@pytest.mark.parametrize("operator", ["ADD", "SUB", "MUL"])
def test_one_constant_becomes_a_table(operator):
    model = TfliteModel()
    x = model.input("x", (1, 2, 3, 4), scale=0.5, zero_point=0)
    model.binary(operator, (np.int8(7), 0.25, 3), x, scale=1.0, zero_point=0)
    (kernel,) = legalize(tflite.parse(model.build()), "tflm").kernels
    assert isinstance(kernel, TableKernel)


def test_groups_and_channel_multipliers_become_dense_weights():
    model = TfliteModel()
    x = model.input("x", (1, 4, 4, 3), scale=0.5, zero_point=0)
    weights = np.arange(1, 7, dtype=np.int8).reshape(1, 1, 1, 6)
    bias = np.zeros(6, np.int32)
    model.depthwise_conv2d(x, weights, bias, weight_scales=0.1, scale=1.0, zero_point=0)
    (kernel,) = legalize(tflite.parse(model.build()), "tflm").kernels
    expected = [[1, 0, 0], [2, 0, 0], [0, 3, 0], [0, 4, 0], [0, 0, 5], [0, 0, 6]]
    np.testing.assert_array_equal(kernel.weights[:, 0, 0], expected)


def test_a_dropped_axis_is_a_view_of_the_cut():
    model = TfliteModel()
    x = model.input("x", (1, 4, 5, 3), scale=0.5, zero_point=0)
    model.strided_slice(x, (0, 0, 2, 0), (1, 4, 3, 3), (1, 1, 1, 1), shrink_axis_mask=4, name="y")
    kernels = legalize(tflite.parse(model.build()), "tflm")
    assert [type(kernel).__name__ for kernel in kernels.kernels] == ["SliceKernel", "ViewKernel"]
    assert kernels.tensors["y/cut0"].shape == (1, 4, 1, 3)


@pytest.mark.parametrize(
    ("size", "count", "options", "expected"),
    [
        (3, 6, {}, (0, 0, 1, 1, 2, 2)),
        (4, 3, {}, (0, 1, 2)),
        (3, 5, {"align_corners": True}, (0, 1, 1, 2, 2)),
        (2, 5, {"half_pixels": True}, (0, 0, 1, 1, 1)),
        (5, 1, {"align_corners": True}, (0,)),
    ],
)
def test_nearest_neighbors(size, count, options, expected):
    settings = {"align_corners": False, "half_pixels": False} | options
    assert legal_moves.nearest(size, count, **settings) == expected


def test_multiplier_of_a_mean_holds_the_count():
    assert legal_sums.mean_multiplier(1.0, 1) == (1 << 30, 1)
    multiplier, shift = legal_sums.mean_multiplier(0.7, 49)
    assert multiplier * 2.0 ** (shift - 31) == pytest.approx(0.7 / 49, rel=1e-8)


def test_single_window_loses_its_stride():
    model = TfliteModel()
    x = model.input("x", (1, 8, 8, 2), scale=0.5, zero_point=0)
    model.average_pool(x, (8, 8))
    (kernel,) = legalize(tflite.parse(model.build()), "tflm").kernels
    assert (kernel.window, kernel.stride) == ((8, 8), (1, 1))


@pytest.mark.parametrize(
    ("activation", "scale", "zero_point", "expected"),
    [
        ("NONE", 0.1, 0, (-128, 127)),
        ("RELU", 0.1, -5, (-5, 127)),
        ("RELU6", 0.1, -128, (-128, -68)),
        ("RELU6", 0.01, 0, (0, 127)),
        ("RELU_N1_TO_1", 0.1, 5, (-5, 15)),
        # Half a step rounds away from zero, on both sides.
        ("RELU_N1_TO_1", 0.4, 0, (-3, 3)),
    ],
)
def test_activation_becomes_a_clamp(activation, scale, zero_point, expected):
    scale = float(np.float32(scale))
    assert geometry.activation_range(activation, scale, zero_point) == expected


@pytest.mark.parametrize(
    ("axis", "output", "pad"),
    [
        ({"size": 5, "kernel": 3, "stride": 1, "padding": "SAME"}, 5, 1),
        ({"size": 5, "kernel": 3, "stride": 1, "padding": "VALID"}, 3, 0),
        # An even kernel pads more behind than before.
        ({"size": 5, "kernel": 4, "stride": 1, "padding": "SAME"}, 5, 1),
        ({"size": 6, "kernel": 3, "stride": 2, "padding": "SAME"}, 3, 0),
        ({"size": 7, "kernel": 2, "stride": 2, "padding": "VALID", "dilation": 3}, 2, 0),
        ({"size": 2, "kernel": 3, "stride": 1, "padding": "VALID"}, 0, 0),
        # A stride beyond the kernel leaves pixels out and needs no padding.
        ({"size": 9, "kernel": 1, "stride": 4, "padding": "SAME"}, 3, 0),
    ],
)
def test_window_along_an_axis(axis, output, pad):
    window = geometry.Axis(**axis)
    assert (window.output, window.pad) == (output, pad)


class TestSpec:
    """A defect of legalization is found before it becomes a program."""

    @pytest.fixture
    def kernels(self):
        return legalize(tflite.parse(random_model("network", 3).model), "tflm")

    def broken(self, kernels, index, **changes):
        items = list(kernels.kernels)
        items[index] = replace(items[index], **changes)
        return replace(kernels, kernels=tuple(items))

    def test_legal_kernels_pass(self, kernels):
        spec.verify(kernels)

    def test_order_is_checked(self, kernels):
        reverse = replace(kernels, kernels=kernels.kernels[::-1])
        with pytest.raises(AssertionError, match="before it is made"):
            spec.verify(reverse)

    def test_sizes_are_checked(self, kernels):
        image = replace(kernels.kernels[0].output, height=99)
        with pytest.raises(AssertionError, match=r"ConvKernel of layer 0 sees \d+ bytes in tensor"):
            spec.verify(self.broken(kernels, 0, output=image))

    def test_numbers_are_checked(self, kernels):
        conv = kernels.kernels[0]
        with pytest.raises(AssertionError, match="has a bias beyond int32"):
            spec.verify(self.broken(kernels, 0, bias=conv.bias + 2**31))
        with pytest.raises(AssertionError, match="pads with 128"):
            spec.verify(self.broken(kernels, 0, pad_value=128))
        with pytest.raises(AssertionError, match="must name one of"):
            spec.verify(self.broken(kernels, 0, layer=99))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"low": 5, "high": 4}, "clamps to 5..4"),
            ({"shifts": -32}, "has an illegal shift"),
            ({"multipliers": 2**31}, "has a multiplier beyond Q31"),
            ({"rounding": Rounding.AVERAGE}, "rounds by AVERAGE"),
        ],
    )
    def test_requantizations_are_checked(self, kernels, changes, message):
        old = kernels.kernels[0].requantization
        arrays = {
            name: np.full_like(old.shifts, value)
            for name, value in changes.items()
            if name in ("shifts", "multipliers")
        }
        new = replace(old, **{**changes, **arrays})
        assert isinstance(new, Requantization)
        with pytest.raises(AssertionError, match=message):
            spec.verify(self.broken(kernels, 0, requantization=new))

    def test_other_things_are_no_graphs(self):
        with pytest.raises(TypeError, match="must be Graph or KernelGraph, not str"):
            spec.verify("graph")
