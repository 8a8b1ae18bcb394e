"""Coverage that Verilator counted: its files read, merged over runs, and told apart by what they count.

Files are text: a line `C '<key>' <count>` for each point, where the key has fields of a letter and a
value, separated by the characters 1 and 2.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

LINE, BRANCH, TOGGLE = "line", "branch", "port toggle"
KINDS = (LINE, BRANCH, TOGGLE)
"""What is reported: lines, arms of decisions, and bits of ports that rose, or fell."""

_ENTRY = re.compile(r"^C '(.*)' (\d+)$")
_MODULE = re.compile(r"^module (\S+?)\s*\(", re.MULTILINE)
_PORT = re.compile(r"^  (?:input|output) (?:\[[^]]*\] )?(\S+?) ?;$", re.MULTILINE)
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
    starts = [(match.start(), match[1]) for match in _MODULE.finditer(verilog)]
    ends = [start for start, _ in starts[1:]] + [len(verilog)]
    return {
        _plain(name): frozenset(_plain(port) for port in _PORT.findall(verilog[start:end]))
        for (start, name), end in zip(starts, ends, strict=True)
    }


def _plain(name: str) -> str:
    return _ENCODED.sub(lambda code: chr(int(code[1], 16)), name).removeprefix("\\").strip()


def triggers_of(verilog: str) -> frozenset[int]:
    """Return the lines of a Verilog text that only make a simulator evaluate a block at the start."""
    lines = verilog.splitlines()
    return frozenset(n for n, line in enumerate(lines, 1) if _TRIGGER.search(line))


def read(path: Path, ports: Mapping[str, frozenset[str]], left_out: Collection[int] = ()) -> Counts:
    """Return how often each point of a file was reached.

    Parameters
    ----------
    path : Path
        File that a simulator left.
    ports : mapping
        Ports by module, as of :func:`ports_of`; toggles of anything else are left out.
    left_out : collection of int
        Lines that are not counted, as of :func:`triggers_of`.
    """
    counts: Counts = Counter()
    for line in path.read_text(encoding="latin-1").splitlines():
        entry = _ENTRY.match(line)
        if entry is None:
            continue
        fields = dict(part.split("\2", 1) for part in entry[1].split("\1") if "\2" in part)
        if int(fields.get("l", 0)) in left_out and not fields.get("page", "").startswith(
            "v_toggle"
        ):
            continue
        point = _point(fields, ports)
        if point is not None:
            counts[point] += int(entry[2])
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


def merge(parts: Iterable[Counts]) -> Counts:
    """Return the sums; a point that was never reached stays, with a count of zero."""
    total: Counts = Counter()
    for part in parts:
        for point, count in part.items():
            total[point] += count
    return total


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
