"""The generated hardware on its AXI pins, under cocotb with independent bus models."""

import contextlib
import hashlib
import json
import os
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from systolith.api import InferenceSession, Program, TensorInfo, compile_model
from systolith.arch.isa import Halt, Load, Store
from systolith.arch.program import AcceleratorSegment, Binding, Layer, Region
from systolith.bench import toolchain
from systolith.bench.rtl import verilog_of
from systolith.bench.tflite_writer import TfliteModel

pytestmark = pytest.mark.cosim

ROOT = Path(__file__).parents[2]
TOP = "systolith"
COPY_BYTES = 999
CASES = (
    "registers_answer_as_declared",
    "bytes_make_a_round_trip",
    "bytes_make_a_round_trip_through_a_stalling_memory",
    "region_violation_ends_in_its_fault_and_the_next_run_is_exact",
    "network_equals_the_golden_model",
)
# Only the pins are read and written; everything else may be optimized.
PINS = f'`verilator_config\npublic_flat_rw -module "{TOP}" -var "ap_*"\n' + "".join(
    f'public_flat_rw -module "{TOP}" -var "{name}"\n'
    for name in ("s_axi_*", "m_axi_*", "interrupt")
)


@pytest.fixture(scope="module")
def environment():
    """Environment in which cocotb's runner finds the simulator's compiler and settings."""
    # The runner makes the simulator's PYTHONPATH of this process's path.
    path = [str(Path(__file__).parent), *sys.path]
    with mock.patch.dict(os.environ, toolchain.environment()), mock.patch.object(sys, "path", path):
        yield


@pytest.fixture(scope="module")
def simulator(environment, tiny_config):
    """cocotb's runner with the simulator built, in a folder named after its content."""
    from cocotb_tools.runner import get_runner

    text = verilog_of(tiny_config)
    key = hashlib.sha256((text + PINS).encode()).hexdigest()[:16]
    folder = ROOT / "build" / "cosim" / key
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "device.v").write_text(text)
    (folder / "pins.vlt").write_text(PINS)
    runner = get_runner("verilator")
    runner.build(
        sources=[folder / "pins.vlt", folder / "device.v"],
        hdl_toplevel=TOP,
        build_dir=folder / "obj",
        build_args=[
            *toolchain.VERILATOR_FLAGS, "--no-public-flat-rw", "-Wno-fatal", "-Wno-lint",
            "-Wno-style",
        ],
        timescale=("1ns", "1ps"),
        always=True,
        log_file=folder / "build.log",
    )  # fmt: skip
    return runner


@pytest.fixture(scope="module")
def tiny_config():
    from systolith.arch.presets import PRESETS

    return PRESETS["tiny-4x4"]


def copy_program(config, **fields):
    """Return a program that copies "x" to "y" through unaligned places."""
    size = COPY_BYTES
    load = Load(**{"region": Region.INPUT, "run": size, "run_step": size, "total": size,
                   "addr": 5, "segment": size} | fields)  # fmt: skip
    store = Store(
        region=Region.OUTPUT, offset=3, run=size, run_step=size, total=size, addr=5, segment=size,
        wait_load=0,
    )  # fmt: skip
    segment = AcceleratorSegment(
        code=b"".join(item.to_bytes() for item in (load, store, Halt())),
        inputs=(Binding(tensor="x", offset=0),),
        outputs=(Binding(tensor="y", offset=3),),
        input_bytes=size,
        output_bytes=size + 3,
        arena_bytes=0,
        layer_of=(0, 0, -1),
    )
    info = {"shape": (size,), "dtype": "int8", "scale": 1.0, "zero_point": 0}
    return Program(
        config=config,
        model="copy",
        reference="tflm",
        inputs=("x",),
        outputs=("y",),
        tensors={name: TensorInfo(name=name, **info) for name in ("x", "y")},
        segments=(segment,),
        constants=b"",
        layers=(Layer(name="y", op="COPY", target="npu", macs=0),),
    )


def network(rng):
    """A convolution, an addition, an average and a fully connected layer."""
    model = TfliteModel(description="cosim")
    x = model.input("x", (1, 6, 6, 3), scale=0.5, zero_point=-3)
    quantization = {"scale": 0.4, "zero_point": 2}
    weights = rng.integers(-128, 128, (5, 3, 3, 3)).astype(np.int8)
    bias = rng.integers(-999, 999, 5).astype(np.int32)
    y = model.conv2d(x, weights, bias, weight_scales=0.01, **quantization)
    weights = rng.integers(-128, 128, (5, 1, 1, 5)).astype(np.int8)
    z = model.conv2d(y, weights, bias, weight_scales=0.02, **quantization)
    y = model.add(y, z, **quantization)
    weights = rng.integers(-128, 128, (7, 180)).astype(np.int8)
    bias = rng.integers(-999, 999, 7).astype(np.int32)
    model.fully_connected(y, weights, bias, weight_scale=0.01, scale=0.9, zero_point=1, name="y")
    return model.build()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_config, request):
    """Folder with everything that the tests in the simulator read."""
    rng = np.random.default_rng(request.config.getoption("--seed"))
    folder = tmp_path_factory.mktemp("pins")
    copy_program(tiny_config).save(folder / "copy.systolith")
    np.savez(folder / "copy.npz", x=rng.integers(-128, 128, (3, COPY_BYTES)).astype(np.int8))
    faults = {
        "beyond": ({"offset": 1}, "REGION_BOUNDS"),
        "absent": ({"region": 7}, "REGION_BOUNDS"),
        "output": ({"region": int(Region.OUTPUT)}, "REGION_PERMISSION"),
    }
    for name, (fields, _) in faults.items():
        copy_program(tiny_config, **fields).save(folder / f"{name}.systolith")
    (folder / "fault.json").write_text(json.dumps({n: code for n, (_, code) in faults.items()}))
    (folder / "network.tflite").write_bytes(network(rng))
    program = compile_model(folder / "network.tflite", tiny_config)
    program.save(folder / "network.systolith")
    x = rng.integers(-128, 128, (2, 1, 6, 6, 3)).astype(np.int8)
    (expected,) = InferenceSession(program, "golden").run(None, {"x": x})
    np.savez(folder / "network.npz", x=x, expected=expected)
    return folder


@pytest.fixture(scope="module")
def results(simulator, folder, request):
    """Names of the tests that ran in the simulator, and the text of a failure or None."""
    seed = request.config.getoption("--seed")
    path = folder / "results.xml"
    # Under pytest, the runner raises this after a failure; what failed stands in the results.
    with contextlib.suppress(SystemExit):
        simulator.test(
            test_module="pins",
            hdl_toplevel=TOP,
            build_dir=simulator.build_dir,
            test_dir=folder,
            results_xml=str(path),
            extra_env={"SYSTOLITH_COSIM": str(folder)},
            log_file=folder / "simulation.log",
            seed=seed,
        )
    cases = {}
    for case in ElementTree.parse(path).iter("testcase"):
        failed = [child for child in case if child.tag in ("failure", "error", "skipped")]
        cases[case.get("name")] = failed[0].get("message", "failed") if failed else None
    return cases


@pytest.mark.parametrize("case", CASES)
def test_on_the_pins(results, folder, case):
    assert case in results
    log = (folder / "simulation.log").read_text()
    assert results[case] is None, f"{results[case]}\n{log[-4000:]}"


def test_every_case_is_known(results):
    assert sorted(results) == sorted(CASES)


def test_cycles_equal_those_of_the_other_memory(results, folder):
    assert results["network_equals_the_golden_model"] is None
    measured = json.loads((folder / "network.json").read_text())
    with np.load(folder / "network.npz") as arrays:
        x = arrays["x"]
    with InferenceSession(Program.load(folder / "network.systolith"), "rtl") as session:
        session.run(None, {"x": x})
        profile = session.profile()
    assert len(set(measured["cycles"])) == 1
    assert measured["cycles"] == profile.cycles
    assert measured["counters"] == profile.counters
