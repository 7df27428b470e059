"""What a network's layers show of the classes: two readers, each against scikit-learn's, and the layout in the plane."""

import numpy as np
import pytest
import torch

from dfa_lib import features
from dfa_lib.network import Network


def blobs(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    return torch.eye(3).repeat(1, 2)[y] + 0.45 * torch.randn(n, 6, generator=g), y


def test_readers_agree_with_scikit_learn():
    from sklearn.linear_model import Ridge
    from sklearn.neighbors import KNeighborsClassifier

    (known, labels), (asked, _) = blobs(9), blobs(300, seed=1)  # few known: a hundred times the ridge is another reader
    nearest = KNeighborsClassifier(1).fit(known, labels).predict(asked)
    assert features.nearest_neighbour(known, labels, asked, chunk=7).tolist() == nearest.tolist()
    x = known.double() - known.double().mean(dim=0)
    ridge = Ridge(alpha=features.RIDGE * x.square().sum().item() / 6).fit(known.double(), torch.nn.functional.one_hot(labels))
    assert features.linear_probe(known, labels, asked).tolist() == ridge.predict(asked.double()).argmax(axis=1).tolist()
    dead = torch.ones(9, 6)  # a dead layer: no spread at all
    assert set(features.linear_probe(dead, labels, dead[:5]).tolist()) <= {0, 1, 2}


def test_layers_are_the_networks_own_and_judged_from_the_input():
    net = Network((6, 5, 4, 3), "tanh", replicas=2)
    net.initialise("uniform-from", [0, 1])
    (x, y), (asked, truth) = blobs(60), blobs(45, seed=1)
    found = features.layers(net, 1, x)
    first = torch.tanh(x @ net.weights[1][1].T + net.biases[1][1])
    assert [tuple(part.shape) for part in found] == [(60, 6), (60, 5), (60, 4)] and torch.equal(found[0], x)
    assert torch.allclose(found[1], first, atol=1e-6) and not torch.allclose(features.layers(net, 0, x)[1], first, atol=1e-2)
    errors = features.judge(net, 1, x, y, asked, truth)
    assert list(errors) == ["nearest_neighbour_error_pct", "linear_probe_error_pct"] and {len(values) for values in errors.values()} == {3}
    assert errors["nearest_neighbour_error_pct"][0] == pytest.approx(
        100 * (features.nearest_neighbour(x, y, asked) != truth).double().mean().item()
    )
    assert features.judge(net, 1, x, y, x, y)["nearest_neighbour_error_pct"] == [0, 0, 0]  # each is its own neighbour


def test_layout_is_whole_numbers_on_one_scale():
    net = Network((6, 5, 3), "tanh")
    net.initialise("uniform-from", [0])
    x, y = blobs(18)
    found = features.layout(net, 0, x, y)
    assert found["labels"] == y.tolist() and [len(points) for points in found["layers"]] == [36, 36]
    assert all(isinstance(v, int) and 0 <= v <= features.GRID for v in found["layers"][0])
    assert features._grid(np.array([[1.0, 5.0], [3.0, 6.0]])) == [0, 0, 999, 500]
    assert features._grid(np.ones((2, 2))) == [0, 0, 0, 0]
