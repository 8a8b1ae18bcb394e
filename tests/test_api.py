"""The face for users: sessions in onnxruntime's shape, their errors and figures."""

import numpy as np
import pytest

from systolith.api import InferenceSession, Program, compile_model, open_transport
from systolith.arch.errors import ConfigError, InputError, ModelFormatError, ProgramError
from systolith.bench import witness
from systolith.bench.tflite_writer import TfliteModel
from systolith.golden.device import GoldenDevice

SHAPE = (1, 12)


def small_model(rng):
    """Two fully connected layers and a softmax."""
    model = TfliteModel(description="small")
    x = model.input("x", SHAPE, scale=0.5, zero_point=-3)
    for index, (width, depth) in enumerate([(9, 12), (5, 9)]):
        weights = rng.integers(-128, 128, (width, depth)).astype(np.int8)
        bias = rng.integers(-999, 999, width).astype(np.int32)
        x = model.fully_connected(
            x, weights, bias, weight_scale=0.01, scale=0.3, zero_point=4, name=f"fc{index}"
        )
    model.softmax(x, name="y")
    return model.build()


@pytest.fixture
def model(rng, tmp_path):
    path = tmp_path / "small.tflite"
    path.write_bytes(small_model(rng))
    return path


@pytest.fixture
def stack(rng):
    return rng.integers(-128, 128, (6, *SHAPE)).astype(np.int8)


@pytest.fixture
def session(model, tiny):
    with InferenceSession(compile_model(model, tiny)) as session:
        yield session


@pytest.mark.parametrize("reference", ["tflm", "litert_reference"])
def test_outputs_equal_the_reference_that_was_asked_for(model, tiny, stack, reference):
    session = InferenceSession(compile_model(model, tiny, reference=reference))
    (y,) = session.run(None, {"x": stack})
    expected = witness.run(model.read_bytes(), {"x": stack}, reference)
    np.testing.assert_array_equal(y, expected["y"])


def test_every_kept_tensor_equals_the_reference(model, stack):
    session = InferenceSession(compile_model(model, "tiny-4x4", keep_tensors=True))
    expected = witness.all_tensors(model.read_bytes(), {"x": stack}, "tflm")
    assert {info.name for info in session.get_tensors()} == set(expected)
    for name, array in zip(expected, session.run(list(expected), {"x": stack}), strict=True):
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_one_sample_has_no_samples_axis(session, stack):
    (stacked,) = session.run(["y"], {"x": stack})
    (single,) = session.run(["y"], {"x": stack[2]})
    np.testing.assert_array_equal(single, stacked[2])
    assert session.run(None, {"x": stack[:0]})[0].shape == (0, 1, 5)


def test_progress_is_told_after_each_sample(session, stack):
    told = []
    session.run(None, {"x": stack}, on_sample=told.append)
    assert told == [1, 2, 3, 4, 5, 6]


def test_inputs_and_outputs_are_described(session):
    (x,), (y,) = session.get_inputs(), session.get_outputs()
    assert (x.name, x.shape, x.dtype, x.scale, x.zero_point) == ("x", SHAPE, "int8", 0.5, -3)
    assert (y.name, y.shape, y.dtype, y.scale, y.zero_point) == ("y", (1, 5), "int8", 1 / 256, -128)


def test_program_survives_a_file(session, stack, tmp_path):
    session.program.save(tmp_path / "small.systolith")
    again = InferenceSession(Program.load(tmp_path / "small.systolith"))
    np.testing.assert_array_equal(again.run(None, {"x": stack}), session.run(None, {"x": stack}))


@pytest.mark.parametrize(
    ("feed", "text"),
    [
        ({}, r"Inputs must be named \['x'\], not \[\]"),
        ({"z": np.zeros(SHAPE, np.int8)}, r"must be named \['x'\], not \['z'\]"),
        ({"x": np.zeros((12,), np.int8)}, r"\(1, 12\) or .*, not int8 of shape \(12,\)"),
        ({"x": np.zeros((2, 2, 1, 12), np.int8)}, r"not int8 of shape \(2, 2, 1, 12\)"),
        ({"x": np.zeros(SHAPE, np.uint8)}, "must be int8 of shape .*, not uint8"),
        ({"x": np.zeros(SHAPE)}, "not float64 .*; quantize it with scale 0.5 and zero point -3"),
    ],
)
def test_wrong_input_is_refused(session, feed, text):
    with pytest.raises(InputError, match=text):
        session.run(None, feed)


def test_unknown_output_is_refused(session, stack):
    with pytest.raises(InputError, match='Output "q" must be one of'):
        session.run(["q"], {"x": stack})


def test_profile_needs_a_run(session):
    with pytest.raises(InputError, match="must have run before"):
        session.profile()


def test_profile_of_the_golden_device_has_no_cycles(session, stack):
    session.run(None, {"x": stack})
    profile = session.profile()
    assert (profile.cycles, profile.utilization) == (None, None)
    assert profile.macs == 12 * 9 + 9 * 5
    assert [(layer.layer.op, layer.layer.target) for layer in profile.layers] == [
        ("FULLY_CONNECTED", "npu"),
        ("FULLY_CONNECTED", "npu"),
        ("SOFTMAX", "cpu"),
    ]
    assert all(counters["read_bytes"] > 0 for counters in profile.counters)


class TimedDevice(GoldenDevice):
    """A golden device that claims a hundred cycles, and one completion every ten."""

    def read_register(self, addr):
        return 100 if addr == 0x100 else super().read_register(addr)

    def timeline(self):
        return [(engine, n, 10 * n) for n in range(1, 9) for engine in range(4)]


def test_profile_of_a_timed_device_adds_up(model, tiny, stack):
    session = InferenceSession(compile_model(model, tiny), TimedDevice(tiny))
    session.run(None, {"x": stack})
    profile = session.profile()
    assert profile.cycles == 6 * [100]
    assert profile.utilization == profile.macs / 100 / 16
    assert sum(layer.cycles for layer in profile.layers if layer.cycles) == 100
    assert profile.layers[-1].cycles is None


def test_program_for_another_machine_is_refused(model, tiny, edge):
    with pytest.raises(ProgramError, match="rows is 16 in the device, not 4"):
        InferenceSession(compile_model(model, tiny), GoldenDevice(edge))


def test_unknown_names_are_refused(model, tiny, tmp_path):
    with pytest.raises(ConfigError, match='"huge" must be one of tiny-4x4'):
        compile_model(model, "huge")
    with pytest.raises(InputError, match='must be one of golden, rtl, uart:PORT.*not "fpga"'):
        open_transport("fpga", tiny)
    with pytest.raises(ModelFormatError):
        compile_model(tmp_path / "absent.tflite", tiny)
