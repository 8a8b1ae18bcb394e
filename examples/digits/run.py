"""Classify the test images on the generated hardware, from the model file to the answers.

Compiles `digits.tflite`, generates the hardware, builds its simulator (once), runs every test image
on it and compares each byte with what TFLite Micro answers. Exit code 3 if a byte differs.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from systolith.api import InferenceSession, compile_model, find_config
from systolith.cli.progress import progress_bar
from systolith.cli.summary import run_report, text

_FOLDER = Path(__file__).parent
_DIFFERENT = 3


def main() -> int:
    """Run the demonstration and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="edge-16x16", help="preset or .toml file")
    parser.add_argument(
        "--device", default="rtl", help='"rtl", "golden", or hardware: "uart:/dev/ttyUSB0"'
    )
    options = parser.parse_args()

    data = np.load(_FOLDER / "test_images.npz")
    images, labels = data["image"], data["labels"]
    expected = np.load(_FOLDER / "expected_tflm.npz")["scores"]

    program = compile_model(_FOLDER / "digits.tflite", find_config(options.config))
    print(f"Opening the device ({options.device}); a simulator is built on first use ...")
    start = time.monotonic()
    with InferenceSession(program, options.device) as session:
        print(f"ready after {time.monotonic() - start:.1f} s")
        start = time.monotonic()
        with progress_bar("classifying", len(images)) as advance:
            (scores,) = session.run(None, {"image": images}, on_sample=advance)
        seconds = time.monotonic() - start
        report = run_report(program, options.device, session.profile())

    answers = scores.reshape(len(images), -1).argmax(axis=1)
    correct = int(np.count_nonzero(answers == labels))
    differing = int(np.count_nonzero(scores != expected))
    print(f"\n{text(report)}\n")
    print(f"Images classified        {len(images)} in {seconds:.1f} s")
    print(f"Correct                  {correct} ({100 * correct / len(images):.2f} %)")
    print(f"Bytes that differ from TFLite Micro   {differing} of {scores.size}")
    return _DIFFERENT if differing else 0


if __name__ == "__main__":
    sys.exit(main())
