"""Random layers and small networks: golden device against TFLite Micro, every quantized byte."""

import numpy as np
import pytest

from systolith.arch import isa, rules
from systolith.arch.presets import PRESETS
from systolith.bench import witness
from systolith.bench.random_layer import KINDS, ODD_CONFIGS, random_model
from systolith.bench.tflite_writer import TfliteModel
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
CASES_OF_EACH = 8


def can_multiply(config):
    """Whether the two-operand unit of a configuration has products."""
    rule = (isa.Opcode.ELEMENTWISE, "op")
    limits = [item.high for item in rules.field_rules(config) if (item.opcode, item.field) == rule]
    return min(limits, default=isa.ElementwiseOp.MUL) >= isa.ElementwiseOp.MUL


PRODUCTS = ("mul", "broadcast_mul")


@pytest.mark.parametrize("number", range(CASES_OF_EACH))
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("kind", KINDS)
def test_golden_device_equals_the_reference(kind, config, number, seed):
    if kind in PRODUCTS and not can_multiply(config):
        pytest.skip("this configuration has no products")
    case = number * len(CONFIGS) + list(CONFIGS).index(config.name)
    drawn = random_model(kind, seed + case)
    assert_equal_to_reference(drawn.model, drawn.inputs, config)


def assert_equal_to_reference(model, inputs, config):
    """Compare every quantized tensor of every sample; return the program."""
    expected = witness.all_tensors(model, inputs, "tflm")
    program = pipeline.compile_graph(tflite.parse(model), config, keep_tensors=True)
    device = Device(GoldenDevice(config, memory_size=MEMORY_BYTES))
    for sample in range(len(next(iter(expected.values())))):
        arrays = {name: array[sample] for name, array in inputs.items()}
        got = runtime.run_sample(device, program, arrays).tensors
        for name, wanted in expected.items():
            np.testing.assert_array_equal(got[name], wanted[sample], err_msg=name)
    return program


def test_weights_beyond_their_memory_are_loaded_for_each_tile(rng, tiny):
    model = TfliteModel()
    x = model.input("x", (1, 10, 10, 64), scale=0.1, zero_point=-1)
    weights = rng.integers(-128, 128, (4, 3, 3, 64), dtype=np.int8)
    assert weights.size // tiny.cols > tiny.weight_words
    model.conv2d(x, weights, None, weight_scales=0.01, scale=3.0, zero_point=0)
    inputs = {"x": rng.integers(-128, 128, (1, 1, 10, 10, 64), dtype=np.int8)}
    program = assert_equal_to_reference(model.build(), inputs, tiny)
    (segment,) = program.segments
    loads = [item for item in isa.iterate(segment.code) if isinstance(item, isa.Load)]
    loaded = sum(item.total for item in loads if item.space == isa.Space.WEIGHTS)
    # The image has two tiles; the constants hold the weights once all the same.
    words = weights.size // tiny.cols * tiny.weight_word_bytes
    assert loaded == 2 * words
    assert words <= len(program.constants) < loaded
