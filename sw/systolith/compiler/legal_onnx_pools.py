"""Pools and means."""

import math

import numpy as np

from systolith.compiler.builder_onnx import Builder
from systolith.compiler.factors_onnx import (
    INT8_MAX,
    INT8_MIN,
    has_one_count,
    has_ties,
    inner_zero,
    mean_factor,
    requantization,
)
from systolith.compiler.ir import (
    DepthwiseKernel,
    HostKernel,
    Image,
    MaxPoolKernel,
    MeanKernel,
    Operator,
    Tensor,
)


def max_pool(build: Builder, operator: Operator) -> None:
    """Append a MaxPool."""
    _, image = build.source(operator)
    _, result = build.target(operator)
    build.kernels.append(
        MaxPoolKernel(
            layer=operator.index,
            input=image,
            output=result,
            window=operator.attributes["kernel"],
            stride=operator.attributes["stride"],
            pad_top=operator.attributes["pads"][0],
            pad_left=operator.attributes["pads"][1],
            low=INT8_MIN,
            high=INT8_MAX,
        )
    )


def average_pool(build: Builder, operator: Operator) -> None:
    """Append the pool as a depthwise convolution with ones, whose sums are the window's.

    Where means lie between two codes, or windows differ in pixels, the host adds in float32.
    """
    input, image = build.source(operator)
    if operator.attributes["kernel"] == input.shape[2:] and not any(operator.attributes["pads"]):
        mean(build, operator)
        return
    output, result = build.target(operator)
    if has_ties(input, output, operator) or not has_one_count(operator, input):
        build.kernels.append(_host_pool(operator, input, image, output, result))
        return
    kernel, zero = operator.attributes["kernel"], inner_zero(input)
    count = math.prod(kernel)
    factors = [mean_factor(input, output, count)] * image.channels
    build.kernels.append(
        DepthwiseKernel(
            layer=operator.index,
            input=image,
            output=result,
            weights=np.ones((*kernel, image.channels), np.int8),
            bias=np.full(image.channels, -zero * count, np.int64),
            stride=operator.attributes["stride"],
            dilation=(1, 1),
            pad_top=operator.attributes["pads"][0],
            pad_left=operator.attributes["pads"][1],
            pad_value=zero,
            requantization=requantization(operator, factors, output),
        )
    )


def mean(build: Builder, operator: Operator) -> None:
    """Append a GlobalAveragePool or ReduceMean."""
    input, image = build.source(operator)
    output, _ = build.target(operator)
    count = image.height * image.width
    result = Image(tensor=build.inner[output.name], height=1, width=1, channels=image.channels)
    factors = [mean_factor(input, output, count)] * image.channels
    build.kernels.append(
        MeanKernel(
            layer=operator.index,
            input=image,
            output=result,
            bias=-inner_zero(input) * count,
            requantization=requantization(operator, factors, output),
        )
    )


def _host_pool(
    operator: Operator, input: Tensor, image: Image, output: Tensor, result: Image
) -> HostKernel:
    attributes = operator.attributes
    return HostKernel(
        layer=operator.index,
        op="average_pool_float32",
        inputs=(image.tensor,),
        outputs=(result.tensor,),
        attributes={
            "height": image.height,
            "width": image.width,
            "channels": image.channels,
            "out_height": result.height,
            "out_width": result.width,
            "kernel_height": attributes["kernel"][0],
            "kernel_width": attributes["kernel"][1],
            "stride_height": attributes["stride"][0],
            "stride_width": attributes["stride"][1],
            "pad_top": attributes["pads"][0],
            "pad_left": attributes["pads"][1],
            "include_pad": int(attributes["include_pad"]),
            "input_scale": input.scale,
            "input_zero": inner_zero(input),
            "output_scale": output.scale,
            "output_zero": output.zero_point,
            "output_offset": output.zero_point - inner_zero(output),
        },
    )
