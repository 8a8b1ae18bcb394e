"""The register map as data and as text, with the values that identify one configuration."""

import json
from typing import Any

from systolith.arch import csr, docgen
from systolith.arch.config import AcceleratorConfig


def as_json(config: AcceleratorConfig) -> str:
    """Return the register map as JSON; read-only constants have the values of the configuration."""
    constants = csr.constants(config)
    document = {
        "address_bits": csr.ADDR_BITS,
        "register_bits": 32,
        "registers": [_register(register, constants) for register in csr.REGISTERS],
        "faults": {code.name: int(code) for code in csr.Fault},
    }
    return json.dumps(document, indent=2) + "\n"


def _register(register: csr.Register, constants: dict[str, int]) -> dict[str, Any]:
    return {
        "name": register.name,
        "address": register.addr,
        "access": register.access.name,
        "description": register.doc,
        "reset": constants.get(register.name, register.reset),
        "fields": [
            {"name": f.name, "low": f.low, "width": f.width, "description": f.doc}
            for f in register.fields
        ],
    }


def as_markdown(config: AcceleratorConfig) -> str:
    """Return the manual of the register map, and the values of this configuration."""
    manual = docgen.csr_document().split("\n", 1)[1]
    lines = [
        f"<!-- Generated for configuration digest {config.digest:016x}; do not edit. -->",
        manual.rstrip(),
        "",
        "## Values of this configuration",
        "",
        "| register | value |",
        "| --- | --- |",
    ]
    lines += [f"| {name} | {value:#010x} |" for name, value in csr.constants(config).items()]
    return "\n".join(lines) + "\n"
