"""Signatures of the buses: AXI4 with its five channels as streams, and AXI4-Lite.

Field names are those of the specification (Arm IHI 0022) without the channel's letters. A channel
is an :mod:`amaranth.lib.stream`: its VALID and READY are the stream's, and its rules are AXI's.
"""

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

ADDR_BITS = 64
ID_BITS = 1
LITE_ADDR_BITS = 12
LITE_DATA_BITS = 32

BOUNDARY_BYTES = 4096
"""No burst may cross a multiple of this address."""

CACHE = 0b0011
"""AxCACHE of all our bursts: normal memory, not cacheable, bufferable."""

PROT = 0b000
"""AxPROT of all our bursts: unprivileged, secure, data."""


INCR = 0b01
"""AxBURST of all our bursts: addresses count up."""

OKAY, EXOKAY, SLVERR, DECERR = range(4)
"""Values of RRESP and BRESP."""

ADDRESS = data.StructLayout(
    {
        "id": ID_BITS,
        "addr": ADDR_BITS,
        "len": 8,
        "size": 3,
        "burst": 2,
        "cache": 4,
        "prot": 3,
    }
)
"""Payload of AR and AW."""

RESPONSE = data.StructLayout({"id": ID_BITS, "resp": 2})
"""Payload of B."""

LITE_ADDRESS = data.StructLayout({"addr": LITE_ADDR_BITS, "prot": 3})
"""Payload of AR and AW of AXI4-Lite."""

LITE_WRITE = data.StructLayout({"data": LITE_DATA_BITS, "strb": LITE_DATA_BITS // 8})
"""Payload of W of AXI4-Lite."""

LITE_READ = data.StructLayout({"data": LITE_DATA_BITS, "resp": 2})
"""Payload of R of AXI4-Lite."""

LITE_RESPONSE = data.StructLayout({"resp": 2})
"""Payload of B of AXI4-Lite."""


def read_layout(data_bits):
    """Return the payload of R for a data width in bits."""
    return data.StructLayout({"id": ID_BITS, "data": data_bits, "resp": 2, "last": 1})


def write_layout(data_bits):
    """Return the payload of W for a data width in bits."""
    return data.StructLayout({"data": data_bits, "strb": data_bits // 8, "last": 1})


def read_channels(data_bits):
    """Return the members of a master's read channels, `ar` and `r`."""
    return {
        "ar": Out(stream.Signature(ADDRESS)),
        "r": In(stream.Signature(read_layout(data_bits))),
    }


def write_channels(data_bits):
    """Return the members of a master's write channels, `aw`, `w` and `b`."""
    return {
        "aw": Out(stream.Signature(ADDRESS)),
        "w": Out(stream.Signature(write_layout(data_bits))),
        "b": In(stream.Signature(RESPONSE)),
    }


class Signature(wiring.Signature):
    """AXI4 as a master sees it.

    Parameters
    ----------
    data_bits : int
        Width of R and W data; a power of two of at least 8.

    Members
    -------
    ar, r, aw, w, b : stream
        The five channels.
    """

    def __init__(self, data_bits):
        if not isinstance(data_bits, int) or data_bits < 8 or data_bits & (data_bits - 1):
            raise ValueError(
                f"AXI data width must be a power of two from 8 bits, not {data_bits!r}"
            )
        self._data_bits = data_bits
        super().__init__({**read_channels(data_bits), **write_channels(data_bits)})

    @property
    def data_bits(self):
        return self._data_bits

    def __eq__(self, other):
        return type(other) is type(self) and other.data_bits == self.data_bits

    def __hash__(self):
        return hash((type(self), self.data_bits))

    def __repr__(self):
        return f"axi.Signature({self.data_bits})"


class LiteSignature(wiring.Signature):
    """AXI4-Lite as a master sees it: 32 data bits, 12 address bits.

    Members
    -------
    ar, r, aw, w, b : stream
        The five channels; the payload of `ar` and `aw` is :data:`LITE_ADDRESS`.
    """

    def __init__(self):
        super().__init__(
            {
                "ar": Out(stream.Signature(LITE_ADDRESS)),
                "r": In(stream.Signature(LITE_READ)),
                "aw": Out(stream.Signature(LITE_ADDRESS)),
                "w": Out(stream.Signature(LITE_WRITE)),
                "b": In(stream.Signature(LITE_RESPONSE)),
            }
        )

    def __eq__(self, other):
        return type(other) is type(self)

    def __hash__(self):
        return hash(type(self))

    def __repr__(self):
        return "axi.LiteSignature()"


LITE = LiteSignature()
"""The one AXI4-Lite signature there is."""
