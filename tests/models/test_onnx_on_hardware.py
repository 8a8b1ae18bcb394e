"""ONNX networks on the generated hardware: what golden answers, which equals onnxruntime."""

from pathlib import Path

import numpy as np
import pytest

from systolith.api import InferenceSession, compile_model

FOLDER = Path(__file__).parents[2] / "examples" / "onnx"
NETWORKS = sorted(path.stem for path in FOLDER.glob("*.onnx"))


@pytest.mark.parametrize("name", NETWORKS)
def test_hardware_answers_as_golden_does(name, rng):
    program = compile_model(FOLDER / f"{name}.onnx", "edge-16x16")
    inputs = {}
    for tensor in (program.tensors[name] for name in program.inputs):
        limits = np.iinfo(tensor.dtype)
        values = rng.integers(limits.min, limits.max + 1, (2, *tensor.shape))
        inputs[tensor.name] = values.astype(tensor.dtype)
    golden = InferenceSession(program).run(None, inputs)
    with InferenceSession(program, device="rtl") as session:
        answers = session.run(None, inputs)
        cycles = session.profile().cycles
    assert all(np.array_equal(a, b) for a, b in zip(answers, golden, strict=True))
    assert len(set(cycles)) == 1
