"""Region tables for benches of single blocks."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Module


def answer_lookup(m: Module, lookup: Any, regions: Mapping[int, Mapping[str, int]]) -> None:
    """Answer a block's reader of the region table with constants.

    Parameters
    ----------
    m : Module
        Where the block is.
    lookup : interface of `systolith.gateware.region_table.lookup_signature`
        The reader.
    regions : mapping
        Fields of the regions, by index; those that are not named are zero.
    """
    with m.Switch(lookup.index):
        for index, fields in regions.items():
            with m.Case(index):
                m.d.comb += [lookup.region[name].eq(value) for name, value in fields.items()]
