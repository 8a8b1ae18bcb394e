"""Random accelerators: rectangular, odd and tiny arrays, every option on and off.

Memories are kept small, so that a simulator is built in seconds and programs that use all of a
memory are short.
"""

import contextlib
import dataclasses
from typing import Any

import numpy as np

from systolith.arch.config import DEEP, MULTIPLIERS, PROTECTIONS, AcceleratorConfig
from systolith.arch.errors import ConfigError
from systolith.arch.presets import PRESETS
from systolith.bench.random_layer import ODD_CONFIGS

MICRO = AcceleratorConfig(
    name="micro-4x3",
    rows=4,
    cols=3,
    scratchpad_bytes=1 << 10,
    weight_bytes=512,
    acc_rows=16,
    param_bytes=256,
    lanes=3,
    feeds=2,
    axi_data_bits=64,
)
"""An array with every mode and next to no memory: programs that use all of it are short."""

PROTECTED = dataclasses.replace(MICRO, name=f"{MICRO.name}-full", protection="full")
"""The same with all that notices soft errors: whatever it runs, there must be no alarm."""

PAIRED = dataclasses.replace(
    MICRO, name="micro-4x4-pair25", cols=4, lanes=2, feeds=1, axi_data_bits=128, multiplier="pair25"
)
"""Two products per multiplier, and a wide bus."""

LEAN = dataclasses.replace(
    MICRO,
    name="micro-3x2-lean",
    rows=3,
    cols=2,
    lanes=1,
    feeds=1,
    axi_data_bits=32,
    axi_outstanding=1,
    queue_depth=2,
)
"""The least of everything, and a narrow bus."""

_SMALL = {config.name: config for config in (MICRO, PROTECTED, PAIRED, LEAN)}
_RANDOM = "random-"
_LARGEST_ARRAY = 12
_MAX_TRIES = 1000
_PROTECTION_STREAM = 1


def find_any_config(name: str) -> AcceleratorConfig:
    """Return a preset, an odd or a micro configuration, one of these with `-deep`, or `random-<seed>`.

    Raises
    ------
    ConfigError
        No configuration has this name.
    """
    known = {**PRESETS, **ODD_CONFIGS, **_SMALL}
    if name in known:
        return known[name]
    if name.endswith(DEEP) and name.removesuffix(DEEP) in known:
        return known[name.removesuffix(DEEP)].with_deep_pipeline()
    seed = name.removeprefix(_RANDOM)
    if seed == name or not seed.isdecimal():
        raise ConfigError(
            f'Configuration "{name}" must be one of {", ".join(known)}, one of these with {DEEP}, '
            f"or {_RANDOM}<seed>"
        )
    return random_config(int(seed))


def random_config(seed: int) -> AcceleratorConfig:
    """Return a random legal configuration; the same seed gives the same one.

    Parameters
    ----------
    seed : int
        Seed of every choice, and part of the name.
    """
    rng = np.random.default_rng(seed)

    def between(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    def power(low: int, high: int) -> int:
        return 1 << between(low, high)

    fields = dataclasses.fields(AcceleratorConfig)
    options = [field.name for field in fields if isinstance(field.default, bool)]
    for _ in range(_MAX_TRIES):
        cols = between(2, _LARGEST_ARRAY)
        lanes = [n for n in range(1, cols + 1) if cols % n == 0]
        rows, banks = between(2, _LARGEST_ARRAY), power(1, 4)
        try:
            config = AcceleratorConfig(
                name=f"{_RANDOM}{seed}",
                rows=rows,
                cols=cols,
                scratchpad_bytes=power(11, 13),
                banks=banks,
                weight_bytes=power(9, 11),
                acc_rows=power(4, 6),
                param_bytes=power(8, 10),
                lanes=lanes[between(0, len(lanes) - 1)],
                feeds=between(1, max(1, min(rows, banks - 1, 8))),
                axi_data_bits=power(5, 8),
                axi_outstanding=between(1, 32),
                queue_depth=power(1, 5),
            )
            drawn: dict[str, Any] = {name: bool(between(0, 1)) for name in options}
            drawn["multiplier"] = tuple(MULTIPLIERS)[between(0, len(MULTIPLIERS) - 1)]
            return _protected(dataclasses.replace(config, **drawn), seed)
        except ConfigError:
            continue
    raise RuntimeError(f"No legal configuration in {_MAX_TRIES} draws")


def _protected(config: AcceleratorConfig, seed: int) -> AcceleratorConfig:
    """Return a configuration with a random level of protection among those that it may have.

    From a stream of its own, so that whatever else a seed stands for does not depend on it.
    """
    rng = np.random.default_rng([seed, _PROTECTION_STREAM])
    for level in rng.permutation(tuple(PROTECTIONS)):
        with contextlib.suppress(ConfigError):
            return dataclasses.replace(config, protection=str(level))
    raise RuntimeError(f"No level of protection is legal for {config.name}")
