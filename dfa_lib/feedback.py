"""The executor: a feedback graph, a network's activations and the output error give the delta of every hidden layer.

It works level by level. The layers of a level that read the same source through random matrices are one batched product,
so DFA's feedback is one product and one gate whatever the depth. No autograd.

    delta_i = (source_i @ M_i) * f'(a_i)      with M_i stored as (n_source, n_i): B_i^T of the papers' column convention

An edge that keeps the norm multiplies source_i @ M_i by |source_i| / |source_i @ M_i| first, for each example (0 where that is 0).
With batch normalisation the derivative is f' of the normalised a_i, and the result goes through the exact backward pass of the
normalisation, whichever edge brought it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from .errors import DfaLibError
from .graph import Carrier, FeedbackGraph, Product, Source
from .network import Network, Workspace, distribution, generator


class Feedback:
    """The random matrices of a graph on a network, and the phase that turns e into deltas.

    `matrices[(first layer of a product)]` is a tensor (m, R, n_source, n). Each replica draws from its own seed, layer by
    layer, so a layer's matrix does not depend on how many replicas are trained together; of a shared matrix, a product has the
    slice for its width. Distributions are those of `network.DISTRIBUTIONS`, or "initial-weights": a copy of W_{i+1} as it is now,
    so that feedback starts aligned. With `bottleneck` (layer, n), only the first n units of a hidden layer get a delta, whatever
    the rule: no more of it reaches the layers that read that delta (Launay, Poli and Krzakala's gradient mask).
    """

    def __init__(
        self, graph: FeedbackGraph, network: Network, spec: str = "uniform-to", seeds: Sequence[int] = (0,),
        bottleneck: tuple[int, int] | None = None,
    ) -> None:  # fmt: skip
        if graph.widths != network.widths:
            raise DfaLibError(f"the graph is for widths {graph.widths}, the network has {network.widths}")
        self.graph, self.network, self.spec, self.seeds, self.bottleneck = graph, network, spec, tuple(seeds), bottleneck
        self.products: list[Product] = [product for level in graph.products() for product in level]
        self.generators = [generator(seed, "feedback") for seed in seeds]
        self.matrices: dict[int, Tensor] = {
            p.targets.start: network.empty(p.matrices, graph.width(p.source), graph.widths[p.targets.start])
            for p in self.products
            if p.carrier.stored
        }
        for product in self.products:
            if product.carrier.stored:
                self._draw(product)
        self._choose(seeds)

    def _choose(self, seeds: Sequence[int]) -> None:
        """Prepare the draws between edges. Until the first, every edge has the weight of its probability: the expected signal."""
        edges = [edge for edge in self.graph.edges if edge.draw is not None]
        draws = {draw: k for k, draw in enumerate(dict.fromkeys(edge.draw for edge in edges))}
        self.switches = [generator(seed, "switch") for seed in seeds] if edges else []
        self.taken: dict[Product, Tensor] = {}
        self._draws, self._limits = len(draws), {}
        for product in self.products:
            if not product.drawn:
                continue
            rows = []
            for layer in product.targets:
                chosen = [edge for edge in edges if edge.target == layer]
                k = [(edge.source, edge.carrier) for edge in chosen].index((product.source, product.carrier))
                low = sum(edge.probability for edge in chosen[:k])
                high = low + chosen[k].probability if k < len(chosen) - 1 else 1.0
                rows.append((draws[chosen[k].draw], low, high))
            draw, low, high = torch.tensor(rows, dtype=torch.float64).T.unsqueeze(2)
            self._limits[product] = draw.long().squeeze(1), low, high
            self.taken[product] = self.network.empty(len(rows), 1, 1)
            self.taken[product].copy_((high - low).view(-1, 1, 1, 1))

    def outcomes(self) -> Iterator[float]:
        """The outcomes of a draw that all layers share, each taken in turn: its probability. Where layers draw apart, or nothing is
        drawn, one outcome, with the weights of the expected signal. A mean over them is a step's expected signal."""
        layers = {edge.target for edge in self.graph.edges if edge.draw is not None}
        if self._draws != 1 or len(layers) == 1:
            yield 1.0
            return
        expected = {product: taken.clone() for product, taken in self.taken.items()}
        cuts = sorted({0.0, 1.0, *(edge.item() for _, low, high in self._limits.values() for edge in (low[0], high[0]))})
        for start, stop in itertools.pairwise(cuts):
            for product, (_, low, high) in self._limits.items():
                self.taken[product].copy_(((low <= start) & (start < high)).view(-1, 1, 1, 1))
            yield stop - start
        for product, taken in expected.items():
            self.taken[product].copy_(taken)

    def switch(self) -> None:
        """Draw between the edges of each layer, for this step: every replica from its own stream."""
        u = torch.stack([torch.rand(self._draws, dtype=torch.float64, generator=g) for g in self.switches], dim=1)
        for product, (draw, low, high) in self._limits.items():
            self.taken[product].copy_(((low <= u[draw]) & (u[draw] < high)).view_as(self.taken[product]))

    def _widest(self, source: Source) -> int:
        return max(self.graph.widths[edge.target] for edge in self.graph.edges if (edge.source, edge.carrier) == (source, Carrier.SHARED))

    def _draw(self, product: Product) -> None:
        shape = rows, width = self.graph.width(product.source), self.graph.widths[product.targets.start]
        shared = product.carrier is Carrier.SHARED
        if shared and self.spec != "initial-weights":
            # The same numbers for every width: each draws the widest matrix from a fresh stream, at the size of its own width.
            draw, widest = distribution(self.spec), self._widest(product.source)
            for replica, seed in enumerate(self.seeds):
                g = generator(seed, f"feedback/{product.source}")
                self.matrices[product.targets.start][0, replica] = draw((rows, widest), rows, width, g)[:, :width]
            return
        for layer, matrix in zip(product.targets, self.matrices[product.targets.start], strict=not shared):
            if self.spec == "initial-weights":
                above = layer + 1 if layer < self.graph.depth else "error"
                if product.source != above or product.carrier.redrawn or shared:
                    raise DfaLibError(f"'initial-weights' copies W_{layer + 1} once, which does not fit the edge "
                                      f"{product.source}->h{layer} through {product.carrier.value}")  # fmt: skip
                matrix.copy_(self.network.weights[layer + 1])
            else:
                draw = distribution(self.spec)
                for replica, g in enumerate(self.generators):
                    matrix[replica] = draw(shape, *shape, g)
            if product.carrier is Carrier.SIGN:
                matrix.copy_(matrix.square().mean(dim=(1, 2), keepdim=True).sqrt().expand_as(matrix))
            elif product.carrier.signed:
                matrix.abs_()

    def redraw(self) -> None:
        """Draw anew what the graph says is redrawn at every step."""
        for product in self.products:
            if product.carrier.redrawn:
                self._draw(product)

    def matrix(self, layer: int) -> Tensor:
        """The stored feedback matrix into hidden layer `layer`, (R, n_source, n_layer). Raises `DfaLibError` if it has none."""
        for product in self.products:
            if layer in product.targets and product.carrier.stored:
                return self.matrices[product.targets.start][min(layer - product.targets.start, product.matrices - 1)]
        raise DfaLibError(f"{self.graph.name} stores no feedback matrix for hidden layer {layer}")

    def bind(self, work: Workspace, signals: dict[int, Tensor] | None = None) -> Callable[[], None]:
        """The feedback phase on one workspace: a function that reads `work.e` and fills `work.delta`.

        With `signals`, the signal at h_i, before the gate, is kept there by layer, (R, batch, n).
        """
        steps: list[Callable[[], object]] = []
        left = Counter(edge.target for edge in self.graph.edges)
        for span in work.delta.cut({edge.target for edge in self.graph.edges if edge.draw is not None}):
            steps.append(work.delta.span(span).zero_)
        for product in self.products:
            source, delta = self._source(product, work, steps), work.delta.span(product.targets)
            signal = torch.empty_like(delta) if product.drawn else delta
            steps += self._product(product, source, signal)
            if product.keep_norm:
                steps.append(lambda d=signal, s=source: d.mul_((_norm(s) / _norm(d)).nan_to_num_(0.0, 0.0, 0.0)))
            if product.drawn:
                steps.append(lambda d=delta, s=signal, taken=self.taken[product]: d.addcmul_(s, taken))
            left.subtract(product.targets)
            for span in work.delta.cut({layer for layer in product.targets if not left[layer]}):
                steps += self._finish(span, product.gate, work, signals)

        def phase() -> None:
            for step in steps:
                step()

        return phase

    def _finish(
        self, layers: range, gate: bool, work: Workspace, signals: dict[int, Tensor] | None
    ) -> list[Callable[[], object]]:
        """From the signals at h to the deltas at a, for a span of layers."""
        steps: list[Callable[[], object]] = []
        delta = work.delta.span(layers)
        if signals is not None:
            steps.append(lambda: signals.update(zip(layers, delta.clone(), strict=True)))
        if work.mask is not None:
            mask = work.mask.span(layers)
            steps.append(lambda: delta.mul_(mask))
        if gate:
            f_prime, h, a = self.network.unit.gate, work.h.span(layers), work.a.span(layers) if work.a else None
            steps.append(lambda: f_prime(delta, h, a))
        if self.bottleneck and self.bottleneck[0] in layers:
            layer, n = self.bottleneck
            steps.append(delta[layer - layers.start, ..., n:].zero_)
        if work.norm is not None:
            steps.append(work.norm.backward(layers, delta))
        return steps

    def _source(self, product: Product, work: Workspace, steps: list[Callable[[], object]]) -> Tensor:
        """The source as (R, batch, n_source), appending what must be done at every step to have it so."""
        if product.source == "error":
            source = work.e
        elif product.source == "target":
            source = torch.empty_like(work.e)
            steps.append(lambda: torch.mul(work.y, -work.error_scale, out=source))
        else:
            source = work.delta[product.source]
        return source

    def _product(self, product: Product, source: Tensor, delta: Tensor) -> list[Callable[[], object]]:
        first, network = product.targets.start, self.network
        into = delta.view(-1, *delta.shape[2:])
        if product.carrier is Carrier.TRANSPOSED:
            return [lambda w=network.weights[first + 1]: torch.bmm(source, w, out=into)]
        if product.carrier is Carrier.FORWARD:
            return [lambda w=network.weights[first].transpose(1, 2): torch.bmm(source, w, out=into)]
        matrix = self.matrices[first].view(-1, *self.matrices[first].shape[2:])
        if product.carrier is Carrier.SHARED:
            first, others = delta[0], delta[1:]
            return [lambda: torch.bmm(source, matrix, out=first)] + [lambda: others.copy_(first)] * (len(others) > 0)
        if not product.carrier.signed:
            m, (replicas, batch, width) = len(product.targets), source.shape
            wide = source.expand(m, *source.shape)
            if m == 1 or replicas == 1:
                wide = wide.view(m * replicas, batch, width)
                return [lambda: torch.bmm(wide, matrix, out=into)]
            copy = torch.empty_like(wide, memory_format=torch.contiguous_format)
            flat = copy.view(m * replicas, batch, width)
            return [lambda: copy.copy_(wide), lambda: torch.bmm(flat, matrix, out=into)]
        weight, signed = network.weights[first + 1], torch.empty_like(matrix)
        return [lambda: torch.sign(weight, out=signed).mul_(matrix), lambda: torch.bmm(source, signed, out=into)]

    def state(self) -> dict[str, Tensor]:
        """The feedback matrices by name, as views: they belong to the saved state, for a network is aligned to them."""
        return {f"feedback{first}": matrix for first, matrix in self.matrices.items()}


def _norm(x: Tensor) -> Tensor:
    """The norm along the last dimension, which is kept as one. Scaled first, so that the squares of tiny deltas do not underflow."""
    largest = x.abs().amax(dim=-1, keepdim=True).clamp_(min=torch.finfo(x.dtype).tiny)
    return (x / largest).norm(dim=-1, keepdim=True).mul_(largest)


# --- output errors -------------------------------------------------------------------------------------------------------
# Each loss gives the loss of every example, (R, batch), and writes e = dLoss/da_{L+1} into work.e, scaled by
# work.error_scale: 1 for the batch's sum, 1 / batch for its mean, the same for every layer that e reaches.


def cross_entropy(output: Tensor, y: Tensor, e: Tensor | None = None) -> Tensor:
    """Softmax and cross-entropy: e = softmax(a) - y."""
    log_p = torch.log_softmax(output, dim=-1)
    if e is not None:
        torch.exp(log_p, out=e).sub_(y)
    return -(log_p * y).sum(dim=-1)


def binary_cross_entropy(output: Tensor, y: Tensor, e: Tensor | None = None) -> Tensor:
    """Logistic outputs, binary cross-entropy summed over outputs (Nøkland, equations 4 and 5): e = sigmoid(a) - y."""
    if e is not None:
        torch.sigmoid(output, out=e).sub_(y)
    return torch.nn.functional.binary_cross_entropy_with_logits(output, y, reduction="none").sum(dim=-1)


def squared_error(output: Tensor, y: Tensor, e: Tensor | None = None) -> Tensor:
    """Linear outputs and half the squared error: e = a - y."""
    difference = torch.sub(output, y, out=e) if e is not None else output - y
    return 0.5 * difference.square().sum(dim=-1)


LOSSES = {"cross-entropy": cross_entropy, "binary-cross-entropy": binary_cross_entropy, "squared-error": squared_error}
