"""A shell around a design that registers its inputs, for a simulator that works once per cycle.

Inputs that change between two clock edges make Verilator evaluate all logic behind them, once with
the clock low and again with what the edge changes. Registered with the same edge, they change
together with everything else. The bus models decide a cycle's inputs in the cycle before, so that
the shell delays nothing that they see: they hand them over before the edge.
"""

import re

from systolith.arch.errors import ToolchainError

SHELL = "pins"
"""Module of the shell; the design is its instance of the same name as the design's module."""

CLOCK = "ap_clk"

_PORT = re.compile(r"\b(input|output)\s+(?:(?:wire|reg)\s+)?(\[\d+:0\]\s*)?(\w+)")


def shell(verilog: str, module: str) -> str:
    """Return the Verilog of the shell around a module of a text.

    Parameters
    ----------
    verilog : str
        Text with the module; ports are declared one by one, in its header or its body.
    module : str
        Name of the module; its clock is :data:`CLOCK`.

    Raises
    ------
    ToolchainError
        There is no such module, or it has no clock.
    """
    found = re.search(rf"^module {module}\b.*?\bendmodule\b", verilog, re.DOTALL | re.MULTILINE)
    ports = _PORT.findall(found.group()) if found else []
    inputs = [(width, name) for kind, width, name in ports if kind == "input" and name != CLOCK]
    outputs = [(width, name) for kind, width, name in ports if kind == "output"]
    if ("input", "", CLOCK) not in ports:
        raise ToolchainError(f'Verilog must have a module "{module}" with the input "{CLOCK}"')
    declared = [f"input {CLOCK}"]
    declared += [f"input {width}{name}" for width, name in inputs]
    declared += [f"output {width}{name}" for width, name in outputs]
    connected = [f".{CLOCK}({CLOCK})", *(f".{name}({name}_q)" for _, name in inputs)]
    connected += [f".{name}({name})" for _, name in outputs]
    lines = [
        f"module {SHELL}({', '.join(declared)});",
        *(f"  reg {width}{name}_q;" for width, name in inputs),
        f"  always @(posedge {CLOCK}) begin",
        *(f"    {name}_q <= {name};" for _, name in inputs),
        "  end",
        f"  {module} {module}({', '.join(connected)});",
        "endmodule",
    ]
    return "\n".join(lines) + "\n"
