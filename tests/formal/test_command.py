"""The command that proves: its table, its exit code, and what it refuses."""

import pytest

from systolith.bench.formal import __main__ as formal
from systolith.bench.formal.catalog import CASES

pytestmark = pytest.mark.usefixtures("tools")

NAME = next(case.name for case in CASES if case.fast)


def test_proofs_are_written_as_a_table(tmp_path, capsys):
    path = tmp_path / "tables" / "formal.md"
    assert formal.main([NAME, "--jobs", "1", "--output", str(path)]) == 0
    header, _, row = path.read_text().splitlines()
    assert header == "| proof | method | covers | controls | processor s |"
    assert row.startswith(f"| `{NAME}` | induction, k = ")
    assert "1 proofs, 0 problems" in capsys.readouterr().out


def test_a_proof_that_no_longer_fits_is_a_problem(monkeypatch, capsys):
    row = formal.Row(NAME, (f"{NAME}: Text to edit must occur once",), 0, 0, 0.0)
    monkeypatch.setattr(formal, "ProcessPoolExecutor", _Here)
    monkeypatch.setattr(formal, "run", lambda name: row)
    assert formal.main([NAME]) == 1
    assert f"failed: {NAME}: Text to edit must occur once" in capsys.readouterr().err


class _Here:
    """A pool of this process."""

    def __init__(self, jobs):
        assert jobs == 2

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    map = staticmethod(map)


def test_names_of_no_proof_are_refused(capsys):
    with pytest.raises(SystemExit):
        formal.main(["axi-wrong"])
    assert "not axi-wrong" in capsys.readouterr().err
