"""Readers of the options tables of TensorFlow Lite operators, as plain Python values."""

from collections.abc import Callable, Mapping
from typing import Any

from systolith.compiler.frontend.tflite_schema import Damage, member, schema

Attributes = Mapping[str, Any]


def attributes(record: Any, kind: str) -> Attributes:
    """Return the options of an operator, or nothing if its results do not depend on any.

    Parameters
    ----------
    record : tflite.Operator
        Operator in the file.
    kind : str
        Its name.

    Raises
    ------
    Damage
        The options are missing or of another operator, or a value is unknown.
    """
    if kind not in _OPTIONS:
        return {}
    table_name, reader = _OPTIONS[kind]
    table = record.BuiltinOptions()
    if table is None or record.BuiltinOptionsType() != getattr(schema().BuiltinOptions, table_name):
        raise Damage(f"must have options of type {table_name}")
    options = getattr(schema(), table_name)()
    options.Init(table.Bytes, table.Pos)
    return reader(options)


def _activation(options: Any) -> dict[str, Any]:
    return {"activation": member("ActivationFunctionType", options.FusedActivationFunction())}


def _window(options: Any) -> dict[str, Any]:
    return {
        "stride": (options.StrideH(), options.StrideW()),
        "padding": member("Padding", options.Padding()),
        **_activation(options),
    }


def _conv(options: Any) -> Attributes:
    dilation = (options.DilationHFactor(), options.DilationWFactor())
    return {**_window(options), "dilation": dilation}


def _pool(options: Any) -> Attributes:
    return {**_window(options), "filter": (options.FilterHeight(), options.FilterWidth())}


def _fully_connected(options: Any) -> Attributes:
    layout = member("FullyConnectedOptionsWeightsFormat", options.WeightsFormat())
    return {**_activation(options), "weights_format": layout}


def _softmax(options: Any) -> Attributes:
    return {"beta": float(options.Beta())}


def _concatenation(options: Any) -> Attributes:
    return {"axis": options.Axis(), **_activation(options)}


def _strided_slice(options: Any) -> Attributes:
    return {
        "begin_mask": options.BeginMask(),
        "end_mask": options.EndMask(),
        "ellipsis_mask": options.EllipsisMask(),
        "new_axis_mask": options.NewAxisMask(),
        "shrink_axis_mask": options.ShrinkAxisMask(),
        "offset": bool(options.Offset()),
    }


def _resize(options: Any) -> Attributes:
    return {
        "align_corners": bool(options.AlignCorners()),
        "half_pixel_centers": bool(options.HalfPixelCenters()),
    }


def _leaky_relu(options: Any) -> Attributes:
    return {"alpha": float(options.Alpha())}


def _gelu(options: Any) -> Attributes:
    return {"approximate": bool(options.Approximate())}


_OPTIONS: dict[str, tuple[str, Callable[[Any], Attributes]]] = {
    "ADD": ("AddOptions", _activation),
    "AVERAGE_POOL_2D": ("Pool2DOptions", _pool),
    "CONCATENATION": ("ConcatenationOptions", _concatenation),
    "CONV_2D": ("Conv2DOptions", _conv),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", _conv),
    "FULLY_CONNECTED": ("FullyConnectedOptions", _fully_connected),
    "GELU": ("GeluOptions", _gelu),
    "LEAKY_RELU": ("LeakyReluOptions", _leaky_relu),
    "MAX_POOL_2D": ("Pool2DOptions", _pool),
    "MUL": ("MulOptions", _activation),
    "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions", _resize),
    "SOFTMAX": ("SoftmaxOptions", _softmax),
    "STRIDED_SLICE": ("StridedSliceOptions", _strided_slice),
    "SUB": ("SubOptions", _activation),
    "TRANSPOSE_CONV": ("TransposeConvOptions", _window),
}
"""By operator: table of options and its reader. Of the others the shapes say everything."""
