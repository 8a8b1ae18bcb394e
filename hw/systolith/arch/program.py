"""The program container: what the compiler writes, and driver, golden model and tools read.

File layout, little endian:

    header    magic "SYSTOLTH" (8), container version (u32), ISA version (u32),
              config digest (u64), section count (u32), CRC-32 of header and table (u32)
    table     per section: name (16, NUL padded), offset (u64), size (u64), CRC-32 (u32), zero (u32)
    sections  "meta" (JSON), "constants" (bytes), "code0", "code1", ... (instructions)

Nothing is executed or unpickled on loading.
"""

import json
import os
import struct
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from .config import AcceleratorConfig
from .errors import ConfigError, ProgramError
from .isa import INSTRUCTION_BYTES, ISA_VERSION

MAGIC = b"SYSTOLTH"
CONTAINER_VERSION = 1
_HEADER = struct.Struct("<8sIIQII")
_ENTRY = struct.Struct("<16sQQII")
_MAX_SECTIONS = 1024
_DAMAGE = (KeyError, TypeError, ValueError, AttributeError, RecursionError, ConfigError)
"""What reading metadata raises if it is not what `to_bytes` writes."""


class Region(IntEnum):
    """Use of the DRAM regions by compiled programs; the numbers index the region table."""

    PROGRAM = 0
    CONSTANTS = 1
    INPUT = 2
    OUTPUT = 3
    ARENA = 4


REGION_PERMISSIONS: Mapping[Region, tuple[bool, bool]] = {
    Region.PROGRAM: (True, False),
    Region.CONSTANTS: (True, False),
    Region.INPUT: (True, False),
    Region.OUTPUT: (False, True),
    Region.ARENA: (True, True),
}
"""(read, write) permission that a driver gives each region."""


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """A tensor at the edge of a segment: `value = scale * (stored - zero_point)`."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int

    @property
    def nbytes(self) -> int:
        """Bytes of the dense tensor."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, kw_only=True)
class Binding:
    """A dense tensor at a byte offset of a segment's INPUT or OUTPUT region."""

    tensor: str
    offset: int


@dataclass(frozen=True, kw_only=True)
class AcceleratorSegment:
    """Instructions that run on the accelerator from doorbell to done.

    Parameters
    ----------
    code : bytes
        Instructions, ending with `HALT`.
    inputs, outputs : tuple of Binding
        Tensors that the driver puts into INPUT before the run and takes from OUTPUT after it.
    input_bytes, output_bytes, arena_bytes : int
        Sizes of the regions.
    layer_of : tuple of int
        For each instruction, the index in `Program.layers` of the layer that it works for, or -1.
    cycles : int, optional
        Cycles from doorbell to done that the compiler predicts; None if nobody has predicted any.
    """

    code: bytes
    inputs: tuple[Binding, ...]
    outputs: tuple[Binding, ...]
    input_bytes: int
    output_bytes: int
    arena_bytes: int
    layer_of: tuple[int, ...]
    cycles: int | None = None

    def __post_init__(self) -> None:
        predicted = self.cycles
        if predicted is not None and not (isinstance(predicted, int) and 0 < predicted < 1 << 48):
            raise ProgramError(
                f"Predicted cycles must be a whole number of 1 to 2^48 - 1, or none, not {predicted!r}; "
                f"compile the model again"
            )

    @property
    def instruction_count(self) -> int:
        """Instructions in the segment."""
        return len(self.code) // INSTRUCTION_BYTES


@dataclass(frozen=True, kw_only=True)
class HostSegment:
    """One operator that the driver computes on the host, in exact integer arithmetic.

    Parameters
    ----------
    op : str
        Name of the operator, one of the driver's host operators (`"softmax"`).
    inputs, outputs : tuple of str
        Tensor names.
    attributes : mapping of str to number
        Integer (or exactly representable) parameters of the operator.
    layer : int
        Index in `Program.layers`.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, float | int]
    layer: int


@dataclass(frozen=True, kw_only=True)
class Layer:
    """An operator of the model, for reports.

    Parameters
    ----------
    name : str
        Name of the operator's output tensor in the model.
    op : str
        Operator in the model's own vocabulary, for instance `"CONV_2D"`.
    target : str
        `"npu"` or `"cpu"`.
    macs : int
        Multiplications that the model defines for it; 0 for operators without.
    """

    name: str
    op: str
    target: str
    macs: int


@dataclass(frozen=True, kw_only=True)
class Program:
    """A compiled model.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine that it was compiled for.
    model : str
        Name of the model.
    reference : str
        Runtime whose rounding is reproduced: `"tflm"` or `"litert_reference"`.
    inputs, outputs : tuple of str
        Names of the model's inputs and outputs, in the model's order.
    tensors : mapping of str to TensorInfo
        Every tensor at the edge of a segment.
    segments : tuple
        Accelerator and host segments in order of execution.
    constants : bytes
        Contents of the CONSTANTS region: weights and parameters.
    layers : tuple of Layer
        Operators of the model in order of execution.
    """

    config: AcceleratorConfig
    model: str
    reference: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: Mapping[str, TensorInfo]
    segments: tuple[AcceleratorSegment | HostSegment, ...]
    constants: bytes
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        names = {*self.inputs, *self.outputs}
        for segment in self.segments:
            if isinstance(segment, AcceleratorSegment):
                bindings = (*segment.inputs, *segment.outputs)
                names.update(binding.tensor for binding in bindings)
                if len(segment.layer_of) != segment.instruction_count:
                    raise ProgramError(
                        f"layer_of must have {segment.instruction_count} entries, "
                        f"one per instruction, not {len(segment.layer_of)}"
                    )
            else:
                names.update((*segment.inputs, *segment.outputs))
        missing = sorted(names - set(self.tensors))
        if missing:
            raise ProgramError(f"Program uses tensors that it does not declare: {missing}")

    def check_config(self, config: AcceleratorConfig) -> None:
        """Refuse to run on another machine than the one compiled for.

        Raises
        ------
        ProgramError
            The digests differ; the message has both and the first differing field.
        """
        if config.digest != self.config.digest:
            raise ProgramError(
                f'Program "{self.model}" was compiled for "{self.config.name}" (digest '
                f'{self.config.digest:016x}), not for "{config.name}" (digest '
                f"{config.digest:016x}): {self.config.first_difference(config)}; "
                f"compile it for this configuration"
            )

    def to_bytes(self) -> bytes:
        """Return the container."""
        sections = {"meta": self._meta(), "constants": self.constants}
        for index, segment in enumerate(self.segments):
            if isinstance(segment, AcceleratorSegment):
                sections[f"code{index}"] = segment.code
        offset = _HEADER.size + _ENTRY.size * len(sections)
        table, body = b"", b""
        for name, data in sections.items():
            table += _ENTRY.pack(name.encode(), offset + len(body), len(data), zlib.crc32(data), 0)
            body += data
        fields = (MAGIC, CONTAINER_VERSION, ISA_VERSION, self.config.digest, len(sections))
        crc = zlib.crc32(_HEADER.pack(*fields, 0) + table)
        return _HEADER.pack(*fields, crc) + table + body

    def _meta(self) -> bytes:
        segments: list[dict[str, Any]] = []
        for segment in self.segments:
            fields = asdict(segment)
            fields.pop("code", None)
            kind = "accelerator" if isinstance(segment, AcceleratorSegment) else "host"
            segments.append({"kind": kind, **fields})
        meta = {
            "config": self.config.to_dict(),
            "model": self.model,
            "reference": self.reference,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "tensors": [asdict(tensor) for tensor in self.tensors.values()],
            "segments": segments,
            "layers": [asdict(layer) for layer in self.layers],
        }
        return json.dumps(meta, sort_keys=True, separators=(",", ":")).encode()

    def save(self, path: str | Path) -> None:
        """Write the container; a file at `path` is replaced only once all bytes are on disk."""
        path = Path(path)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(self.to_bytes())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink()
            raise

    @classmethod
    def load(cls, path: str | Path) -> "Program":
        """Read a container.

        Raises
        ------
        ProgramError
            The file cannot be read, is damaged, or is of another version.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ProgramError(f'Program file "{path}" cannot be read: {error}') from error
        return cls.from_bytes(data, source=f'Program file "{path}"')

    @classmethod
    def from_bytes(cls, data: bytes, *, source: str = "Program") -> "Program":
        """Read a container from memory; see :meth:`load`."""
        sections = _read_sections(data, source)
        try:
            return _build(sections)
        except _DAMAGE as error:
            raise ProgramError(f"{source} has damaged metadata: {error!r}") from error


def _read_sections(data: bytes, source: str) -> dict[str, bytes]:
    """Check header, table and checksums, and return the sections by name."""
    if len(data) < _HEADER.size or data[: len(MAGIC)] != MAGIC:
        raise ProgramError(f"{source} must start with {MAGIC!r}; it is no Systolith program")
    magic, version, isa_version, digest, count, crc = _HEADER.unpack_from(data)
    if version != CONTAINER_VERSION or isa_version != ISA_VERSION:
        raise ProgramError(
            f"{source} must be of container version {CONTAINER_VERSION} and ISA version "
            f"{ISA_VERSION}, not {version} and {isa_version}; compile the model again"
        )
    end = _HEADER.size + _ENTRY.size * count
    if count > _MAX_SECTIONS or len(data) < end:
        raise ProgramError(f"{source} is truncated in its section table ({len(data)} bytes)")
    header = _HEADER.pack(magic, version, isa_version, digest, count, 0)
    if zlib.crc32(header + data[_HEADER.size : end]) != crc:
        raise ProgramError(f"{source} is damaged: the checksum of its section table differs")
    sections: dict[str, bytes] = {"digest": digest.to_bytes(8, "little")}
    for index in range(count):
        raw, offset, size, section_crc, _ = _ENTRY.unpack_from(
            data, _HEADER.size + _ENTRY.size * index
        )
        name = raw.rstrip(b"\0").decode("ascii", "replace")
        section = data[offset : offset + size]
        if len(section) != size:
            raise ProgramError(f'{source} is truncated in section "{name}"')
        if zlib.crc32(section) != section_crc:
            raise ProgramError(f'{source} is damaged: the checksum of section "{name}" differs')
        sections[name] = section
    return sections


def _build(sections: dict[str, bytes]) -> Program:
    meta = json.loads(sections["meta"])
    config = AcceleratorConfig.from_dict(meta["config"])
    if config.digest != int.from_bytes(sections["digest"], "little"):
        raise ValueError("the digest in the header is not that of the configuration")
    tensors = {t["name"]: TensorInfo(**{**t, "shape": tuple(t["shape"])}) for t in meta["tensors"]}
    segments: list[AcceleratorSegment | HostSegment] = []
    for index, fields in enumerate(meta["segments"]):
        kind = fields.pop("kind")
        if kind == "accelerator":
            segments.append(
                AcceleratorSegment(
                    code=sections[f"code{index}"],
                    inputs=tuple(Binding(**b) for b in fields.pop("inputs")),
                    outputs=tuple(Binding(**b) for b in fields.pop("outputs")),
                    layer_of=tuple(fields.pop("layer_of")),
                    **fields,
                )
            )
        else:
            inputs, outputs = tuple(fields.pop("inputs")), tuple(fields.pop("outputs"))
            segments.append(HostSegment(inputs=inputs, outputs=outputs, **fields))
    return Program(
        config=config,
        model=meta["model"],
        reference=meta["reference"],
        inputs=tuple(meta["inputs"]),
        outputs=tuple(meta["outputs"]),
        tensors=tensors,
        segments=tuple(segments),
        constants=sections["constants"],
        layers=tuple(Layer(**layer) for layer in meta["layers"]),
    )
