"""Tables in Markdown."""

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, text: int = 2) -> list[str]:
    """Return the lines of a table.

    Parameters
    ----------
    header : sequence of str
        Names of the columns.
    rows : sequence of sequence of str
        Cells.
    text : int
        Columns at the left that are aligned as text; the others are figures.
    """
    aligned = [*["---"] * text, *["---:"] * (len(header) - text)]
    return [f"| {' | '.join(row)} |" for row in (header, aligned, *rows)]
