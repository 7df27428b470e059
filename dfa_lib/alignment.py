"""How well a rule's deltas point where back-propagation's do. Three quantities are called alignment; each has its name here.

    delta angle    per example, between delta_i and BP's delta_i at a_i (with f'), at the same weights
    signal angle   per example, between the signals at h_i (before f')
    mean angle     between the two batch means of delta_i

Angles are in degrees, 90 for unrelated directions. All are computed in float64, in evaluation mode (no dropout). An example
whose error or delta is too small to have a direction is dropped and counted as undefined, never averaged in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .feedback import Feedback
from .graph import bp
from .network import Network, Workspace

#: Below this norm an output error is rounding noise in float64: softmax(a) - y subtracts numbers near 1.
TINY_ERROR = 1e-12
#: At most this many layers are measured, evenly spread from the first to the last: a record stays small.
MOST_LAYERS = 12


def angle(u: Float[Tensor, "... n"], v: Float[Tensor, "... n"]) -> Float[Tensor, "..."]:
    """The angle between u and v along the last dimension, in degrees; nan where either vector is zero."""
    return torch.rad2deg(torch.acos(cosine(u, v).clamp(-1, 1)))


def cosine(u: Float[Tensor, "... n"], v: Float[Tensor, "... n"]) -> Float[Tensor, "..."]:
    """The cosine between u and v along the last dimension; nan where either vector is zero. Scaled first, so that tiny
    vectors do not underflow."""

    def unit(w: Tensor) -> Tensor:
        w = w / w.abs().amax(dim=-1, keepdim=True)
        return w / w.norm(dim=-1, keepdim=True)

    return (unit(u) * unit(v)).sum(dim=-1)


class Probe:
    """Measures alignment of one training run on a fixed batch: call it whenever a measurement is wanted.

    x: (n, n_in), y: (n, n_out) one-hot, shared by all replicas.
    """

    def __init__(self, network: Network, feedback: Feedback, loss: Callable, x: Tensor, y: Tensor) -> None:
        self.source, self.feedback, self.loss = network, feedback, loss
        self.network = Network(network.widths, network.unit.name, network.replicas, torch.float64, network.device)
        self.work = Workspace(self.network, len(x))
        self.work.x.copy_(x.to(torch.float64).expand_as(self.work.x))
        self.work.y.copy_(y.to(torch.float64).expand_as(self.work.y))
        zeros = [0] * network.replicas
        self.rule = Feedback(feedback.graph, self.network, "zeros", zeros)
        self.exact = Feedback(bp().graph(network.widths), self.network, "zeros", zeros)
        learning = [edge.target for edge in feedback.graph.edges]
        self.layers = thin(learning)

    def __call__(self) -> list[dict[str, list]]:
        """For each replica: by measured layer the mean and deviation over examples of each quantity; nan if all are undefined."""
        for mine, theirs in ((self.network, self.source), (self.rule, self.feedback)):
            for name, tensor in theirs.state().items():
                mine.state()[name].copy_(tensor)
        self.work.forward()
        self.loss(self.work.output, self.work.y, self.work.e)
        (delta, signal), (delta_bp, signal_bp) = self._run(self.rule), self._run(self.exact)
        known = self.work.e.norm(dim=-1) > TINY_ERROR
        results: list[dict[str, list]] = [{"layers": list(self.layers)} for _ in range(self.network.replicas)]
        for i in self.layers:
            at_a, at_h = cosine(delta[i], delta_bp[i]), cosine(signal[i], signal_bp[i])
            means = angle(*((d * known.unsqueeze(-1)).mean(dim=1) for d in (delta[i], delta_bp[i])))
            for replica, result in enumerate(results):
                good = known[replica] & at_a[replica].isfinite() & at_h[replica].isfinite()
                cos, at_h_angle = at_a[replica][good], torch.rad2deg(torch.acos(at_h[replica][good].clamp(-1, 1)))
                at_a_angle = torch.rad2deg(torch.acos(cos.clamp(-1, 1)))
                for name, value in (
                    ("delta_angle", at_a_angle.mean()),
                    ("delta_angle_sd", (at_a_angle - at_a_angle.mean()).square().mean().sqrt()),
                    ("delta_cos", cos.mean()),
                    ("signal_angle", at_h_angle.mean()),
                    ("mean_angle", means[replica]),
                ):
                    result.setdefault(name, []).append(value.item())
                result.setdefault("undefined", []).append(int((~good).sum()))
        return results

    def _run(self, feedback: Feedback) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        signals: dict[int, Tensor] = {}
        feedback.bind(self.work, signals)()
        return {i: self.work.delta[i].clone() for i in self.layers}, signals


def weight_angles(network: Network, feedback: Feedback) -> list[dict[int, float]]:
    """For each replica, the angle in degrees between W_{i+1} and the matrix that stands for its transpose, by hidden layer i:
    only for layers that read the layer above through a stored matrix (FA everywhere, DFA at the last hidden layer)."""
    results: list[dict[int, float]] = [{} for _ in range(network.replicas)]
    for edge in feedback.graph.edges:
        above = edge.target + 1 if edge.target < network.depth else "error"
        if edge.source == above and edge.carrier.stored and not edge.carrier.signed:
            matrix, weight = feedback.matrix(edge.target), network.weights[edge.target + 1]
            for replica, value in enumerate(angle(matrix.double().flatten(1), weight.double().flatten(1)).tolist()):
                results[replica][edge.target] = value
    return results


def thin(layers: Sequence[int]) -> list[int]:
    """At most `MOST_LAYERS` of these layers, evenly spread, the first and the last among them."""
    if len(layers) <= MOST_LAYERS:
        return list(layers)
    return [layers[round(k * (len(layers) - 1) / (MOST_LAYERS - 1))] for k in range(MOST_LAYERS)]
