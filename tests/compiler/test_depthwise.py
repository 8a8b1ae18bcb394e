"""Depthwise convolutions where column feeds beyond the first cannot read."""

import dataclasses

import numpy as np
import pytest

from systolith.arch.isa import FeedMode, Geometry, iterate
from systolith.bench import witness
from systolith.bench.layer_bars import Network
from systolith.bench.random_layer import random_model
from systolith.compiler import cost, pipeline
from systolith.compiler.frontend import tflite
from systolith.driver import runtime
from systolith.driver.device import Device
from systolith.golden.device import GoldenDevice

MODELS = 20


@pytest.fixture
def wide_port(edge):
    """A scratchpad whose words are wider than a column tile."""
    return dataclasses.replace(edge, name="edge-16x16-axi256", axi_data_bits=256)


def test_feed_0_alone_gives_the_same(wide_port, seed):
    device = Device(GoldenDevice(wide_port))
    for number in range(MODELS):
        drawn = random_model("depthwise", seed + number)
        program = pipeline.compile_graph(tflite.parse(drawn.model), wide_port)
        inputs = {name: array[0] for name, array in drawn.inputs.items()}
        found = runtime.run_sample(device, program, inputs).tensors
        stacked = {name: array[None] for name, array in inputs.items()}
        expected = witness.all_tensors(drawn.model, stacked, "tflm")
        for name in program.outputs:
            np.testing.assert_array_equal(found[name], expected[name][0])
    device.close()


def test_feed_0_alone_is_faster_than_a_dense_convolution(wide_port):
    network = Network((1, 20, 20, 64))
    network.depthwise()
    program = pipeline.compile_graph(tflite.parse(network.build()), wide_port)
    modes = {g.mode for g in iterate(program.segments[0].code) if isinstance(g, Geometry)}
    assert modes == {FeedMode.DEPTHWISE}
    lines, columns, tiles = 3 * 20, 20 + 2, 4
    assert cost.estimate_program(program).cycles < 1.5 * lines * columns * tiles
