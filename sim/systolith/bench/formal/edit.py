"""Edits of gateware sources, in memory: smaller instances, and broken designs as controls.

A proof that also succeeds on a broken design proves nothing. A control is such a design: one place
of the source is changed, and the proof must fail at the property named.
"""

import inspect
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

PACKAGE = "systolith.gateware"


@dataclass(frozen=True, slots=True)
class Edit:
    """One place of a module, and what stands there instead.

    Parameters
    ----------
    module : str
        Module of :mod:`systolith.gateware`.
    old : str
        Text that occurs exactly once in the module.
    new : str
        Its replacement.
    """

    module: str
    old: str
    new: str


@contextmanager
def edited(edits: Sequence[Edit]) -> Iterator[None]:
    """Replace what the edited modules define, wherever the gateware uses it.

    Modules are executed in the order of their first edits: those that others build on come first.

    Raises
    ------
    LookupError
        A text does not occur exactly once, as after a change of the gateware.
    """
    replaced: list[tuple[ModuleType, str, object]] = []
    try:
        for name in dict.fromkeys(edit.module for edit in edits):
            original = import_module(f"{PACKAGE}.{name}")
            changed = _changed(original, [edit for edit in edits if edit.module == name])
            replaced += _substitute(original, changed)
        yield
    finally:
        for module, name, value in reversed(replaced):
            setattr(module, name, value)


def _changed(original: ModuleType, edits: Sequence[Edit]) -> ModuleType:
    source = inspect.getsource(original)
    for edit in edits:
        if (count := source.count(edit.old)) != 1:
            raise LookupError(
                f"Text to edit must occur once in {original.__name__}, not {count} times: "
                f"{edit.old!r}; adapt the edit to the source"
            )
        source = source.replace(edit.old, edit.new)
    module = ModuleType(original.__name__)
    module.__package__ = original.__package__
    module.__file__ = original.__file__
    exec(compile(source, str(original.__file__), "exec"), module.__dict__)
    return module


def _substitute(original: ModuleType, changed: ModuleType) -> list[tuple[ModuleType, str, object]]:
    """Let all modules of the package see the changed names; return what they saw before."""
    old = {
        name: value
        for name, value in vars(original).items()
        if not name.startswith("__") and not isinstance(value, ModuleType)
    }
    users = [m for name, m in sorted(sys.modules.items()) if name.startswith(f"{PACKAGE}.")]
    replaced = []
    for user in [*users, changed]:
        for name, value in old.items():
            if vars(user).get(name) is value and vars(changed).get(name) is not value:
                replaced.append((user, name, value))
                setattr(user, name, getattr(changed, name))
    return replaced
