"""The counts of a synthesized array: what is read from a netlist, and a small array for real."""

import pytest

from systolith.arch.errors import ToolchainError
from systolith.bench import density


def block(**ports):
    parameters = dict.fromkeys(("AREG", "BREG", "MREG", "PREG"), "00000001")
    return {"type": "DSP48E1", "parameters": parameters, "connections": {"PCIN": ["0"], **ports}}


def test_cells_of_a_netlist_are_counted_by_kind():
    bare = block()
    bare["parameters"] = {**bare["parameters"], "AREG": "00000000"}
    plain = {
        kind: {"type": kind} for kind in ("LUT6", "FDRE", "FDCE", "SRL16E", "SRLC32E", "CARRY4")
    }
    cells = {"a": block(), "b": block(PCIN=[7, 8]), "c": bare, **plain}
    assert density.count({"cells": cells}) == density.Cells(
        dsp=3, registered=2, cascaded=1, lut=1, ff=2, srl=2, carry=1
    )


def test_missing_tool_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setenv("YOSYS", "absent-yosys")
    with pytest.raises(ToolchainError, match='"yosys" must be installed.*pip install'):
        density.synthesize("", "xc7")


@pytest.mark.slow
@pytest.mark.parametrize("multiplier", ["plain", "pair25"])
def test_every_product_and_sum_is_inside_the_dsp_blocks(multiplier):
    rows, cols, feeds = 4, 4, 1
    cells = density.synthesize(density.rtlil_of(multiplier, rows, cols, feeds), "xc7")
    per_block = 1 if multiplier == "plain" else 2
    assert cells.dsp == rows * cols // per_block
    assert cells.registered == cells.dsp
    # All but the first block of a column, and every second one of a chain of pairs.
    assert cells.cascaded == (cells.dsp - cols if multiplier == "plain" else cells.dsp // 2)
