"""Bad input of every kind: one typed error, one line and exit code 1, and nothing half-written."""

import dataclasses

import numpy as np
import pytest

from systolith.api import InferenceSession, Program, compile_model, find_config, open_transport
from systolith.arch.config import AcceleratorConfig
from systolith.arch.errors import (
    ConfigError,
    InputError,
    ModelFormatError,
    ProgramError,
    UnsupportedModelError,
)
from systolith.bench.tflite_writer import TfliteModel
from systolith.cli import files, main

SHAPE = (1, 6, 6, 3)


def build(rng):
    """Return a legal model of three operators."""
    model = TfliteModel(description="errors")
    x = model.input("x", SHAPE, scale=0.5, zero_point=-3)
    y = model.conv2d(
        x,
        rng.integers(-128, 128, (4, 3, 3, 3)).astype(np.int8),
        rng.integers(-999, 999, 4).astype(np.int32),
        weight_scales=0.01,
        scale=0.25,
        zero_point=4,
        name="conv",
    )
    y = model.add(y, y, scale=0.25, zero_point=5, name="total")
    model.average_pool(y, (2, 2), name="y")
    return model.build()


@pytest.fixture(scope="module")
def legal():
    return build(np.random.default_rng(5))


def patched(data, change):
    """Return a model file after `change(ModelT)` through the schema's object API."""
    table = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    model = table.ModelT.InitFromPackedBuf(data, 0)
    change(model, table)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def make_float(model, table):
    """Turn every tensor into float32 without quantization, as an unquantized export has them."""
    for tensor in model.subgraphs[0].tensors:
        data = model.buffers[tensor.buffer].data
        if data is not None and len(data):
            values = np.zeros(int(np.prod(tensor.shape)), np.float32)
            model.buffers[tensor.buffer].data = values.view(np.uint8)
        tensor.type = table.TensorType.FLOAT32
        tensor.quantization = None


def make_unsupported(model, table):
    """Turn ADD into an operator that nothing here knows, and give the pool a huge window."""
    _, add, pool = model.subgraphs[0].operators
    code = model.operatorCodes[add.opcodeIndex]
    code.builtinCode = table.BuiltinOperator.L2_NORMALIZATION
    code.deprecatedBuiltinCode = table.BuiltinOperator.L2_NORMALIZATION
    add.builtinOptionsType, add.builtinOptions = 0, None
    pool.builtinOptions.filterWidth = 0


# Bytes of the file, type of the error, and what the message says.
MODELS = {
    "empty file": (lambda data: b"", ModelFormatError, ["TFL3"]),
    "text": (lambda data: b"# A readme, no model.\n" * 9, ModelFormatError, ["TFL3"]),
    "archive": (lambda data: b"PK\3\4" + bytes(200), ModelFormatError, ["TFL3"]),
    "truncated by a byte": (lambda data: data[:-1], ModelFormatError, []),
    "half": (lambda data: data[: len(data) // 2], ModelFormatError, ["byte"]),
    "float": (
        lambda data: patched(data, make_float),
        UnsupportedModelError,
        ["must be int8, not float32", '"x"', "full-integer int8 quantization"],
    ),
    "unsupported": (
        lambda data: patched(data, make_unsupported),
        UnsupportedModelError,
        ["Operator 1 (L2_NORMALIZATION)", "Operator 2 (AVERAGE_POOL_2D)"],
    ),
}  # fmt: skip


@pytest.fixture
def folder(legal, tmp_path, monkeypatch):
    """A folder with a legal model, inputs and a program for another array; also the cwd."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "legal.tflite").write_bytes(legal)
    x = np.zeros((2, *SHAPE), np.int8)
    files.write_arrays(tmp_path / "in.npz", {"x": x})
    return tmp_path


def refused(capsys, folder, *arguments):
    """Run the command; return the one line that it ends with, after exit code 1 and no file."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main([str(argument) for argument in arguments]) == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("systolith: ")
    return line.removeprefix("systolith: ")


@pytest.mark.parametrize("name", MODELS)
def test_model_is_refused(name, legal, folder, capsys):
    make, error, texts = MODELS[name]
    (folder / "bad.tflite").write_bytes(make(legal))
    with pytest.raises(error) as caught:
        compile_model("bad.tflite", "tiny-4x4")
    assert type(caught.value) is error
    for text in texts:
        assert text in str(caught.value)
    # An older result must survive a compilation that fails.
    (folder / "p.systolith").write_bytes(b"older")
    options = ("--config", "tiny-4x4")
    assert refused(capsys, folder, "compile", "bad.tflite", *options, "-o", "p.systolith") == (
        str(caught.value)
    )
    outputs = ("--output", "out.npz", "--report", "report.json", "--keep-tensors", "all.npz")
    line = refused(capsys, folder, "run", "bad.tflite", *options, "--input", "in.npz", *outputs)
    # `run` keeps the tensors, which breaks no rule and mends none.
    assert line == str(caught.value)


def test_all_reasons_are_collected(legal, tmp_path):
    path = tmp_path / "bad.tflite"
    path.write_bytes(patched(legal, make_unsupported))
    with pytest.raises(UnsupportedModelError) as caught:
        compile_model(path, "tiny-4x4")
    reasons = caught.value.reasons
    assert len(reasons) >= 2
    for reason in reasons:
        # Operator, tensor, rule, value and remedy.
        for part in ("Operator ", ", tensor ", " must ", "not ", "; "):
            assert part in reason


@pytest.mark.parametrize("length", [8, 64, 500])
def test_truncated_program_is_refused(folder, capsys, length):
    compile_model("legal.tflite", "tiny-4x4").save("p.systolith")
    (folder / "cut.systolith").write_bytes((folder / "p.systolith").read_bytes()[:length])
    with pytest.raises(ProgramError) as caught:
        Program.load("cut.systolith")
    line = refused(capsys, folder, "run", "cut.systolith", "--input", "in.npz")
    assert line == str(caught.value)


def test_program_for_another_configuration_is_refused(folder, capsys):
    program = compile_model("legal.tflite", "tiny-4x4")
    program.save("p.systolith")
    here, there = program.config, find_config("edge-8x8")
    with pytest.raises(ProgramError) as caught:
        InferenceSession(program, open_transport("golden", there))
    for text in (f"{here.digest:016x}", f"{there.digest:016x}", "rows is 8 in the device, not 4"):
        assert text in str(caught.value)
    options = ("--config", "edge-8x8", "--output", "out.npz")
    line = refused(capsys, folder, "run", "p.systolith", *options, "--input", "in.npz")
    for text in (f"{here.digest:016x}", f"{there.digest:016x}", "rows is 4 here and 8 there"):
        assert text in line


def test_first_differing_field_is_named_when_the_arrays_are_alike(folder, capsys):
    other = dataclasses.replace(find_config("tiny-4x4"), name="deep", queue_depth=32)
    (folder / "deep.toml").write_text(other.to_toml())
    compile_model("legal.tflite", "tiny-4x4").save("p.systolith")
    options = ("--config", "deep.toml")
    line = refused(capsys, folder, "run", "p.systolith", *options, "--input", "in.npz")
    assert "queue_depth is" in line


INPUTS = {
    "float": (np.zeros((2, *SHAPE), np.float32), "quantize it with scale 0.5 and zero point -3"),
    "uint8": (np.zeros((2, *SHAPE), np.uint8), "must be int8 of shape (1, 6, 6, 3)"),
    "int16": (np.zeros((2, *SHAPE), np.int16), "not int16"),
    "channels first": (np.zeros((2, 1, 3, 6, 6), np.int8), "not int8 of shape (2, 1, 3, 6, 6)"),
    "no batch": (np.zeros((6, 6, 3), np.int8), "not int8 of shape (6, 6, 3)"),
    "scalar": (np.int8(3), "not int8 of shape ()"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_input_is_refused(name, folder, capsys):
    array, text = INPUTS[name]
    with InferenceSession(compile_model("legal.tflite", "tiny-4x4")) as session:
        with pytest.raises(InputError) as caught:
            session.run(None, {"x": array})
        assert text in str(caught.value)
        # The session can be used again.
        assert session.run(None, {"x": np.zeros(SHAPE, np.int8)})
    files.write_arrays(folder / "bad.npz", {"x": np.asarray(array)})
    options = ("--config", "tiny-4x4", "--output", "out.npz", "--report", "report.json")
    line = refused(capsys, folder, "run", "legal.tflite", *options, "--input", "bad.npz")
    assert text in line


CONFIGS = {
    "syntax": ("rows = ", "toml"),
    "unknown field": ("rowz = 4", "rowz"),
    "rows": ("rows = 0", "rows"),
    "type": ('rows = "four"', "rows"),
    "power of two": ("scratchpad_bytes = 5000", "scratchpad_bytes"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configuration_is_refused(name, folder, capsys):
    line, text = CONFIGS[name]
    lines = find_config("tiny-4x4").to_toml().splitlines()
    field = line.split()[0]
    kept = [old for old in lines if old.split(" ")[0] != field]
    (folder / "broken.toml").write_text("\n".join([*kept, line, ""]))
    with pytest.raises(ConfigError) as caught:
        AcceleratorConfig.from_toml("broken.toml")
    assert text in str(caught.value)
    option = ("--config", "broken.toml")
    for command in (
        ("compile", "legal.tflite", "-o", "p.systolith"),
        ("run", "legal.tflite", "--input", "in.npz", "--output", "out.npz"),
        ("verilog", "-o", "hw"),
    ):
        assert refused(capsys, folder, *command, *option) == str(caught.value)
