"""What a board is to us: a few facts that are declared, and the list of all boards."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from systolith.arch.errors import ConfigError, ToolchainError


@dataclass(frozen=True, kw_only=True)
class Device:
    """An FPGA, and how much of everything it has.

    Parameters
    ----------
    name : str
        Name of the chip.
    family : str
        `ecp5` or `xc7`: which primitives make clocks, and which tools are used.
    multipliers : int
        Hard multipliers of at least 18 x 18 bits.
    block_rams : int
        Block RAMs of `block_ram_bits` bits.
    block_ram_bits : int
        Bits of a block RAM, parity excluded.
    luts, registers : int
        Lookup tables and flip-flops.
    """

    name: str
    family: str
    multipliers: int
    block_rams: int
    block_ram_bits: int
    luts: int
    registers: int


LFE5U_85F = Device(
    name="LFE5U-85F",
    family="ecp5",
    multipliers=156,
    block_rams=208,
    block_ram_bits=16 << 10,
    luts=83640,
    registers=83640,
)

XC7A100T = Device(
    name="XC7A100T",
    family="xc7",
    multipliers=240,
    block_rams=270,
    block_ram_bits=16 << 10,
    luts=63400,
    registers=126800,
)

XC7Z020 = Device(
    name="XC7Z020",
    family="xc7",
    multipliers=220,
    block_rams=280,
    block_ram_bits=16 << 10,
    luts=53200,
    registers=106400,
)


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board, its pins through amaranth-boards, and what is built for it by default.

    Parameters
    ----------
    name : str
        What users call it.
    title : str
        What it is called on its box.
    device : Device
        Its FPGA.
    platform : str
        Class of amaranth-boards, as `module:class`; imported when it is needed.
    config : str
        Preset that is built unless another one is asked for.
    multiplier : str
        Kind of multiplier in the array, see `AcceleratorConfig.multiplier`.
    deep_pipeline : bool
        See `AcceleratorConfig.deep_pipeline`.
    oscillator_hz : int
        Frequency of the platform's default clock.
    clock_hz : int
        Frequency of the accelerator, unless `clocks` has another one for its configuration.
    clocks : mapping of str to int
        Frequencies of configurations that place and route was seen to reach, by name.
    baud : int
        Bits per second of the host link; 0 if the host is on the same chip.
    memory_bytes : int
        Block RAM behind the accelerator's bus.
    tools : str
        `open`: a bitstream is built here; `vendor`: sources and scripts are written.
    processor : bool
        The host is a processor on the same chip: what is written is a package with a block design.
    note : str
        One sentence for users.
    """

    name: str
    title: str
    device: Device
    platform: str
    config: str
    multiplier: str = "plain"
    deep_pipeline: bool = False
    oscillator_hz: int
    clock_hz: int
    clocks: Mapping[str, int] = field(default_factory=dict)
    baud: int = 0
    memory_bytes: int = 0
    tools: str
    processor: bool = False
    note: str = ""

    def clock_of(self, config):
        """Return the frequency in Hz that a configuration of that name is built for by default."""
        return self.clocks.get(config, self.clock_hz)

    def load_platform(self):
        """Return a new platform of amaranth-boards.

        Raises
        ------
        ToolchainError
            amaranth-boards is not installed.
        """
        module, _, name = self.platform.partition(":")
        try:
            return getattr(importlib.import_module(module), name)()
        except ModuleNotFoundError as error:
            raise ToolchainError(
                f'Board "{self.name}" needs the package amaranth-boards, which cannot be imported '
                f"({error}); install it with \"pip install 'systolith[boards]'\""
            ) from error


def find_board(name, boards):
    """Return the board of that name.

    Raises
    ------
    ConfigError
        There is none.
    """
    for board in boards:
        if board.name == name:
            return board
    known = ", ".join(board.name for board in boards)
    raise ConfigError(f'Board "{name}" must be one of {known}')
