"""Timelines, tables of lost cycles and the reports made of them."""

import json

import numpy as np
import pytest

from systolith.arch.errors import InputError
from systolith.arch.isa import Geometry, Halt, Load, Pass
from systolith.arch.program import AcceleratorSegment, Layer
from systolith.bench import (
    layer_bars,
    layer_report,
    layer_spans,
    lost_cycles,
    suite,
    suite_json,
    suite_report,
    timeline,
)
from systolith.bench.random_layer import random_model
from systolith.bench.rtl.device import STATES
from systolith.bench.timeline import Recording
from systolith.cli import main
from systolith.compiler.frontend import tflite

CONV = Layer(name="conv", op="CONV_2D", target="accelerator", macs=16 * 16 * 30)
POOL = Layer(name="pool", op="AVERAGE_POOL_2D", target="accelerator", macs=0)


def bits(*names):
    return sum(1 << STATES.index(name) for name in names)


@pytest.fixture
def recording():
    """Two passes of 40 and 10 vectors, one after the other."""
    items = [
        Load(run=64, total=64, segment=64),
        Geometry(),
        Pass(cols=40, line_vectors=40),
        Pass(cols=10, line_vectors=10),
        Halt(),
    ]
    segment = AcceleratorSegment(
        code=b"".join(item.to_bytes() for item in items),
        inputs=(),
        outputs=(),
        input_bytes=64,
        output_bytes=0,
        arena_bytes=0,
        layer_of=(0, 0, 0, 1, -1),
    )
    states = [
        (10, bits("execute_idle", "load_busy")),
        (20, bits("array_busy")),
        (60, bits("execute_wait_drain")),
        (64, 0),
        (66, bits("execute_wait_weights")),
        (70, bits("array_busy", "drain_busy")),
        (80, bits("execute_idle")),
        (100, 0),
    ]
    completions = [(0, 1, 19), (1, 1, 25), (1, 2, 75), (1, 3, 95)]
    return Recording(segment, 102, completions, np.array(states, np.int64))


def test_lost_cycles_add_up(recording, edge):
    table = lost_cycles.table([recording], [CONV, POOL], edge)
    assert tuple(table) == lost_cycles.CAUSES
    assert {cause: cycles for cause, cycles in table.items() if cycles} == {
        lost_cycles.IDEAL: 30,
        lost_cycles.RAGGED: 10,
        lost_cycles.POOL: 10,
        lost_cycles.START: 20,
        lost_cycles.DRAIN: 4,
        lost_cycles.ORDER: 2,
        lost_cycles.WEIGHTS: 4,
        lost_cycles.END: 22,
    }
    assert sum(table.values()) == recording.cycles


def test_a_segment_without_vectors_is_all_start(recording, edge):
    states = np.array([(0, bits("load_busy"))], np.int64)
    segment = AcceleratorSegment(
        code=Halt().to_bytes(),
        inputs=(),
        outputs=(),
        input_bytes=0,
        output_bytes=0,
        arena_bytes=0,
        layer_of=(-1,),
    )
    table = lost_cycles.table([Recording(segment, 50, [], states)], [], edge)
    assert table[lost_cycles.START] == sum(table.values()) == 50


def test_instructions_are_completed_when_their_engine_says(recording):
    assert timeline.completion_times(recording) == [19, 25, 75, 95, 102]


def test_a_trace_has_every_instruction_and_every_stall(recording):
    trace = json.loads(timeline.chrome_trace([recording, recording], [CONV, POOL]))
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    second = [event for event in slices if event["ts"] >= recording.cycles]
    assert len(slices) == 2 * len(second)
    passes = [event for event in slices if event["name"] == "PASS"]
    assert [(p["ts"], p["dur"], p["args"]["layer"]) for p in passes[:2]] == [
        (25, 50, "conv"),
        (75, 20, "pool"),
    ]
    loads = [event for event in slices if event["name"] == "LOAD"]
    assert (loads[0]["ts"], loads[0]["dur"]) == (10, 9)
    assert passes[0]["args"]["text"].startswith("pass ")
    activity = [(e["name"], e["ts"], e["dur"]) for e in slices if e["tid"] == 3][:5]
    assert activity == [
        ("no instruction", 10, 10),
        ("vectors", 20, 40),
        ("wait: DRAIN", 60, 4),
        ("wait: weight tile", 66, 4),
        ("vectors", 70, 10),
    ]


def test_slices_of_a_track_do_not_overlap(recording):
    trace = json.loads(timeline.chrome_trace([recording], [CONV, POOL]))
    ends = {}
    for event in trace["traceEvents"]:
        if event["ph"] == "X":
            assert event["ts"] >= ends.get(event["tid"], 0)
            ends[event["tid"]] = event["ts"] + event["dur"]


def test_a_folder_without_models_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"model\.tflite"):
        suite.find_cases(tmp_path)


def test_only_the_port_of_a_variant_differs(edge):
    assert suite.with_axi(edge, edge.axi_data_bits) is edge
    narrow = suite.with_axi(edge, 64)
    assert (narrow.axi_data_bits, narrow.rows, narrow.weight_bytes) == (64, 16, edge.weight_bytes)
    assert narrow.name != edge.name


@pytest.fixture
def case(tmp_path, seed):
    """A random network with what the golden model makes of it, which is not judged here."""
    from systolith.api import InferenceSession, compile_model
    from systolith.arch.presets import PRESETS

    drawn = random_model("network", seed)
    path = tmp_path / "model.tflite"
    path.write_bytes(drawn.model)
    program = compile_model(path, PRESETS["tiny-4x4"])
    inputs = {name: np.stack([array[0]] * 2) for name, array in drawn.inputs.items()}
    session = InferenceSession(program, "golden")
    outputs = session.run(None, inputs)
    expected = dict(zip(program.outputs, outputs, strict=True))
    return suite.Case("random", path, inputs, expected)


def test_a_case_runs_and_is_reported(case, tiny, tmp_path):
    trace = tmp_path / "trace.json"
    figures = suite.run_case(case, tiny, samples=2, trace=trace)
    assert sum(figures.lost.values()) == figures.cycles
    assert figures.lost[lost_cycles.IDEAL] >= figures.ideal
    assert abs(figures.prediction_error) < 0.05
    assert 0 < figures.utilization <= figures.roofline_share <= 1
    assert sum(layer.vectors for layer in figures.layers) == sum(
        figures.lost[cause]
        for cause in (
            lost_cycles.IDEAL,
            lost_cycles.RAGGED,
            lost_cycles.DEPTHWISE,
            lost_cycles.POOL,
        )
    )
    text = suite_report.document(suite_json.Report([figures], figures.layers))
    assert f"{figures.cycles:,}" in text
    assert json.loads(trace.read_text())["traceEvents"]
    report = tmp_path / "report.json"
    report.write_text(suite_json.Report([figures], figures.layers).to_json())
    assert suite_json.read_report([report]) == suite_json.Report([figures], figures.layers)


def test_a_wrong_byte_is_found(case, tiny):
    name, array = next(iter(case.expected.items()))
    array.reshape(-1)[0] ^= 1
    with pytest.raises(InputError, match=f'"{name}" of random .* 1 elements differ'):
        suite.run_case(case, tiny, samples=1)


def test_the_command_refuses_models_that_are_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "--models", "nothing"]) == 1
    assert '"nothing"' in capsys.readouterr().err


def test_the_command_refuses_a_name_that_is_no_model(case, capsys):
    folder = case.model.parent / "random"
    folder.mkdir()
    case.model.rename(folder / suite.MODEL_FILE)
    np.savez(folder / suite.INPUT_FILE, **case.inputs)
    np.savez(folder / suite.EXPECTED_FILE, **case.expected)
    command = ["bench", "--models", str(case.model.parent), "--only", "other"]
    assert main(command) == 1
    assert "other" in capsys.readouterr().err


def test_a_file_without_figures_is_refused(tmp_path):
    path = tmp_path / "report.json"
    for text in ("{", '{"networks": [{"model": "x"}], "layers": []}', "[1]"):
        path.write_text(text)
        with pytest.raises(InputError, match="must have figures"):
            suite_json.read_report([path])


def test_what_was_measured_earlier_is_not_measured_again(case, tmp_path, monkeypatch, capsys):
    figures = make_figures()
    earlier = tmp_path / "earlier.json"
    earlier.write_text(suite_json.Report([figures], []).to_json())
    folder = tmp_path / figures.model
    folder.mkdir()
    case.model.rename(folder / suite.MODEL_FILE)
    np.savez(folder / suite.INPUT_FILE, **case.inputs)
    np.savez(folder / suite.EXPECTED_FILE, **case.expected)
    monkeypatch.setattr(suite, "run_case", lambda *args, **more: pytest.fail("runs again"))
    page = tmp_path / "page.md"
    page.write_text("<!-- results: begin -->\n<!-- results: end -->\n")
    command = ["bench", "--models", str(tmp_path), "--only", figures.model, "--with", str(earlier)]
    files = ["--readme", str(page), "--markdown", str(tmp_path / "results.md")]
    assert main([*command, "--configs", figures.config, *files]) == 0
    assert "12,345" in page.read_text()
    assert "## Scaling" not in (tmp_path / "results.md").read_text()


def test_a_network_that_fails_does_not_keep_others_from_running(
    case, tmp_path, monkeypatch, capsys
):
    figures = make_figures()
    for name in ("broken", figures.model):
        folder = tmp_path / name
        folder.mkdir()
        (folder / suite.MODEL_FILE).write_bytes(case.model.read_bytes())
        np.savez(folder / suite.INPUT_FILE, **case.inputs)
        np.savez(folder / suite.EXPECTED_FILE, **case.expected)

    def run_case(item, config, **more):
        if item.name == "broken":
            raise InputError("Bytes must be right")
        return figures

    monkeypatch.setattr(suite, "run_case", run_case)
    monkeypatch.chdir(tmp_path)
    report = tmp_path / "report.json"
    assert main(["bench", "--models", str(tmp_path), "--json", str(report)]) == 1
    assert "broken on edge-16x16: Bytes must be right" in capsys.readouterr().err
    assert suite_json.read_report([report]).networks == [figures]


def make_figures(**fields):
    """Return figures of a network that nobody ran."""
    values = {
        "model": "net",
        "config": "edge-16x16",
        "multipliers": 256,
        "port_bytes": 16,
        "samples": 4,
        "cycles": 12_345,
        "macs": 256_000,
        "ideal": 1000,
        "utilization": 0.1,
        "ethos_cycles": None,
        "read_bytes": 10,
        "write_bytes": 10,
        "roofline": "compute",
        "roofline_share": 0.5,
        "predicted": 12_345,
        "worst_layer_error": 0.0,
        "compile_seconds": 0.1,
        "simulated_per_second": 1e5,
        "lost": dict.fromkeys(lost_cycles.CAUSES, 0),
    }
    return suite.Figures(**{**values, **fields})


def test_scaling_has_a_column_per_machine():
    figures = [make_figures(), make_figures(config="edge-8x8", multipliers=64, port_bytes=8)]
    table = suite_report.scaling(figures)
    assert table[0] == "| network | 64 x 8 B | 256 x 16 B |"
    assert suite_report.scaling(figures[:1]) == []


def test_spans_of_layers_leave_out_the_gap_before_them(recording):
    conv, pool = layer_spans.spans(recording)
    assert (conv.layer, conv.vectors, conv.cycles, conv.gap) == (0, 40, 40, None)
    assert (pool.layer, pool.vectors, pool.cycles, pool.bubble) == (1, 10, 10, 10)
    assert {cause: n for cause, n in pool.gap.items() if n} == {
        lost_cycles.DRAIN: 4,
        lost_cycles.ORDER: 2,
        lost_cycles.WEIGHTS: 4,
    }


def test_a_run_with_other_vectors_than_its_program_is_refused(recording):
    recording.states[1, 1] = 0
    with pytest.raises(ValueError, match="vectors of its program"):
        layer_spans.spans(recording)


def layer(**fields):
    """Return the figures of a layer that nobody ran."""
    values = {
        "network": "net",
        "config": "edge-16x16",
        "shape": "DEPTHWISE_CONV_2D 3x3",
        "bar": layer_bars.DEPTHWISE,
        "macs": 9 * 16 * 100,
        "multipliers": 256,
        "vectors": 100,
        "lost": {lost_cycles.LOAD: 1000},
        "bubble": {lost_cycles.DRAIN: 62},
        "bubble_limit": 62,
    }
    return layer_bars.LayerFigures(**{**values, **fields})


def test_layers_are_judged_by_what_they_are():
    good, slow = layer(), layer(vectors=193, bubble={lost_cycles.DRAIN: 63, lost_cycles.LOAD: 9})
    assert (good.rate, good.meets(layer_bars.DEPTHWISE)) == (144.0, True)
    assert slow.meets(layer_bars.DEPTHWISE) is False
    assert good.meets(layer_bars.FIRST) is None
    assert (good.meets(layer_bars.BUBBLE), slow.meets(layer_bars.BUBBLE)) == (True, False)
    assert layer(multipliers=64).meets(layer_bars.DEPTHWISE) is None
    text = "\n".join(layer_report.section([good, slow]))
    assert "waiting for drains: 63" in text
    assert "ragged tiles: 75 of 256 multipliers per vector" in text


def test_single_layers_and_chains_are_what_they_are_called():
    bars = set()
    for _, model in layer_bars.networks():
        graph = tflite.parse(model)
        bars.add(layer_bars.bar_of(graph, graph.operators[0]))
    assert bars == {layer_bars.DEPTHWISE, layer_bars.FIRST, ""}


@pytest.mark.cosim
def test_a_layer_by_itself_takes_its_vectors(tiny):
    network = layer_bars.Network((1, 8, 8, 4))
    network.conv(1, 4)
    (figures,) = layer_bars.measure("pointwise", network.build(), tiny)
    assert figures.vectors == figures.cycles == 64
    assert figures.shape == "CONV_2D 1x1 8x8x4 to 8x8x4"
    assert figures.bubble is None
