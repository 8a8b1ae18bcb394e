"""Quantize the networks with onnxruntime's quantizer; remakes the ONNX files of this folder.

Run from the root of the checkout, with the extras ``onnx``, ``train`` and ``dev`` installed::

    python examples/onnx/make.py
"""

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

FOLDER = Path(__file__).parent
DIGITS = FOLDER.parent / "digits"
CALIBRATION_SAMPLES = 64
SAMPLES = 16


class Calibration:
    """Feeds the quantizer."""

    def __init__(self, name, values):
        self._samples = iter([{name: value} for value in values])

    def get_next(self):
        return next(self._samples, None)


def quantize(model, images, style):
    """Return a float model in QDQ form; `style` is s8s8, u8s8 or u8u8."""
    from onnxruntime import quantization
    from onnxruntime.quantization import shape_inference

    types = {"s8": quantization.QuantType.QInt8, "u8": quantization.QuantType.QUInt8}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "qdq.onnx"
        onnx.save(model, source)
        shape_inference.quant_pre_process(source, source, skip_symbolic_shape=True)
        quantization.quantize_static(
            source,
            target,
            Calibration(model.graph.input[0].name, images),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=types[style[:2]],
            weight_type=types[style[2:]],
            # Weights with zero points are per tensor; the runtime has no other integer kernel.
            per_channel=style[2:] == "s8",
            extra_options={"WeightSymmetric": style[2:] == "s8"},
        )
        return onnx.load(target)


def digits_model():
    """Return the float digits network, trained as in examples/digits, and its training images."""
    sys.path.insert(0, str(DIGITS))
    import network
    import quantize as tflite_quantize
    import train
    from sklearn.datasets import load_digits

    digits = load_digits()
    labels = digits.target.astype(np.int64)
    images = digits.images[..., np.newaxis] / tflite_quantize.PIXEL_MAX
    rng = np.random.default_rng(train.SEED)
    training, _ = train.split(labels, rng)
    params = network.train(images[training], labels[training], rng, **train.TRAINING)
    return digits_graph(network, params), images[training].transpose(0, 3, 1, 2)


def digits_graph(network, params):
    """Return the digits network as ONNX: channels before pixels, in weights as in activations."""
    constants, nodes = [], []

    def constant(name, values):
        constants.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def conv(x, name, pads, relu):
        layer = params[name]
        weights = constant(f"{name}_weights", layer["weights"].transpose(0, 3, 1, 2))
        stride = network.STRIDES[name]
        nodes.append(
            helper.make_node(
                "Conv",
                [x, weights, constant(f"{name}_bias", layer["bias"])],
                [name],
                pads=pads,
                strides=[stride, stride],
                kernel_shape=[network.KERNEL, network.KERNEL],
            )
        )
        if relu:
            nodes.append(helper.make_node("Relu", [name], [f"{name}_relu"]))
        return f"{name}_relu" if relu else name

    conv1 = conv("image", "conv1", [1, 1, 1, 1], True)
    conv2 = conv(conv1, "conv2", [1, 1, 1, 1], False)
    nodes.append(helper.make_node("Add", [conv1, conv2], ["add"]))
    nodes.append(helper.make_node("Relu", ["add"], ["add_relu"]))
    conv3 = conv("add_relu", "conv3", [0, 0, 1, 1], True)
    size = network.POOL
    pool = {"kernel_shape": [size, size], "strides": [size, size]}
    nodes.append(helper.make_node("AveragePool", [conv3], ["pool"], **pool))
    nodes.append(helper.make_node("Flatten", ["pool"], ["flatten"]))
    channels = network.CHANNELS["conv3"][1]
    side = int(np.sqrt(network.FLAT // channels))
    dense = params["dense"]["weights"].reshape(-1, side, side, channels).transpose(0, 3, 1, 2)
    weights = constant("dense_weights", dense.reshape(len(dense), -1))
    bias = constant("dense_bias", params["dense"]["bias"])
    nodes.append(helper.make_node("Gemm", ["flatten", weights, bias], ["dense"], transB=1))
    nodes.append(helper.make_node("Softmax", ["dense"], ["scores"], axis=-1))
    float_type = onnx.TensorProto.FLOAT
    image = (1, 1, network.IMAGE_SIZE, network.IMAGE_SIZE)
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", float_type, image)],
        [helper.make_tensor_value_info("scores", float_type, (1, network.CLASSES))],
        initializer=constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=FOLDER)
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    spec = importlib.util.spec_from_file_location("onnx_networks", FOLDER / "networks.py")
    networks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(networks)
    for name, (make, style) in networks.NETWORKS.items():
        model = make()
        shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
        rng = np.random.default_rng(len(name))
        images = rng.normal(0.0, 1.0, (CALIBRATION_SAMPLES, *shape)).astype(np.float32)
        save(folder / f"{name}.onnx", quantize(model, images, style))
    model, images = digits_model()
    images = images[:, np.newaxis].astype(np.float32)
    save(folder / "digits.onnx", quantize(model, images, "u8s8"))


def save(path, model):
    """Write a model without the notes that name where it was made."""
    model.doc_string = ""
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
    path.write_bytes(model.SerializeToString())
    print(f"{path.name:24} {path.stat().st_size:7,} bytes")


if __name__ == "__main__":
    main()
