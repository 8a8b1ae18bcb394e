"""The reference runtimes: equal to recorded outputs of real models, and to stated rounding."""

import builtins

import numpy as np
import pytest

from systolith.arch.errors import InputError, ModelFormatError, ToolchainError
from systolith.bench import witness
from systolith.bench.tflite_writer import TfliteModel

REFERENCES = ("tflm", "litert_reference")


def load(folder) -> tuple[bytes, dict[str, np.ndarray]]:
    with np.load(folder / "inputs.npz") as arrays:
        return (folder / "model.tflite").read_bytes(), dict(arrays)


def small_model() -> bytes:
    """Convolution with multiplier 1/4, then fully connected with 1/2: ties expose the rounding."""
    model = TfliteModel()
    x = model.input("x", (1, 2, 2, 1), scale=1.0, zero_point=0)
    identity = np.ones((1, 1, 1, 1), np.int8)
    scales = {"weight_scales": 1.0, "scale": 4.0, "zero_point": 0}
    y = model.conv2d(x, identity, np.zeros(1, np.int32), name="conv", **scales)
    weights = np.eye(4, dtype=np.int8)
    model.fully_connected(
        y, weights, np.zeros(4, np.int32), weight_scale=1.0, scale=8.0, zero_point=0, name="full"
    )
    return model.build()


@pytest.mark.shared_models
@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("name", ["mlperf_resnet8", "mlperf_ad_fcae"])
def test_outputs_equal_recorded_outputs(shared_models, name, reference):
    folder = shared_models / name
    model, inputs = load(folder)
    got = witness.run(model, inputs, reference)
    with np.load(folder / f"expected_{reference}.npz") as expected:
        assert list(got) == expected.files
        for output in expected.files:
            np.testing.assert_array_equal(got[output], expected[output])


@pytest.mark.shared_models
def test_references_agree_on_all_tensors_but_fully_connected(shared_models):
    model, inputs = load(shared_models / "mlperf_resnet8")
    inputs = {name: array[:8] for name, array in inputs.items()}
    micro = witness.all_tensors(model, inputs, "tflm")
    lite = witness.all_tensors(model, inputs, "litert_reference")
    assert list(micro) == list(lite)
    assert len(micro) == 17
    unequal = [name for name in micro if not np.array_equal(micro[name], lite[name])]
    assert unequal == ["model/dense/MatMul;model/dense/BiasAdd"]


def test_named_functions_are_the_references():
    inputs = {"x": np.arange(8, dtype=np.int8).reshape(2, 1, 2, 2, 1)}
    for reference in REFERENCES:
        expected = witness.run(small_model(), inputs, reference)["full"]
        got = getattr(witness, reference)(small_model(), inputs)["full"]
        np.testing.assert_array_equal(got, expected)


def test_rounding_of_ties():
    samples = [[-6, -2, 2, 6], [-20, -4, 4, 20]]
    inputs = {"x": np.array(samples, np.int8).reshape(2, 1, 2, 2, 1)}
    micro = witness.all_tensors(small_model(), inputs, "tflm")
    lite = witness.all_tensors(small_model(), inputs, "litert_reference")
    for tensors in (micro, lite):
        convolved = tensors["conv"].reshape(2, 4).tolist()
        assert convolved == [[-2, -1, 1, 2], [-5, -1, 1, 5]]
    # The doubling high multiply sends ties up, one rounding of the product away from zero.
    assert micro["full"][1].ravel().tolist() == [-2, 0, 1, 3]
    assert lite["full"][1].ravel().tolist() == [-3, -1, 1, 3]


def test_litert_fully_connected_multiplies_by_the_real_multiplier():
    # Sums just below 1.5 and 3.5 output steps, which the 31-bit multiplier lifts above them.
    sums = np.array([145961784, 340577496], np.int32)
    model = TfliteModel()
    x = model.input("x", (1, 1), scale=2.0**-12, zero_point=0)
    weights = np.ones((2, 1), np.int8)
    model.fully_connected(
        x, weights, sums, weight_scale=2.0**-12, scale=5.8, zero_point=0, name="y"
    )
    zero = {"x": np.zeros((1, 1, 1), np.int8)}
    assert witness.litert_reference(model.build(), zero)["y"].ravel().tolist() == [1, 3]
    assert witness.tflm(model.build(), zero)["y"].ravel().tolist() == [2, 4]


@pytest.mark.parametrize("reference", REFERENCES)
def test_all_tensors_have_samples_shapes_and_no_constants(reference):
    inputs = {"x": np.arange(12, dtype=np.int8).reshape(3, 1, 2, 2, 1)}
    tensors = witness.all_tensors(small_model(), inputs, reference)
    assert {name: array.shape for name, array in tensors.items()} == {
        "x": (3, 1, 2, 2, 1),
        "conv": (3, 1, 2, 2, 1),
        "full": (3, 1, 4),
    }
    np.testing.assert_array_equal(tensors["x"], inputs["x"])


class TestRefusals:
    def test_wrong_input_name(self):
        with pytest.raises(InputError, match=r"Inputs must be named \['x'\], not \['y'\]"):
            witness.tflm(small_model(), {"y": np.zeros((1, 1, 2, 2, 1), np.int8)})

    @pytest.mark.parametrize(
        "array", [np.zeros((1, 1, 2, 2, 1), np.uint8), np.zeros((1, 2, 2, 1), np.int8)]
    )
    def test_wrong_dtype_or_shape(self, array):
        with pytest.raises(InputError, match='Input "x" must be int8 of shape'):
            witness.tflm(small_model(), {"x": array})

    def test_not_a_model(self):
        with pytest.raises(ModelFormatError, match="has no identifier TFL3"):
            witness.tflm(b"not a flatbuffer", {})

    def test_unknown_reference(self):
        with pytest.raises(ValueError, match="Reference must be one of tflm, litert_reference"):
            witness.run(small_model(), {}, "onnxruntime")

    @pytest.mark.parametrize(
        ("reference", "package"), [("tflm", "tflite-micro"), ("litert_reference", "ai-edge-litert")]
    )
    def test_missing_package_is_named(self, monkeypatch, reference, package):
        model = small_model()
        genuine = builtins.__import__

        def without(name, *args, **kwargs):
            if name.split(".")[0] in ("tflite_micro", "ai_edge_litert"):
                raise ImportError(f"No module named {name!r}")
            return genuine(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", without)
        with pytest.raises(ToolchainError, match=f"pip install --pre {package}"):
            witness.run(model, {"x": np.zeros((1, 1, 2, 2, 1), np.int8)}, reference)
