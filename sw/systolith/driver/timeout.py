"""How long a run may take: what the compiler predicted, with a margin, and the watchdog's time."""

from dataclasses import dataclass

from systolith.arch.errors import RunTimeout
from systolith.arch.program import AcceleratorSegment

MARGIN = 8
"""Times that a run may take longer than predicted: memories are slower than the one that the
prediction is made with, and other masters use them too."""

DEFAULT_CLOCK_HZ = 10e6
"""Clock of devices that do not tell theirs: slower than any that is sensible, so that nothing is
stopped too early."""

UNPREDICTED_S = 600.0
"""Seconds for programs that nobody has predicted the cycles of, such as those written by hand."""


@dataclass(frozen=True)
class Allowance:
    """Time that one run is given.

    Parameters
    ----------
    seconds : float
        From the doorbell on.
    predicted : int or None
        Cycles that the compiler predicted.
    reason : str
        Where the seconds come from, as part of a sentence.
    """

    seconds: float
    predicted: int | None
    reason: str

    def error(self, model: str, segment: int, elapsed_s: float) -> RunTimeout:
        """Return the error of a run that took longer."""
        return RunTimeout(
            self.predicted,
            self.seconds,
            elapsed_s,
            f'Program "{model}", segment {segment}, must end within {self.seconds:.3g} s '
            f"({self.reason}), and was stopped after {elapsed_s:.3g} s; check the memory and the "
            f"clock of the device, or allow more (`timeout_s`, `--timeout SECONDS`)",
        )


def allowance(
    segment: AcceleratorSegment, clock_hz: float, watchdog_cycles: int, timeout_s: float | None
) -> Allowance:
    """Return the time that a segment is given.

    Parameters
    ----------
    segment : AcceleratorSegment
        What will run.
    clock_hz : float
        Clock of the device.
    watchdog_cycles : int
        After so many cycles without progress the hardware stops a program, and says where: that
        much is waited beyond the prediction.
    timeout_s : float or None
        What the caller allows, whatever was predicted.
    """
    predicted = segment.cycles
    if timeout_s is not None:
        return Allowance(timeout_s, predicted, f"as asked for; {_cycles_text(predicted)}")
    if predicted is None:
        return Allowance(UNPREDICTED_S, None, _cycles_text(None))
    return Allowance(
        (MARGIN * predicted + watchdog_cycles) / clock_hz,
        predicted,
        f"{MARGIN} times the {_cycles_text(predicted)}, and the watchdog's {watchdog_cycles}, at "
        f"{clock_hz / 1e6:g} MHz",
    )


def _cycles_text(predicted: int | None) -> str:
    return "no cycles were predicted" if predicted is None else f"{predicted} cycles predicted"
