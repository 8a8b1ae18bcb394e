"""Proves everything and writes a table: `python -m systolith.bench.formal`."""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from systolith.arch.errors import ToolchainError

from .case import Case
from .catalog import BY_NAME


@dataclass(frozen=True, slots=True)
class Row:
    """Outcome of one case.

    Parameters
    ----------
    case : str
        Its name.
    problems : tuple of str
        What did not hold, was not reached, or was not noticed.
    covers, controls : int
        Covers that were reached, controls that failed as they must.
    seconds : float
        Processor time of the proof, without its controls.
    """

    case: str
    problems: tuple[str, ...]
    covers: int
    controls: int
    seconds: float

    def markdown(self) -> str:
        """Return a line of the table."""
        case = BY_NAME[self.case]
        method = f"{case.depth} cycles" if case.bounded else f"induction, k = {case.depth}"
        return (
            f"| `{self.case}` | {method} | {self.covers} in {case.cover_depth} "
            f"| {self.controls} | {self.seconds:.1f} |"
        )


def run(name: str) -> Row:
    """Prove one case and try its controls."""
    with tempfile.TemporaryDirectory(prefix="formal-") as folder:
        try:
            return _run(BY_NAME[name], Path(folder))
        except (ToolchainError, LookupError) as error:
            # One that no longer fits the gateware does not keep the others from being proven.
            return Row(name, (f"{name}: {error}",), 0, 0, 0.0)


def _run(case: Case, folder: Path) -> Row:
    verdict = case.prove(folder / "proof")
    problems = [f"{case.name}: {failed}" for failed in verdict.failed]
    noticed = 0
    for number, control in enumerate(case.controls):
        refuted = case.refute(control, folder / f"control{number}")
        if control.is_noticed(refuted):
            noticed += 1
        else:
            problems.append(f"{case.name}: control {number} breaks {refuted.failed or 'nothing'}")
    seconds = sum(verdict.seconds.values())
    return Row(case.name, tuple(problems), len(verdict.covers), noticed, seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases named, or all; return 1 if one of them fails."""
    parser = argparse.ArgumentParser(prog="python -m systolith.bench.formal", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="proofs to run; all by default")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="Markdown table to write")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.cases) - set(BY_NAME)):
        parser.error(f"cases must be among {', '.join(BY_NAME)}, not {', '.join(unknown)}")
    names = options.cases or list(BY_NAME)
    begin = time.perf_counter()
    lines = [
        "| proof | method | covers | controls | processor s |",
        "| --- | --- | --- | --- | --- |",
    ]
    problems: list[str] = []
    with ProcessPoolExecutor(options.jobs) as pool:
        for row in pool.map(run, names):
            problems += row.problems
            lines.append(row.markdown())
            print(lines[-1], flush=True)
    print(f"{len(names)} proofs, {len(problems)} problems, {time.perf_counter() - begin:.0f} s")
    for problem in problems:
        print(f"failed: {problem}", file=sys.stderr)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text("\n".join(lines) + "\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
