import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from systolith.arch import isa
from systolith.arch.errors import ProgramError, SystolithError
from systolith.arch.presets import PRESETS
from systolith.arch.program import (
    AcceleratorSegment,
    Binding,
    HostSegment,
    Layer,
    Program,
    TensorInfo,
)

HEADER_BYTES, ENTRY_BYTES = 32, 40


def tensor(name, shape=(1, 4)):
    return TensorInfo(name=name, shape=shape, dtype="int8", scale=0.1, zero_point=-3)


@pytest.fixture
def program(tiny):
    code = isa.Quantize(shift=-3).to_bytes() + isa.Halt().to_bytes()
    segment = AcceleratorSegment(
        code=code,
        inputs=(Binding(tensor="in", offset=0),),
        outputs=(Binding(tensor="logits", offset=16),),
        input_bytes=4,
        output_bytes=20,
        arena_bytes=64,
        layer_of=(0, -1),
    )
    softmax = HostSegment(
        op="softmax", inputs=("logits",), outputs=("out",), attributes={"beta": 0.5, "diff_min": -7},
        layer=1,
    )  # fmt: skip
    return Program(
        config=tiny,
        model="two layers",
        reference="tflm",
        inputs=("in",),
        outputs=("out",),
        tensors={name: tensor(name) for name in ("in", "logits", "out")},
        segments=(segment, softmax),
        constants=bytes(range(100)),
        layers=(
            Layer(name="logits", op="FULLY_CONNECTED", target="npu", macs=16),
            Layer(name="out", op="SOFTMAX", target="cpu", macs=0),
        ),
    )


def sections_of(data):
    """Name, offset and size of each section, read from the table."""
    count = struct.unpack_from("<I", data, 24)[0]
    entries = []
    for n in range(count):
        name, offset, size = struct.unpack_from("<16sQQ", data, HEADER_BYTES + n * ENTRY_BYTES)
        entries.append((name.rstrip(b"\0").decode(), offset, size))
    return entries


def with_header_crc(data):
    """Repair the checksum of header and table, so that a later check must find the damage."""
    end = HEADER_BYTES + struct.unpack_from("<I", data, 24)[0] * ENTRY_BYTES
    crc = zlib.crc32(data[:28] + bytes(4) + data[HEADER_BYTES:end])
    return data[:28] + struct.pack("<I", crc) + data[32:]


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def test_container_gives_back_an_equal_program(program, tmp_path):
    assert Program.from_bytes(program.to_bytes()) == program
    program.save(tmp_path / "model.systolith")
    assert Program.load(tmp_path / "model.systolith") == program
    assert program.to_bytes() == Program.from_bytes(program.to_bytes()).to_bytes()


def test_header_and_sections_are_where_the_format_says(program):
    data = program.to_bytes()
    magic, version, isa_version, digest, count = struct.unpack_from("<8sIIQI", data)
    assert (magic, version, isa_version) == (b"SYSTOLTH", 1, isa.ISA_VERSION)
    assert (digest, count) == (program.config.digest, 3)
    found = {name: data[offset : offset + size] for name, offset, size in sections_of(data)}
    assert list(found) == ["meta", "constants", "code0"]
    assert found["constants"] == program.constants
    assert found["code0"] == program.segments[0].code
    assert json.loads(found["meta"])["model"] == "two layers"


def test_every_truncation_is_refused(program):
    data = program.to_bytes()
    for size in range(len(data)):
        with pytest.raises(
            ProgramError, match="Program (must start with|is truncated|has damaged)"
        ):
            Program.from_bytes(data[:size])


def test_every_flipped_byte_of_header_and_table_is_refused(program):
    data = program.to_bytes()
    for at in range(HEADER_BYTES + 3 * ENTRY_BYTES):
        with pytest.raises(ProgramError):
            Program.from_bytes(flipped(data, at))


@pytest.mark.parametrize("number", range(3))
def test_flipped_byte_of_a_section_is_refused(program, number):
    data = program.to_bytes()
    name, offset, size = sections_of(data)[number]
    for at in (offset, offset + size // 2, offset + size - 1):
        with pytest.raises(ProgramError, match=f'the checksum of section "{name}" differs'):
            Program.from_bytes(flipped(data, at))


@pytest.mark.parametrize(("at", "found"), [(8, "17 and 1"), (12, "1 and 17")])
def test_other_version_is_refused(program, at, found):
    with pytest.raises(ProgramError, match=f"not {found}; compile the model again"):
        Program.from_bytes(flipped(program.to_bytes(), at))


def test_digest_of_another_configuration_is_refused(program):
    data = with_header_crc(flipped(program.to_bytes(), 16))
    with pytest.raises(ProgramError, match="the digest in the header is not that of the config"):
        Program.from_bytes(data)


def test_too_many_sections_are_refused(program):
    data = program.to_bytes()
    data = data[:24] + struct.pack("<I", 1025) + data[28:] + bytes(1025 * ENTRY_BYTES)
    with pytest.raises(ProgramError, match="truncated in its section table"):
        Program.from_bytes(with_header_crc(data))


@pytest.mark.parametrize("data", [b"", b"SYSTOLTH", bytes(64), b"\x18\0\0\0TFL3" + bytes(64)])
def test_other_files_are_refused(data):
    with pytest.raises(ProgramError, match="must start with b'SYSTOLTH'"):
        Program.from_bytes(data)


def rebuilt(program, change):
    """A container with other metadata and correct checksums."""
    data = program.to_bytes()
    _, offset, size = sections_of(data)[0]
    meta = json.loads(data[offset : offset + size])
    text = change(meta)
    text = json.dumps(meta).encode() if text is None else text
    sections = {"meta": text}
    for name, offset, size in sections_of(data)[1:]:
        sections[name] = data[offset : offset + size]
    offset, table, body = HEADER_BYTES + len(sections) * ENTRY_BYTES, b"", b""
    for name, section in sections.items():
        crc = zlib.crc32(section)
        table += struct.pack("<16sQQII", name.encode(), offset + len(body), len(section), crc, 0)
        body += section
    return with_header_crc(data[:HEADER_BYTES] + table + body)


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: b"not JSON",
        lambda meta: b"[1, 2]",
        lambda meta: b"\xff\xfe",
        lambda meta: b"[" * 100_000,
        lambda meta: meta.pop("model") and None,
        lambda meta: meta["segments"][0].pop("kind") and None,
        lambda meta: meta["segments"][0].update(surprise=1),
        lambda meta: meta["config"].update(rows=1000),
        lambda meta: meta["config"].update(rows=8),
        lambda meta: meta.update(tensors=7),
        lambda meta: meta.update(segments=[7]),
        lambda meta: meta["segments"][0].update(layer_of=[0]),
        lambda meta: meta["tensors"].pop() and None,
    ],
)
def test_damaged_metadata_is_refused(program, change):
    with pytest.raises(ProgramError):
        Program.from_bytes(rebuilt(program, change))


def test_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ProgramError, match='Program file ".*absent.systolith" cannot be read'):
        Program.load(tmp_path / "absent.systolith")


def test_damaged_file_is_named(program, tmp_path):
    path = tmp_path / "model.systolith"
    path.write_bytes(program.to_bytes()[:-1])
    with pytest.raises(ProgramError, match='^Program file ".*" is truncated in section "code0"'):
        Program.load(path)


def test_save_replaces_the_file_only_when_all_bytes_are_written(program, tmp_path, monkeypatch):
    path = tmp_path / "model.systolith"
    program.save(path)
    before = path.read_bytes()

    def full_disk(self, target):
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        replace(program, model="other").save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_program_for_another_machine_is_refused(program):
    program.check_config(replace(program.config, name="renamed"))
    other = PRESETS["edge-8x8"]
    with pytest.raises(ProgramError) as caught:
        program.check_config(other)
    message = str(caught.value)
    assert f"{program.config.digest:016x}" in message
    assert f"{other.digest:016x}" in message
    assert "rows is 4 here and 8 there" in message
    assert "compile it for this configuration" in message


def test_undeclared_tensor_is_refused(program):
    with pytest.raises(ProgramError, match=r"tensors that it does not declare: \['missing'\]"):
        replace(program, outputs=("missing",))


def test_layer_of_must_cover_the_instructions(program):
    segment = replace(program.segments[0], layer_of=(0,))
    with pytest.raises(ProgramError, match="layer_of must have 2 entries.*not 1"):
        replace(program, segments=(segment,))


def test_bytes_of_a_tensor():
    assert tensor("t", (2, 3, 4)).nbytes == 24
    assert replace(tensor("t", (2, 3)), dtype="int32").nbytes == 24
    assert tensor("scalar", ()).nbytes == 1


def test_program_error_is_an_error_of_ours():
    assert issubclass(ProgramError, SystolithError)


@pytest.mark.parametrize("cycles", [0, -1, 1 << 48, 2.0, "7"])
def test_predicted_cycles_must_be_a_number_of_cycles(program, cycles):
    with pytest.raises(ProgramError, match="Predicted cycles must be a whole number"):
        replace(program.segments[0], cycles=cycles)
