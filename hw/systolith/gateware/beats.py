"""What the bus masters and their clients tell each other about bytes, beat by beat."""

from amaranth.lib import data

from . import axi
from .burst import CODE_BITS

FETCH_REQUEST = data.StructLayout({"offset": 32, "bytes": 12})
"""Bytes of region 0 wanted by instruction fetch; at least 1."""


def fetch_layout(data_bits):
    """Return the layout of a beat of fetched bytes.

    `last` ends the request; with a `code` there is no data, but a fault at `addr`.
    """
    return data.StructLayout(
        {"data": data_bits, "last": 1, "code": CODE_BITS, "addr": axi.ADDR_BITS}
    )


def read_beat_layout(data_bits):
    """Return the layout of a beat of bytes read: lanes `lo` to `hi` of `data` are wanted.

    `last` ends an instruction; with a `code` there is no data, but a fault at `addr`.
    """
    lane = range(data_bits // 8)
    return data.StructLayout(
        {
            "data": data_bits,
            "lo": lane,
            "hi": lane,
            "last": 1,
            "code": CODE_BITS,
            "addr": axi.ADDR_BITS,
        }
    )


def write_beat_layout(data_bits):
    """Return the layout of a beat of bytes to write."""
    return data.StructLayout({"data": data_bits, "strb": data_bits // 8})
