"""Whole programs: segments in turn, host operators, figures per layer."""

import dataclasses

import numpy as np
import pytest

from systolith.arch import softmax
from systolith.arch.errors import ProgramError
from systolith.driver.device import Device
from systolith.driver.profile import layer_cycles
from systolith.driver.runtime import run_sample
from systolith.golden.device import GoldenDevice


def test_segments_run_in_turn_on_the_golden_device(tiny, softmax_program, samples):
    device = Device(GoldenDevice(tiny), tiny)
    for sample in samples:
        result = run_sample(device, softmax_program, {"x": sample})
        expected = softmax.softmax(sample, softmax.prepare(1.0, 0.5))
        np.testing.assert_array_equal(result.tensors["logits"], sample)
        np.testing.assert_array_equal(result.tensors["y"], expected)
        assert result.cycles is None
        assert result.layer_cycles == {}


def test_figures_add_up_over_segments(tiny, fake, softmax_program, samples):
    def count(transport):
        transport.values.update(cycles=100, read_bytes=7)
        transport.finish(done=1)

    transport = fake(tiny, count)
    transport.timeline = lambda: [(0, 1, 30), (3, 1, 70)]
    # Both segments claim layer 0, as if the model returned to it.
    result = run_sample(Device(transport), softmax_program, {"x": samples[0]})
    assert result.cycles == 200
    assert result.counters["read_bytes"] == 14
    assert result.layer_cycles == {0: 200}


def test_unknown_host_operator_is_refused(tiny, softmax_program, samples):
    first, host, last = softmax_program.segments
    segments = (first, dataclasses.replace(host, op="sort"), last)
    program = dataclasses.replace(softmax_program, segments=segments)
    with pytest.raises(ProgramError, match='must be one of .*softmax.*, not "sort"; compile'):
        run_sample(Device(GoldenDevice(tiny)), program, {"x": samples[0]})


def test_layers_overlap_and_their_cycles_add_up(copy_program):
    (segment,) = copy_program().segments
    load, store, halt = (segment.code[i : i + 32] for i in (0, 32, 64))
    segment = dataclasses.replace(
        segment, code=load + load + store + store + halt, layer_of=(0, 1, 0, 2, -1)
    )
    # Layer 1 only loads, and ends before layer 0: it costs nothing of its own.
    timeline = [(0, 1, 10), (0, 2, 20), (3, 1, 50), (3, 2, 80)]
    assert layer_cycles(segment, timeline, 90) == {0: 50, 1: 0, 2: 40}


def test_completions_in_one_event_share_its_time(copy_program):
    (segment,) = copy_program().segments
    load, store, halt = (segment.code[i : i + 32] for i in (0, 32, 64))
    segment = dataclasses.replace(segment, code=load + load + store + halt, layer_of=(0, 1, 2, -1))
    assert layer_cycles(segment, [(0, 2, 20), (3, 1, 50)], 50) == {0: 20, 1: 0, 2: 30}
