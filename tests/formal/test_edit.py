"""Edits reach every user of what they change, and leave nothing behind."""

import pytest

from systolith.bench.formal.edit import Edit, edited
from systolith.gateware import burst, read_master

SHORT = Edit("burst", "BURST_BEATS = 16", "BURST_BEATS = 4")


def test_users_see_the_edited_class():
    original = burst.BurstSplitter
    with edited([SHORT]):
        assert read_master.BurstSplitter is burst.BurstSplitter is not original
        assert burst.BURST_BEATS == 4
        assert burst.burst_layout(4)["len"].width == 2
    assert read_master.BurstSplitter is burst.BurstSplitter is original
    assert burst.BURST_BEATS == 16


def test_text_that_is_not_there_once_is_refused():
    with pytest.raises(LookupError, match="must occur once in systolith.gateware.burst, not 0"):
        with edited([Edit("burst", "BURST_BEATS = 17", "")]):
            pass


def test_a_failure_inside_leaves_nothing_behind():
    original = burst.BurstSplitter
    with pytest.raises(RuntimeError), edited([SHORT]):
        raise RuntimeError
    assert read_master.BurstSplitter is original
