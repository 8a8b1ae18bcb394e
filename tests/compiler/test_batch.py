import numpy as np
import pytest

from systolith.api import InferenceSession, compile_model
from systolith.arch import isa
from systolith.arch.errors import InputError, UnsupportedModelError
from systolith.bench import witness
from systolith.bench.tflite_writer import TfliteModel
from systolith.compiler.batch import with_batch
from systolith.compiler.frontend import tflite


@pytest.fixture
def dense(rng):
    """Return the bytes of two matrix layers."""
    model = TfliteModel()
    x = model.input("x", (1, 20), scale=0.05, zero_point=3)
    for width, count in ((20, 12), (12, 7)):
        weights = rng.integers(-127, 128, (count, width)).astype(np.int8)
        bias = rng.integers(-500, 500, count).astype(np.int32)
        x = model.fully_connected(x, weights, bias, weight_scale=0.01, scale=0.2, zero_point=-5)
    return model.build()


def _load_bytes(program):
    code = program.segments[0].code
    loads = (i for i in isa.iterate(code) if isinstance(i, isa.Load))
    return sum(load.total for load in loads if load.space == isa.Space.WEIGHTS)


def test_batch_gives_the_answers_of_single_samples(rng, dense, tmp_path, tiny):
    path = tmp_path / "dense.tflite"
    path.write_bytes(dense)
    inputs = rng.integers(-128, 128, (12, 1, 20)).astype(np.int8)
    (expected,) = witness.tflm(dense, {"x": inputs}).values()
    single, batched = compile_model(path, tiny), compile_model(path, tiny, batch=4)
    assert InferenceSession(batched).get_inputs()[0].shape == (4, 20)
    (answers,) = InferenceSession(batched).run(None, {"x": inputs.reshape(12, 20)})
    assert answers.tobytes() == expected.tobytes()
    # One load of the weights serves all four samples.
    assert _load_bytes(batched) == _load_bytes(single)


def test_leading_dimension_may_hold_samples(rng, dense, tmp_path, tiny):
    path = tmp_path / "dense.tflite"
    path.write_bytes(dense)
    session = InferenceSession(compile_model(path, tiny))
    inputs = rng.integers(-128, 128, (5, 20)).astype(np.int8)
    (joined,) = session.run(None, {"x": inputs})
    (stacked,) = session.run(None, {"x": inputs[:, None]})
    assert joined.shape == (5, 7)
    assert stacked.shape == (5, 1, 7)
    assert joined.tobytes() == stacked.tobytes()


def test_batch_must_divide_what_is_run(rng, dense, tmp_path, tiny):
    path = tmp_path / "dense.tflite"
    path.write_bytes(dense)
    session = InferenceSession(compile_model(path, tiny, batch=4))
    with pytest.raises(InputError, match=r'Input "x" must be int8 of shape \(4, 20\)'):
        session.run(None, {"x": np.zeros((6, 20), np.int8)})


def test_batch_of_convolutions_is_refused(rng, tmp_path, tiny):
    model = TfliteModel()
    x = model.input("x", (1, 4, 4, 2), scale=0.05, zero_point=3)
    weights = rng.integers(-127, 128, (3, 3, 3, 2)).astype(np.int8)
    model.conv2d(x, weights, None, weight_scales=[0.01] * 3, scale=0.2, zero_point=-5)
    path = tmp_path / "conv.tflite"
    path.write_bytes(model.build())
    with pytest.raises(UnsupportedModelError, match="CONV_2D"):
        compile_model(path, tiny, batch=2)


def test_batch_must_be_positive(dense):
    with pytest.raises(ValueError, match="Batch must be at least 1, not 0"):
        with_batch(tflite.parse(dense), 0)
