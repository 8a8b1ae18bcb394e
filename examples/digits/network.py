"""The digits network in floating point: forward pass, gradients and training, in plain NumPy.

::

    image 8x8x1 -> conv1 3x3, 16, ReLU -+-> conv2 3x3, 16 -> add, ReLU -> conv3 3x3 / 2, 32, ReLU
                                        +--------------------^              |
    scores 10 <- softmax <- dense 10 <- flatten 128 <- pool 2x2 average <---+

Shapes are NHWC, convolution weights OHWI, padding SAME, as in TFLite.
"""

import numpy as np

KERNEL = 3
CLASSES = 10
IMAGE_SIZE = 8
CHANNELS = {"conv1": (1, 16), "conv2": (16, 16), "conv3": (16, 32)}
STRIDES = {"conv1": 1, "conv2": 1, "conv3": 2}
POOL = 2
FLAT = (IMAGE_SIZE // STRIDES["conv3"] // POOL) ** 2 * CHANNELS["conv3"][1]


def initialize(rng):
    """Return parameters, drawn after He et al. 2015: variance 2 / fan-in, biases zero."""
    params = {}
    for name, (inputs, outputs) in CHANNELS.items():
        deviation = np.sqrt(2 / (KERNEL * KERNEL * inputs))
        weights = rng.normal(0, deviation, (outputs, KERNEL, KERNEL, inputs))
        params[name] = {"weights": weights, "bias": np.zeros(outputs)}
    weights = rng.normal(0, np.sqrt(2 / FLAT), (CLASSES, FLAT))
    params["dense"] = {"weights": weights, "bias": np.zeros(CLASSES)}
    return params


def forward(params, images):
    """Return every activation of ``images[N, 8, 8, 1]`` by name; "dense" holds the logits."""
    a = {"image": images}
    a["conv1"] = np.maximum(_convolve(a["image"], params["conv1"], STRIDES["conv1"]), 0)
    a["conv2"] = _convolve(a["conv1"], params["conv2"], STRIDES["conv2"])
    a["add"] = np.maximum(a["conv1"] + a["conv2"], 0)
    a["conv3"] = np.maximum(_convolve(a["add"], params["conv3"], STRIDES["conv3"]), 0)
    n, h, w, c = a["conv3"].shape
    a["pool"] = a["conv3"].reshape(n, h // POOL, POOL, w // POOL, POOL, c).mean(axis=(2, 4))
    a["flatten"] = a["pool"].reshape(n, FLAT)
    a["dense"] = a["flatten"] @ params["dense"]["weights"].T + params["dense"]["bias"]
    return a


def gradients(params, images, labels):
    """Return the gradients of the mean cross entropy, in the structure of `params`."""
    a = forward(params, images)
    exponentials = np.exp(a["dense"] - a["dense"].max(axis=1, keepdims=True))
    d_dense = exponentials / exponentials.sum(axis=1, keepdims=True)
    d_dense[np.arange(len(labels)), labels] -= 1
    d_dense /= len(labels)
    grads = {"dense": {"weights": d_dense.T @ a["flatten"], "bias": d_dense.sum(axis=0)}}

    d_pool = (d_dense @ params["dense"]["weights"]).reshape(a["pool"].shape)
    d_conv3 = d_pool.repeat(POOL, axis=1).repeat(POOL, axis=2) / POOL**2 * (a["conv3"] > 0)
    d_add, grads["conv3"] = _backward(a["add"], params["conv3"], STRIDES["conv3"], d_conv3)
    d_add *= a["add"] > 0
    d_conv1, grads["conv2"] = _backward(a["conv1"], params["conv2"], STRIDES["conv2"], d_add)
    d_conv1 = (d_conv1 + d_add) * (a["conv1"] > 0)
    _, grads["conv1"] = _backward(a["image"], params["conv1"], STRIDES["conv1"], d_conv1)
    return grads


def train(images, labels, rng, *, epochs, batch, rate, decay):
    """Train by Adam with decoupled weight decay, falling rate and shifted images.

    Parameters
    ----------
    images, labels : ``float[N, 8, 8, 1]``, ``int[N]``
        Training set.
    rng : numpy.random.Generator
        Source of initial weights, order and shifts.
    epochs, batch : int
        Passes over the set, images per step.
    rate, decay : float
        First learning rate (it falls to zero along half a cosine) and weight decay.

    Returns
    -------
    dict
        Parameters, see `initialize`.
    """
    params = initialize(rng)
    beta1, beta2, epsilon = 0.9, 0.999, 1e-8
    moments = {
        (layer, kind): [np.zeros_like(value), np.zeros_like(value)]
        for layer, values in params.items()
        for kind, value in values.items()
    }
    steps = epochs * (len(images) // batch)
    for step in range(steps):
        place = step % (len(images) // batch)
        if place == 0:
            order = rng.permutation(len(images))
        chosen = order[place * batch : (place + 1) * batch]
        grads = gradients(params, _shift(images[chosen], rng), labels[chosen])
        step_rate = rate * (1 + np.cos(np.pi * step / steps)) / 2
        for (layer, kind), (mean, square) in moments.items():
            gradient = grads[layer][kind]
            mean += (1 - beta1) * (gradient - mean)
            square += (1 - beta2) * (gradient**2 - square)
            unbiased = mean / (1 - beta1 ** (step + 1))
            spread = np.sqrt(square / (1 - beta2 ** (step + 1))) + epsilon
            value = params[layer][kind]
            value -= step_rate * (unbiased / spread + decay * (kind == "weights") * value)
    return params


def _shift(images, rng):
    """Move each image by -1, 0 or 1 pixel along both axes, filling with zeros."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(
        padded, (IMAGE_SIZE, IMAGE_SIZE), axis=(1, 2)
    )
    rows, cols = rng.integers(0, 3, (2, len(images)))
    return windows[np.arange(len(images)), rows, cols].transpose(0, 2, 3, 1)


def _pad(x, stride):
    """Pad by TFLite's rule for SAME: the odd pixel goes below and to the right."""
    total = KERNEL - stride if x.shape[1] % stride == 0 else KERNEL - x.shape[1] % stride
    before = total // 2
    return np.pad(x, ((0, 0), (before, total - before), (before, total - before), (0, 0))), before


def _patches(padded, stride):
    """Return every window as a row: ``[N, OH, OW, 3 * 3 * I]``."""
    windows = np.lib.stride_tricks.sliding_window_view(padded, (KERNEL, KERNEL), axis=(1, 2))
    windows = windows[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)
    return windows.reshape(*windows.shape[:3], -1)


def _convolve(x, layer, stride):
    weights = layer["weights"]
    padded, _ = _pad(x, stride)
    return _patches(padded, stride) @ weights.reshape(len(weights), -1).T + layer["bias"]


def _backward(x, layer, stride, d_out):
    """Return the gradients by the input of a convolution and by its parameters."""
    weights = layer["weights"]
    padded, before = _pad(x, stride)
    flat = d_out.reshape(-1, len(weights))
    patches = _patches(padded, stride).reshape(len(flat), -1)
    grads = {"weights": (flat.T @ patches).reshape(weights.shape), "bias": flat.sum(axis=0)}

    d_padded = np.zeros_like(padded)
    _, out_h, out_w, _ = d_out.shape
    for row in range(KERNEL):
        for col in range(KERNEL):
            rows = slice(row, row + out_h * stride, stride)
            cols = slice(col, col + out_w * stride, stride)
            d_padded[:, rows, cols] += d_out @ weights[:, row, col]
    _, height, width, _ = x.shape
    return d_padded[:, before : before + height, before : before + width], grads
