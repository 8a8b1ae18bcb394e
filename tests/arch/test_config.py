"""Configuration: rules and their messages, derived sizes, digest, TOML files."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systolith.arch.config import MULTIPLIERS, PROTECTIONS, AcceleratorConfig, ceil_div
from systolith.arch.errors import ConfigError, SystolithError
from systolith.arch.presets import PRESETS, find_config

TINY = PRESETS["tiny-4x4"]


def change(**fields):
    return dataclasses.replace(TINY, **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rows": 1}, "rows must be an integer in 2..64, not 1"),
        ({"cols": 65, "lanes": 1}, "cols must be an integer in 2..64, not 65"),
        ({"rows": 4.0}, "rows must be an integer in 2..64, not 4.0"),
        ({"lanes": True}, "lanes must be an integer in 1..64, not True"),
        ({"name": ""}, "name must be a non-empty string, not ''"),
        (
            {"multiplier": "booth"},
            "multiplier must be one of plain, pair25, pair27, mult18x18d, not 'booth'",
        ),
        ({"multiplier": ["plain"]}, r"multiplier must be one of .*, not \['plain'\]"),
        (
            {"protection": "all"},
            "protection must be one of none, memory, checksum, full, not 'all'",
        ),
        ({"deep_pipeline": 1}, "deep_pipeline must be true or false, not 1"),
        (
            {"protection": "full", "multiplier": "pair25"},
            'protection must be at most "checksum" with multiplier "pair25", .*, not \'full\'',
        ),
        ({"banks": 6}, "banks must be a power of two, not 6"),
        ({"acc_rows": 100}, "acc_rows must be a power of two, not 100"),
        ({"lanes": 3}, r"lanes must be a divisor of cols \(4\), not 3"),
        ({"rows": 2, "feeds": 3}, r"feeds must be at most rows \(2\), not 3"),
        ({"feeds": 4}, r"feeds must be below banks \(4\), as feed 0 may occupy two of them, not 4"),
        ({"axi_data_bits": 96}, "axi_data_bits must be a power of two, not 96"),
        (
            {"scratchpad_bytes": 1024, "axi_data_bits": 512, "banks": 8},
            "scratchpad_bytes must be at least 4 words of 64 bytes per bank, not 1024",
        ),
        (
            {"weight_bytes": 512, "rows": 64},
            "weight_bytes must be at least two tiles, 1024 bytes, not 512",
        ),
        (
            {"param_bytes": 256, "cols": 64, "weight_bytes": 1 << 16},
            "param_bytes must be at least two tiles, 1152 bytes, not 256",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_rule_broken_names_rule_and_value(fields, message):
    with pytest.raises(ConfigError, match=message) as caught:
        change(**fields)
    assert isinstance(caught.value, SystolithError)
    if "name" not in fields:
        assert str(caught.value).startswith('Configuration "tiny-4x4": ')


def test_configuration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TINY.rows = 8


def test_presets_are_named_as_their_keys():
    assert {name: config.name for name, config in PRESETS.items()} == {n: n for n in PRESETS}


@pytest.mark.parametrize(
    ("name", "word", "weight_word", "bias", "shift", "group"),
    [
        ("tiny-4x4", 8, 8, 2, 1, 4),
        ("edge-8x8", 8, 8, 4, 1, 4),
        ("edge-10x12", 16, 16, 3, 1, 3),
        ("edge-8x16", 16, 16, 4, 1, 4),
        ("edge-16x16", 16, 16, 4, 1, 5),
        ("edge-32x32", 32, 32, 4, 1, 10),
    ],
)
def test_derived_sizes(name, word, weight_word, bias, shift, group):
    config = PRESETS[name]
    assert config.word_bytes == word
    assert config.weight_word_bytes == weight_word
    assert (config.bias_words, config.shift_words) == (bias, shift)
    assert config.param_tile_words == 2 * bias + shift
    assert config.group_rows == group
    assert config.weight_words * weight_word == config.weight_bytes
    assert config.param_words * weight_word == config.param_bytes
    assert config.macs == config.rows * config.cols
    assert config.axi_bytes * 8 == config.axi_data_bits


def test_words_of_an_odd_array_are_powers_of_two():
    config = change(rows=5, cols=9, lanes=3, axi_data_bits=32)
    assert (config.word_bytes, config.weight_word_bytes) == (16, 16)


@given(st.integers(-1000, 1000), st.integers(1, 50))
def test_ceil_div_is_the_smallest_multiple_that_covers(a, b):
    quotient = ceil_div(a, b)
    assert quotient * b >= a > (quotient - 1) * b


def test_digest_of_preset_is_pinned():
    # A change of the digest makes every compiled program foreign: it must be meant.
    assert f"{TINY.digest:016x}" == "97dbbff59f41b0f4"


def test_digest_ignores_name_and_implementation_only():
    assert change(name="other").digest == TINY.digest
    # Programs and results are the same whatever the products are made with.
    assert all(change(multiplier=multiplier).digest == TINY.digest for multiplier in MULTIPLIERS)
    # A program does not ask what notices soft errors.
    assert all(change(protection=level).digest == TINY.digest for level in PROTECTIONS)
    assert change(deep_pipeline=True).digest == TINY.digest
    changed = {"rows": 8, "banks": 8, "acc_rows": 128, "queue_depth": 8, "axi_outstanding": 4}
    digests = {change(**{field: value}).digest for field, value in changed.items()}
    assert len(digests | {TINY.digest}) == len(changed) + 1


def test_implementation_tells_hardware_of_one_digest_apart():
    others = [{"multiplier": "pair25"}, {"protection": "memory"}, {"deep_pipeline": True}]
    kinds = {change(**fields).implementation for fields in others}
    assert len(kinds | {TINY.implementation}) == 4
    assert not TINY.to_dict().keys() & {"multiplier", "protection", "deep_pipeline"}
    deep = change(deep_pipeline=True)
    assert AcceleratorConfig.from_dict(deep.to_dict()) == deep


def test_each_protection_adds_to_the_one_before():
    levels = [change(protection=level) for level in PROTECTIONS]
    for number, config in enumerate(levels):
        assert config.protection_level == number
        parts = (config.protects_memories, config.protects_array, config.protects_activations)
        assert parts == (number > 0, number > 1, number > 2)
    assert "protection" not in TINY.to_dict()
    assert AcceleratorConfig.from_dict(levels[-1].to_dict()) == levels[-1]


def test_first_difference_names_field_and_both_values():
    assert TINY.first_difference(change(name="other", multiplier="pair25")) is None
    assert TINY.first_difference(change(banks=8)) == "banks is 4 here and 8 there"


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_toml_round_trip(config, tmp_path):
    path = tmp_path / "machine.toml"
    path.write_text(config.to_toml())
    assert AcceleratorConfig.from_toml(path) == config


@pytest.mark.parametrize("multiplier", MULTIPLIERS)
def test_toml_file_names_the_multiplier_only_if_chosen(multiplier, tmp_path):
    config, path = change(multiplier=multiplier), tmp_path / "machine.toml"
    path.write_text(config.to_toml())
    assert AcceleratorConfig.from_toml(path) == config
    assert ("multiplier" in path.read_text()) == (multiplier != "plain")


def test_toml_file_without_name_is_called_by_its_file(tmp_path):
    path = tmp_path / "machine.toml"
    path.write_text("\n".join(TINY.to_toml().splitlines()[1:]))
    assert AcceleratorConfig.from_toml(path) == change(name="machine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows = ", "must be TOML"),
        ("colour = 3", 'field "colour" must be one of acc_rows, axi_data_bits'),
        ("rows = 4", 'field "cols" is missing; add it'),
        ("\x80", "must be TOML|cannot be read"),
    ],
)
def test_toml_file_that_is_wrong_is_refused(text, message, tmp_path):
    path = tmp_path / "machine.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=message) as caught:
        AcceleratorConfig.from_toml(path)
    assert "machine.toml" in str(caught.value)


def test_find_config_takes_presets_and_files(tmp_path):
    path = tmp_path / "machine.toml"
    path.write_text(TINY.to_toml())
    assert find_config("edge-8x8") is PRESETS["edge-8x8"]
    assert find_config(path) == find_config(str(path)) == TINY


def test_find_config_lists_the_presets_when_the_name_is_unknown(tmp_path):
    with pytest.raises(ConfigError, match='"edge-9x9" must be one of tiny-4x4, edge-8x8'):
        find_config("edge-9x9")
    with pytest.raises(ConfigError, match="cannot be read"):
        find_config(tmp_path / "absent.toml")
