"""Proofs that take minutes still fit the gateware: their probes are there, and what they break."""

from dataclasses import replace

import pytest

from systolith.arch.errors import ToolchainError
from systolith.bench.formal.catalog import CASES
from systolith.bench.formal.edit import Edit

pytestmark = pytest.mark.usefixtures("tools")

SLOW = [case for case in CASES if not case.fast]


@pytest.mark.parametrize("case", SLOW, ids=lambda case: case.name)
def test_models_of_the_proof_and_of_its_broken_designs_are_written(case, tmp_path):
    for number, control in enumerate((None, *case.controls)):
        case.open(tmp_path / str(number), control)
        assert (tmp_path / str(number) / "model.smt2").stat().st_size


def test_a_proof_of_what_is_no_longer_there_is_refused(tmp_path):
    case = next(case for case in SLOW if case.name == "axi-read")
    renamed = Edit("read_master", "in_flight = Signal(", 'in_flight = Signal(name="out", shape=')
    with pytest.raises(ToolchainError, match="in_flight"):
        case.open(tmp_path, replace(case.controls[0], edits=(renamed,)))
