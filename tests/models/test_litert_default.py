"""LiteRT's default kernels (XNNPACK) have no single integer rule: what differs is counted."""

import numpy as np
import pytest

from systolith.api import InferenceSession, compile_model

pytestmark = pytest.mark.shared_models

# Convolutions and matrix products round in float32 and are reproduced; XNNPACK's additions and the
# requantizations at the ends of MobileNetV2 have rules of their own.
DIFFERING_BYTES = {
    "mlperf_resnet8": (64, 0),
    "mlperf_kws_dscnn": (64, 0),
    "mlperf_vww_mbv1": (64, 0),
    "coral_mbv2_100_224_ptq": (2, 3),
}


@pytest.mark.parametrize("name", DIFFERING_BYTES)
def test_bytes_that_differ_from_the_default_kernels_are_as_counted(shared_models, name):
    samples, differing = DIFFERING_BYTES[name]
    folder = shared_models / name
    program = compile_model(folder / "model.tflite", "edge-16x16", reference="litert_default")
    (source,), (target,) = program.inputs, program.outputs
    inputs = np.load(folder / "inputs.npz")[source][:samples]
    expected = np.load(folder / "expected_litert_default.npz")[target][:samples]
    (answers,) = InferenceSession(program).run(None, {source: inputs})
    assert np.count_nonzero(answers[: len(expected)] != expected) == differing
