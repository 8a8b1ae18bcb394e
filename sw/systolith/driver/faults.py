"""From the registers of a stopped accelerator to an error that names instruction and address."""

from collections.abc import Callable

from systolith.arch import csr
from systolith.arch.errors import DeviceError, DeviceFault, EncodingError
from systolith.arch.isa import INSTRUCTION_BYTES, Engine, decode
from systolith.arch.order import ENGINES

from .stalled import stalls

ReadRegister = Callable[[str], int]
"""Returns the register of a name."""


def check_end(read: ReadRegister, code: bytes, model: str) -> None:
    """Return if the last program ended at its HALT.

    Parameters
    ----------
    read : callable
        Reads a register.
    code : bytes
        The program.
    model : str
        Its name, for the message.

    Raises
    ------
    DeviceFault
        It was stopped by a fault.
    DeviceError
        It did neither.
    """
    status = read("status")
    if csr.field_value("status", "fault", status):
        raise _fault(read, code, model)
    if not csr.field_value("status", "done", status):
        raise DeviceError(f"Device raised its interrupt, but its status is {status:#x}")


def _fault(read: ReadRegister, code: bytes, model: str) -> DeviceFault:
    register = read("fault")
    number = csr.field_value("fault", "code", register)
    engine = csr.field_value("fault", "engine", register)
    index = read("fault_index")
    addr = read("fault_addr_lo") | read("fault_addr_hi") << 32
    return DeviceFault(
        number,
        engine,
        index,
        addr,
        f'Program "{model}" was stopped by fault {_name(csr.Fault, number)} of '
        f"engine {_name(Engine, engine)} at instruction {index} "
        f"({_instruction_text(code, index)}), {_place_text(number, addr)}"
        f"{_stall_text(read, code, index) if number == csr.Fault.WATCHDOG else ''}",
    )


def _place_text(number: int, addr: int) -> str:
    """Return the address of a fault, or the part that a soft error was noticed in."""
    if number == csr.Fault.SOFT_ERROR and addr in set(csr.Part):
        return f"in {csr.Part(addr).name}"
    return f"address {addr:#x}"


def _stall_text(read: ReadRegister, code: bytes, index: int) -> str:
    """Return what the engines were at when the watchdog stopped them."""
    progress = [read(f"progress_{engine.name.lower()}") for engine in ENGINES]
    found = " and ".join(str(stall) for stall in stalls(code, progress, index))
    return f"; nothing was completed for {read('watchdog')} cycles, with {found}"


def _name(kind: type[csr.Fault] | type[Engine], value: int) -> str:
    return kind(value).name if value in set(kind) else str(value)


def _instruction_text(code: bytes, index: int) -> str:
    """Return the text of an instruction, or its bytes if they are not one."""
    raw = code[index * INSTRUCTION_BYTES : (index + 1) * INSTRUCTION_BYTES]
    if len(raw) < INSTRUCTION_BYTES:
        return "beyond the program"
    try:
        return str(decode(int.from_bytes(raw, "little")))
    except EncodingError:
        return f"no instruction: {raw.hex()}"
