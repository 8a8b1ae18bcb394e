"""Damaged model files end in success or one typed error, within limits."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from systolith.bench import mutants

ROOT = Path(__file__).parents[2]
MODELS = [ROOT / "examples/digits/digits.tflite", *sorted((ROOT / "examples/onnx").glob("*.onnx"))]


def test_five_hundred_damaged_models_end_well(seed):
    # In a fresh interpreter: a forked child inherits what this one holds, and the limit counts it.
    command = [sys.executable, "-m", "systolith.bench.mutants", "--count", "500"]
    command += ["--seed", str(seed), *map(str, MODELS)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    total, compiled, refused, failed, most_mib = map(int, re.findall(r"\d+", ended.stdout))
    assert (total, failed) == (500, 0)
    assert compiled + refused == total and compiled > 0 and refused > 0
    assert most_mib < mutants.MEMORY_LIMIT_BYTES >> 20


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
