"""The onnxruntime witness: its errors, what it compares, and that it can tell a difference."""

from pathlib import Path

import numpy as np
import pytest

from systolith.arch import edges
from systolith.arch.errors import InputError, ModelFormatError
from systolith.bench import onnx_random_layer, onnx_witness

pytest.importorskip("onnxruntime")

FOLDER = Path(__file__).parents[2] / "examples" / "onnx"


def test_differences_are_counted():
    found = onnx_witness.difference(np.array([1, 2, 3]), np.array([1, 3, 0]))
    assert found == onnx_witness.Difference(total=3, differing=2, largest=3)
    assert found + onnx_witness.Difference(total=1) == onnx_witness.Difference(
        total=4, differing=2, largest=3
    )


def test_a_wrong_kernel_is_found(monkeypatch):
    case = onnx_random_layer.layer("Conv", 3)
    assert onnx_witness.compare(case.model, case.inputs).whole.differing == 0
    honest = onnx_witness.kernel_reference_onnx.run

    def wrong(graph, inputs):
        result = honest(graph, inputs)
        result["y"] = result["y"] ^ np.asarray(1, result["y"].dtype)
        return result

    monkeypatch.setattr(onnx_witness.kernel_reference_onnx, "run", wrong)
    whole = onnx_witness.compare(case.model, case.inputs).whole
    assert whole.differing == whole.total > 0


def test_every_quantized_tensor_is_returned():
    model = (FOLDER / "residual_cnn.onnx").read_bytes()
    inputs = {"input": np.zeros((1, 1, 3, 16, 16), np.float32)}
    tensors = onnx_witness.all_tensors(model, inputs)
    assert sum(name.endswith("_QuantizeLinear_Output") for name in tensors) > 10
    assert tensors["input_QuantizeLinear_Output"].dtype == np.int8


def test_wrong_names_and_models_are_refused():
    case = onnx_random_layer.layer("Add", 0)
    with pytest.raises(InputError, match="must be named"):
        onnx_witness.run(case.model, {"other": np.zeros((1, 1), np.int8)})
    with pytest.raises(ModelFormatError, match="must be accepted by onnxruntime"):
        onnx_witness.run(b"no model", {})


def test_the_processor_is_named():
    assert onnx_witness.cpu().split()


def test_edges_are_reversible():
    values = np.arange(24, dtype=np.uint8).reshape(1, 4, 2, 3) * 10
    there = {"rows": 4, "columns": 6, "flip": edges.FLIP}
    back = {"rows": 6, "columns": 4, "flip": edges.FLIP}
    inside = edges.rearrange(values, there)
    expected = values.transpose(0, 2, 3, 1).reshape(-1).astype(np.int64) - 128
    assert inside.dtype == np.int8
    np.testing.assert_array_equal(inside, expected)
    np.testing.assert_array_equal(edges.rearrange(inside, back), values.reshape(-1))
