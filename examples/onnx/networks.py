"""Float networks as ONNX models, drawn from a seed: what onnxruntime's quantizer is given.

None of them is trained; their weights only keep activations in a range that quantizes well.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 17
IR_VERSION = 9


class Net:
    """Builds one float model; methods take and return names of values."""

    def __init__(self, name, shape, seed):
        self.name = name
        self.shape = tuple(shape)
        self._rng = np.random.default_rng(seed)
        self._nodes = []
        self._constants = []
        self._channels = {"input": shape[1]}

    def node(self, kind, inputs, *, channels=None, **attributes):
        output = f"{kind.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        self._channels[output] = channels or self._channels[inputs[0]]
        return output

    def constant(self, values):
        name = f"constant{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def conv(self, x, channels, kernel, *, stride=1, group=1, pad=None, activation=None):
        """Add a convolution; activations are Relu, LeakyRelu, HardSwish or Clip (ReLU6)."""
        depth = self._channels[x] // group
        deviation = np.sqrt(2.0 / (depth * kernel * kernel))
        shape = (channels, depth, kernel, kernel)
        weights = self._rng.normal(0.0, deviation, shape).astype(np.float32)
        bias = self._rng.normal(0.0, 0.1, channels).astype(np.float32)
        pad = kernel // 2 if pad is None else pad
        y = self.node(
            "Conv",
            [x, self.constant(weights), self.constant(bias)],
            channels=channels,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[pad] * 4,
            group=group,
        )
        return y if activation is None else self.activation(y, activation)

    def activation(self, x, kind):
        if kind == "Clip":
            bounds = [self.constant(np.float32(0)), self.constant(np.float32(6))]
            return self.node("Clip", [x, *bounds])
        return self.node(kind, [x], **({"alpha": 0.1} if kind == "LeakyRelu" else {}))

    def dense(self, x, features, outputs):
        deviation = np.sqrt(1.0 / features)
        weights = self._rng.normal(0.0, deviation, (outputs, features)).astype(np.float32)
        bias = self._rng.normal(0.0, 0.1, outputs).astype(np.float32)
        operands = [x, self.constant(weights), self.constant(bias)]
        return self.node("Gemm", operands, channels=outputs, transB=1)

    def matmul(self, x, features, outputs):
        deviation = np.sqrt(1.0 / features)
        weights = self._rng.normal(0.0, deviation, (features, outputs)).astype(np.float32)
        return self.node("MatMul", [x, self.constant(weights)], channels=outputs)

    def head(self, x, classes):
        """Add global average pooling, a dense layer and a softmax."""
        x = self.node("Flatten", [self.node("GlobalAveragePool", [x])])
        return self.node("Softmax", [self.dense(x, self._channels[x], classes)], axis=-1)

    def finish(self, output):
        """Return the model; its last value becomes `output`."""
        self._nodes[-1].output[0] = "output"
        float_type = onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self._nodes,
            self.name,
            [helper.make_tensor_value_info("input", float_type, self.shape)],
            [helper.make_tensor_value_info("output", float_type, None)],
            initializer=self._constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        return onnx.shape_inference.infer_shapes(model)


def residual_cnn():
    """Residual blocks with and without a projection, a Relu behind each sum."""
    net = Net("residual_cnn", (1, 3, 16, 16), 1)
    x = net.conv("input", 12, 3, activation="Relu")
    for channels, stride in ((12, 1), (20, 2)):
        y = net.conv(x, channels, 3, stride=stride, activation="Relu")
        y = net.conv(y, channels, 3)
        skip = x if stride == 1 else net.conv(x, channels, 1, stride=stride)
        x = net.activation(net.node("Add", [y, skip]), "Relu")
    return net.finish(net.head(x, 10))


def separable_cnn():
    """Depthwise separable convolutions with ReLU6, 3x3 and 5x5, stride 1 and 2."""
    net = Net("separable_cnn", (1, 1, 20, 14), 2)
    x = net.conv("input", 16, 3, stride=2, activation="Relu")
    for kernel, channels, stride in ((3, 24, 1), (5, 32, 2)):
        x = net.conv(x, net._channels[x], kernel, stride=stride, group=net._channels[x])
        x = net.conv(net.activation(x, "Clip"), channels, 1, activation="Relu")
    return net.finish(net.head(x, 12))


def plain_cnn():
    """Convolutions, max pooling, and a dense layer on a flattened image."""
    net = Net("plain_cnn", (1, 3, 16, 16), 3)
    x = net.conv("input", 10, 5, activation="Relu")
    x = net.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = net.conv(x, 14, 3, activation="Relu")
    x = net.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])
    x = net.node("Flatten", [x])
    return net.finish(net.dense(x, 14 * 4 * 4, 10))


def hard_swish_cnn():
    """Hard swish, sigmoid gates and a product, as in mobile networks."""
    net = Net("hard_swish_cnn", (1, 3, 16, 16), 4)
    x = net.conv("input", 12, 3, stride=2, activation="HardSwish")
    y = net.conv(x, 12, 3, group=12, activation="HardSwish")
    gate = net.activation(net.conv(y, 12, 1), "Sigmoid")
    x = net.node("Mul", [y, gate])
    x = net.conv(x, 20, 1, activation="HardSwish")
    return net.finish(net.head(x, 10))


def decoder_cnn():
    """Down, up by nearest-neighbor resizing, and concatenation with the skipped image."""
    net = Net("decoder_cnn", (1, 2, 12, 16), 5)
    x = net.conv("input", 8, 3, activation="LeakyRelu")
    y = net.conv(x, 12, 3, stride=2, activation="LeakyRelu")
    scales = net.constant(np.array([1, 1, 2, 2], np.float32))
    y = net.node(
        "Resize",
        [y, "", scales],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    x = net.node("Concat", [x, y], axis=1, channels=20)
    return net.finish(net.conv(net.conv(x, 10, 3, activation="LeakyRelu"), 3, 1))


def branching_cnn():
    """Branches of different kernels and pools, concatenated."""
    net = Net("branching_cnn", (1, 3, 14, 14), 6)
    x = net.conv("input", 12, 3, activation="Relu")
    a = net.conv(x, 8, 1, activation="Relu")
    b = net.conv(net.conv(x, 6, 1, activation="Relu"), 8, 3, activation="Relu")
    c = net.node("MaxPool", [x], kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
    x = net.node("Concat", [a, b, net.conv(c, 8, 1, activation="Relu")], axis=1, channels=24)
    x = net.node("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2])
    return net.finish(net.head(net.conv(x, 16, 3, group=2, activation="Relu"), 10))


def matmul_mixer():
    """Matrix products over channels of every pixel: transposes that move no byte, and tanh."""
    net = Net("matmul_mixer", (1, 8, 6, 6), 7)
    x = net.conv("input", 16, 3, activation="Relu")
    x = net.node("Transpose", [x], perm=[0, 2, 3, 1])
    x = net.node("Reshape", [x, net.constant(np.array([1, 36, 16], np.int64))])
    x = net.activation(net.matmul(x, 16, 24), "Tanh")
    x = net.matmul(x, 24, 10)
    return net.finish(net.node("Softmax", [x], axis=-1))


NETWORKS = {
    "residual_cnn": (residual_cnn, "s8s8"),
    "separable_cnn": (separable_cnn, "u8s8"),
    "plain_cnn": (plain_cnn, "u8u8"),
    "hard_swish_cnn": (hard_swish_cnn, "u8s8"),
    "decoder_cnn": (decoder_cnn, "s8s8"),
    "branching_cnn": (branching_cnn, "u8u8"),
    "matmul_mixer": (matmul_mixer, "u8s8"),
}
"""Network by name, with its maker and how it is quantized: activations, then weights."""
