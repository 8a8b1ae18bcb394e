"""Export a small fake-quantized network from PyTorch; remakes ``pytorch_cnn.onnx``.

Needs PyTorch, which nothing else here does::

    pip install torch==2.13.0 onnx
    python examples/onnx/pytorch_export.py

The network holds the observers' results as PyTorch's quantization-aware training leaves them:
per-channel int8 weights, uint8 activations; biases stay float.
"""

import argparse
from pathlib import Path

import onnx
import torch
from torch import nn

SEED = 11
SHAPE = (1, 3, 16, 16)
CALIBRATION_SAMPLES = 64


class FakeQuantize(nn.Module):
    """Rounds activations to uint8 over the range that it has seen."""

    def __init__(self):
        super().__init__()
        self.low, self.high, self.observing = 0.0, 0.0, True

    def forward(self, x):
        if self.observing:
            self.low = min(self.low, float(x.min()))
            self.high = max(self.high, float(x.max()))
            return x
        scale = (self.high - self.low) / 255
        zero = round(-self.low / scale)
        return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, 255)


class QuantizedWeights(nn.Module):
    """A convolution or dense layer with weights rounded to int8 per output channel."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        weights = layer.weight.detach()
        scales = weights.reshape(len(weights), -1).abs().amax(dim=1) / 127
        self.register_buffer("scales", scales)
        self.register_buffer("zeros", torch.zeros(len(weights), dtype=torch.int32))

    def forward(self, x):
        weights = torch.fake_quantize_per_channel_affine(
            self.layer.weight, self.scales, self.zeros, 0, -128, 127
        )
        if isinstance(self.layer, nn.Linear):
            return nn.functional.linear(x, weights, self.layer.bias)
        convolution = self.layer
        return nn.functional.conv2d(
            x,
            weights,
            convolution.bias,
            convolution.stride,
            convolution.padding,
            groups=convolution.groups,
        )


class Network(nn.Module):
    """An inverted residual between a first convolution and a classifier."""

    def __init__(self):
        super().__init__()
        self.quantize = nn.ModuleList(FakeQuantize() for _ in range(8))
        self.first = QuantizedWeights(nn.Conv2d(3, 12, 3, stride=2, padding=1))
        self.expand = QuantizedWeights(nn.Conv2d(12, 24, 1))
        self.depthwise = QuantizedWeights(nn.Conv2d(24, 24, 3, padding=1, groups=24))
        self.project = QuantizedWeights(nn.Conv2d(24, 12, 1))
        self.classify = QuantizedWeights(nn.Linear(12, 10))

    def forward(self, x):
        q = self.quantize
        x = q[1](torch.relu(self.first(q[0](x))))
        y = q[2](torch.relu(self.expand(x)))
        y = q[3](torch.relu(self.depthwise(y)))
        y = q[4](self.project(y))
        x = q[5](x + y)
        x = q[6](nn.functional.adaptive_avg_pool2d(x, 1))
        return q[7](self.classify(torch.flatten(x, 1)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    target = parser.parse_args().output / "pytorch_cnn.onnx"
    torch.manual_seed(SEED)
    network = Network().eval()
    with torch.no_grad():
        network(torch.randn(CALIBRATION_SAMPLES, *SHAPE[1:]))
        for item in network.quantize:
            item.observing = False
        torch.onnx.export(
            network,
            (torch.randn(SHAPE),),
            target,
            opset_version=17,
            dynamo=False,
            input_names=["input"],
            output_names=["output"],
        )
    model = onnx.load(target)
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    target.write_bytes(model.SerializeToString())
    print(f"{target.name} {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
