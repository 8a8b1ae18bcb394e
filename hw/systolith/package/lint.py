"""Waivers of Verilator's warnings: each rule by name, with the reason why it finds no defect."""

WAIVERS: dict[str, tuple[str, str]] = {
    "CASEINCOMPLETE": ("systolith.v", "cases set only what differs from a value assigned before"),
    "CMPCONST": ("systolith.v", "comparisons that one configuration makes constant stay"),
    "DECLFILENAME": ("systolith*.v", "each file holds many modules: the design, the memories"),
    "SYMRSVDWORD": ("systolith.v", "the pin `interrupt` is named as block designs want it"),
    "UNSIGNED": ("systolith.v", "comparisons with zero that one configuration makes constant stay"),
    "UNUSEDSIGNAL": ("systolith.v", "every field of a bus has a name, for waveforms, used or not"),
    "VARHIDDEN": ("systolith.v", "a register and the module that counts it share a name"),
    "WIDTHEXPAND": ("systolith.v", "operands grow as Verilog defines; none is cut by it"),
    "WIDTHTRUNC": ("systolith.v", "a logical not of a vector compares it with zero"),
}
"""By rule: the file that it is waived in, and why."""


def waivers() -> str:
    """Return the configuration file for Verilator."""
    lines = ["`verilator_config", "// Warnings of -Wall that find no defect here, one by one."]
    for rule, (file, reason) in WAIVERS.items():
        lines += ["", f"// {reason}", f'lint_off -rule {rule} -file "*{file}"']
    return "\n".join(lines) + "\n"
