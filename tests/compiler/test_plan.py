"""What does not fit: spilled, cascaded and striped kernels give the same bytes."""

from dataclasses import replace

import numpy as np
import pytest

from systolith.api import InferenceSession
from systolith.arch import isa
from systolith.arch.presets import PRESETS
from systolith.arch.program import Region
from systolith.bench import witness
from systolith.bench.tflite_writer import TfliteModel
from systolith.compiler import pipeline
from systolith.compiler.frontend import tflite

CONFIGS = [
    replace(PRESETS["tiny-4x4"], name="tiny-spill", scratchpad_bytes=8 << 10),
    replace(PRESETS["edge-8x8"], name="edge-8x8-spill", scratchpad_bytes=16 << 10),
    replace(PRESETS["edge-16x16"], name="edge-16x16-spill", scratchpad_bytes=16 << 10),
    # A port narrower than the drain: shared lines are copied on chip, not loaded again.
    replace(
        PRESETS["edge-16x16"],
        name="narrow-spill",
        scratchpad_bytes=16 << 10,
        axi_data_bits=64,
    ),
]


def inverted_residuals(rng, size, channels, expansion, strides):
    """Return blocks as in MobileNetV2: expand, depthwise, project, and add where shapes allow."""
    model = TfliteModel()

    def weights(*shape):
        return rng.integers(-127, 128, shape).astype(np.int8)

    x = model.input("x", (1, size, size, channels), scale=0.05, zero_point=-4)
    for stride in strides:
        wide = channels * expansion
        settings = {"scale": 0.1, "zero_point": 2}
        y = model.conv2d(
            x, weights(wide, 1, 1, channels), None, weight_scales=[0.02] * wide, **settings
        )
        y = model.depthwise_conv2d(
            y, weights(1, 3, 3, wide), np.zeros(wide, np.int32), weight_scales=[0.02] * wide,
            stride=(stride, stride), padding="SAME", **settings,
        )  # fmt: skip
        y = model.conv2d(
            y, weights(channels, 1, 1, wide), None, weight_scales=[0.01] * channels, **settings
        )
        x = model.add(x, y, scale=0.15, zero_point=1) if stride == 1 else y
    return model.build()


def moves_of(program, region):
    return [
        item
        for item in isa.iterate(program.segments[0].code)
        if isinstance(item, isa.Load | isa.Store) and item.region == region
    ]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
@pytest.mark.parametrize("case", range(6))
def test_models_larger_than_the_scratchpad_are_exact(config, case, seed):
    rng = np.random.default_rng([seed, case])
    size, channels = int(rng.integers(16, 22)), int(rng.integers(5, 9))
    strides = rng.integers(1, 3, 3).tolist()
    data = inverted_residuals(rng, size, channels, int(rng.integers(4, 6)), strides)
    program = pipeline.compile_graph(tflite.parse(data), config)
    inputs = {"x": rng.integers(-128, 128, (1, 1, size, size, channels)).astype(np.int8)}
    (expected,) = witness.tflm(data, inputs).values()
    (answers,) = InferenceSession(program).run(None, inputs)
    assert np.count_nonzero(answers != expected) == 0


def test_inner_tensors_of_a_cascade_never_leave_the_chip(rng):
    config = CONFIGS[2]
    data = inverted_residuals(rng, 20, 8, 6, [1])
    program = pipeline.compile_graph(tflite.parse(data), config)
    expanded = 20 * 20 * 48
    stored = sum(item.total for item in moves_of(program, Region.ARENA))
    assert expanded > config.scratchpad_bytes
    assert stored < expanded


def test_lines_that_two_stripes_share_are_copied(rng):
    data = inverted_residuals(rng, 20, 8, 6, [1])
    program = pipeline.compile_graph(tflite.parse(data), CONFIGS[2])
    items = isa.iterate(program.segments[0].code)
    copies = [x for x in items if isinstance(x, isa.Vector) and x.op == isa.VectorOp.COPY]
    assert copies
