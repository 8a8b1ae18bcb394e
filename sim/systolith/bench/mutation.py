"""Mutants of the hardware: which of them what the fast tier runs would notice.

    python -m systolith.bench.mutation --document docs/VERIFICATION.md

All mutants are in one simulator (`mutation_design`). Each runs what the fast tier runs on its
configuration (`mutation_checks`) until something is noticed. One that is not noticed is equivalent, if
that can be proven (`mutation_proof`), or it survives, and says what no test holds.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from systolith.arch.blocks import rewrite_block
from systolith.arch.config import AcceleratorConfig
from systolith.bench.markdown import table
from systolith.bench.mutation_checks import Check, checks
from systolith.bench.mutation_design import MutatedDesign, Mutation, library_of, mutated
from systolith.bench.mutation_proof import is_equivalent
from systolith.bench.random_config import find_any_config
from systolith.bench.rtl import build, mutant

CONFIG, COUNT, SEED = "tiny-4x4", 240, 1
GOAL = 0.95
LEAST = 200
"""Mutants that must be left when equivalent ones are not counted."""

RECORD = Path("docs/mutation.json")
BLOCK = "mutation"
SURVIVED, EQUIVALENT, NO_END = "survived", "equivalent", "simulation without end"

_SECONDS = 400.0
_FAILED = 3


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    Parameters
    ----------
    number : int
        Number in the design.
    mutation : Mutation
        What is changed.
    by : str
        Name of the check that noticed it, :data:`SURVIVED` or :data:`EQUIVALENT`.
    detail : str
        What was noticed; not kept.
    why : str
        Of a survivor, why nothing notices it: written by people, kept from run to run.
    """

    number: int
    mutation: Mutation
    by: str
    detail: str = ""
    why: str = ""

    @property
    def killed(self) -> bool:
        """Whether something was noticed."""
        return self.by not in (SURVIVED, EQUIVALENT)


def noticed(steps: Sequence[Check]) -> tuple[str, str]:
    """Return the first check that notices something, and what; `SURVIVED` if none does."""
    for check in steps:
        found = check.run()
        if found:
            return check.name, found
    return SURVIVED, ""


def _try(steps: Sequence[Check], chosen: mutant.Mutant, answer: Connection) -> None:
    """Run checks on a mutant, in a process of its own: a broken design may end the simulator."""
    os.environ[mutant.VARIABLE] = str(chosen)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    answer.send(noticed(steps))
    answer.close()


@dataclass(frozen=True)
class _Running:
    """A mutant that is being tried."""

    number: int
    process: BaseProcess
    end: float


def run(
    config: AcceleratorConfig,
    design: MutatedDesign,
    steps: Sequence[Check],
    numbers: Sequence[int],
    *,
    jobs: int = 1,
) -> Iterator[tuple[int, str, str]]:
    """Yield number, check and what it noticed for each mutant, in the order in which they end.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    design : MutatedDesign
        It with mutants.
    steps : sequence of Check
        What runs, in this order.
    numbers : sequence of int
        Mutants; zero is the design as it is.
    jobs : int
        Mutants at the same time.
    """
    library = library_of(config, design)
    waiting = list(reversed(numbers))
    running: dict[Connection, _Running] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            chosen = mutant.Mutant(config.name, library, waiting.pop())
            pipe, entry = _begin(steps, chosen)
            running[pipe] = entry
        first = min(entry.end for entry in running.values())
        wait(list(running), timeout=max(0.0, first - time.monotonic()))
        for pipe, entry in list(running.items()):
            if pipe.poll() or time.monotonic() > entry.end:
                del running[pipe]
                yield entry.number, *_finish(pipe, entry)


def _begin(steps: Sequence[Check], chosen: mutant.Mutant) -> tuple[Connection, _Running]:
    """Start a process, which has what the checks have prepared."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_try, args=(steps, chosen, theirs))
    process.start()
    theirs.close()
    return ours, _Running(chosen.number, process, time.monotonic() + _SECONDS)


def _finish(pipe: Connection, entry: _Running) -> tuple[str, str]:
    """Return the check and what it noticed; a process that has not answered is ended."""
    try:
        by, detail = pipe.recv() if pipe.poll() else (NO_END, f"no answer in {_SECONDS:.0f} s")
    except EOFError:
        by, detail = NO_END, "the simulator gave up"
    entry.process.kill()
    entry.process.join()
    pipe.close()
    return str(by), str(detail)


def judge(
    config: AcceleratorConfig, design: MutatedDesign, numbers: Sequence[int], *, jobs: int
) -> Iterator[tuple[int, str, str]]:
    """Yield number, check and what it noticed, :data:`SURVIVED` or :data:`EQUIVALENT`.

    What no check notices is proven to be equivalent, if it can be.
    """
    left = []
    for number, by, detail in run(config, design, checks(config), numbers, jobs=jobs):
        if by == SURVIVED and number:
            left.append(number)
        else:
            yield number, by, detail
    for number in left:
        equivalent = is_equivalent(design, design.mutations[number - 1])
        yield number, EQUIVALENT if equivalent else SURVIVED, ""


def report(verdicts: Sequence[Verdict]) -> tuple[list[str], bool]:
    """Return the lines of the document, and whether the goals are met."""
    groups: dict[str, Counter[str]] = {}
    for verdict in verdicts:
        kind = "killed" if verdict.killed else verdict.by
        groups.setdefault(verdict.mutation.group, Counter())[kind] += 1
    total = sum(groups.values(), Counter[str]())
    rows = [_row(f"`{name}`", counts) for name, counts in sorted(groups.items())]
    rows.append(_row("**all**", total))
    header = ("block", "mutants", "equivalent", "killed", "survived", "killed of the others")
    lines = table(header, rows, text=1)
    by = Counter(verdict.by for verdict in verdicts if verdict.killed)
    lines += ["", "Noticed first by " + ", ".join(f"{k} {n}" for k, n in by.most_common()) + "."]
    survivors = [verdict for verdict in verdicts if verdict.by == SURVIVED]
    if survivors:
        lines += ["", "Survivors:", ""]
        lines += [f"- `{v.mutation}`: {v.why or 'not explained yet'}" for v in survivors]
    left = total.total() - total[EQUIVALENT]
    return lines, left >= LEAST and total["killed"] >= GOAL * left


def _row(name: str, counts: Counter[str]) -> list[str]:
    left = counts.total() - counts[EQUIVALENT]
    share = f"{100 * counts['killed'] / left:.1f} %" if left else ""
    figures = (counts.total(), counts[EQUIVALENT], counts["killed"], counts[SURVIVED])
    return [name, *(str(figure) for figure in figures), share]


def load(path: Path) -> list[Verdict]:
    """Return the verdicts of a file, none if there is none."""
    if not path.is_file():
        return []
    rows: Sequence[Mapping[str, object]] = json.loads(path.read_text(encoding="utf-8"))
    return [_verdict(dict(row)) for row in rows]


def _verdict(row: dict[str, object]) -> Verdict:
    fields = row.pop("mutation")
    assert isinstance(fields, dict)
    return Verdict(mutation=Mutation(**fields), **row)  # type: ignore[arg-type]


def save(path: Path, verdicts: Sequence[Verdict]) -> None:
    """Write verdicts to a file; details are for the terminal."""
    rows = [asdict(replace(verdict, detail="")) for verdict in verdicts]
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def remembered(design: MutatedDesign) -> tuple[Path, dict[int, tuple[str, str]]]:
    """Return the file that an interrupted run has left, and what it holds: check and detail.

    Survivors are not in it: they are tried again, because there may be new checks.
    """
    key = build.digest([design.verilog])
    path = build.cache_folder() / "mutation" / f"{key}.results"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = (json.loads(line) for line in lines)
    return path, {number: (by, detail) for number, by, detail in rows}


def verdicts_of(
    config: AcceleratorConfig, design: MutatedDesign, numbers: Sequence[int], *, jobs: int
) -> Iterator[tuple[int, str, str]]:
    """Yield what :func:`judge` does; what an interrupted run has found is not run again."""
    path, known = remembered(design)
    for number in numbers:
        if number in known:
            yield number, *known[number]
    left = [number for number in numbers if number not in known]
    with path.open("a", encoding="utf-8") as file:
        for row in judge(config, design, left, jobs=jobs):
            if row[1] != SURVIVED:
                print(json.dumps(row), file=file, flush=True)
            yield row


def main() -> int:
    """Try every mutant, print and write the report; return 3 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default=CONFIG)
    parser.add_argument("--count", type=int, default=COUNT, help="mutants")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--jobs", type=int, default=1, help="mutants at the same time")
    parser.add_argument("--only", type=int, nargs="+", help="these only, and write nothing")
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--document", type=Path, help="file to update")
    options = parser.parse_args()
    config = find_any_config(options.config)
    design = mutated(config, options.count, options.seed)
    numbers = options.only or range(len(design.mutations) + 1)
    explained = {verdict.mutation: verdict.why for verdict in load(options.record)}
    verdicts = []
    for number, by, detail in verdicts_of(config, design, numbers, jobs=options.jobs):
        if not number:
            print(f"no mutant: {by}: {detail}", flush=True)
            if by != SURVIVED:
                return _FAILED
            continue
        mutation = design.mutations[number - 1]
        print(f"{number}: {mutation}: {by}: {detail}", flush=True)
        why = explained.get(mutation, "") if by == SURVIVED else ""
        verdicts.append(Verdict(number, mutation, by, detail, why))
    verdicts.sort(key=lambda verdict: verdict.number)
    lines, met = report(verdicts)
    print("\n".join(lines))
    if not options.only:
        save(options.record, verdicts)
        if options.document:
            rewrite_block(options.document, BLOCK, lines)
    return 0 if met or options.only else _FAILED


if __name__ == "__main__":
    sys.exit(main())
