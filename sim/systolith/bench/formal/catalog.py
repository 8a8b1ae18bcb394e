"""All proofs."""

from . import handshakes, masters, queues, registers, strobes, waits
from .case import Case

CASES: tuple[Case, ...] = (
    *masters.CASES,
    *strobes.CASES,
    *registers.CASES,
    *queues.CASES,
    *waits.CASES,
    *handshakes.CASES,
)

BY_NAME = {case.name: case for case in CASES}
