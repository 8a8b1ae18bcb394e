"""Damaged model files end in success or one typed error, within limits."""

from pathlib import Path

import pytest

from systolith.bench import mutants

ROOT = Path(__file__).parents[2]
MODELS = [ROOT / "examples/digits/digits.tflite", *sorted((ROOT / "examples/onnx").glob("*.onnx"))]


def test_five_hundred_damaged_models_end_well(seed):
    outcomes = list(mutants.run(MODELS, count=500, seed=seed))
    assert len(outcomes) == 500
    failed = [outcome for outcome in outcomes if outcome.kind not in ("compiled", "refused")]
    assert not failed
    assert {outcome.kind for outcome in outcomes} == {"compiled", "refused"}
    assert max(outcome.memory_bytes for outcome in outcomes) < mutants.MEMORY_LIMIT_BYTES


@pytest.mark.parametrize(("action", "kind"), [("spin", "SIGKILL"), ("raise", "raw exception")])
def test_what_exceeds_the_limits_is_told(monkeypatch, action, kind):
    def misbehave(path, data, config):
        misbehave.calls += 1
        if misbehave.calls == 1:
            return  # The first call is the one that warms up.
        while action == "spin":
            pass
        raise KeyError("raw")

    misbehave.calls = 0
    monkeypatch.setattr(mutants, "compile_bytes", misbehave)
    monkeypatch.setattr(mutants, "TIME_LIMIT_S", 1)
    (outcome,) = mutants.run(MODELS[:1], count=1, seed=0)
    assert outcome.kind == kind
