"""Damaged TFLite models: bytes, bits and words changed to numbers that tend to hurt."""

import numpy as np

_MOST_CHANGES = 5


def mutate(model: bytes, rng: np.random.Generator) -> bytes:
    """Return a model with up to five places changed."""
    result = bytearray(model)
    words = (0, 1, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(model))
    for _ in range(int(rng.integers(1, _MOST_CHANGES + 1))):
        at = int(rng.integers(len(model) - 4))
        how = rng.integers(3)
        if how == 0:
            result[at] = int(rng.integers(256))
        elif how == 1:
            result[at] ^= 1 << int(rng.integers(8))
        else:
            at &= ~3
            result[at : at + 4] = int(rng.choice(words)).to_bytes(4, "little")
    return bytes(result)
