"""Blocks of documents: what stands between their marks is replaced, and nothing else."""

import pytest

from systolith.arch.blocks import replace_block, rewrite_block
from systolith.arch.errors import InputError

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def test_lines_of_a_block_are_replaced(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(f"before\n{BEGIN}\nold\nolder\n{END}\nbehind\n")
    rewrite_block(path, "figures", ["new"])
    expected = f"before\n{BEGIN}\nnew\n{END}\nbehind\n"
    assert path.read_text() == expected
    rewrite_block(path, "figures", ["new"])
    assert path.read_text() == expected


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_a_document_without_its_marks_is_refused_and_kept(tmp_path, text):
    path = tmp_path / "page.md"
    path.write_text(text)
    with pytest.raises(InputError, match="figures: begin.*page.md"):
        rewrite_block(path, "figures", ["new"])
    assert path.read_text() == text
    with pytest.raises(InputError, match="one line"):
        replace_block(text, "figures", ["new"])


def test_a_document_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(InputError, match="must be readable and writable"):
        rewrite_block(tmp_path / "missing.md", "figures", [])
