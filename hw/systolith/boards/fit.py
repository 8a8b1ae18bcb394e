"""Whether a design fits a device: a lower bound beforehand, and what synthesis has counted."""

from dataclasses import dataclass

from systolith.arch.config import TABLE_COUNT, TABLE_ENTRIES
from systolith.arch.errors import AllocationError

REQUANTIZER_MULTIPLIERS = 4
"""Hard multipliers of a requantizer lane: 32 x 32 bits of 16 x 16."""

ACCUMULATOR_BANKS = 2
SUM_BITS = 32


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a synthesized design takes of a device; its fields are those of `Device`."""

    luts: int
    registers: int
    multipliers: int
    block_rams: int


_NAMES = {
    "luts": "lookup tables",
    "registers": "flip-flops",
    "multipliers": "multipliers",
    "block_rams": "block RAMs",
}


def _check(design, device, name, needed, qualifier=""):
    available = getattr(device, name)
    if needed > available:
        raise AllocationError(
            f"{design} does not fit {device.name}: it needs {qualifier}{needed} {_NAMES[name]}, "
            f"available are {available}; choose a smaller configuration"
        )


def check_bounds(config, device, memory_bytes=0):
    """Check what can be known before synthesis: at least so much is needed.

    Raises
    ------
    AllocationError
        More multipliers or block RAMs are needed than the device has.
    """
    design = f'Configuration "{config.name}"'
    packed = 2 if config.multiplier.startswith("pair") else 1
    array = config.rows * -(-config.cols // packed)
    multipliers = array + REQUANTIZER_MULTIPLIERS * config.lanes
    _check(design, device, "multipliers", multipliers, "at least ")
    bits = 8 * (config.scratchpad_bytes + config.weight_bytes + config.param_bytes + memory_bytes)
    bits += ACCUMULATOR_BANKS * SUM_BITS * config.cols * config.acc_rows
    bits += 8 * TABLE_COUNT * TABLE_ENTRIES * config.lanes
    _check(design, device, "block_rams", -(-bits // device.block_ram_bits), "at least ")


def check_usage(design, device, usage):
    """Check what synthesis has counted.

    Raises
    ------
    AllocationError
        More of a resource is needed than the device has; the first one is named.
    """
    for name in _NAMES:
        _check(design, device, name, getattr(usage, name))
