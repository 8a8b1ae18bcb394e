"""Make every register and memory of generated Verilog flippable, without touching the generator.

Each register takes its next value with one bit inverted in a cycle in which `flip::which` is its
number; a register that holds its value takes that in its next value, so the bit stays flipped until
something else is written. A bit of a memory is inverted where it lies.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_MODULE = re.compile(r"^module (\\\S+ |\w+)")
_DECLARED = re.compile(
    r"^  (?:output )?reg (?:\[(\d+):0\] )?(\\\S+ |\w+)(?: \[(\d+):0\])?(?: = .*)?;$"
)
_CLOCKED = re.compile(r"^  always @\(posedge (\\\S+ |\w+)\)( begin)?$")
_ASSIGNED = re.compile(r"^(\s+)(\\\S+ |\w+)(\[\d+(?::\d+)?\])? ?<= (.*);$")
_ENABLED = re.compile(r"^    if \((.*)\)$")

PACKAGE = """\
package flip;
  int unsigned which, place, row;
endpackage
"""
"""What is flipped in this cycle: number of a site, bit, and row of a memory."""


@dataclass(frozen=True)
class Site:
    """A register or a memory.

    Parameters
    ----------
    number : int
        Value of `flip::which` that flips it; 1 and up.
    module, name : str
        Where it is.
    bits : int
        Bits of the register or of one row.
    rows : int
        Rows of the memory; 0 for a register.
    """

    number: int
    module: str
    name: str
    bits: int
    rows: int

    @property
    def size(self) -> int:
        """Bits that can be flipped."""
        return self.bits * max(1, self.rows)


def instrument(verilog: str) -> tuple[str, list[Site]]:
    """Return Verilog whose registers and memories can be flipped, and what they are.

    Parameters
    ----------
    verilog : str
        As yosys writes it for Amaranth: one assignment per clocked block.

    Raises
    ------
    ValueError
        A clocked assignment is not of that form.
    """
    lines, sites = [PACKAGE], list[Site]()
    source = verilog.splitlines()
    module, widths, depths = "", dict[str, int](), dict[str, int]()
    index = 0
    while index < len(source):
        line = source[index]
        index += 1
        if found := _MODULE.match(line):
            module, widths, depths = found[1].strip(), {}, {}
        elif found := _DECLARED.match(line):
            name = found[2].strip()
            widths[name] = int(found[1] or 0) + 1
            if found[3] is not None:
                depths[name] = int(found[3]) + 1
        clocked = _CLOCKED.match(line)
        if clocked is None:
            lines.append(line)
            if _DECLARED.match(line) and depths.get(name):
                sites.append(Site(len(sites) + 1, module, name, widths[name], depths[name]))
            continue
        block = [line]
        while True:
            block.append(source[index])
            index += 1
            if not clocked[2] or block[-1] == "  end":
                break
        lines += _block(block, module, widths, depths, sites)
    return "\n".join(_flip_memories(lines, sites)), sites


def _block(
    block: Sequence[str],
    module: str,
    widths: dict[str, int],
    depths: dict[str, int],
    sites: list[Site],
) -> list[str]:
    """Return a clocked block with a way to flip its register; memories are flipped elsewhere."""
    result, enable = list[str](), ""
    for line in block:
        if found := _ENABLED.match(line):
            enable = found[1]
            result.append(line)
            continue
        found = _ASSIGNED.match(line)
        if found is None or found[2].strip() in depths or _is_memory_write(line, depths):
            result.append(line)
            if found is None and "<=" in line and not _is_memory_write(line, depths):
                raise ValueError(f"Clocked assignment must be of a whole register, not {line!r}")
            continue
        indent, name, part, value = found[1], found[2].strip(), found[3] or "", found[4]
        if part:
            numbers = [int(number) for number in re.findall(r"\d+", part)]
            bits = max(numbers) - min(numbers) + 1
        else:
            bits = widths[name]
        site = Site(len(sites) + 1, module, name + part, bits, 0)
        sites.append(site)
        target = f"{found[2]}{part}"
        flipped = f"(flip::which == {site.number} ? {bits}'d1 << flip::place : {bits}'d0)"
        result.append(f"{indent}{target} <= ({value}) ^ {flipped};")
        if enable:
            result.append(
                f"    else if (flip::which == {site.number}) {target} <= {target} ^ {flipped};"
            )
            enable = ""
    return result


def _is_memory_write(line: str, depths: dict[str, int]) -> bool:
    target = line.partition("<=")[0]
    return "[" in target and target.partition("[")[0].strip() in depths


def _flip_memories(lines: Sequence[str], sites: Sequence[Site]) -> list[str]:
    """Add the flips of memories before the end of their modules."""
    of_module: dict[str, list[Site]] = {}
    for site in sites:
        if site.rows:
            of_module.setdefault(site.module, []).append(site)
    result, module, clock = list[str](), "", ""
    for line in lines:
        if found := _MODULE.match(line):
            module = found[1].strip()
        elif found := _CLOCKED.match(line):
            clock = found[1]
        elif line == "endmodule":
            for site in of_module.pop(module, []):
                name = f"{site.name} " if site.name.startswith("\\") else site.name
                # The bit alone: the rest of the word may be written in the same cycle.
                bit = f"{name}[flip::row][flip::place]"
                result.append(
                    f"  always @(posedge {clock}) if (flip::which == {site.number}) {bit} <= ~{bit};"
                )
        result.append(line)
    return result
