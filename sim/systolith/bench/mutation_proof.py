"""Proves that a mutant is no change: all that the design keeps or shows is computed as before.

Registers and memories are cut open: what they hold is any value, what they take is an output. Then
original and mutant have no state, and a solver compares every output for every input. So what is
proven needs no assumption about states. Where that fails, registers around the mutant that can never
leave their first value, which the solver proves one by one, are taken to have it. What is not proven
may still be equivalent in the states that can be reached.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from systolith.arch.errors import ToolchainError
from systolith.bench.mutation_design import SELECT, MutatedDesign, Mutation, yosys
from systolith.bench.rtl import build

_TIMEOUT_S = 60
_LIMIT_S = 300.0
_MOST_REGISTERS = 300
"""Registers around a mutant that the solver is asked about."""

_SMALL = 16
"""Rows of memories that are opened bit by bit: of those, bits that nobody reads are seen."""

_CONSTANTS = (
    # In front of what the mutant reaches before the next register.
    f"select -set near {build.TOP}/w:{SELECT} %co*:-$dff,-$mem_v2 %ci*:-$dff,-$mem_v2",
    f"select -set registers @near %ci1 {build.TOP}/t:$dff %i",
    f"select -assert-max {_MOST_REGISTERS} @registers",
    "opt_dff -sat -nodffe -nosdff @registers",
    "opt_clean",
)
"""Replaces registers that keep their first value, with the mutant and without it."""


def is_equivalent(design: MutatedDesign, mutation: Mutation) -> bool:
    """Return whether a mutant is proven to be equivalent, which a solver may be too slow for."""
    with tempfile.TemporaryDirectory(prefix="systolith-") as scratch:
        folder = Path(scratch)
        (folder / "flat.il").write_text(design.netlist, encoding="utf-8")
        return any(
            _is_proven(_script(mutation, constants), folder) for constants in ((), _CONSTANTS)
        )


def _is_proven(script: Sequence[str], folder: Path) -> bool:
    try:
        yosys(script, folder, _LIMIT_S)
    except ToolchainError:
        return False
    return True


def _script(mutation: Mutation, constants: Sequence[str]) -> list[str]:
    """Return a script that fails unless original and mutant are the same functions.

    `constants` are commands that replace registers by what they always hold.
    """
    top = build.TOP
    return [
        "read_rtlil flat.il",
        f"mutate -ctrl {SELECT} 1 1 {mutation.options}",
        # The mutant is there and chosen by a wire, so both have the same names everywhere.
        f"select -set small {top}/t:$mem_v2 {top}/r:SIZE<={_SMALL} %i",
        "memory_map @small",
        "dffunmap",
        *("splitcells", "opt_clean") * 3,
        *constants,
        f"submod -name states {top}/t:$mem_v2 {top}/t:$dff",
        f"expose -evert {top}/t:states",
        "delete states",
        # Outputs that the mutant does not reach need no proof.
        f"setattr -unset keep {top}/*",
        f"select -set reached {top}/w:{SELECT} %co*",
        f"delete -output {top}/o:* @reached %d",
        "opt_clean",
        f"delete -input {top}/w:{SELECT}",
        f"copy {top} mutant",
        *_choose(top, 0),
        *_choose("mutant", 1),
        f"miter -equiv -flatten {top} mutant both",
        f"delete {top} mutant",
        "cd both",
        # What the mutant does not reach is the same cell twice.
        *("opt_expr", "opt_merge", "opt_clean") * 2,
        f"sat -verify -prove trigger 0 -timeout {_TIMEOUT_S}",
    ]


def _choose(module: str, value: int) -> list[str]:
    return [f"cd {module}", f"connect -set {SELECT} 1'{value}", "cd"]
