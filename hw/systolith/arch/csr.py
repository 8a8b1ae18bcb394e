"""The register map: one declaration, from which CSR bank, driver, C header and manual derive.

All registers are 32 bits wide on an AXI4-Lite bus with 12 address bits. Reads of undeclared
addresses return zero; writes to them and to read-only registers do nothing. Both answer OKAY.
"""

import enum
from dataclasses import dataclass

from .config import AcceleratorConfig
from .isa import ISA_VERSION, REGION_COUNT

ID_VALUE = int.from_bytes(b"SYSL", "little")
ADDR_BITS = 12


class Access(enum.Enum):
    """How software may use a register."""

    RO = "read-only"
    RW = "read-write, ignored while the core is busy"
    W1 = "write one to act, reads zero"
    W1C = "write one to clear"


class Fault(enum.IntEnum):
    """Why a program was stopped. The first fault is kept; the address is said where it means one."""

    NONE = 0
    ILLEGAL_OPCODE = 1  # unknown opcode
    RESERVED_BITS = 2  # bits above the last field are set
    FIELD_RANGE = 3  # a field is legal in the ISA, but not in this configuration
    REGION_BOUNDS = 4  # a burst would leave its region, or the region is not valid
    REGION_PERMISSION = 5  # a read from a region without read permission, or a write
    LOCAL_ADDRESS = 6  # a local access outside its memory
    # A load to weights, parameters or tables that is not in whole beats, a program that does not
    # start at one, or a feed beyond the first that does not start at a word.
    ALIGNMENT = 7
    # Two feeds met in a scratchpad bank, or DRAIN and EXECUTE in an accumulator bank.
    PORT_CONFLICT = 8
    BUS_READ = 9  # SLVERR or DECERR on the read channel
    BUS_WRITE = 10  # SLVERR or DECERR on the write response
    WATCHDOG = 11  # no instruction completed within the limit
    ABORTED = 12  # software asked for it
    SOFT_ERROR = 13  # a bit changed by itself; the address is a `Part`


class Part(enum.IntEnum):
    """Where a soft error was noticed: the address of fault SOFT_ERROR."""

    SCRATCHPAD = 1
    WEIGHTS = 2
    PARAMS = 3
    ACCUMULATORS = 4
    DRAIN = 5  # tables, parameter sets and rows on their way
    QUEUES = 6  # instructions, commands, steps and tiles
    ARRAY = 7  # the checksum of a dense position
    ACTIVATIONS = 8  # parity of what travels through the array


@dataclass(frozen=True)
class Field:
    """Bits of a register."""

    name: str
    low: int
    width: int
    doc: str


@dataclass(frozen=True)
class Register:
    """A 32-bit register at a byte address."""

    name: str
    addr: int
    access: Access
    doc: str
    fields: tuple[Field, ...] = ()
    reset: int = 0


COUNTERS: tuple[tuple[str, str], ...] = (
    ("array_busy", "cycles in which a vector entered the array"),
    ("execute_wait_load", "cycles in which EXECUTE waited for LOAD"),
    ("execute_wait_drain", "cycles in which EXECUTE waited for DRAIN"),
    ("execute_wait_store", "cycles in which EXECUTE waited for STORE"),
    ("execute_wait_weights", "cycles in which EXECUTE waited for a weight tile to shift in"),
    ("execute_idle", "cycles in which EXECUTE had no instruction"),
    ("drain_busy", "cycles in which DRAIN had an instruction in progress"),
    ("drain_wait_port", "cycles in which DRAIN lost a scratchpad port"),
    ("load_busy", "cycles in which LOAD had an instruction in progress"),
    ("load_wait_port", "cycles in which LOAD lost a scratchpad port"),
    ("store_busy", "cycles in which STORE had an instruction in progress"),
    ("read_bytes", "bytes in read beats, program included"),
    ("write_bytes", "bytes written (strobes set)"),
)
"""Performance counters, 32 bits, cleared at start; `CYCLES` stands before them."""

_STATUS = (
    Field("busy", 0, 1, "a program is running or being stopped"),
    Field("done", 1, 1, "the last program ended at its HALT"),
    Field("fault", 2, 1, "the last program was stopped by a fault"),
)
_FAULT = (
    Field("code", 0, 8, "fault code"),
    Field("engine", 8, 3, "engine: 0 LOAD, 1 EXECUTE, 2 DRAIN, 3 STORE, 4 sequencer"),
)
_IRQ = (
    Field("done", 0, 1, "program ended"),
    Field("fault", 1, 1, "program stopped by a fault"),
)

REGION_BASE = 0x080
REGION_STRIDE = 16
COUNTER_BASE = 0x104


def _regions() -> list[Register]:
    registers = []
    for n in range(REGION_COUNT):
        base = REGION_BASE + REGION_STRIDE * n
        registers += [
            Register(
                f"region{n}_base_lo", base, Access.RW, f"region {n}: bits 31:0 of its address"
            ),
            Register(f"region{n}_base_hi", base + 4, Access.RW, f"region {n}: bits 63:32"),
            Register(f"region{n}_size", base + 8, Access.RW, f"region {n}: bytes"),
            Register(
                f"region{n}_flags",
                base + 12,
                Access.RW,
                f"region {n}: permissions",
                (Field("read", 0, 1, "may be read"), Field("write", 1, 1, "may be written")),
            ),
        ]
    return registers


REGISTERS: tuple[Register, ...] = (
    Register("id", 0x000, Access.RO, 'identity, "SYSL"', reset=ID_VALUE),
    Register("isa_version", 0x004, Access.RO, "version of the instruction set", reset=ISA_VERSION),
    Register("digest_lo", 0x008, Access.RO, "bits 31:0 of the configuration's digest"),
    Register("digest_hi", 0x00C, Access.RO, "bits 63:32 of the configuration's digest"),
    Register(
        "cap_array",
        0x010,
        Access.RO,
        "array",
        (
            Field("rows", 0, 8, "rows"),
            Field("cols", 8, 8, "columns"),
            Field("feeds", 16, 8, "column feeds"),
            Field("lanes", 24, 8, "requantizer lanes"),
        ),
    ),
    Register("cap_scratchpad", 0x014, Access.RO, "bytes of scratchpad"),
    Register("cap_weights", 0x018, Access.RO, "bytes of weight buffer"),
    Register("cap_params", 0x01C, Access.RO, "bytes of parameter memory"),
    Register(
        "cap_memory",
        0x020,
        Access.RO,
        "memories and bus",
        (
            Field("acc_rows", 0, 12, "rows of an accumulator bank"),
            Field("banks", 12, 6, "scratchpad banks"),
            Field("axi_bytes", 18, 7, "bytes of an AXI beat"),
            Field("outstanding", 25, 6, "outstanding bursts"),
        ),
    ),
    Register(
        "cap_queue",
        0x024,
        Access.RO,
        "queues, and what else is built in",
        (
            Field("depth", 0, 8, "instructions that wait in front of an engine"),
            Field(
                "protection",
                8,
                2,
                "against soft errors: 0 nothing, 1 parity of memories, 2 and a checksum of the "
                "array, 3 and parity of activations",
            ),
        ),
    ),
    Register(
        "control",
        0x040,
        Access.W1,
        "commands",
        (
            Field("start", 0, 1, "start the program; ignored while busy"),
            Field("abort", 1, 1, "stop the program with fault ABORTED; ignored while idle"),
        ),
    ),
    Register("status", 0x044, Access.RO, "state", _STATUS),
    Register("irq_enable", 0x048, Access.RW, "events that raise the interrupt", _IRQ),
    Register("irq_status", 0x04C, Access.W1C, "events since they were cleared", _IRQ),
    Register("fault", 0x050, Access.RO, "first fault of the last program", _FAULT),
    Register("fault_index", 0x054, Access.RO, "index of the instruction that raised it"),
    Register("fault_addr_lo", 0x058, Access.RO, "offending address, bits 31:0"),
    Register("fault_addr_hi", 0x05C, Access.RO, "offending address, bits 63:32"),
    Register(
        "watchdog",
        0x060,
        Access.RW,
        "cycles without a completed instruction after which the program is stopped; 0 is never",
    ),
    Register("program_offset", 0x064, Access.RW, "byte offset of the program in region 0"),
    Register(
        "program_count",
        0x068,
        Access.RW,
        "instructions of the program; fetching beyond them is fault REGION_BOUNDS",
    ),
    Register("progress_load", 0x070, Access.RO, "instructions completed by LOAD"),
    Register(
        "progress_execute",
        0x074,
        Access.RO,
        "instructions completed by EXECUTE; may count the one that fault_index names",
    ),
    Register("progress_drain", 0x078, Access.RO, "instructions completed by DRAIN"),
    Register("progress_store", 0x07C, Access.RO, "instructions completed by STORE"),
    *_regions(),
    Register("cycles", 0x100, Access.RO, "cycles from start to done or fault"),
    *(
        Register(name, COUNTER_BASE + 4 * n, Access.RO, doc)
        for n, (name, doc) in enumerate(COUNTERS)
    ),
)

BY_NAME: dict[str, Register] = {register.name: register for register in REGISTERS}


def field_value(register: str, field: str, value: int) -> int:
    """Return the bits of one field of a register's value."""
    for f in BY_NAME[register].fields:
        if f.name == field:
            return (value >> f.low) & ((1 << f.width) - 1)
    raise KeyError(f"Register {register} has no field {field}")


def pack(register: str, **values: int) -> int:
    """Return a register's value from the values of its fields; fields not named are zero."""
    fields = {f.name: f for f in BY_NAME[register].fields}
    return sum(
        (value & ((1 << fields[n].width) - 1)) << fields[n].low for n, value in values.items()
    )


def constants(config: AcceleratorConfig) -> dict[str, int]:
    """Return the values of the registers that identify a configuration, by register name."""
    return {
        "id": ID_VALUE,
        "isa_version": ISA_VERSION,
        "digest_lo": config.digest & 0xFFFFFFFF,
        "digest_hi": config.digest >> 32,
        "cap_array": pack(
            "cap_array", rows=config.rows, cols=config.cols, feeds=config.feeds, lanes=config.lanes
        ),
        "cap_scratchpad": config.scratchpad_bytes,
        "cap_weights": config.weight_bytes,
        "cap_params": config.param_bytes,
        "cap_memory": pack(
            "cap_memory",
            acc_rows=config.acc_rows,
            banks=config.banks,
            axi_bytes=config.axi_bytes,
            outstanding=config.axi_outstanding,
        ),
        "cap_queue": pack(
            "cap_queue", depth=config.queue_depth, protection=config.protection_level
        ),
    }
