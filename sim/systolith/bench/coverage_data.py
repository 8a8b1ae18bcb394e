"""Coverage that Verilator counted: its files read, merged over runs, and told apart by what they count.

Files are text: a line `C '<key>' <count>` for each point, where the key has fields of a letter and a
value, separated by the characters 1 and 2.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

LINE, BRANCH, TOGGLE = "line", "branch", "port toggle"
KINDS = (LINE, BRANCH, TOGGLE)
"""What is reported: lines, arms of decisions, and bits of ports that rose, or fell."""

ABOVE = "TOP.pins."
"""What is above the top of a design in the places of its points."""

_ENTRY = "C '"
_MODULE = re.compile(r"^module (\S+?)\s*\(", re.MULTILINE)
_PORT = re.compile(r"^  (?:input|output) (?:\[[^]]*\] )?(\S+?) ?;$", re.MULTILINE)
_PART = re.compile(r"^  assign \\(\S+) += \\?(\S+?) ?\[(\d+)(?::(\d+))?\];$", re.MULTILINE)
_BIT = re.compile(r"(.*)\[(\d+)\](:[01]->[01])")
# Registers that Yosys adds so that blocks without inputs are evaluated, and nets without a name.
_TRIGGER = re.compile(r"if \(\\\$auto\$verilog_backend\S* \) begin end")
_ENCODED = re.compile(r"__0([0-9A-Fa-f]{2})")  # how Verilator writes a character in a name
_NAMELESS = re.compile(r"\$auto\$|^\\?\$\d+")


@dataclass(frozen=True, slots=True)
class Point:
    """Something that can happen in a simulation.

    Parameters
    ----------
    kind : str
        One of :data:`KINDS`.
    place : str
        Path of the instance in the design.
    name : str
        Line and what is there, or bit and direction.
    """

    kind: str
    place: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.place} {self.name}"


Counts = Counter[Point]


def ports_of(verilog: str) -> Mapping[str, frozenset[str]]:
    """Return the names of the ports of each module of a Verilog text."""
    return {
        name: frozenset(_plain(port) for port in _PORT.findall(text))
        for name, text in _modules_of(verilog)
    }


def _modules_of(verilog: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each module."""
    heads = list(_MODULE.finditer(verilog))
    ends = [*(head.start() for head in heads[1:]), len(verilog)]
    for head, end in zip(heads, ends, strict=False):
        yield _plain(head[1]), verilog[head.start() : end]


def _plain(name: str) -> str:
    return _ENCODED.sub(lambda code: chr(int(code[1], 16)), name).removeprefix("\\").strip()


def triggers_of(verilog: str) -> frozenset[int]:
    """Return the lines of a Verilog text that only make a simulator evaluate a block at the start."""
    lines = verilog.splitlines()
    return frozenset(n for n, line in enumerate(lines, 1) if _TRIGGER.search(line))


def tally(path: Path) -> Counter[str]:
    """Return how often each entry of a file was reached, by its key."""
    lines = path.read_text(encoding="latin-1").splitlines()
    entries = (line.rpartition(" ") for line in lines if line.startswith(_ENTRY))
    return Counter({key: int(count) for key, _, count in entries})


def points(
    tallied: Mapping[str, int], ports: Mapping[str, frozenset[str]], left_out: Collection[int] = ()
) -> Counts:
    """Return how often each point was reached.

    Parameters
    ----------
    tallied : mapping of str to int
        Sums of what :func:`tally` returned.
    ports : mapping
        Ports by module, as of :func:`ports_of`; toggles of anything else are left out.
    left_out : collection of int
        Lines that are not counted, as of :func:`triggers_of`.
    """
    counts: Counts = Counter()
    for key, count in tallied.items():
        parts = key.removeprefix(_ENTRY).removesuffix("'").split("\1")
        fields = dict(part.split("\2", 1) for part in parts if "\2" in part)
        toggles = fields.get("page", "").startswith("v_toggle")
        if not toggles and int(fields.get("l", 0)) in left_out:
            continue
        point = _point(fields, ports)
        if point is not None:
            counts[point] += count
    return counts


def _point(fields: Mapping[str, str], ports: Mapping[str, frozenset[str]]) -> Point | None:
    page, _, module = fields.get("page", "").partition("/")
    comment, place = fields.get("o", ""), fields.get("h", "")
    if page == "v_toggle":
        # Brackets of a name are written as codes, so the first one begins the bit.
        signal = _plain(comment.partition(":")[0].partition("[")[0])
        if _NAMELESS.search(signal) or signal not in ports.get(_plain(module), ()):
            return None
        return Point(TOGGLE, place, _plain(comment))
    kind = {"v_line": LINE, "v_branch": BRANCH}.get(page)
    if kind is None or _plain(module) not in ports:
        return None
    return Point(kind, place, f"{fields.get('l', '')}.{fields.get('n', '')} {comment}")


def dump(counts: Counts) -> str:
    """Return counts as a text, which :func:`load` reads."""
    return json.dumps([[p.kind, p.place, p.name, count] for p, count in counts.items()])


def load(text: str) -> Counts:
    """Return the counts of a text that :func:`dump` made."""
    return Counter({Point(*point): count for *point, count in json.loads(text)})


def share(counts: Counts, kind: str) -> tuple[int, int]:
    """Return how many points of a kind were reached, and how many there are."""
    found = [count for point, count in counts.items() if point.kind == kind]
    return sum(count > 0 for count in found), len(found)


def holes(counts: Counts) -> list[Point]:
    """Return the points that were never reached, in order."""
    return sorted(
        (point for point, count in counts.items() if not count),
        key=lambda point: (point.kind, point.place, point.name),
    )


class Names:
    """What the points of a design are called: bits by the field that they belong to, lines by their text.

    Parameters
    ----------
    verilog : str
        The design.
    """

    def __init__(self, verilog: str) -> None:
        self._lines = verilog.splitlines()
        self._fields = {name: _fields_of(text) for name, text in _modules_of(verilog)}

    def text_of(self, point: Point) -> str:
        """Return a point for people: `port toggle TOP.core.reader.expander i__payload.code[1]:0->1`."""
        if point.kind != TOGGLE:
            number = int(point.name.partition(".")[0])
            return f"{point}: {self._lines[number - 1].strip()}"
        match = _BIT.fullmatch(point.name)
        if match is None:
            return str(point)
        port, bit = match[1], int(match[2])
        module = point.place.removeprefix(ABOVE)
        around = [f for f in self._fields.get(module, {}).get(port, ()) if f.low <= bit <= f.high]
        field = min(around, key=lambda f: f.high - f.low, default=_Field("", bit, 0))
        return f"{point.kind} {point.place} {port}{field.name}[{bit - field.low}]{match[3]}"


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    high: int
    low: int


def _fields_of(module: str) -> dict[str, list[_Field]]:
    """Return the fields of each signal of a module: what is assigned from a part of it."""
    found: dict[str, list[_Field]] = {}
    for part, signal, high, low in _PART.findall(module):
        if part.startswith(signal):
            field = _Field(part.removeprefix(signal), int(high), int(low or high))
            found.setdefault(signal, []).append(field)
    return found
