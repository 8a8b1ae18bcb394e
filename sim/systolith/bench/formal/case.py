"""A proof in words: design, properties, depth, and the broken designs on which it must fail."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from amaranth.lib import wiring

from .edit import Edit, edited
from .monitor import Monitor
from .solver import Proof, Verdict
from .twins import relate_twins


@dataclass(frozen=True, slots=True)
class Control:
    """A broken design, which the proof must notice.

    Parameters
    ----------
    breaks : str
        Pattern of the property that must fail in a run that begins with reset.
    edits : tuple of Edit
        What is broken.
    """

    breaks: str
    edits: tuple[Edit, ...]

    def is_noticed(self, verdict: Verdict) -> bool:
        """Return whether the property is among those that failed."""
        return any(fnmatchcase(name, self.breaks) for name in verdict.failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One proof.

    Parameters
    ----------
    name : str
        Name for tests and tables.
    design : callable
        Returns a new design.
    describe : callable
        Adds environment and properties to its monitor.
    depth : int
        Cycles of the induction; of the search if the proof is bounded.
    bounded : bool
        There is no induction: the properties are shown for the first `depth` cycles only.
    cover_depth : int
        Cycles within which covers are reached, and controls fail.
    edits : tuple of Edit
        Constants of a smaller instance.
    controls : tuple of Control
        Broken designs.
    fast : bool
        Belongs to the tests that run every time.
    """

    name: str
    design: Callable[[], wiring.Component]
    describe: Callable[[Monitor], None]
    depth: int
    cover_depth: int
    controls: tuple[Control, ...]
    bounded: bool = False
    edits: tuple[Edit, ...] = ()
    fast: bool = False

    def open(self, folder: Path, control: Control | None = None) -> Proof:
        """Write the model of the proof, or of the broken design of a control; ask no solver.

        Raises
        ------
        LookupError
            A text to edit is not there once, as after a change of the gateware.
        ToolchainError
            Yosys refused the model, as for a probe of a signal that is not there.
        """
        edits = self.edits if control is None else (*self.edits, *control.edits)
        with edited(edits):
            return Proof(self._monitor(invariants=control is None), folder)

    def prove(self, folder: Path) -> Verdict:
        """Prove all properties and reach all covers."""
        proof = self.open(folder)
        verdict = proof.bounded(self.depth) if self.bounded else proof.induction(self.depth)
        return proof.reach(self.cover_depth) if verdict.proven else verdict

    def refute(self, control: Control, folder: Path) -> Verdict:
        """Search for a violation in the broken design of a control."""
        return self.open(folder, control).bounded(self.cover_depth)

    def _monitor(self, *, invariants: bool) -> Monitor:
        monitor = Monitor(self.design(), invariants=invariants)
        self.describe(monitor)
        if invariants:
            relate_twins(monitor)
        return monitor
