"""Train, quantize and record the digits model; remakes every data file of this folder.

Run from the root of the checkout, with the extras ``train`` and ``dev`` installed::

    python examples/digits/train.py
"""

import argparse
import hashlib
import json
from pathlib import Path

import network
import numpy as np
import quantize
from sklearn import __version__ as sklearn_version
from sklearn.datasets import load_digits

from systolith.bench import witness

SEED = 1998
TEST_IMAGES_PER_CLASS = 36
TRAINING = {"epochs": 60, "batch": 64, "rate": 4e-3, "decay": 1e-2}


def split(labels, rng):
    """Return the indices of training and test images; every class is equally often tested."""
    test = np.concatenate(
        [
            rng.permutation(np.flatnonzero(labels == digit))[:TEST_IMAGES_PER_CLASS]
            for digit in range(network.CLASSES)
        ]
    )
    # Shuffled, so that the first few images are of several classes.
    test = rng.permutation(test)
    return np.setdiff1d(np.arange(len(labels)), test), test


def accuracy(scores, labels):
    """Return the share of images whose largest score is that of their label."""
    predicted = scores.reshape(len(labels), -1).argmax(axis=1)
    return float(np.mean(predicted == labels))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    folder = parser.parse_args().output

    digits = load_digits()
    labels = digits.target.astype(np.int64)
    images = digits.images[..., np.newaxis] / quantize.PIXEL_MAX
    rng = np.random.default_rng(SEED)
    training, test = split(labels, rng)
    params = network.train(images[training], labels[training], rng, **TRAINING)
    model = quantize.write_model(params, images[training])

    pixels = {
        name: {quantize.INPUT_NAME: quantize.quantize_images(digits.images[chosen])}
        for name, chosen in (("training", training), ("test", test))
    }
    scores = {name: witness.tflm(model, inputs) for name, inputs in pixels.items()}
    facts = {
        "data": "scikit-learn load_digits, 1,797 images of 8x8 pixels, CC BY 4.0",
        "seed": SEED,
        "training": TRAINING,
        "training_images": len(training),
        "test_images": len(test),
        "accuracy": {
            "float_training": accuracy(
                network.forward(params, images[training])["dense"], labels[training]
            ),
            "float_test": accuracy(network.forward(params, images[test])["dense"], labels[test]),
            "int8_training": accuracy(scores["training"][quantize.OUTPUT_NAME], labels[training]),
            "int8_test": accuracy(scores["test"][quantize.OUTPUT_NAME], labels[test]),
        },
        "reference": "tflm",
        "model_bytes": len(model),
        "model_sha256": hashlib.sha256(model).hexdigest(),
        "made_with": {"numpy": np.__version__, "scikit-learn": sklearn_version},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "digits.tflite").write_bytes(model)
    np.savez_compressed(folder / "test_images.npz", **pixels["test"], labels=labels[test])
    np.savez_compressed(folder / "expected_tflm.npz", **scores["test"])
    (folder / "facts.json").write_text(json.dumps(facts, indent=2) + "\n")
    for name, value in facts["accuracy"].items():
        print(f"{name:15} {value:.2%}")
    print(f"{len(model):,} bytes, sha256 {facts['model_sha256']}")


if __name__ == "__main__":
    main()
