"""Lets the counters of a design begin where a long program would have taken them.

Instructions are counted with 24 bits and cycles with 32; programs that reach the highest of them would
be simulated for hours. So, if `mutant.cpp` says so, the counts at the start of a program are not zero
but one value, and everything that is counted from there must be as if it had been counted from zero.

A flattened design asks once, when a simulation begins; one with its modules before each program.
"""

import re
from collections.abc import Iterator

from systolith.arch import csr, isa
from systolith.arch.errors import ToolchainError

COUNT_BITS = 32
"""Bits of the value; instructions take the lower ones."""

LATE = "late_count"
"""Register of the top with the value; zero is no late start."""

_CLEAR = r"\core.sequencer.clear "
"""High in the cycle before a program begins."""

_ENGINES = isa.Engine.SEQUENCER
_COUNTERS = {
    r"\core.sequencer.progress": (isa.COUNTER_BITS, int(_ENGINES)),
    r"\core.sequencer.dispatcher.dispatched": (isa.COUNTER_BITS, int(_ENGINES)),
    r"\core.sequencer.fetch.taken": (isa.COUNTER_BITS, 1),
    r"\core.counters.values": (COUNT_BITS, 1 + len(csr.COUNTERS)),
}
"""Registers that count from the start of a program on: bits of a count, and counts."""

_REGISTER = f"  reg [{COUNT_BITS - 1}:0] {LATE};"
_IMPORT = '  import "DPI-C" function int systolith_late();'
_DECLARATION = '  import "DPI-C" function int systolith_mutant();\n'
_IN_MODULES = {
    "core.sequencer": ("progress", "clear"),
    "core.sequencer.dispatcher": ("dispatched", "engine_reset"),
    "core.sequencer.fetch": ("taken", "engine_reset"),
    "core.counters": ("values", "clear"),
}
"""Modules below the top: the register that counts there, and what is high before a program begins."""

_PLACE = re.compile(r"(\\\S+|_\w+_) ?(?: ?\[(\d+)(?::(\d+))?\])?")
_ASSIGN = re.compile(r"^  assign (.+) = (\\\S+ ?|_\w+_);$", re.MULTILINE)
_BLOCK = re.compile(
    r"^(  always @\(posedge ap_clk\)\n    )(if \(.*\) (.+?) +<= (\d+)'(?:h|d)0+;)$", re.MULTILINE
)


def _parts(text: str) -> Iterator[tuple[str, int, int | None]]:
    """Yield name, lowest bit and bits of what a name or a concatenation of names stands for."""
    for name, high, low in _PLACE.findall(text.strip("{} ")):
        if not high:
            yield name, 0, None if name.startswith("\\") else 1
        else:
            first = int(low or high)
            yield name, first, int(high) - first + 1


def _places(text: str) -> dict[str, tuple[str, int]]:
    """Return which bits of which counter each register stands for that is assigned to one."""
    result = {}
    for match in _ASSIGN.finditer(text):
        if not any(name in match[1] for name in _COUNTERS):
            continue
        right = 0
        for name, low, bits in reversed(list(_parts(match[1]))):
            if name in _COUNTERS:
                result[match[2].strip()] = name, low - right
                break
            if bits is None:
                break
            right += bits
    return result


def count_late(text: str) -> str:
    """Return a flattened design whose counters may begin late.

    Raises
    ------
    ToolchainError
        The counters are not found, or not all of their bits.
    """
    places = _places(text)
    found = 0

    def begin(match: re.Match[str]) -> str:
        nonlocal found
        register = match[3].strip()
        (name, low, _), *_ = _parts(register)
        if name not in _COUNTERS:
            name, low = places.get(register, ("", 0))
        if name not in _COUNTERS:
            return match[0]
        found += int(match[4])
        bits, counts = _COUNTERS[name]
        value = f"{{{counts}{{{LATE}[{bits - 1}:0]}}}} >> {low}"
        late = f"if ({LATE} != 0 && {_CLEAR}) {match[3]} <= {value};"
        return f"{match[1]}{late}\n    else {match[2]}"

    text = _BLOCK.sub(begin, text)
    wanted = sum(bits * counts for bits, counts in _COUNTERS.values())
    if found != wanted:
        raise ToolchainError(f"Counters must have {wanted} bits in the netlist, not {found}")
    declaration = f"{_REGISTER}\n{_IMPORT}\n  initial {LATE} = systolith_late();\n"
    return text.replace(_DECLARATION, _DECLARATION + declaration, 1)


def count_late_in_modules(text: str, top: str) -> str:
    """Return a design with its modules whose counters may begin late; its lines with that name it.

    Parameters
    ----------
    text : str
        Verilog as it is generated.
    top : str
        Name of its top, with which those of all modules begin.

    Raises
    ------
    ToolchainError
        A counter is not found.
    """
    asking = f"{_REGISTER}{_IMPORT}  always @(posedge ap_clk) {LATE} <= systolith_late();"
    for module, (name, when) in _IN_MODULES.items():
        bits, counts = _COUNTERS[rf"\{module}.{name}"]
        begin = f"{when} ? {{{counts}{{{LATE}[{bits - 1}:0]}}}} : "
        pattern = rf"^(module \\{top}\.{re.escape(module)} \(.*?\);\n)(.*?^    {name} <= )(?=\\\$)"
        match = re.search(pattern, text, re.DOTALL | re.MULTILINE)
        if match is None:
            raise ToolchainError(f'Module "{module}" must have a counter "{name}", and has none')
        text = f"{text[: match.start()]}{match[1]}{asking}\n{match[2]}{begin}{text[match.end() :]}"
    return text
