"""Random layers and small networks: golden device against TFLite Micro, every quantized byte."""

import numpy as np
import pytest

from systolith.arch.presets import PRESETS
from systolith.bench import witness
from systolith.bench.random_layer import KINDS, ODD_CONFIGS, random_model
from systolith.compiler import pipeline
from systolith.compiler.frontend import tflite
from systolith.driver import runtime
from systolith.driver.device import Device
from systolith.golden.device import GoldenDevice

CONFIGS = {
    **{name: PRESETS[name] for name in ("tiny-4x4", "edge-8x8", "edge-8x16", "edge-16x16")},
    **ODD_CONFIGS,
}
MEMORY_BYTES = 4 << 20
CASES_OF_EACH = 9


@pytest.mark.parametrize("number", range(CASES_OF_EACH))
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("kind", KINDS)
def test_golden_device_equals_the_reference(kind, config, number, seed):
    case = number * len(CONFIGS) + list(CONFIGS).index(config.name)
    drawn = random_model(kind, seed + case)
    expected = witness.all_tensors(drawn.model, drawn.inputs, "tflm")
    program = pipeline.compile_graph(tflite.parse(drawn.model), config, keep_tensors=True)
    device = Device(GoldenDevice(config, memory_size=MEMORY_BYTES))
    for sample in range(len(next(iter(expected.values())))):
        inputs = {name: array[sample] for name, array in drawn.inputs.items()}
        got = runtime.run_sample(device, program, inputs).tensors
        for name, wanted in expected.items():
            np.testing.assert_array_equal(got[name], wanted[sample], err_msg=name)
