"""How well a rule's deltas point where back-propagation's do. Three quantities are called alignment; each has its name here.

    delta angle    per example, between delta_i and BP's delta_i at a_i (with f'), at the same weights
    signal angle   per example, between the signals at h_i (before f')
    mean angle     between the two batch means of delta_i

Angles are in degrees, 90 for unrelated directions. All are computed in float64, in evaluation mode (no dropout, the running
statistics of batch normalisation). Where a rule draws between edges, its delta and signal here are the expected ones. A bottleneck masks what
is learnt from, not what is measured.

An example whose error, delta or signal is too small to have a direction is left out of what it has none for, never averaged in,
and counted: `undefined` for the deltas, and `signal_undefined` for the signals where that is another number. Where BP's derivative
is zero, as of sign units, all deltas are undefined, and BP's signal is defined at the last hidden layer alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .errors import DfaLibError
from .feedback import Feedback
from .graph import bp
from .network import Network, Workspace

#: Below this norm an output error is rounding noise in float64: softmax(a) - y subtracts numbers near 1.
TINY_ERROR = 1e-12
#: At most this many layers are measured, evenly spread from the first to the last: a record stays small.
MOST_LAYERS = 12
#: A record keeps these quantiles of the angles of a layer's units.
UNIT_QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def angle(u: Float[Tensor, "... n"], v: Float[Tensor, "... n"]) -> Float[Tensor, "..."]:
    """The angle between u and v along the last dimension, in degrees; nan where `cosine` is."""
    return torch.rad2deg(torch.acos(cosine(u, v).clamp(-1, 1)))


def cosine(u: Float[Tensor, "... n"], v: Float[Tensor, "... n"]) -> Float[Tensor, "..."]:
    """The cosine between u and v along the last dimension; nan where either vector is zero, or so small that its numbers have lost
    digits (below the smallest normal number). Scaled first, so that tiny vectors do not underflow."""

    def unit(w: Tensor) -> Tensor:
        largest = w.abs().amax(dim=-1, keepdim=True)
        w = w / largest.masked_fill(largest < torch.finfo(w.dtype).tiny, math.nan)
        return w / w.norm(dim=-1, keepdim=True)

    return (unit(u) * unit(v)).sum(dim=-1)


class Probe:
    """Measures alignment of one training run on a fixed batch: call it whenever a measurement is wanted.

    x: (n, n_in), y: (n, n_out) one-hot, shared by all replicas. With `theorem`, `Theorem`'s quantities too.
    """

    def __init__(
        self, network: Network, feedback: Feedback, loss: Callable, x: Tensor, y: Tensor, theorem: bool = False
    ) -> None:
        self.source, self.feedback, self.loss = network, feedback, loss
        self.network = Network(
            network.widths, network.unit.name, network.replicas, torch.float64, network.device, network.norm is not None
        )
        self.work = Workspace(self.network, len(x), training=False)
        self.work.x.copy_(x.to(torch.float64).expand_as(self.work.x))
        self.work.y.copy_(y.to(torch.float64).expand_as(self.work.y))
        zeros = [0] * network.replicas
        self.rule = Feedback(feedback.graph, self.network, "zeros", zeros)
        self.exact = Feedback(bp().graph(network.widths), self.network, "zeros", zeros)
        self.layers = thin(sorted({edge.target for edge in feedback.graph.edges}))
        self.theorem = Theorem(self) if theorem else None

    def anchor(self) -> None:
        """Take the update directions of this moment as those with which later ones are compared."""
        if self.theorem:
            self._measure()
            signals = self._run(self.rule)[1]
            for i, direction in self.theorem.first.items():
                direction.copy_(signals[i])

    def __call__(self) -> list[dict[str, list]]:
        """For each replica: by measured layer the mean and deviation over examples of each quantity, nan if all are undefined, and
        how many are."""
        self._measure()
        known = self.work.e.norm(dim=-1) > TINY_ERROR
        results: list[dict[str, list]] = [{"layers": list(self.layers)} for _ in range(self.network.replicas)]
        delta, signal = self._run(self.rule)
        if self.theorem:
            self.theorem.measure(signal, known, results)
        delta_bp, signal_bp = self._run(self.exact)
        for i in self.layers:
            at_a, at_h = cosine(delta[i], delta_bp[i]), cosine(signal[i], signal_bp[i])
            means = angle(*((d * known.unsqueeze(-1)).mean(dim=1) for d in (delta[i], delta_bp[i])))
            for replica, result in enumerate(results):
                good, good_signal = (known[replica] & cos[replica].isfinite() for cos in (at_a, at_h))
                cos, cos_signal = at_a[replica][good], at_h[replica][good_signal]
                at_a_angle, at_h_angle = (torch.rad2deg(torch.acos(c.clamp(-1, 1))) for c in (cos, cos_signal))
                for name, value in (
                    ("delta_angle", at_a_angle.mean()),
                    ("delta_angle_sd", (at_a_angle - at_a_angle.mean()).square().mean().sqrt()),
                    ("delta_cos", cos.mean()),
                    ("signal_angle", at_h_angle.mean()),
                    ("mean_angle", means[replica]),
                ):
                    result.setdefault(name, []).append(value.item())
                result.setdefault("undefined", []).append(int((~good).sum()))
                result.setdefault("signal_undefined", []).append(int((~good_signal).sum()))
        for result in results:
            if result.get("signal_undefined") == result.get("undefined"):
                result.pop("signal_undefined", None)  # nearly always; a record stays small
        for result, angles in zip(results, unit_angles(self.source, self.feedback), strict=True):
            if angles:
                result["unit_angle"] = angles
        return results

    def _measure(self) -> None:
        """Copy the network as it is now, and run it on the batch."""
        for mine, theirs in ((self.network, self.source), (self.rule, self.feedback)):
            for name, tensor in theirs.state().items():
                mine.state()[name].copy_(tensor)
        self.work.forward()
        self.loss(self.work.output, self.work.y, self.work.e)

    def _run(self, feedback: Feedback) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Deltas and signals by layer, the expected ones where the rule draws."""
        signals: dict[int, Tensor] = {}
        run, deltas, means = feedback.bind(self.work, signals), {}, {}
        for probability in feedback.outcomes():
            run()
            for mean, now in ((deltas, self.work.delta), (means, signals)):
                for i in self.layers:
                    mean[i] = mean.get(i, 0) + probability * now[i]
        return deltas, means


class Theorem:
    """The quantities of Theorem 1 (Nøkland 2016, equations 11 to 14) at each measured hidden layer k, means over examples.

        K        delta_h_k . h_k / |delta_h_k|, which the update lowers
        L        delta_h_k . c_k / |delta_h_k|, with c_k = W_{k+1}^T (delta_h_{k+1} * f'(a_{k+1})); at the last layer c = W^T e
        beta     the angle between delta_h_k and c_k in degrees; undefined while W_{k+1} is zero
        L_share  the share of examples with L_k > 0
        turned   the angle between delta_h_k now and when the run began: 0 where the theorem's assumption holds

    c_k goes one layer up only and carries the rule's own signal; the alignment angles are with BP's signal, from the output.
    Chapter 07_nokland_features reads them.
    """

    def __init__(self, probe: Probe) -> None:
        self.probe, graph = probe, probe.rule.graph
        if {edge.target for edge in graph.edges} != set(range(1, graph.depth + 1)):
            raise DfaLibError(f"Theorem 1 needs a signal at every hidden layer, and {graph.name} leaves some out")
        self.first = {i: torch.zeros_like(probe.work.delta[i]) for i in probe.layers}

    def measure(self, signal: dict[int, Tensor], known: Tensor, results: list[dict[str, list]]) -> None:
        """Add the quantities of this moment, just after the rule has run on the probe's batch, to each replica's results."""
        work, network = self.probe.work, self.probe.network
        for i in self.probe.layers:
            above = work.delta[i + 1] if i < network.depth else work.e
            direction, c = signal[i], torch.bmm(above, network.weights[i + 1])
            norm = direction.norm(dim=-1)
            k, l = ((direction * v).sum(dim=-1) / norm for v in (work.h[i], c))
            beta, turned = angle(direction, c), angle(direction, self.first[i])
            for replica, result in enumerate(results):
                good = known[replica] & (norm[replica] > 0)
                for name, value in (("K", k), ("L", l), ("beta", beta), ("turned", turned), ("L_share", (l > 0).double())):
                    result.setdefault(name, []).append(value[replica][good & value[replica].isfinite()].mean().item())


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


def unit_angles(network: Network, feedback: Feedback) -> list[dict[int, list[float]]]:
    """For each replica, `UNIT_QUANTILES` over the units j of the last hidden layer L of the angle in degrees between unit j's
    outgoing weights W_{L+1}[:, j] and its feedback weights B_L[j, :], both of n_out numbers; {L: quantiles}, or {} where that
    layer does not read e through a stored matrix. Units without a direction are left out.

    Only the last hidden layer: it is the one that every rule here with random feedback connects to e, and a record stays small.
    Chapter 04_feedback_alignment shows them.
    """
    layer = network.depth
    edges = [edge for edge in feedback.graph.edges if edge.target == layer and edge.source == "error"]
    if not any(edge.carrier.stored and not edge.carrier.signed for edge in edges):
        return [{} for _ in range(network.replicas)]
    matrix, weight = feedback.matrix(layer), network.weights[layer + 1]
    angles = angle(matrix.double().transpose(1, 2), weight.double().transpose(1, 2))
    levels = torch.tensor(UNIT_QUANTILES, dtype=torch.float64, device=angles.device)
    return [{layer: torch.nanquantile(of_replica, levels).tolist()} for of_replica in angles]


def thin(layers: Sequence[int]) -> list[int]:
    """At most `MOST_LAYERS` of these layers, evenly spread, the first and the last among them."""
    if len(layers) <= MOST_LAYERS:
        return list(layers)
    return [layers[round(k * (len(layers) - 1) / (MOST_LAYERS - 1))] for k in range(MOST_LAYERS)]
