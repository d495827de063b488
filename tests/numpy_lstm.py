"""A plain numpy LSTM from the published gate equations: the oracle for torch and onnxruntime."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x, h, c, weight_ih, weight_hh, bias):
    """One layer. x [T, I], h and c [H], weights [4H, I] and [4H, H] in the order i, f, g, o, bias [4H], all float64."""
    outputs = []
    for x_t in x:
        i, f, g, o = np.split(weight_ih @ x_t + weight_hh @ h + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs), h, c
