"""The accelerator's configuration: choices are fields, everything computable is a property."""

import dataclasses
import hashlib
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .errors import ConfigError

TABLE_COUNT = 4
"""Tables of 256 entries that the drain pipeline holds."""

TABLE_ENTRIES = 256
"""Entries of one table, one per int8 value."""

MULTIPLIERS = {
    "plain": "one product per multiplier, for synthesis to infer",
    "pair25": "two products per multiplier of 25 x 18 bits or more, as of a DSP48E1",
    "pair27": "two products per multiplier of 27 x 18 bits or more, as of a DSP48E2",
    "mult18x18d": "one product per MULT18X18D of an ECP5, with its registers",
}
"""What the array's cells are made of."""

PROTECTIONS = {
    "none": "soft errors are not noticed",
    "memory": "parity on every memory",
    "checksum": "parity, and a checksum column beside the array, for dense passes",
    "full": "both, and parity on what travels through the array",
}
"""What notices soft errors, each level with all of those before it."""

_IMPLEMENTATION_FIELDS = ("multiplier", "protection", "deep_pipeline")
"""Fields that programs and results do not depend on: not part of the digest."""

DEEP = "-deep"
"""End of the name of a configuration that `deep_pipeline` was added to."""


def ceil_div(a: int, b: int) -> int:
    """Return `a / b` rounded towards positive infinity, for positive `b`."""
    return -(-a // b)


def _ceil_pow2(value: int) -> int:
    return 1 << (value - 1).bit_length()


def _is_pow2(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True, kw_only=True, slots=True)
class AcceleratorConfig:
    """One accelerator: everything that the gateware, the compiler and the golden model must agree on.

    Parameters
    ----------
    name : str
        Name for people; not part of the digest.
    rows, cols : int
        Array size: `rows` reduction lanes by `cols` output channels.
    scratchpad_bytes : int
        Activation memory, in bytes; a power of two.
    banks : int
        Banks of the scratchpad, one word wide each; a power of two.
    weight_bytes : int
        Weight buffer, in bytes; a power of two.
    acc_rows : int
        Rows of one of the two accumulator banks, `cols` int32 sums each; a power of two.
    param_bytes : int
        Memory for biases, multipliers and shifts, in bytes; a power of two.
    lanes : int
        Requantizer lanes; must divide `cols`.
    feeds : int
        Column feeds for depthwise passes; row r listens to feed `r // (rows // feeds)`.
    axi_data_bits : int
        Data width of the AXI4 master, in bits.
    axi_outstanding : int
        Read and write bursts that may be outstanding, each.
    queue_depth : int
        Instructions that wait in front of each engine.
    multiplier : str
        What the array's cells are made of, one of :data:`MULTIPLIERS`. Programs and results are
        the same with each, so it is not part of the digest: a program runs on all of them.
    protection : str
        What notices soft errors, one of :data:`PROTECTIONS`; not part of the digest either.
    deep_pipeline : bool
        Whether the longest ways through hard blocks are cut in two: a register follows each bank of
        the scratchpad, and elementwise units add their partial products a cycle later. Takes a few
        cycles, for a faster clock where hard blocks are slow or far apart, as on an ECP5; not part
        of the digest either.

    Raises
    ------
    ConfigError
        A value or a combination breaks a rule; the message names both.
    """

    name: str
    rows: int
    cols: int
    scratchpad_bytes: int
    banks: int = 4
    weight_bytes: int
    acc_rows: int
    param_bytes: int
    lanes: int
    feeds: int
    axi_data_bits: int
    axi_outstanding: int = 16
    queue_depth: int = 16
    multiplier: str = "plain"
    protection: str = "none"
    deep_pipeline: bool = False

    def __post_init__(self) -> None:
        self._check_ranges()
        self._check_powers_of_two()
        self._check_cross()

    def _fail(self, field: str, rule: str) -> None:
        raise ConfigError(
            f'Configuration "{self.name}": {field} must be {rule}, not {getattr(self, field)!r}'
        )

    def _check_ranges(self) -> None:
        ranges = {
            "rows": (2, 64),
            "cols": (2, 64),
            "scratchpad_bytes": (1 << 10, 1 << 21),
            "banks": (2, 16),
            "weight_bytes": (1 << 9, 1 << 20),
            "acc_rows": (16, 1024),
            "param_bytes": (256, 1 << 16),
            "lanes": (1, 64),
            "feeds": (1, 8),
            "axi_data_bits": (32, 512),
            "axi_outstanding": (1, 32),
            "queue_depth": (2, 64),
        }
        if not isinstance(self.name, str) or not self.name:
            self._fail("name", "a non-empty string")
        for field, (low, high) in ranges.items():
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                self._fail(field, f"an integer in {low}..{high}")
        if not isinstance(self.multiplier, str) or self.multiplier not in MULTIPLIERS:
            self._fail("multiplier", f"one of {', '.join(MULTIPLIERS)}")
        if not isinstance(self.protection, str) or self.protection not in PROTECTIONS:
            self._fail("protection", f"one of {', '.join(PROTECTIONS)}")
        for field in ("deep_pipeline",):
            if not isinstance(getattr(self, field), bool):
                self._fail(field, "true or false")

    def _check_powers_of_two(self) -> None:
        for field in (
            "scratchpad_bytes",
            "banks",
            "weight_bytes",
            "acc_rows",
            "param_bytes",
            "axi_data_bits",
            "queue_depth",
        ):
            if not _is_pow2(getattr(self, field)):
                self._fail(field, "a power of two")

    def _check_cross(self) -> None:
        if self.protection == "full" and self.multiplier.startswith("pair"):
            self._fail(
                "protection",
                f'at most "checksum" with multiplier "{self.multiplier}", which has no rows of '
                "registers for parity to travel along",
            )
        if self.cols % self.lanes:
            self._fail("lanes", f"a divisor of cols ({self.cols})")
        if self.feeds > self.rows:
            self._fail("feeds", f"at most rows ({self.rows})")
        if self.feeds + 1 > self.banks and self.feeds > 1:
            self._fail("feeds", f"below banks ({self.banks}), as feed 0 may occupy two of them")
        if self.scratchpad_bytes < 4 * self.banks * self.word_bytes:
            self._fail("scratchpad_bytes", f"at least 4 words of {self.word_bytes} bytes per bank")
        if self.weight_words < 2 * self.rows:
            self._fail(
                "weight_bytes",
                f"at least two tiles, {2 * self.rows * self.weight_word_bytes} bytes",
            )
        if self.param_words < 2 * self.param_tile_words:
            self._fail(
                "param_bytes",
                f"at least two tiles, {2 * self.param_tile_words * self.weight_word_bytes} bytes",
            )

    @property
    def axi_bytes(self) -> int:
        """Bytes of one AXI beat."""
        return self.axi_data_bits // 8

    @property
    def word_bytes(self) -> int:
        """Bytes of one scratchpad word: wide enough for a vector of either feed and for a beat."""
        return _ceil_pow2(max(self.rows, self.cols, self.axi_bytes))

    @property
    def weight_word_bytes(self) -> int:
        """Bytes of one word of weight buffer and parameter memory: one array row of weights."""
        return _ceil_pow2(max(self.cols, self.axi_bytes))

    @property
    def weight_words(self) -> int:
        """Words (array rows) that the weight buffer holds."""
        return self.weight_bytes // self.weight_word_bytes

    @property
    def param_words(self) -> int:
        """Words that the parameter memory holds."""
        return self.param_bytes // self.weight_word_bytes

    @property
    def bias_words(self) -> int:
        """Parameter words with the int32 biases (or multipliers) of one column tile."""
        return ceil_div(4 * self.cols, self.weight_word_bytes)

    @property
    def shift_words(self) -> int:
        """Parameter words with the int8 shifts of one column tile."""
        return ceil_div(self.cols, self.weight_word_bytes)

    @property
    def param_tile_words(self) -> int:
        """Parameter words of one per-channel column tile: biases, multipliers, shifts."""
        return 2 * self.bias_words + self.shift_words

    @property
    def group_rows(self) -> int:
        """Array rows that listen to one column feed (G); rows beyond `feeds * G` get feed F - 1."""
        return self.rows // self.feeds

    @property
    def macs(self) -> int:
        """Multipliers in the array."""
        return self.rows * self.cols

    @property
    def protection_level(self) -> int:
        """Place of `protection` in :data:`PROTECTIONS`: 0 for none."""
        return tuple(PROTECTIONS).index(self.protection)

    @property
    def protects_memories(self) -> bool:
        """Whether every memory has parity."""
        return self.protection != "none"

    @property
    def protects_array(self) -> bool:
        """Whether a checksum column watches dense passes."""
        return self.protection in ("checksum", "full")

    @property
    def protects_activations(self) -> bool:
        """Whether parity travels through the array."""
        return self.protection == "full"

    def with_deep_pipeline(self) -> Self:
        """Return the same accelerator with a deep pipeline, and a name that says so."""
        return dataclasses.replace(self, name=self.name + DEEP, deep_pipeline=True)

    @property
    def implementation(self) -> tuple[str | bool, ...]:
        """Values of the fields that programs do not depend on: hardware differs, digests do not."""
        return tuple(getattr(self, field) for field in _IMPLEMENTATION_FIELDS)

    @property
    def digest(self) -> int:
        """64-bit digest of what programs depend on: SHA-256 of its canonical JSON, first 8 bytes.

        That is every field but the name and those of :attr:`implementation`.
        """
        ignored = {"name", *_IMPLEMENTATION_FIELDS}
        fields = {key: value for key, value in self.to_dict().items() if key not in ignored}
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary of plain values, without implementation defaults."""
        fields = dataclasses.asdict(self)
        for field in dataclasses.fields(self):
            if field.name in _IMPLEMENTATION_FIELDS and fields[field.name] == field.default:
                del fields[field.name]
        return fields

    @classmethod
    def from_dict(cls, fields: dict[str, Any], *, source: str = "configuration") -> Self:
        """Make a configuration from a dictionary of fields.

        Raises
        ------
        ConfigError
            A field is unknown or missing, or a value breaks a rule.
        """
        known = {f.name: f for f in dataclasses.fields(cls)}
        for key in fields:
            if key not in known:
                raise ConfigError(
                    f'{source}: field "{key}" must be one of {", ".join(sorted(known))}'
                )
        for key, field in known.items():
            if key not in fields and field.default is dataclasses.MISSING:
                raise ConfigError(f'{source}: field "{key}" is missing; add it')
        return cls(**fields)

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Read a configuration from a TOML file of `field = value` lines.

        Raises
        ------
        ConfigError
            The file cannot be read, is not TOML, or breaks a rule.
        """
        path = Path(path)
        try:
            fields = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f'Configuration file "{path}" cannot be read: {error}') from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f'Configuration file "{path}" must be TOML: {error}') from error
        return cls.from_dict({"name": path.stem, **fields}, source=f'Configuration file "{path}"')

    def to_toml(self) -> str:
        """Return the text of a TOML file that :meth:`from_toml` reads back to an equal value."""
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in self.to_dict().items())

    def first_difference(self, other: "AcceleratorConfig") -> str | None:
        """Name the first field of the digest that differs, with both values, or return None."""
        for field in dataclasses.fields(self):
            if field.name in {"name", *_IMPLEMENTATION_FIELDS}:
                continue
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if mine != theirs:
                return f"{field.name} is {mine} here and {theirs} there"
        return None
