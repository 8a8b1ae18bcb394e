"""Post-training quantization of the digits network to int8 and its TFLite file.

By the rules of TFLite's quantization specification: weights symmetric, per output channel in
convolutions and per tensor in the fully connected layer; activations asymmetric per tensor, with
ranges observed on calibration images; biases int32 in units of input scale times weight scale.
"""

import network
import numpy as np

from systolith.bench.tflite_writer import TfliteModel

INPUT_NAME = "image"
OUTPUT_NAME = "scores"
# A pixel counts 0..16 dots; the network sees its share of 16. This quantization is exact.
PIXEL_MAX = 16
INPUT_SCALE = 1 / PIXEL_MAX
INPUT_ZERO_POINT = -128

INT8_STEPS = 255
WEIGHT_MAX = 127


def quantize_images(pixels):
    """Return ``int8[N, 1, 8, 8, 1]`` for ``pixels[N, 8, 8]`` of 0..16: one sample per image."""
    return (pixels + INPUT_ZERO_POINT).astype(np.int8)[:, np.newaxis, :, :, np.newaxis]


def write_model(params, calibration_images):
    """Quantize `params` and return the TFLite flatbuffer.

    Parameters
    ----------
    params : dict
        Trained parameters, see `network.initialize`.
    calibration_images : ``float[N, 8, 8, 1]``
        Images in 0..1 that the ranges of the activations are observed on.
    """
    activations = network.forward(params, calibration_images)
    ranges = {name: _output_quantization(values) for name, values in activations.items()}

    model = TfliteModel(description="Systolith example: handwritten digits")
    shape = (1, network.IMAGE_SIZE, network.IMAGE_SIZE, 1)
    image = model.input(INPUT_NAME, shape, scale=INPUT_SCALE, zero_point=INPUT_ZERO_POINT)
    conv1 = _convolution(model, image, params, ranges, "conv1", "RELU")
    conv2 = _convolution(model, conv1, params, ranges, "conv2", "NONE")
    total = model.add(conv1, conv2, **ranges["add"], activation="RELU", name="add")
    conv3 = _convolution(model, total, params, ranges, "conv3", "RELU")
    pool = model.average_pool(conv3, (network.POOL, network.POOL), name="pool")
    flat = model.reshape(pool, (1, network.FLAT), name="flatten")

    layer = params["dense"]
    weight_scale = _weight_scales(layer["weights"], axis=None)
    logits = model.fully_connected(
        flat,
        _integers(layer["weights"], weight_scale, np.int8),
        _integers(layer["bias"], flat.quantization.scale * weight_scale, np.int32),
        weight_scale=weight_scale,
        **ranges["dense"],
        name="dense",
    )
    model.softmax(logits, name=OUTPUT_NAME)
    return model.build()


def _convolution(model, x, params, ranges, name, activation):
    layer = params[name]
    scales = _weight_scales(layer["weights"], axis=(1, 2, 3))
    return model.conv2d(
        x,
        _integers(layer["weights"], scales[:, np.newaxis, np.newaxis, np.newaxis], np.int8),
        _integers(layer["bias"], x.quantization.scale * scales, np.int32),
        weight_scales=scales,
        **ranges[name],
        stride=(network.STRIDES[name],) * 2,
        activation=activation,
        name=name,
    )


def _output_quantization(values):
    """Return scale and zero point that cover `values` and hold real zero exactly."""
    low, high = min(values.min(), 0), max(values.max(), 0)
    scale = (high - low) / INT8_STEPS
    return {"scale": float(scale), "zero_point": int(np.rint(-128 - low / scale))}


def _weight_scales(weights, axis):
    """Return the scales as float32, the precision of the file, so that integers fit them."""
    return np.float32(np.abs(weights).max(axis=axis) / WEIGHT_MAX)


def _integers(values, scales, dtype):
    info = np.iinfo(dtype)
    # Weights use -127..127: the range of the specification.
    low = -WEIGHT_MAX if dtype == np.int8 else info.min
    return np.clip(np.rint(values / scales), low, info.max).astype(dtype)
