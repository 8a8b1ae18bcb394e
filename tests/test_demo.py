"""The demonstration that `make run` starts: the digits, from the model file to the answers."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "digits" / "run.py"
IMAGES, CORRECT = 360, 355
LIMIT_S = 900


@pytest.mark.parametrize(
    ("device", "config"),
    [
        ("golden", "edge-16x16"),
        ("golden", "tiny-4x4"),
        pytest.param("rtl", "edge-16x16", marks=pytest.mark.cosim),
    ],
)
def test_digits_are_classified_as_by_the_reference(device, config):
    result = subprocess.run(
        [sys.executable, str(SCRIPT), "--device", device, "--config", config],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["Images", "classified", str(IMAGES)] in [words[:3] for words in lines]
    assert ["Correct", str(CORRECT)] in [words[:2] for words in lines]
    assert f"Bytes that differ from TFLite Micro   0 of {IMAGES * 10}" in result.stdout
    (cycles,) = [line for line in result.stdout.splitlines() if "Cycles per inference" in line]
    assert ("not counted" in cycles) == (device == "golden")
