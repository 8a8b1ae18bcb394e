"""What induction must know about registers that hold the same thing twice, anywhere in a design."""

from collections.abc import Iterator
from typing import Any

from amaranth.hdl import Fragment
from amaranth.utils import bits_for

from systolith.gateware.slices import FlowFifo

from .monitor import Monitor, implies

COMPLEMENT = "not_"
"""What the name of a register of `complement_of` begins with."""


def relate_twins(t: Monitor) -> None:
    """Show that complements are complements, and that flags of queues say what their count says."""
    for path, fragment in _fragments(Fragment.get(t.dut, None), "dut"):
        for name in _registers(fragment):
            if name.startswith(COMPLEMENT):
                other = t.probe(f"{path}.{name.removeprefix(COMPLEMENT)}")
                t.invariant(_named(path, name), t.probe(f"{path}.{name}") == ~other)
        for origin in fragment.origins or ():
            if isinstance(origin, FlowFifo):
                _relate_flags(t, path, origin)


def _relate_flags(t: Monitor, path: str, queue: FlowFifo) -> None:
    rows = queue.depth - 1
    behind = t.probe(f"{path}.behind", bits_for(rows))
    t.invariant(_named(path, "behind"), behind <= rows)
    t.invariant(_named(path, "waiting"), t.probe(f"{path}.waiting") == (behind != 0))
    t.invariant(_named(path, "room"), t.probe(f"{path}.room") == (behind < rows))
    if queue.bypass:
        head = t.probe(f"{path}.o__valid")
        t.invariant(_named(path, "head"), implies(behind != 0, head))


def _named(path: str, register: str) -> str:
    return f"{path}_{register}_is_known".replace(".", "_")


def _fragments(fragment: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, fragment
    for inner, name, _source in fragment.subfragments:
        if name is not None:
            yield from _fragments(inner, f"{path}.{name}")


def _registers(fragment: Any) -> list[str]:
    names = set()
    for domain, statements in fragment.statements.items():
        if domain != "comb":
            for statement in statements:
                names |= {signal.name for signal in statement._lhs_signals()}
    return sorted(names)
