"""Weights of more than 8 bits on the golden machine: sums of int8 tiles in the same accumulators."""

from dataclasses import replace

import numpy as np
import pytest

from systolith.arch.isa import Rounding
from systolith.arch.presets import find_config
from systolith.bench import kernel_reference_onnx, onnx_random_layer
from systolith.compiler import backend, legalize_onnx, spec
from systolith.compiler.frontend import onnx as frontend
from systolith.compiler.ir import KernelGraph, Requantization
from systolith.compiler.kernels_onnx import SummedConvKernel, SummedDepthwiseKernel
from systolith.driver.device import Device
from systolith.driver.runtime import run_sample
from systolith.golden.device import GoldenDevice

WANTED = 8
SUMMED = (SummedConvKernel, SummedDepthwiseKernel)


def doubly_rounded(graph: KernelGraph) -> KernelGraph:
    """Return the graph with fixed-point multipliers in place of the float32 ones."""

    def change(item: Requantization) -> Requantization:
        real = item.multipliers.astype(np.uint32).view(np.float32).astype(np.float64)
        mantissas, exponents = np.frexp(real)
        return replace(
            item,
            rounding=Rounding.DOUBLE,
            multipliers=np.minimum(np.rint(mantissas * 2.0**31), 2.0**31 - 1).astype(np.int64),
            shifts=exponents.astype(np.int64),
        )

    kernels = [
        replace(k, conv=replace(k.conv, requantization=change(k.conv.requantization)))
        if isinstance(k, SUMMED)
        else k
        for k in graph.kernels
    ]
    return replace(graph, kernels=tuple(kernels))


@pytest.mark.parametrize("config", ["tiny-4x4", "edge-8x8", "edge-16x16"])
@pytest.mark.parametrize("family", ["Conv", "Conv depthwise"])
def test_sums_of_weights_run_on_the_accelerator(family: str, config: str):
    machine, found, terms = find_config(config), 0, 0
    for seed in range(20 * WANTED):
        case = onnx_random_layer.layer(family, seed)
        graph = legalize_onnx.legalize(frontend.parse(case.model))
        summed = [kernel for kernel in graph.kernels if isinstance(kernel, SUMMED)]
        if not summed:
            continue
        found, terms = found + 1, terms + len(summed[0].extra_weights)
        graph = doubly_rounded(graph)
        spec.verify(graph)
        program = backend.lower(graph, machine)
        inputs = {name: values[0] for name, values in case.inputs.items()}
        result = run_sample(Device(GoldenDevice(machine)), program, inputs)
        expected = kernel_reference_onnx.run(graph, inputs)
        np.testing.assert_array_equal(result.tensors["y"], expected["y"], err_msg=f"seed {seed}")
        if found == WANTED:
            break
    assert found == WANTED and terms >= found
