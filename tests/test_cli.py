"""The command: its files, reports, messages and exit codes."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from systolith.api import InferenceSession, Program, compile_model
from systolith.arch.errors import DeviceFault, DeviceTimeout, ToolchainError
from systolith.bench import toolchain, witness
from systolith.bench.tflite_writer import TfliteModel
from systolith.cli import compile as compile_command
from systolith.cli import files, main, progress, summary
from systolith.package import design

SHAPE = (1, 12)
DEPTH = 5


def small_model(rng):
    model = TfliteModel(description="small")
    x = model.input("in/x:0", SHAPE, scale=0.5, zero_point=-3)
    weights = rng.integers(-128, 128, (DEPTH, 12)).astype(np.int8)
    bias = rng.integers(-999, 999, DEPTH).astype(np.int32)
    x = model.fully_connected(
        x, weights, bias, weight_scale=0.01, scale=0.3, zero_point=4, name="logits"
    )
    model.softmax(x, name="y")
    return model.build()


@pytest.fixture
def folder(rng, tmp_path, monkeypatch):
    """A folder with a model, inputs, and the outputs that the reference gives; also the cwd."""
    monkeypatch.chdir(tmp_path)
    model = small_model(rng)
    (tmp_path / "small.tflite").write_bytes(model)
    inputs = {"in/x:0": rng.integers(-128, 128, (6, *SHAPE)).astype(np.int8)}
    files.write_arrays(tmp_path / "in.npz", inputs)
    files.write_arrays(tmp_path / "expected.npz", witness.run(model, inputs, "tflm"))
    return tmp_path


RUN = ("run", "small.tflite", "--config", "tiny-4x4", "--input", "in.npz")


def call(*arguments):
    return main([str(argument) for argument in arguments])


def message(capsys):
    """Return the one line on standard error."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("systolith: ")
    return line


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_run_writes_outputs_tensors_and_report(folder, capsys):
    more = ("--output", "out.npz", "--keep-tensors", "all.npz", "--report", "report.json")
    assert call(*RUN, *more, "--expect", "expected.npz") == 0
    with np.load("out.npz") as out, np.load("expected.npz") as expected:
        assert out.files == ["y"]
        np.testing.assert_array_equal(out["y"], expected["y"])
    with np.load("all.npz") as tensors, np.load("in.npz") as inputs:
        assert set(tensors.files) == {"in/x:0", "logits", "y"}
        np.testing.assert_array_equal(tensors["in/x:0"], inputs["in/x:0"])
    report = json.loads((folder / "report.json").read_text())
    assert report["model"] == "small"
    assert (report["config"], report["device"], report["reference"]) == (
        "tiny-4x4",
        "golden",
        "tflm",
    )
    assert (report["cycles"], report["utilization"]) == (None, None)
    assert (report["macs"], report["samples"]) == (60, 6)
    assert report["dram_read_bytes"] > 60
    assert report["dram_write_bytes"] >= DEPTH
    assert [list(layer) for layer in report["layers"]] == 2 * [
        ["name", "op", "target", "macs", "cycles", "utilization"]
    ]
    assert "0 bytes differ" in capsys.readouterr().out


def test_run_uses_the_first_samples(folder):
    more = ("--samples", 2, "--output", "out.npz", "--expect", "expected.npz")
    assert call(*RUN, *more) == 0
    with np.load("out.npz") as out:
        assert out["y"].shape == (2, 1, DEPTH)


def test_run_takes_a_program(folder, capsys):
    assert call("compile", "small.tflite", "--config", "tiny-4x4", "-o", "p.systolith") == 0
    assert call("run", "p.systolith", "--input", "in.npz", "--expect", "expected.npz") == 0


def test_run_with_other_results_ends_with_3_and_names_the_first(folder, capsys):
    with np.load("expected.npz") as expected:
        y = expected["y"]
    wrong = y.copy()
    wrong[2, 0, 3] ^= 1
    wrong[4, 0, 0] ^= 1
    files.write_arrays(folder / "expected.npz", {"y": wrong})
    assert call(*RUN, "--expect", "expected.npz", "--output", "out.npz") == 3
    assert message(capsys) == (
        f"systolith: results differ: 2 of {y.size} elements differ; the first is "
        f'"y" at (2, 0, 3): {y[2, 0, 3]}, expected {wrong[2, 0, 3]}'
    )
    assert (folder / "out.npz").is_file()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DeviceFault(4, 0, 7, 16, "stopped"), 4),
        (DeviceTimeout("too late"), 4),
        (ToolchainError("no compiler"), 1),
    ],
)
def test_device_errors_end_with_their_code_and_write_nothing(
    folder, capsys, monkeypatch, error, code
):
    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr(InferenceSession, "run", fail)
    before = names(folder)
    assert call(*RUN, "--output", "out.npz", "--report", "report.json") == code
    assert message(capsys) == f"systolith: {error}"
    assert names(folder) == before


def damaged_inputs(folder):
    np.savez(folder / "float.npz", **{"in/x:0": np.zeros((2, *SHAPE), np.float32)})
    np.savez(folder / "shape.npz", **{"in/x:0": np.zeros((2, 1, 13), np.int8)})
    np.savez(folder / "name.npz", z=np.zeros((2, *SHAPE), np.int8))
    np.savez(folder / "none.npz", **{"in/x:0": np.zeros((0, *SHAPE), np.int8)})
    np.savez(folder / "pickle.npz", **{"in/x:0": np.array([{}], object)})
    np.save(folder / "array.npz.npy", np.zeros(3))
    (folder / "array.npz.npy").rename(folder / "array.npz")
    (folder / "text.npz").write_text("no archive")
    (folder / "cut.npz").write_bytes((folder / "in.npz").read_bytes()[:-30])


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("float.npz", "not float32 of shape (2, 1, 12); quantize it with scale 0.5"),
        ("shape.npz", "not int8 of shape (2, 1, 13)"),
        ("name.npz", "Inputs must be named ['in/x:0'], not ['z']"),
        ("none.npz", "must have at least one sample"),
        ("pickle.npz", "must be an npz file of plain arrays"),
        ("array.npz", "must be an npz file of named arrays"),
        ("text.npz", "must be an npz file of plain arrays"),
        ("cut.npz", "must be an npz file of plain arrays"),
        ("absent.npz", 'File "absent.npz" cannot be read: No such file or directory'),
    ],
)
def test_wrong_inputs_are_refused_in_one_line(folder, capsys, file, text):
    damaged_inputs(folder)
    before = names(folder)
    assert call(*RUN[:-1], file, "--output", "out.npz", "--report", "report.json") == 1
    assert text in message(capsys)
    assert names(folder) == before


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (b"", ""),
        (b"not a model at all, but long enough to be looked at", ""),
        (None, 'File "bad.tflite" cannot be read'),
    ],
)
def test_wrong_models_are_refused_in_one_line(folder, capsys, model, text):
    if model is not None:
        (folder / "bad.tflite").write_bytes(model)
    before = names(folder)
    assert call("compile", "bad.tflite", "-o", "p.systolith") == 1
    assert text in message(capsys)
    assert names(folder) == before


def test_program_for_another_configuration_is_refused(folder, capsys):
    assert call("compile", "small.tflite", "--config", "tiny-4x4", "-o", "p.systolith") == 0
    capsys.readouterr()
    assert call("run", "p.systolith", "--config", "edge-8x8", "--input", "in.npz") == 1
    line = message(capsys)
    assert "rows is 4 here and 8 there; compile it for this configuration" in line
    assert line.count("(digest ") == 2


def test_damaged_program_is_refused(folder, capsys):
    assert call("compile", "small.tflite", "--config", "tiny-4x4", "-o", "p.systolith") == 0
    capsys.readouterr()
    data = (folder / "p.systolith").read_bytes()
    (folder / "p.systolith").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert call("run", "p.systolith", "--input", "in.npz") == 1
    assert "checksum" in message(capsys)


def test_program_cannot_change_its_reference(folder, capsys):
    compile_model("small.tflite", "tiny-4x4").save("p.systolith")
    option = ("--reference", "litert_reference")
    assert call("run", "p.systolith", "--input", "in.npz", *option) == 1
    assert "compile the model again with --reference litert_reference" in message(capsys)


def test_program_cannot_return_tensors_that_it_does_not_keep(folder, capsys):
    program = compile_model("small.tflite", "tiny-4x4")
    inner = dataclasses.replace(program.layers[0], name="fused away")
    dataclasses.replace(program, layers=(inner, *program.layers)).save("p.systolith")
    option = ("--keep-tensors", "all.npz")
    assert call("run", "p.systolith", "--input", "in.npz", *option) == 1
    assert "compile the model again with --keep-tensors" in message(capsys)


@pytest.mark.parametrize("target", ["absent/out.npz", "."])
def test_target_that_cannot_be_written_is_refused_before_the_run(
    folder, capsys, monkeypatch, target
):
    monkeypatch.setattr(InferenceSession, "run", None)
    assert call(*RUN, "--output", target) == 1
    assert "must be a file in a folder that exists" in message(capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("walk",),
        ("run", "small.tflite"),
        (*RUN, "--device", "fpga"),
        (*RUN, "--reference", "numpy"),
        (*RUN, "--stall", "1"),
        (*RUN, "--samples", "0"),
        (*RUN, "--latency", "soon"),
        ("verilog",),
    ],
)
def test_wrong_usage_ends_with_2(folder, capsys, arguments):
    with pytest.raises(SystemExit) as info:
        call(*arguments)
    assert info.value.code == 2
    assert "usage: systolith" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("toml", "text"),
    [(None, "cannot be read"), ("rows = ", "must be TOML"), ("rows = 4", "is missing; add it")],
)
def test_wrong_configuration_is_refused(folder, capsys, toml, text):
    if toml is not None:
        (folder / "mine.toml").write_text(toml)
    assert call("compile", "small.tflite", "--config", "mine.toml") == 1
    assert text in message(capsys)


def test_compile_writes_program_and_listing_and_prints_a_summary(folder, capsys):
    assert call("compile", "small.tflite", "--config", "tiny-4x4", "--listing", "list.txt") == 0
    out = capsys.readouterr().out
    assert out.startswith("Network summary for small\n")
    assert "tiny-4x4 (4 x 4 cells, digest " in out
    assert "1 of 2 operators run on the host" in out
    program = Program.load("small.systolith")
    assert program.to_bytes() == compile_model("small.tflite", "tiny-4x4").to_bytes()
    listing = (folder / "list.txt").read_text()
    assert "halt" in listing
    assert "softmax" in listing


def test_compile_lists_the_operators_without_a_model(capsys):
    with pytest.raises(SystemExit) as ended:
        call("compile", "--list-ops")
    assert ended.value.code == 0
    supported = Path(__file__).parents[1] / "sw" / "SUPPORTED_OPS.md"
    assert capsys.readouterr().out == supported.read_text(encoding="utf-8")


def test_compile_refuses_a_program(folder, capsys):
    assert call("compile", "small.tflite", "--config", "tiny-4x4", "-o", "p.systolith") == 0
    capsys.readouterr()
    assert call("compile", "p.systolith") == 1
    assert "is a program already; give the model" in message(capsys)


def test_compile_refused_by_the_compiler_leaves_the_old_program(folder, capsys, monkeypatch):
    (folder / "small.systolith").write_text("old")
    (folder / "small.tflite").write_bytes((folder / "small.tflite").read_bytes()[:200])
    assert call("compile", "small.tflite") == 1
    message(capsys)
    assert (folder / "small.systolith").read_text() == "old"


def test_report_prints_programs_and_runs(folder, capsys):
    assert call(*RUN, "--report", "report.json") == 0
    printed = capsys.readouterr().out
    assert call("report", "report.json") == 0
    page = capsys.readouterr().out
    assert page.strip()
    assert printed.startswith(page.rstrip("\n"))
    assert "Cycles per inference               not counted" in page
    assert call("compile", "small.tflite", "--config", "tiny-4x4") == 0
    printed = capsys.readouterr().out
    assert call("report", "small.systolith") == 0
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model": "x"}', "\xff"])
def test_report_of_something_else_is_refused(folder, capsys, content):
    (folder / "x.json").write_bytes(content.encode("latin-1"))
    assert call("report", "x.json") == 1
    assert "must be a program or a report" in message(capsys)


def test_summary_shows_cycles_and_utilization():
    report = {
        "model": "m",
        "config": "c",
        "config_digest": "0",
        "array": [4, 4],
        "reference": "tflm",
        "device": "rtl",
        "samples": 2,
        "cycles": [1200, 1300],
        "macs": 9600,
        "utilization": 0.48,
        "dram_read_bytes": 100000,
        "dram_write_bytes": 5,
        "layers": [
            {
                "name": "a" * 30 + "/" + "b" * 30,
                "op": "CONV_2D",
                "target": "npu",
                "macs": 9600,
                "cycles": 1200,
                "utilization": 0.5,
            }
        ],
    }
    page = summary.text(report)
    assert "Cycles per inference               1,200 to 1,300" in page
    assert "Array utilization                  48.0 %" in page
    assert "DRAM bytes read                    100,000" in page
    (row,) = [line for line in page.splitlines() if "CONV_2D" in line]
    assert row.startswith("…aaaa/" + "b" * 30 + " CONV_2D            npu           9,600")
    assert row.endswith("1,200      50.0 %")


def test_doctor_lists_what_is_missing(capsys, monkeypatch):
    listed = [
        toolchain.Requirement("flux", "1.21", "time travel", "make flux"),
        toolchain.Requirement("grease", None, "speed", "apt-get install grease", optional=True),
    ]
    monkeypatch.setattr(toolchain, "requirements", lambda: listed)
    assert call("doctor") == 0
    assert 'grease would help for speed: run "apt-get install grease"' in capsys.readouterr().out
    listed.append(toolchain.Requirement("plutonium", None, "power", "make plutonium"))
    assert call("doctor") == 1
    out = capsys.readouterr().out
    assert 'plutonium is needed for power: run "make plutonium"' in out
    assert "Everything is here" not in out


def test_verilog_writes_every_file(folder, capsys, monkeypatch):
    # Real Verilog takes seconds and is tested with the package.
    monkeypatch.setattr(design, "generate", lambda config: f"module of {config.name}\n")
    clock = ("--clock-mhz", 80)
    assert call("verilog", "--config", "tiny-4x4", "-o", "build/hw", *clock) == 0
    printed = capsys.readouterr().out.splitlines()
    written = [path for path in (folder / "build" / "hw").rglob("*") if path.is_file()]
    assert sorted(printed) == sorted(str(path.relative_to(folder)) for path in written)
    assert (folder / "build/hw/rtl/systolith.v").read_text() == "module of tiny-4x4\n"
    assert "-period 12.500 " in (folder / "build/hw/constraints/systolith.sdc").read_text()
    assert call("verilog", "--config", "tiny-4x4", "-o", "in.npz") == 1
    assert message(capsys) == 'systolith: Output "in.npz" must be a folder'
    assert call("verilog", "--config", "tiny-4x4", "-o", "hw", "--clock-mhz", 0) == 1
    assert message(capsys) == "systolith: Clock must be 1 to 2000 MHz, not 0"
    assert not (folder / "hw").exists()


def test_verilog_without_the_generator_says_what_to_install(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "systolith.package", None)
    assert call("verilog", "--config", "tiny-4x4", "-o", "hw") == 1
    assert 'run "make setup"' in message(capsys)
    assert not (folder / "hw").exists()


def test_export_writes_a_header(folder, capsys):
    assert call("compile", "small.tflite", "--config", "tiny-4x4", "-o", "a-b.systolith") == 0
    capsys.readouterr()
    assert call("export", "a-b.systolith") == 0
    assert capsys.readouterr().out == "a-b.h\n"
    assert "static const systolith_program_t a_b = {" in (folder / "a-b.h").read_text()
    assert call("export", "a-b.systolith", "--name", "net", "-o", "net.h") == 0
    assert "static const systolith_program_t net = {" in (folder / "net.h").read_text()
    capsys.readouterr()
    assert call("export", "a-b.systolith", "--name", "int") == 1
    assert 'must be a C identifier, not "int"' in message(capsys)
    assert call("export", "small.tflite") == 1
    assert "it is no Systolith program" in message(capsys)


@pytest.mark.cosim
def test_run_on_the_rtl_reports_cycles_that_add_up(folder, capsys):
    more = ("--device", "rtl", "--report", "report.json", "--expect", "expected.npz")
    assert call(*RUN, *more, "--samples", 2) == 0
    report = json.loads((folder / "report.json").read_text())
    first, second = report["cycles"]
    assert first == second
    assert report["utilization"] == 60 / first / 16
    assert [layer["cycles"] for layer in report["layers"]] == [first, None]
    assert report["counters"]["array_busy"] > 0
    assert call(*RUN, *more, "--samples", 2, "--stall", 0.3, "--seed", 4) == 0
    stalled = json.loads((folder / "report.json").read_text())["cycles"]
    assert min(stalled) > first


def test_default_name_of_a_program_has_the_suffix():
    assert compile_command.PROGRAM_SUFFIX == ".systolith"


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as info:
        call("--version")
    assert info.value.code == 0
    assert capsys.readouterr().out.startswith("systolith ")


def test_long_work_shows_progress_on_a_terminal(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert call(*RUN, "--expect", "expected.npz") == 0
    with progress.progress_bar("counting", 3) as update:
        for done in range(4):
            update(done)
    with progress.spinner("thinking"):
        pass
    assert "counting" in capsys.readouterr().err


def test_nothing_is_shown_without_a_terminal(folder, capsys):
    with progress.progress_bar("counting", 3) as update, progress.spinner("thinking"):
        assert update is None
    assert capsys.readouterr().err == ""


@pytest.mark.cosim
def test_run_writes_the_timeline_of_the_first_sample(folder, capsys):
    assert call(*RUN, "--device", "rtl", "--trace", "trace.json", "--samples", 1) == 0
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    tracks = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert {"LOAD instructions", "EXECUTE activity", "DRAIN activity"} <= tracks
    assert any(event["name"] == "vectors" for event in events)


def test_only_hardware_has_a_timeline(folder, capsys):
    assert call(*RUN, "--trace", "trace.json") == 1
    assert "run with --device rtl" in message(capsys)
    assert not (folder / "trace.json").exists()
