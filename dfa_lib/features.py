"""What a trained network's layers show of the classes: errors of two simple readers, and a picture in the plane.

The readers are fixed before anything is seen, so that a layer's number says something about the layer: the nearest neighbour
(Euclidean, one), and a linear probe (least squares on one-hot targets, with a small ridge). Layer 0 is the input itself.
Chapter 07_nokland_features shows them.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from .network import Network

#: The ridge of the linear probe, as a share of the mean eigenvalue of the features' second moments: enough to make it well posed.
RIDGE = 1e-3
#: Coordinates of a layout are whole numbers from 0 to this: finer than a printed dot.
GRID = 999


def layers(network: Network, replica: int, x: Float[Tensor, "n n_in"]) -> list[Tensor]:
    """The input and the output of every hidden layer of one replica, each (n, width), in evaluation mode."""
    found = [x]
    for i in range(1, network.depth + 1):
        h = torch.addmm(network.biases[i][replica], found[-1], network.weights[i][replica].T)
        if network.norm:
            h = network.norm.evaluate(i, h, replica)
        network.unit.apply(h)
        found.append(h)
    return found


def judge(
    network: Network,
    replica: int,
    train_x: Float[Tensor, "n n_in"],
    train_y: Int64[Tensor, "n"],
    test_x: Float[Tensor, "m n_in"],
    test_y: Int64[Tensor, "m"],
) -> dict[str, list[float]]:
    """Test errors (percent) of the two readers at each layer, from the input to the last hidden layer; fitted on the n examples."""
    errors: dict[str, list[float]] = {"nearest_neighbour_error_pct": [], "linear_probe_error_pct": []}
    for known, asked in zip(layers(network, replica, train_x), layers(network, replica, test_x), strict=True):
        for name, reader in zip(errors, (nearest_neighbour, linear_probe), strict=True):
            errors[name].append(100 * (reader(known, train_y, asked) != test_y).double().mean().item())
    return errors


def nearest_neighbour(
    known: Float[Tensor, "n width"], labels: Int64[Tensor, "n"], asked: Float[Tensor, "m width"], chunk: int = 1000
) -> Int64[Tensor, "m"]:
    """The label of the nearest known example."""
    norms = known.square().sum(dim=1)
    return torch.cat([labels[(norms - 2 * part @ known.T).argmin(dim=1)] for part in asked.split(chunk)])


def linear_probe(
    known: Float[Tensor, "n width"], labels: Int64[Tensor, "n"], asked: Float[Tensor, "m width"]
) -> Int64[Tensor, "m"]:
    """The class with the largest output of a ridge regression of one-hot labels on the features and a constant."""
    known, asked = known.double(), asked.double()
    middle = known.mean(dim=0)
    x, y = known - middle, torch.nn.functional.one_hot(labels).double()
    ridge = RIDGE * x.square().sum() / x.shape[1]
    w = torch.linalg.solve(x.T @ x + (ridge + 1e-12) * torch.eye(x.shape[1], dtype=x.dtype, device=x.device), x.T @ (y - y.mean(dim=0)))
    return ((asked - middle) @ w + y.mean(dim=0)).argmax(dim=1)


def layout(network: Network, replica: int, x: Float[Tensor, "n n_in"], y: Int64[Tensor, "n"]) -> dict[str, list]:
    """t-SNE of each layer's features (van der Maaten and Hinton): labels, and by layer x0, y0, x1, y1, ... on a grid of whole numbers."""
    from sklearn.manifold import TSNE

    perplexity = min(30, (len(x) - 1) / 3)
    plane = [
        TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=0).fit_transform(part.cpu().double().numpy())
        for part in layers(network, replica, x)
    ]
    return {"labels": y.tolist(), "layers": [_grid(points) for points in plane]}


def _grid(points: np.ndarray) -> list[int]:
    low, span = points.min(axis=0), np.ptp(points, axis=0).max()
    return np.rint((points - low) / max(span, 1e-12) * GRID).astype(int).ravel().tolist()
