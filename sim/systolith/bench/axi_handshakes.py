"""Rules of AXI4 and AXI4-Lite by name, and what every channel has in common: VALID, READY, payload.

A sample is (VALID, READY, payload); None stands for a value that is not known (X or Z),
and payloads are tuples in the order of :data:`FIELDS`. Rules have names, :data:`RULES`; those marked
"ours" are stricter than the specification (Arm IHI 0022) and hold what the gateware's documentation says.
"""

from collections.abc import Mapping
from dataclasses import dataclass

Payload = tuple[int | None, ...]
Sample = tuple[int | None, int | None, Payload]

_ADDRESS = ("id", "addr", "len", "size", "burst", "lock", "cache", "prot", "qos", "region")
FIELDS: Mapping[str, tuple[str, ...]] = {
    "ar": _ADDRESS,
    "r": ("id", "data", "resp", "last"),
    "aw": _ADDRESS,
    "w": ("data", "strb", "last"),
    "b": ("id", "resp"),
}
"""Fields of AXI4's channels in the order of a sample's payload."""

LITE_FIELDS: Mapping[str, tuple[str, ...]] = {
    "ar": ("addr", "prot"),
    "r": ("data", "resp"),
    "aw": ("addr", "prot"),
    "w": ("data", "strb"),
    "b": ("resp",),
}
"""The same for AXI4-Lite."""

RULES: Mapping[str, str] = {
    "reset": "VALID is low during reset",
    "unknown": "VALID and READY are always known, payloads while VALID is high, data where strobed",
    "valid held": "VALID stays high until READY",
    "payload held": "a payload does not change while VALID waits for READY",
    "length": "bursts have at most the declared number of beats (ours)",
    "size": "beats have the width of the bus (ours)",
    "burst": "bursts are INCR (ours)",
    "alignment": "bursts start at a multiple of the beat (ours)",
    "boundary": "no burst crosses a multiple of 4,096 bytes",
    "attributes": "ID, lock, cache, protection, quality and region are the declared ones (ours)",
    "window": "nothing is read or written outside the permitted windows (ours)",
    "early data": "no write data before its address is offered (ours)",
    "wlast": "WLAST is high on the last beat of a burst and on no other",
    "rlast": "RLAST is high on the last beat of a burst and on no other",
    "unasked read": "read data answers an address that was transferred in an earlier cycle",
    "unasked response": "a write response follows the address and the last beat, both transferred",
    "id": "answers carry the ID of what they answer",
    "response": "an access that is not exclusive is never answered EXOKAY",
    "read limit": "at most the declared number of reads is unanswered (ours)",
    "write limit": "at most the declared number of writes is unanswered (ours)",
    "unfinished": "at the end everything was answered, and nothing is still offered",
}
"""Every rule by its name."""


@dataclass(frozen=True)
class Violation:
    """A broken rule.

    Parameters
    ----------
    cycle : int
        When it was seen.
    channel : str
        Where: `ar`, `r`, `aw`, `w` or `b`.
    rule : str
        Key of :data:`RULES`.
    detail : str
        What was seen.
    """

    cycle: int
    channel: str
    rule: str
    detail: str

    def __str__(self) -> str:
        return (
            f"{self.channel.upper()} in cycle {self.cycle}: {self.rule} ({RULES[self.rule]}): "
            f"{self.detail}"
        )


class Handshakes:
    """Five channels with VALID and READY.

    Parameters
    ----------
    fields : mapping of str to tuple of str
        Fields of each channel, :data:`FIELDS` or :data:`LITE_FIELDS`.

    Attributes
    ----------
    violations : list of Violation
        What was found, in order.
    transfers : dict of str to int
        Transfers of each channel.
    cycle : int
        Clock edges seen.
    """

    def __init__(self, fields: Mapping[str, tuple[str, ...]]) -> None:
        self.violations: list[Violation] = []
        self.cycle = 0
        self.transfers = dict.fromkeys(fields, 0)
        self._fields = fields
        self._held: dict[str, Payload | None] = dict.fromkeys(fields)
        self.was_reset = False

    def violate(self, channel: str, rule: str, detail: str) -> None:
        """Note a broken rule."""
        self.violations.append(Violation(self.cycle, channel, rule, detail))

    def check_reset(self, samples: Mapping[str, Sample]) -> None:
        """Judge an edge with reset, and forget what was held."""
        # A synchronous reset acts on the first edge that sees it, so from the second on it shows.
        for channel, (valid, _, _) in samples.items():
            self._held[channel] = None
            if self.was_reset and valid != 0:
                self.violate(channel, "reset", f"VALID is {text(valid)}")
        self.was_reset = True

    def transfer(self, channel: str, sample: Sample) -> tuple[bool, bool]:
        """Judge one channel; return whether a payload is offered anew, and is transferred."""
        valid, ready, payload = sample
        held = self._held[channel]
        if valid is None or ready is None:
            self.violate(channel, "unknown", f"VALID is {text(valid)}, READY {text(ready)}")
            return False, False
        if not valid:
            if held is not None:
                self.violate(channel, "valid held", "VALID fell without a transfer")
                self._held[channel] = None
            return False, False
        if None in payload:
            names = [n for n, v in zip(self._fields[channel], payload, strict=True) if v is None]
            self.violate(channel, "unknown", f"{', '.join(names)} is X while VALID is high")
        if held is not None and held != payload:
            self.violate(channel, "payload held", f"it was {held}, it is {payload}")
        self._held[channel] = None if ready else payload
        self.transfers[channel] += ready
        return held is None, bool(ready)

    def check_offered(self) -> None:
        """Judge the end: nothing may be offered."""
        for channel, held in self._held.items():
            if held is not None:
                self.violate(channel, "unfinished", "VALID still waits for READY")


def text(value: int | None) -> str:
    """Return a value as people write it."""
    return "X" if value is None else str(value)
