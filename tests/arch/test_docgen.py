"""Generated documents and the C header."""

import re
import shutil
import subprocess

import pytest

from systolith.arch import csr, docgen, isa


def test_isa_document_has_every_field_with_its_bits():
    text = docgen.isa_document()
    for opcode, cls in isa.INSTRUCTIONS.items():
        section = text.split(f"\n## {opcode.name}\n")[1].split("\n## ")[0]
        low = 0
        for name, width in cls.layout():
            assert f"| {low + width - 1}:{low} | {name} |" in section
            low += width
        assert low == isa.INSTRUCTION_BITS


def test_csr_document_has_every_register_and_fault():
    text = docgen.csr_document()
    for register in csr.REGISTERS:
        assert f"| {register.addr:#05x} | {register.name} | {register.access.value} |" in text
    for code in csr.Fault:
        assert f"| {int(code)} | {code.name} |" in text


def test_header_defines_every_register_field_and_fault():
    defines = dict(re.findall(r"#define (\w+) (0x[0-9a-f]+|\d+)u", docgen.c_header()))
    values = {name: int(text, 0) for name, text in defines.items()}
    assert values["SYSTOLITH_ID_VALUE"] == csr.ID_VALUE
    for register in csr.REGISTERS:
        name = f"SYSTOLITH_{register.name.upper()}"
        assert values[f"{name}_ADDR"] == register.addr
        for field in register.fields:
            shift = values[f"{name}_{field.name.upper()}_SHIFT"]
            mask = values[f"{name}_{field.name.upper()}_MASK"]
            assert (shift, mask) == (field.low, ((1 << field.width) - 1) << field.low)
    faults = re.findall(r"^  SYSTOLITH_FAULT_(\w+) = (\d+),?$", docgen.c_header(), re.MULTILINE)
    assert {name: int(value) for name, value in faults} == dict(csr.Fault.__members__)


def test_header_compiles(tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    header = tmp_path / "systolith_regs.h"
    header.write_text(docgen.c_header())
    source = tmp_path / "main.c"
    # Twice, so that the guard is tested too.
    source.write_text(
        '#include "systolith_regs.h"\n#include "systolith_regs.h"\nint main(void) { return SYSTOLITH_FAULT_NONE; }\n'
    )
    subprocess.run(
        [compiler, "-Wall", "-Werror", "-pedantic", "-fsyntax-only", str(source)],
        check=True,
        timeout=60,
    )


def test_main_writes_the_documents(tmp_path):
    (tmp_path / "hw").mkdir()
    docgen.main(str(tmp_path))
    for path, text in docgen.documents().items():
        assert (tmp_path / path).read_text() == text
