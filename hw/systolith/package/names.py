"""Plain Verilog names for a design that Amaranth has written as RTLIL.

Amaranth joins the names of nested modules and of fields by dots, tells namesakes apart by a dollar
sign and a number, and lets a name be a reserved word. All of it is legal Verilog when escaped, and
hard to read and to constrain. Here `core.drain` becomes `core_drain`, `addr$5` becomes `addr_2`,
and `table` becomes `table_`. The unnamed input of the register `level` becomes `level_next`.
Ports of the top module must be plain names already.
"""

import re
from collections.abc import Iterable, Iterator
from importlib import resources

_NAME = re.compile(r"\\\S+|\$\d+")
_REGISTER = re.compile(r"connect \\([DQ]) ([\\$]\S+)(?: \[(?:\d+:)?0\])?$")
_DECLARATION = re.compile(r"\s*(?:wire|cell|memory)\b.*?(\\\S+)$")
_UNNAMED_PORT = re.compile(r"port\$\d+\$\d+")
_DUPLICATE = re.compile(r"\$\d+")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

RESERVED = frozenset(
    (resources.files(__package__) / "files" / "reserved_verilog.txt").read_text("ascii").split()
)
"""Reserved words of Verilog-2005 and SystemVerilog-2017, as tools may read either."""


def plain_names(rtlil: str, top: str) -> str:
    """Return a design with plain names for modules, cells and wires.

    Parameters
    ----------
    rtlil : str
        Design as :func:`amaranth.back.rtlil.convert` returns it.
    top : str
        Name of the top module, which it keeps, as it does the names of its ports.
    """
    lines = rtlil.splitlines()
    scopes = _scopes(lines)
    for module, inputs in _register_inputs(lines).items():
        scopes[module] += inputs
    modules = _assign_names([top, *(name for name in scopes if name != top)])
    names = {module: _assign_names(declared) for module, declared in scopes.items()}
    return "\n".join(_renamed(lines, modules, names)) + "\n"


def _scopes(lines: Iterable[str]) -> dict[str, list[str]]:
    """Return the names declared in each module, in order; ports first, as others see them."""
    scopes: dict[str, list[str]] = {}
    ports: dict[str, list[str]] = {}
    module = ""
    for line in lines:
        if line.startswith("module "):
            module = line.split("\\", 1)[1].strip()
            scopes[module], ports[module] = [], []
        elif match := _DECLARATION.match(line):
            is_port = " input " in line or " output " in line
            (ports if is_port else scopes)[module].append(match[1][1:])
    return {module: ports[module] + scopes[module] for module in scopes}


def _register_inputs(lines: Iterable[str]) -> dict[str, list[str]]:
    """Return the unnamed inputs of registers, as `$6 level`: wire, and name of the register."""
    inputs: dict[str, list[str]] = {}
    module = ""
    pins: dict[str, str] | None = None
    for line in lines:
        if line.startswith("module "):
            module = line.split("\\", 1)[1].strip()
            inputs[module] = []
        elif line.startswith("  cell $dff "):
            pins = {}
        elif pins is not None and (match := _REGISTER.match(line.strip())):
            pins[match[1]] = match[2]
        elif pins is not None and line.strip() == "end":
            if pins.get("D", "").startswith("$") and pins.get("Q", "").startswith("\\"):
                inputs[module].append(f"{pins['D']} {pins['Q'][1:]}")
            pins = None
    return inputs


def _assign_names(originals: list[str]) -> dict[str, str]:
    """Return a distinct plain name for each; names that are plain and free keep theirs."""
    names = {name: name for name in originals if _is_plain(name)}
    taken = set(names)
    for original in originals:
        if original in names:
            continue
        wire, _, register = original.partition(" ")
        base = _UNNAMED_PORT.sub("port", f"{register}_next" if register else original)
        base = re.sub(r"\W+", "_", _DUPLICATE.sub("", base), flags=re.ASCII).strip("_")
        if not _is_plain(base):
            base = f"{base}_" if base in RESERVED else f"n_{base}"
        name, number = base, 1
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        names[wire] = name
        taken.add(name)
    return names


def _is_plain(name: str) -> bool:
    return _PLAIN.fullmatch(name) is not None and name not in RESERVED


def _renamed(
    lines: Iterable[str], modules: dict[str, str], names: dict[str, dict[str, str]]
) -> Iterator[str]:
    """Yield the lines with all names replaced."""
    scope: dict[str, str] = {}
    ports: dict[str, str] | None = None

    def local(match: re.Match[str]) -> str:
        name = match[0]
        if name.startswith("$"):
            return "\\" + scope[name] if name in scope else name
        return "\\" + scope[name[1:]]

    for line in lines:
        words = line.split(None, 2)
        kind = words[0] if words else ""
        if kind in ("attribute", "parameter"):
            yield line
        elif kind == "module":
            scope = names[words[1][1:]]
            yield f"module \\{modules[words[1][1:]]}"
        elif kind == "cell":
            cell_type = words[1][1:]
            ports = names.get(cell_type, {})
            if cell_type in modules:
                line = line.replace(words[1], "\\" + modules[cell_type], 1)
            head, name = line.rsplit(None, 1)
            yield f"{head} {_NAME.sub(local, name)}"
        elif kind == "connect" and ports is not None:
            port = ports.get(words[1][1:], words[1][1:])
            yield f"    connect \\{port} {_NAME.sub(local, words[2])}"
        else:
            if kind == "end":
                ports = None
            yield _NAME.sub(local, line)
