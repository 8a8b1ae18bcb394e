"""Neighboring pixels as one vector, and first passes chunk by chunk."""

import dataclasses

import numpy as np
import pytest

from systolith.arch.isa import Drain, Pass, iterate
from systolith.bench import witness
from systolith.bench.layer_bars import Network
from systolith.compiler import pipeline
from systolith.compiler.frontend import tflite
from systolith.compiler.lower.conv_walk import Group
from systolith.driver import runtime
from systolith.driver.device import Device
from systolith.golden.device import GoldenDevice


def passes(program):
    return [item for item in iterate(program.segments[0].code) if isinstance(item, Pass)]


def drains(program):
    return [item for item in iterate(program.segments[0].code) if isinstance(item, Drain)]


def check(model, config, seed):
    """Compile a model of one input, compare its outputs with TFLite Micro's, return the program."""
    program = pipeline.compile_graph(tflite.parse(model), config)
    info = program.tensors[program.inputs[0]]
    values = np.random.default_rng(seed).integers(-128, 128, info.shape, dtype=np.int8)
    device = Device(GoldenDevice(config))
    result = runtime.run_sample(device, program, {info.name: values})
    device.close()
    expected = witness.all_tensors(model, {info.name: values[None]}, "tflm")
    for name in program.outputs:
        np.testing.assert_array_equal(result.tensors[name], expected[name][0])
    return program


@pytest.mark.parametrize(
    ("kernel", "outputs", "pixels"),
    [(3, 4, 2), (3, 8, 2), (3, 16, 1), (3, 24, 2), (3, 32, 1), (1, 4, 4), (1, 5, 3)],
)
def test_few_output_channels_take_several_pixels(edge, seed, kernel, outputs, pixels):
    network = Network((1, 8, 24, 3))
    network.conv(kernel, outputs, 2 if kernel == 3 else 1)
    width = 12 if kernel == 3 else 24
    program = check(network.build(), edge, seed)
    assert {item.line_vectors for item in passes(program)} == {width // pixels}


def test_an_odd_width_takes_one_pixel(edge, seed):
    network = Network((1, 9, 13, 3))
    network.conv(3, 8)
    assert {item.line_vectors for item in passes(check(network.build(), edge, seed))} == {13}


def test_pixels_with_gaps_between_them_are_drained_twice(edge, seed):
    network = Network((1, 8, 16, 3))
    network.conv(3, 8)
    network.depthwise()
    program = check(network.build(), edge, seed)
    both, left = drains(program)[:2]
    assert (both.lanes, left.lanes, both.addr - left.addr) == (16, 8, 8)
    assert both.cols == left.cols == 8


def test_a_gap_that_is_too_small_keeps_pixels_apart(edge, seed):
    config = dataclasses.replace(edge, name="wide", cols=32, lanes=32)
    network = Network((1, 8, 16, 3))
    network.conv(3, 20)
    network.depthwise()
    assert passes(check(network.build(), config, seed))[0].line_vectors == 16


def test_the_first_tile_reads_its_channels_chunk_by_chunk(edge, seed):
    network = Network((1, 6, 6, 64))
    network.depthwise()
    network.conv(1, 32)
    program = check(network.build(), edge, seed)
    pointwise = [item for item in passes(program) if item.line_vectors == 36]
    assert len(pointwise) == 4 + 1  # of the first column tile, of the second


def test_parts_of_a_group_are_the_group():
    group = Group(
        first=5, rows=40, ky=1, ky_count=1, kx=0, kx_count=1, chunk=2, chunk_count=3, lanes=16,
        lanes_last=8,
    )  # fmt: skip
    parts = group.parts(16)
    assert [(p.first, p.rows, p.chunk, p.lanes_last) for p in parts] == [
        (5, 16, 2, 16),
        (21, 16, 3, 16),
        (37, 8, 4, 8),
    ]
    lines = dataclasses.replace(group, ky_count=3, rows=120)
    assert lines.parts(16) == [lines]
