"""Every property holds, every cover is reached, and every broken design is noticed."""

import pytest

from systolith.bench.formal.catalog import CASES

pytestmark = pytest.mark.usefixtures("tools")


def parameters(items):
    return [
        pytest.param(*values, id=identifier, marks=() if fast else (pytest.mark.slow,))
        for identifier, fast, *values in items
    ]


@pytest.mark.parametrize("case", parameters((case.name, case.fast, case) for case in CASES))
def test_holds(case, tmp_path):
    verdict = case.prove(tmp_path)
    assert verdict.proven, f"{case.name}: {verdict.failed} do not hold or are not reached"


@pytest.mark.parametrize(
    ("case", "control"),
    parameters(
        (f"{case.name}-{number}", case.fast, case, control)
        for case in CASES
        for number, control in enumerate(case.controls)
    ),
)
def test_notices_a_broken_design(case, control, tmp_path):
    verdict = case.refute(control, tmp_path)
    assert control.is_noticed(verdict), f"{control.breaks} holds, only {verdict.failed} failed"
