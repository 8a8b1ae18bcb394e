"""Blocks of documents that tools write: what stands between two marks of one name.

A block called `results` begins with the line `<!-- results: begin -->` and ends with
`<!-- results: end -->`; everything around it is written by people.
"""

from collections.abc import Sequence
from pathlib import Path

from .errors import InputError


def replace_block(text: str, name: str, lines: Sequence[str]) -> str:
    """Return a document with other lines in the block of a name.

    Raises
    ------
    InputError
        The document does not have both marks, once each and in order.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    if text.count(begin) != 1 or text.count(end) != 1 or end in head:
        raise InputError(f'Document must have one line "{begin}" and behind it one "{end}"')
    return "\n".join([head + begin, *lines, end + tail])


def rewrite_block(path: Path, name: str, lines: Sequence[str]) -> None:
    """Replace the lines in the block of a name of a file.

    Raises
    ------
    InputError
        The file cannot be read or written, or lacks the marks.
    """
    try:
        text = path.read_text(encoding="utf-8")
        path.write_text(replace_block(text, name, lines), encoding="utf-8")
    except OSError as error:
        raise InputError(
            f'Document "{path}" must be readable and writable: {error.strerror}'
        ) from error
    except InputError as error:
        raise InputError(f'{error}: see "{path}"') from error
