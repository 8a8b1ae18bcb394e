"""The whole way of a soft error on the hardware: flipped bit, alarm, fault, and one more run."""

import numpy as np
import pytest

from systolith.bench.flips.core import FLIP_REGISTERS, flippable
from systolith.bench.random_config import PROTECTED
from systolith.bench.random_layer import random_model
from systolith.bench.rtl import RtlDevice
from systolith.compiler import pipeline
from systolith.compiler.frontend import tflite
from systolith.driver.device import Device
from systolith.driver.runtime import run_sample

RUNS, ENOUGH = 200, 6
WATCHED = ("\\systolith.core.execute.array.array", "\\systolith.core.weights")


@pytest.mark.cosim
def test_flips_in_array_and_weights_are_survived_by_one_more_run(rng):
    verilog, sites = flippable(PROTECTED)
    drawn = random_model("convolution", 3)
    program = pipeline.compile_graph(tflite.parse(drawn.model), PROTECTED)
    sample = {name: array[0] for name, array in drawn.inputs.items()}
    watched = [site for site in sites if site.module in WATCHED]
    assert {site.module for site in watched} == set(WATCHED)
    with RtlDevice(PROTECTED, memory_size=1 << 20, verilog=verilog) as transport:
        device = Device(transport)
        clean = run_sample(device, program, sample)
        assert device.soft_errors == 0
        for _ in range(RUNS):
            site = watched[int(rng.integers(len(watched)))]
            values = {
                "which": site.number,
                "place": int(rng.integers(site.bits)),
                "row": int(rng.integers(max(1, site.rows))),
                "delay": int(rng.integers(clean.cycles)),
            }
            for name, value in values.items():
                transport.write_register(FLIP_REGISTERS[name], value)
            # Once only: the run after it must find everything as it should be.
            again = run_sample(device, program, sample)
            for name, tensor in clean.tensors.items():
                assert np.array_equal(tensor, again.tensors[name]), (name, values)
            if device.soft_errors == ENOUGH:
                break
        assert device.soft_errors == ENOUGH
