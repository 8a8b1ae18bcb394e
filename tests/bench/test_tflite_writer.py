"""The model builder: what it writes reads back, and both runtimes run it."""

import numpy as np
import pytest
import tflite

from systolith.bench import witness
from systolith.bench.tflite_schema import BUFFER_ALIGN_BYTES
from systolith.bench.tflite_writer import TfliteModel


def every_operator(rng: np.random.Generator) -> bytes:
    """One of each operator, with odd sizes, both paddings, dilation and unequal strides."""
    model = TfliteModel()
    x = model.input("image", (1, 9, 7, 3), scale=0.05, zero_point=-7)
    conv = model.conv2d(
        x,
        rng.integers(-128, 128, (5, 3, 2, 3), dtype=np.int8),
        rng.integers(-500, 500, 5, dtype=np.int32),
        weight_scales=rng.uniform(0.001, 0.01, 5),
        scale=0.1,
        zero_point=3,
        stride=(2, 1),
        activation="RELU6",
    )
    depthwise = model.depthwise_conv2d(
        conv,
        rng.integers(-128, 128, (1, 3, 3, 10), dtype=np.int8),
        rng.integers(-500, 500, 10, dtype=np.int32),
        weight_scales=rng.uniform(0.001, 0.01, 10),
        scale=0.1,
        zero_point=-128,
        padding="VALID",
        dilation=(1, 2),
    )
    total = model.add(depthwise, depthwise, scale=0.17, zero_point=5, activation="RELU")
    pooled = model.max_pool(total, (2, 2), stride=(1, 1))
    pooled = model.average_pool(pooled, (2, 2), padding="SAME")
    flat = model.reshape(pooled, (1, 10))
    weights = rng.integers(-128, 128, (4, 10), dtype=np.int8)
    logits = model.fully_connected(flat, weights, None, weight_scale=0.01, scale=0.3, zero_point=1)
    model.softmax(logits, name="scores")
    return model.build()


def test_both_runtimes_run_every_operator_and_agree(rng):
    model = every_operator(rng)
    inputs = {"image": rng.integers(-128, 128, (4, 1, 9, 7, 3), dtype=np.int8)}
    micro = witness.all_tensors(model, inputs, "tflm")
    lite = witness.all_tensors(model, inputs, "litert_reference")
    assert list(micro) == list(lite)
    # Fully connected layers may differ by one step between the two (single against double
    # rounding), and so may what follows them.
    for name in list(micro)[:-2]:
        np.testing.assert_array_equal(micro[name], lite[name], err_msg=name)
        assert micro[name].min() < micro[name].max(), f"{name} is constant and shows nothing"


def test_operators_read_back_in_order(rng):
    root = tflite.Model.GetRootAs(every_operator(rng), 0)
    graph = root.Subgraphs(0)
    codes = [
        root.OperatorCodes(graph.Operators(i).OpcodeIndex()).BuiltinCode()
        for i in range(graph.OperatorsLength())
    ]
    op = tflite.BuiltinOperator
    assert codes == [
        op.CONV_2D,
        op.DEPTHWISE_CONV_2D,
        op.ADD,
        op.MAX_POOL_2D,
        op.AVERAGE_POOL_2D,
        op.RESHAPE,
        op.FULLY_CONNECTED,
        op.SOFTMAX,
    ]


def test_convolution_reads_back_field_by_field(rng):
    weights = rng.integers(-128, 128, (5, 3, 2, 3), dtype=np.int8)
    bias = np.array([-(2**31), 2**31 - 1, 0, 1, -1], np.int32)
    weight_scales = rng.uniform(0.001, 0.01, 5).astype(np.float32)
    model = TfliteModel(description="one layer")
    x = model.input("image", (1, 9, 7, 3), scale=0.05, zero_point=-7)
    y = model.conv2d(
        x,
        weights,
        bias,
        weight_scales=weight_scales,
        scale=0.1,
        zero_point=3,
        stride=(2, 1),
        padding="VALID",
        dilation=(1, 3),
        activation="RELU6",
        name="features",
    )
    assert y.shape == (1, 4, 4, 5)

    data = model.build()
    assert tflite.Model.ModelBufferHasIdentifier(data, 0)
    root = tflite.Model.GetRootAs(data, 0)
    assert root.Version() == 3
    assert root.Description() == b"one layer"
    graph = root.Subgraphs(0)
    operator = graph.Operators(0)
    options = tflite.Conv2DOptions()
    table = operator.BuiltinOptions()
    options.Init(table.Bytes, table.Pos)
    assert (options.StrideH(), options.StrideW()) == (2, 1)
    assert (options.DilationHFactor(), options.DilationWFactor()) == (1, 3)
    assert options.Padding() == tflite.Padding.VALID
    assert options.FusedActivationFunction() == tflite.ActivationFunctionType.RELU6

    w, b = (graph.Tensors(operator.Inputs(i)) for i in (1, 2))
    stored = root.Buffers(w.Buffer()).DataAsNumpy().view(np.int8).reshape(weights.shape)
    np.testing.assert_array_equal(stored, weights)
    np.testing.assert_array_equal(root.Buffers(b.Buffer()).DataAsNumpy().view("<i4"), bias)
    np.testing.assert_array_equal(w.Quantization().ScaleAsNumpy(), weight_scales)
    assert w.Quantization().QuantizedDimension() == 0
    expected = np.float32(0.05) * weight_scales
    np.testing.assert_array_equal(b.Quantization().ScaleAsNumpy(), expected)
    out = graph.Tensors(graph.Outputs(0))
    assert out.Name() == b"features"
    assert out.Quantization().ScaleAsNumpy()[0] == np.float32(0.1)
    assert out.Quantization().ZeroPointAsNumpy()[0] == 3


def test_identity_convolution_adds_its_bias_exactly():
    model = TfliteModel()
    x = model.input("x", (1, 2, 2, 2), scale=0.5, zero_point=4)
    weights = np.eye(2, dtype=np.int8).reshape(2, 1, 1, 2)
    bias = np.array([10, -20], np.int32)
    model.conv2d(x, weights, bias, weight_scales=1.0, scale=0.5, zero_point=4, name="y")
    values = np.arange(-4, 4, dtype=np.int8).reshape(1, 1, 2, 2, 2)
    got = witness.tflm(model.build(), {"x": values})["y"]
    np.testing.assert_array_equal(got, values + bias.astype(np.int8))


def test_buffers_are_aligned(rng):
    root = tflite.Model.GetRootAs(every_operator(rng), 0)
    # Field 0 of the table `Buffer`, by flatbuffers' numbering of slots.
    first_field = 4
    tables = [root.Buffers(i)._tab for i in range(root.BuffersLength())]
    starts = [t.Vector(t.Offset(first_field)) for t in tables if t.Offset(first_field)]
    assert len(starts) == 6
    assert all(start % BUFFER_ALIGN_BYTES == 0 for start in starts)


def test_same_calls_give_same_bytes(seed):
    first, second = (every_operator(np.random.default_rng(seed)) for _ in range(2))
    assert first == second


def test_chosen_outputs_are_the_outputs():
    model = TfliteModel()
    x = model.input("x", (1, 4, 4, 1), scale=1.0, zero_point=0)
    a = model.max_pool(x, (2, 2), name="a")
    b = model.average_pool(x, (2, 2), name="b")
    values = {"x": np.zeros((2, 1, 4, 4, 1), np.int8)}
    assert list(witness.tflm(model.build([b, a]), values)) == ["b", "a"]
    assert list(witness.tflm(model.build(), values)) == ["b"]


class TestRefusals:
    def model(self):
        model = TfliteModel()
        return model, model.input("x", (1, 4, 4, 3), scale=1.0, zero_point=0)

    def conv(self, weights=None, bias=None, **options):
        model, x = self.model()
        weights = np.zeros((2, 1, 1, 3), np.int8) if weights is None else weights
        settings = {"weight_scales": 1.0, "scale": 1.0, "zero_point": 0} | options
        return model.conv2d(x, weights, bias, **settings)

    def test_wrong_dtype(self):
        with pytest.raises(TypeError, match="Convolution weights must be int8, not int64"):
            self.conv(np.zeros((2, 1, 1, 3), np.int64))

    def test_wrong_channels(self):
        with pytest.raises(ValueError, match=r"must have shape \(-1, -1, -1, 3\)"):
            self.conv(np.zeros((2, 1, 1, 4), np.int8))

    def test_wrong_bias_length(self):
        with pytest.raises(ValueError, match=r"Bias must have shape \(2,\)"):
            self.conv(bias=np.zeros(3, np.int32))

    def test_wrong_number_of_weight_scales(self):
        with pytest.raises(ValueError, match="Weight scales must be 1 or 2"):
            self.conv(weight_scales=[1.0, 1.0, 1.0])

    @pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
    def test_bad_scale(self, scale):
        with pytest.raises(ValueError, match="Scale must be positive and finite"):
            self.conv(scale=scale)
        with pytest.raises(ValueError, match="Weight scales must be positive and finite"):
            self.conv(weight_scales=scale)

    def test_bad_zero_point(self):
        with pytest.raises(ValueError, match=r"Zero point must be in -128..127, not 128"):
            self.conv(zero_point=128)

    def test_bad_options(self):
        with pytest.raises(ValueError, match="Padding must be SAME or VALID, not FULL"):
            self.conv(padding="FULL")
        with pytest.raises(ValueError, match="Activation must be NONE, RELU"):
            self.conv(activation="TANHISH")
        with pytest.raises(ValueError, match="stride and dilation must be positive"):
            self.conv(stride=(0, 1))
        with pytest.raises(ValueError, match="must fit into the input of 4x4"):
            self.conv(np.zeros((2, 5, 1, 3), np.int8), padding="VALID")

    def test_other_operators(self):
        model, x = self.model()
        scales = {"scale": 1.0, "zero_point": 0}
        with pytest.raises(ValueError, match="multiple of 3 channels, not 4"):
            weights = np.zeros((1, 1, 1, 4), np.int8)
            model.depthwise_conv2d(x, weights, np.zeros(4, np.int32), weight_scales=1.0, **scales)
        with pytest.raises(ValueError, match="divides the 48 elements"):
            model.fully_connected(x, np.zeros((2, 5), np.int8), None, weight_scale=1.0, **scales)
        with pytest.raises(ValueError, match="must have as many elements"):
            model.reshape(x, (1, 47))
        with pytest.raises(ValueError, match='"x" is used twice'):
            model.max_pool(x, (2, 2), name="x")
        with pytest.raises(ValueError, match="must be NHWC"):
            model.max_pool(model.reshape(x, (1, 48)), (2, 2))

    def test_empty_model(self):
        with pytest.raises(ValueError, match="at least one input and one operator"):
            self.model()[0].build()
