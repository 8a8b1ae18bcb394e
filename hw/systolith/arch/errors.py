"""Errors that users of Systolith see: one base class, one child per kind of thing that is wrong.

Each message is one sentence: the thing, the rule it must obey, the value found, and the remedy
where one is known.
"""


class SystolithError(Exception):
    """Base of every error that Systolith raises about what a user gave it."""


class ConfigError(SystolithError):
    """An accelerator configuration breaks a rule."""


class EncodingError(SystolithError):
    """An instruction field, register field or instruction word is out of its declared range."""


class ModelFormatError(SystolithError):
    """A model file is not what its name says, is truncated, or points outside itself."""


class UnsupportedModelError(SystolithError):
    """A well-formed model asks for something that the compiler or the configuration cannot do.

    Parameters
    ----------
    reasons : sequence of str
        Every broken rule, each naming operator, tensor, rule, value and remedy.
    """

    def __init__(self, reasons: "list[str] | tuple[str, ...]") -> None:
        self.reasons = tuple(reasons)
        super().__init__("; ".join(self.reasons))


class AllocationError(SystolithError):
    """A model does not fit the memories of the configuration."""


class ProgramError(SystolithError):
    """A program container is damaged, of another version, or made for another configuration."""


class ValidationError(ProgramError):
    """A program asks for something that the hardware would stop, or that nobody may ask for.

    Parameters
    ----------
    index : int or None
        Index of the instruction, None if it is about the program as a whole.
    operand : str
        Field of the instruction, or part of the program.
    rule : str
        Short name of the rule, such as `"REGION_BOUNDS"`.
    value : int
        The value that breaks it.
    message : str
        One sentence for the user.
    """

    def __init__(
        self, index: int | None, operand: str, rule: str, value: int, message: str
    ) -> None:
        self.index = index
        self.operand = operand
        self.rule = rule
        self.value = value
        super().__init__(message)


class RaceError(ProgramError):
    """Two instructions of a program touch the same byte without an order between them."""


class InputError(SystolithError):
    """An array given to a session has the wrong name, shape or dtype."""


class ToolchainError(SystolithError):
    """A tool is missing on this machine or failed to build what was asked of it."""


class DeviceError(SystolithError):
    """A device did not do what was asked of it: a fault, a time-out, or the wrong hardware."""


class DeviceFault(DeviceError):
    """The accelerator stopped with a fault.

    Parameters
    ----------
    code : int
        Fault code, a value of :class:`systolith.arch.csr.Fault`.
    engine : int
        Engine that raised it, a value of :class:`systolith.arch.isa.Engine`.
    index : int
        Index of the instruction in the program.
    address : int
        Offending address: DRAM byte address or local byte address.
    message : str
        One sentence for the user.
    """

    def __init__(self, code: int, engine: int, index: int, address: int, message: str) -> None:
        self.code = code
        self.engine = engine
        self.index = index
        self.address = address
        super().__init__(message)


class DeviceTimeout(DeviceError):
    """A device did not finish within the time it was given."""


class RunTimeout(DeviceTimeout):
    """A run did not end in its time, and was stopped.

    Parameters
    ----------
    predicted : int or None
        Cycles that the compiler predicted, None if it made no prediction.
    allowed_s, elapsed_s : float
        Seconds that the run was given, and that passed until it was given up.
    message : str
        One sentence for the user.
    """

    def __init__(
        self, predicted: int | None, allowed_s: float, elapsed_s: float, message: str
    ) -> None:
        self.predicted = predicted
        self.allowed_s = allowed_s
        self.elapsed_s = elapsed_s
        super().__init__(message)


class DeviceBusy(DeviceError):
    """Somebody else uses a device that has one user at a time.

    Parameters
    ----------
    device : str
        Its name.
    holder : int or None
        Process that has it, None if the system does not tell.
    waited_s : float
        Seconds that it was waited for.
    """

    def __init__(self, device: str, holder: int | None, waited_s: float) -> None:
        self.device = device
        self.holder = holder
        self.waited_s = waited_s
        who = "another session" if holder is None else f"a session of process {holder}"
        waited = f", after {waited_s:g} s of waiting," if waited_s else ""
        super().__init__(
            f'Device "{device}" must have one session at a time, and{waited} is used by {who}; '
            f"end that one, or wait for it longer (`wait_s`, `--wait SECONDS`)"
        )
