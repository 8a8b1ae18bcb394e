"""Register map: addresses, fields, constants of a configuration."""

import pytest

from systolith.arch import csr
from systolith.arch.config import ceil_div
from systolith.arch.presets import PRESETS


def test_addresses_are_words_and_do_not_overlap():
    addresses = [register.addr for register in csr.REGISTERS]
    assert addresses == sorted(set(addresses))
    assert all(addr % 4 == 0 and 0 <= addr < 1 << csr.ADDR_BITS for addr in addresses)


def test_names_are_unique_and_indexed():
    assert len(csr.BY_NAME) == len(csr.REGISTERS)
    assert all(csr.BY_NAME[register.name] is register for register in csr.REGISTERS)


@pytest.mark.parametrize("register", csr.REGISTERS, ids=lambda register: register.name)
def test_fields_are_inside_the_register_and_do_not_overlap(register):
    taken = 0
    for field in register.fields:
        mask = ((1 << field.width) - 1) << field.low
        assert mask < 1 << 32
        assert not taken & mask, f"{field.name} overlaps another field"
        taken |= mask
    assert len({field.name for field in register.fields}) == len(register.fields)


def test_pack_and_field_value_are_inverse():
    values = {"rows": 1, "cols": 64, "feeds": 8, "lanes": 255}
    word = csr.pack("cap_array", **values)
    assert word == 0xFF084001
    assert {name: csr.field_value("cap_array", name, word) for name in values} == values


def test_field_value_of_an_unknown_field_is_refused():
    with pytest.raises(KeyError, match="Register status has no field ready"):
        csr.field_value("status", "ready", 0)


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_constants_say_what_the_configuration_is(config):
    values = csr.constants(config)
    assert all(csr.BY_NAME[name].access is csr.Access.RO for name in values)
    assert all(0 <= value < 1 << 32 for value in values.values())
    assert values["id"].to_bytes(4, "little") == b"SYSL"
    assert values["digest_hi"] << 32 | values["digest_lo"] == config.digest
    for register, field, value in (
        ("cap_array", "rows", config.rows),
        ("cap_array", "cols", config.cols),
        ("cap_array", "feeds", config.feeds),
        ("cap_array", "lanes", config.lanes),
        ("cap_memory", "acc_rows", config.acc_rows),
        ("cap_memory", "banks", config.banks),
        ("cap_memory", "axi_bytes", ceil_div(config.axi_data_bits, 8)),
        ("cap_memory", "outstanding", config.axi_outstanding),
        ("cap_queue", "depth", config.queue_depth),
        ("cap_queue", "protection", config.protection_level),
    ):
        assert csr.field_value(register, field, values[register]) == value, field
    assert values["cap_scratchpad"] == config.scratchpad_bytes
    assert values["cap_weights"] == config.weight_bytes
    assert values["cap_params"] == config.param_bytes


def test_every_counter_has_a_register_after_cycles():
    names = [register.name for register in csr.REGISTERS]
    first = names.index("cycles") + 1
    assert names[first:] == [name for name, _ in csr.COUNTERS]
