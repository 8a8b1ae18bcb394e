"""Named configurations, frozen: performance figures refer to them by name."""

from pathlib import Path

from .config import AcceleratorConfig
from .errors import ConfigError

PRESETS: dict[str, AcceleratorConfig] = {
    config.name: config
    for config in (
        # The smallest useful machine: tests and first steps.
        AcceleratorConfig(
            name="tiny-4x4",
            rows=4,
            cols=4,
            scratchpad_bytes=8 << 10,
            weight_bytes=4 << 10,
            acc_rows=64,
            param_bytes=1 << 10,
            lanes=4,
            feeds=1,
            axi_data_bits=64,
        ),
        # Fits an ECP5 85F with room for its surroundings.
        AcceleratorConfig(
            name="edge-8x8",
            rows=8,
            cols=8,
            scratchpad_bytes=128 << 10,
            weight_bytes=64 << 10,
            acc_rows=256,
            param_bytes=8 << 10,
            lanes=8,
            feeds=2,
            axi_data_bits=64,
        ),
        # As many cells as an ECP5 85F has multipliers for beside a lane for every third column: four
        # of its 156 are in each lane, sixteen in the two elementwise units, three make addresses.
        AcceleratorConfig(
            name="edge-10x12",
            rows=10,
            cols=12,
            scratchpad_bytes=128 << 10,
            weight_bytes=32 << 10,
            acc_rows=256,
            param_bytes=8 << 10,
            lanes=4,
            feeds=3,
            axi_data_bits=64,
        ),
        # Twice the channels per pass on the same port; the rectangular case.
        AcceleratorConfig(
            name="edge-8x16",
            rows=8,
            cols=16,
            scratchpad_bytes=128 << 10,
            weight_bytes=64 << 10,
            acc_rows=256,
            param_bytes=8 << 10,
            lanes=16,
            feeds=2,
            axi_data_bits=64,
        ),
        # 256 MACs, the size of the comparison with Ethos-U55-256.
        AcceleratorConfig(
            name="edge-16x16",
            rows=16,
            cols=16,
            scratchpad_bytes=128 << 10,
            weight_bytes=64 << 10,
            acc_rows=256,
            param_bytes=8 << 10,
            lanes=16,
            feeds=3,
            axi_data_bits=128,
        ),
        # 1,024 MACs for large FPGAs and ASICs.
        AcceleratorConfig(
            name="edge-32x32",
            rows=32,
            cols=32,
            scratchpad_bytes=512 << 10,
            weight_bytes=256 << 10,
            acc_rows=512,
            param_bytes=32 << 10,
            lanes=32,
            feeds=3,
            axi_data_bits=256,
        ),
    )
}


def find_config(name: str | Path) -> AcceleratorConfig:
    """Return the preset of that name, or the configuration in that TOML file.

    Raises
    ------
    ConfigError
        Neither a preset nor a file ending in `.toml`, or the file breaks a rule.
    """
    if str(name) in PRESETS:
        return PRESETS[str(name)]
    if str(name).endswith(".toml"):
        return AcceleratorConfig.from_toml(name)
    raise ConfigError(
        f'Configuration "{name}" must be one of {", ".join(PRESETS)} or the path of a .toml file'
    )
