"""Nothing that promises a handshake is without a proof."""

from pathlib import Path

from systolith import gateware
from systolith.bench.formal.catalog import CASES

WITHOUT = {
    "axi": "declares signatures, no components",
    "drain": "passes on the streams of its walker and its writer",
    "drain_writer": "its writes always win, so there is nothing to wait for",
}
"""Modules with output streams that have no proof of their own."""


def test_every_module_with_output_streams_has_a_proof():
    (folder,) = gateware.__path__
    promising = {
        path.stem
        for path in Path(folder).glob("*.py")
        if "Out(stream.Signature" in path.read_text()
    }
    # The broken design of a handshake is the component's own module.
    proven = {
        edit.module
        for case in CASES
        if case.name.startswith("handshake-")
        for control in case.controls
        for edit in control.edits
    }
    assert promising - proven == set(WITHOUT)


def test_every_proof_has_a_control():
    assert not [case.name for case in CASES if not case.controls]


def test_names_differ():
    assert len({case.name for case in CASES}) == len(CASES)
