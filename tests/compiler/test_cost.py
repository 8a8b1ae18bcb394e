"""The cost model against the hardware: its laws one by one, then whole programs."""

import gc
import warnings

import numpy as np
import pytest
from amaranth.hdl import UnusedElaboratable

from systolith.arch.errors import SystolithError
from systolith.arch.isa import Drain, Geometry, Halt, Load, ParamMode, Pass, Space, Store
from systolith.arch.presets import PRESETS
from systolith.bench import suite
from systolith.bench.random_layer import KINDS, ODD_CONFIGS, random_model
from systolith.bench.rtl import RtlDevice
from systolith.compiler import cost, cost_engines, pipeline
from systolith.compiler.frontend import tflite
from systolith.driver import runtime
from systolith.driver.device import Device
from systolith.gateware.accumulator import LEAD, TURNAROUND
from systolith.gateware.drain import DrainEngine
from systolith.gateware.execute import ExecuteEngine
from systolith.gateware.scratchpad import Scratchpad

RANDOM_NETWORKS = 30
MEAN_RANDOM_ERROR = 0.05
MEAN_NETWORK_ERROR, WORST_NETWORK_ERROR, WORST_LAYER_ERROR = 0.03, 0.05, 0.10
NETWORK_NAMES = (
    "mlperf_resnet8",
    "mlperf_kws_dscnn",
    "mlperf_vww_mbv1",
    "mlperf_ad_fcae",
    "coral_mbv2_100_224_ptq",
)
MACHINES = (("edge-16x16", 128), ("edge-16x16", 64), ("edge-8x8", 64))


def test_latencies_are_those_of_the_gateware(preset):
    with warnings.catch_warnings():
        # Made for their latencies alone: none is elaborated.
        warnings.simplefilter("ignore", UnusedElaboratable)
        scratchpad = Scratchpad(
            preset.scratchpad_bytes, preset.word_bytes, preset.banks, preset.feeds
        )
        execute = ExecuteEngine(preset, read_latency=scratchpad.read_latency)
        drain = DrainEngine(
            preset,
            acc_read_latency=LEAD + 1,
            read_latency=scratchpad.read_latency,
            write_latency=scratchpad.write_latency,
        )
        drains = (drain.plain_latency, drain.latency)
        latencies = (execute.latency, *drains, scratchpad.write_latency)
        del scratchpad, execute, drain
        gc.collect()
    assert latencies == (
        cost_engines.execute_latency(preset),
        preset.lanes + cost_engines.PLAIN_DRAIN_LATENCY,
        preset.lanes + cost_engines.DRAIN_LATENCY,
        cost_engines.WRITE_LATENCY,
    )
    assert cost_engines.TURNAROUND == TURNAROUND


def cycles_of(config, *items):
    return cost.estimate([*items, Halt()], config).cycles


def test_steps_take_their_vectors_but_at_least_the_rows_of_a_tile(edge):
    def passes(vectors, steps):
        walk = Geometry(kx_count=steps, lanes=16, lanes_last=16)
        return cycles_of(edge, walk, Pass(cols=vectors, line_vectors=vectors))

    for vectors, period in ((100, 100), (16, 16), (7, 16), (1, 16)):
        assert passes(vectors, 60) - passes(vectors, 50) == 10 * period


def test_passes_that_keep_their_tile_take_at_least_the_turnaround(edge):
    walk = Geometry(lanes=16, lanes_last=16)
    keep = Pass(weights=2, cols=2, line_vectors=2)
    first = Pass(cols=64, line_vectors=64)
    ten, twenty = (cycles_of(edge, walk, first, *[keep] * n) for n in (10, 20))
    assert twenty - ten == 10 * 4


def test_drains_take_a_cycle_per_row_and_summand(edge):
    def drains(**fields):
        return cycles_of(edge, Drain(cols=100, col_step=16, lanes=16, lanes_last=16, **fields))

    plain = drains()
    assert drains(reduce=3) - plain == 200
    assert drains(rows=2) - plain == 100
    longer = cost_engines.DRAIN_LATENCY - cost_engines.PLAIN_DRAIN_LATENCY
    assert drains(use_residual=1) - plain == 99 + longer
    words = 2 * edge.bias_words + edge.shift_words
    assert drains(params=ParamMode.LOAD) - plain == edge.bias_words + 2 < words


def test_loads_follow_each_other_at_the_width_of_the_port(edge):
    def loads(count):
        item = Load(space=Space.WEIGHTS, region=1, run=4096, total=4096, segment=4096)
        return cycles_of(edge, *[item] * count)

    beats = 4096 // edge.axi_bytes
    assert loads(12) - loads(8) == 4 * beats


def test_a_slower_memory_takes_its_latency(edge):
    items = [Load(run=64, total=64, segment=64), Store(wait_load=0, run=64, total=64, segment=64)]
    fast = cost.estimate([*items, Halt()], edge, memory=cost.MemoryModel(latency=40)).cycles
    slow = cost.estimate([*items, Halt()], edge, memory=cost.MemoryModel(latency=140)).cycles
    assert slow - fast == 3 * 100  # program, bytes in, answer to bytes out


def test_layers_add_up_to_the_cycles(edge):
    items = [Load(run=64, total=64, segment=64), Store(wait_load=0, run=64, total=64, segment=64)]
    estimate = cost.estimate([*items, Halt()], edge, layer_of=[0, 1, -1])
    assert sum(estimate.layers.values()) == estimate.cycles
    assert estimate.layers[0] == estimate.end[0]
    assert estimate.begin[1] > estimate.end[0]


@pytest.mark.cosim
def test_random_networks_take_what_is_predicted(tiny, seed):
    errors = errors_of_random_networks(tiny, seed, ("network", "convolution", "depthwise", "add"))
    assert np.mean(errors) <= MEAN_RANDOM_ERROR


@pytest.mark.slow
@pytest.mark.cosim
@pytest.mark.parametrize(
    "config", [PRESETS["edge-8x16"], ODD_CONFIGS["odd-12x10"]], ids=lambda config: config.name
)
def test_thirty_random_networks_on_configurations_it_was_not_made_with(config, seed):
    kinds = ["network"] * RANDOM_NETWORKS + list(KINDS)
    errors = errors_of_random_networks(config, seed, kinds)
    assert len(errors) >= RANDOM_NETWORKS
    assert np.mean(errors) <= MEAN_RANDOM_ERROR


def errors_of_random_networks(config, seed, kinds):
    """Return the relative error of each network that the configuration can run."""
    device = Device(RtlDevice(config))
    errors = []
    for number, kind in enumerate(kinds):
        drawn = random_model(kind, seed + number)
        try:
            program = pipeline.compile_graph(tflite.parse(drawn.model), config)
        except SystolithError:
            continue  # What a configuration cannot do is tested elsewhere.
        inputs = {name: array[0] for name, array in drawn.inputs.items()}
        cycles = runtime.run_sample(device, program, inputs).cycles
        if cycles is not None:
            errors.append(abs(cost.estimate_program(program).cycles / cycles - 1))
    device.close()
    return errors


@pytest.mark.slow
@pytest.mark.cosim
@pytest.mark.shared_models
@pytest.mark.parametrize(("name", "bits"), MACHINES)
def test_real_networks_take_what_is_predicted_layer_by_layer(shared_models, name, bits):
    config = suite.with_axi(PRESETS[name], bits)
    device = Device(RtlDevice(config))
    networks, layers = {}, {}
    for network in NETWORK_NAMES:
        folder = shared_models / network
        program = pipeline.compile_file(folder / suite.MODEL_FILE, config)
        with np.load(folder / suite.INPUT_FILE) as inputs:
            sample = {tensor: inputs[tensor][0] for tensor in program.inputs}
        run = runtime.run_sample(device, program, sample)
        estimate = cost.estimate_program(program)
        networks[network] = abs(estimate.cycles / run.cycles - 1)
        for layer, cycles in run.layer_cycles.items():
            if cycles > suite.LARGE_LAYER:
                layers[network, layer] = abs(estimate.layers[layer] / cycles - 1)
    device.close()
    assert np.mean(list(networks.values())) <= MEAN_NETWORK_ERROR, networks
    assert max(networks.values()) <= WORST_NETWORK_ERROR, networks
    worst = max(layers, key=layers.__getitem__)
    assert layers[worst] <= WORST_LAYER_ERROR, (worst, layers[worst])
