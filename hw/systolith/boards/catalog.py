"""All boards, and how configurations are built for them."""

from dataclasses import replace

from systolith.arch.presets import find_config

from .arty_a7 import ARTY_A7
from .arty_z7 import ARTY_Z7
from .base import find_board
from .ecp5_evn import ECP5_EVN
from .ulx3s import ULX3S

BOARDS = (ULX3S, ECP5_EVN, ARTY_A7, ARTY_Z7)


def find(name):
    """Return the board of that name; see :func:`~systolith.boards.base.find_board`."""
    return find_board(name, BOARDS)


def board_config(board, name=None):
    """Return the configuration to build for a board, with its multipliers and pipeline.

    A configuration that asks for others than the default keeps them.

    Raises
    ------
    ConfigError
        There is none of that name.
    """
    config = find_config(name or board.config)
    multiplier = board.multiplier if config.multiplier == "plain" else config.multiplier
    deep = config.deep_pipeline or board.deep_pipeline
    return replace(config, multiplier=multiplier, deep_pipeline=deep)
