"""Networks: parameters, initial values, and the forward pass with everything that feedback needs kept.

R independent replicas (seeds) are trained in one batched run, so every tensor has a replica dimension R. Layers of equal
shape stand in one stack, layer first: weights (m, R, n_out, n_in), hidden activations (m, R, batch, n). A single layer is
a contiguous slice of its stack, and work on a whole stack is one call into torch whatever the depth.

    a_i = W_i h_{i-1} + b_i,    h_i = f(a_i)      (row vectors in code: a = h @ W.T + b)

With batch normalisation f sees a_i normalised, and a_i stays the output of the affine map: delta_i is the update direction there.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .convolution import Ties, spread
from .errors import DfaLibError, unknown

# --- random numbers ----------------------------------------------------------------------------------------------------


def generator(seed: int, stream: str, device: str | torch.device = "cpu") -> torch.Generator:
    """An independent stream of random numbers for one purpose ('init', 'feedback', 'dropout', 'order/3') of one seed.

    Separate streams let BP and FA of one seed start from the same weights and see the same batches.
    """
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _uniform(bound: float, shape: tuple[int, int], g: torch.Generator, low: float | None = None) -> Tensor:
    return torch.empty(shape, dtype=torch.float64).uniform_(-bound if low is None else low, bound, generator=g)


def _normal(deviation: float, shape: tuple[int, int], g: torch.Generator) -> Tensor:
    return torch.empty(shape, dtype=torch.float64).normal_(0.0, deviation, generator=g)


def _truncated_normal(deviation: float, shape: tuple[int, int], g: torch.Generator) -> Tensor:
    empty = torch.empty(shape, dtype=torch.float64)
    return torch.nn.init.trunc_normal_(empty, std=deviation, a=-2 * deviation, b=2 * deviation, generator=g)


def _orthogonal(gain: float, shape: tuple[int, int], g: torch.Generator) -> Tensor:
    return torch.nn.init.orthogonal_(torch.empty(shape, dtype=torch.float64), gain=gain, generator=g)


#: name -> draw(shape, n_from, n_to, generator, *arguments). `n_from` is the width that a matrix reads from and `n_to` the
#: one it writes to: for forward weights these are fan-in and fan-out; for feedback, the width of the source and of the layer
#: that learns. The papers' 'fan-out' of a feedback matrix can be read as either: uniform-from and uniform-to.
#: normal-from-to is Launay, Poli and Krzakala's normalised feedback, beside their raw normal(1): a matrix of norm 1, so that the
#: signal's norm is |e| / sqrt(n_out) whatever the width (both in the mean square).
#: Feedback from e as large as the initial output weights, where hidden layers are equally wide: uniform-to beside weights that
#: are uniform-from, normal-to beside normal-from, and a Xavier, orthogonal or plain one beside itself.
DISTRIBUTIONS: dict[str, Callable[..., Tensor]] = {
    "zeros": lambda shape, f, t, g: torch.zeros(shape, dtype=torch.float64),
    "uniform-from": lambda shape, f, t, g: _uniform(1 / math.sqrt(f), shape, g),
    "uniform-to": lambda shape, f, t, g: _uniform(1 / math.sqrt(t), shape, g),
    "uniform": lambda shape, f, t, g, bound: _uniform(bound, shape, g),
    "uniform01": lambda shape, f, t, g: _uniform(1.0, shape, g, low=0.0),
    "normal": lambda shape, f, t, g, deviation: _normal(deviation, shape, g),
    "normal-from": lambda shape, f, t, g: _normal(1 / math.sqrt(f), shape, g),
    "normal-to": lambda shape, f, t, g: _normal(1 / math.sqrt(t), shape, g),
    "normal-from-to": lambda shape, f, t, g: _normal(1 / math.sqrt(f * t), shape, g),
    "truncated-normal": lambda shape, f, t, g, deviation: _truncated_normal(deviation, shape, g),
    "xavier-uniform": lambda shape, f, t, g: _uniform(math.sqrt(6 / (f + t)), shape, g),
    "xavier-normal": lambda shape, f, t, g: _normal(math.sqrt(2 / (f + t)), shape, g),
    "he-normal": lambda shape, f, t, g: _normal(math.sqrt(2 / f), shape, g),
    "orthogonal": lambda shape, f, t, g, gain=1.0: _orthogonal(gain, shape, g),
}


def distribution(spec: str) -> Callable[[tuple[int, int], int, int, torch.Generator], Tensor]:
    """The sampler behind a name such as "uniform-from" or "normal(0.1)": draw(shape, n_from, n_to, generator) in float64.

    "-uniform-to" draws the same numbers with the opposite signs. Raises `DfaLibError` for an unknown name or a wrong number of arguments.
    """
    if spec.startswith("-"):
        opposite = distribution(spec[1:])
        return lambda shape, n_from, n_to, g: -opposite(shape, n_from, n_to, g)
    match = re.fullmatch(r"([a-z0-9-]+)(?:\(([-+.\de, ]+)\))?", spec)
    name = match[1] if match else spec
    if name not in DISTRIBUTIONS:
        raise unknown("distribution", name, DISTRIBUTIONS)
    try:
        arguments = [float(a) for a in match[2].split(",")] if match and match[2] else []
    except ValueError:
        raise DfaLibError(f"distribution {spec!r}: {match[2]!r} is no number, nor numbers with commas between them") from None
    draw = DISTRIBUTIONS[name]
    most = draw.__code__.co_argcount - 4
    least = most - len(draw.__defaults__ or ())
    if not least <= len(arguments) <= most:
        raise DfaLibError(f"distribution {spec!r} takes {most} number(s) in brackets, as in '{name}(0.1)'" if most else
                          f"distribution {name!r} takes no number in brackets; got {spec!r}")  # fmt: skip
    return lambda shape, n_from, n_to, g: draw(shape, n_from, n_to, g, *arguments)


# --- activations ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Activation:
    """A non-linearity f, in place, and its gate: delta <- delta * f'(a), in place, with f' or what stands for it.

    Where f' is a function of h = f(a), a is not kept (`keeps_a`), and its argument in `gate` is None.
    """

    name: str
    apply: Callable[[Tensor], object]
    gate: Callable[[Tensor, Tensor, Tensor | None], object]
    keeps_a: bool = False
    saturated: Callable[[Tensor], Tensor] | None = None  #: h -> whether the unit is within 1 % of a flat end


_aten = torch.ops.aten


def _tanh(h: Tensor) -> None:
    if h.device.type == "cpu":
        # The same memory through numpy, whose vectorised tanh is about ten times faster than torch's and as accurate.
        array = h.numpy()
        np.tanh(array, out=array)
    else:
        h.tanh_()


def _gate_erf(delta: Tensor, h: Tensor, a: Tensor | None) -> None:
    delta.mul_(torch.mul(a, a).mul_(-0.5).exp_()).mul_(math.sqrt(2 / math.pi))


def _gate_hard_tanh(delta: Tensor, h: Tensor, a: Tensor | None) -> None:
    delta.mul_(a.abs() <= 1)


LEAK = 0.01  #: the slope of a leaky ReLU below zero

#: erf is erf(a / sqrt 2), Saad and Solla's unit. sign and threshold have derivative zero: with the gate on, nothing below learns.
#: Their twins with -ste, the straight-through estimator, have the derivative of the hard tanh in its place, 1 where |a| <= 1 and
#: else 0, under every rule (Hubara, Courbariaux, Soudry, El-Yaniv and Bengio 2016, Binarized neural networks, equation 4).
UNITS = {
    unit.name: unit
    for unit in (
        Activation("tanh", _tanh, lambda d, h, a: _aten.tanh_backward.grad_input(d, h, grad_input=d),
                   saturated=lambda h: h.abs() > 0.99),
        Activation("logistic", torch.sigmoid_, lambda d, h, a: _aten.sigmoid_backward.grad_input(d, h, grad_input=d),
                   saturated=lambda h: (h - 0.5).abs() > 0.49),
        Activation("relu", torch.relu_, lambda d, h, a: _aten.threshold_backward.grad_input(d, h, 0, grad_input=d),
                   saturated=lambda h: h <= 0),
        Activation("leaky-relu", lambda h: _aten.leaky_relu_(h, LEAK),
                   lambda d, h, a: _aten.leaky_relu_backward.grad_input(d, h, LEAK, True, grad_input=d)),
        Activation("erf", lambda h: h.mul_(math.sqrt(0.5)).erf_(), _gate_erf, keeps_a=True, saturated=lambda h: h.abs() > 0.99),
        Activation("linear", lambda h: h, lambda d, h, a: None),
        Activation("sign", torch.Tensor.sign_, lambda d, h, a: d.zero_()),
        Activation("threshold", lambda h: h.copy_(h > 0), lambda d, h, a: d.zero_()),
        Activation("sign-ste", torch.Tensor.sign_, _gate_hard_tanh, keeps_a=True),
        Activation("threshold-ste", lambda h: h.copy_(h > 0), _gate_hard_tanh, keeps_a=True),
    )
}  # fmt: skip


# --- layers in stacks ------------------------------------------------------------------------------------------------------


class Stacks:
    """One tensor per run of neighbouring layers of equal shape, layer first; a layer or a span of layers is a view of it."""

    def __init__(self, runs: Sequence[range], tensors: Sequence[Tensor]) -> None:
        self.runs, self.tensors = tuple(runs), tuple(tensors)

    def __getitem__(self, layer: int) -> Tensor:
        return self.span(range(layer, layer + 1))[0]

    def span(self, layers: range) -> Tensor:
        """Layers `layers` as one tensor (m, R, ...); they must stand in one stack."""
        for run, tensor in zip(self.runs, self.tensors, strict=True):
            if layers.start in run and layers.stop <= run.stop:
                return tensor[layers.start - run.start : layers.stop - run.start]
        raise KeyError(layers)

    def cut(self, layers: set[int]) -> list[range]:
        """The longest spans of `layers` that stand in one stack each."""
        spans: list[range] = []
        for run in self.runs:
            for layer in run:
                if layer not in layers:
                    continue
                if spans and spans[-1].stop == layer and spans[-1].start in run:
                    spans[-1] = range(spans[-1].start, layer + 1)
                else:
                    spans.append(range(layer, layer + 1))
        return spans


def width_runs(widths: Sequence[int]) -> list[range]:
    """Runs of neighbouring hidden layers of equal width."""
    runs: list[range] = []
    for i in range(1, len(widths) - 1):
        if runs and widths[i] == widths[i - 1] and i > 1:
            runs[-1] = range(runs[-1].start, i + 1)
        else:
            runs.append(range(i, i + 1))
    return runs


class Network:
    """A fully connected network in R replicas. `weights` (m, R, n_out, n_in), `biases` (m, R, 1, n_out), both as `Stacks`.

    The weights into the first layer of a run of equal widths, and into the output, stand alone. Layers with `ties` are convolutions.
    Raises `DfaLibError` for ties together with batch normalisation, which would loosen them.
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: str = "tanh",
        replicas: int = 1,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        batch_norm: bool = False,
        ties: Mapping[int, Ties] | None = None,
    ) -> None:
        if activation not in UNITS:
            raise unknown("activation", activation, UNITS)
        if batch_norm and ties:
            raise DfaLibError("batch normalisation here is unit by unit, and a convolution's is by channel; leave out one of the two")
        self.widths, self.replicas, self.unit = tuple(widths), replicas, UNITS[activation]
        self.dtype, self.device = dtype, torch.device(device)
        self.depth = len(self.widths) - 2
        out = range(self.depth + 1, self.depth + 2)
        self.runs = width_runs(self.widths)
        matrices = [part for run in self.runs for part in (run[:1], run[1:]) if part] + [out]
        self.weights = Stacks(matrices, [self.empty(len(m), self.widths[m.start], self.widths[m.start - 1]) for m in matrices])
        vectors = [*self.runs, out]
        self.biases = Stacks(vectors, [self.empty(len(v), 1, self.widths[v.start]) for v in vectors])
        self.norm = BatchNorm(self) if batch_norm else None
        self.ties = {layer: tie.to(self.device) for layer, tie in (ties or {}).items()}

    @property
    def parameters(self) -> dict[str, Stacks]:
        """All that learns, by kind."""
        return {"weights": self.weights, "biases": self.biases} | (self.norm.parameters if self.norm else {})

    def empty(self, layers: int, rows: int, columns: int) -> Tensor:
        """A zero tensor (layers, R, rows, columns) of this network's type, on its device."""
        return torch.zeros(layers, self.replicas, rows, columns, dtype=self.dtype, device=self.device)

    def initialise(self, spec: str, seeds: Sequence[int]) -> None:
        """Draw the weights of each replica from its own seed. Biases are drawn like the weights for uniform-from, else zero.

        "uniform-from, zeros above" draws the first layer and zeroes the others. Of a convolution the kernels are drawn, with a
        fan-in and a fan-out of their own.
        """
        spec, _, above = spec.partition(", ")
        if above not in ("", "zeros above"):
            raise DfaLibError(f"unknown addition {above!r} to an initialisation; the one known is 'zeros above'")
        draw = distribution(spec)
        for replica, seed in enumerate(seeds):
            g = generator(seed, "init")
            for i in range(1, self.depth + 2):
                n_out, n_in = self.widths[i], self.widths[i - 1]
                keep = 1.0 if i == 1 or not above else 0.0
                if tie := self.ties.get(i):
                    n_out, n_in = tie.fan_out, tie.fan_in
                    kernels = draw((len(tie.biases), n_in), n_in, n_out, g) * keep
                    biases = draw((1, len(tie.biases)), n_in, n_out, g) * keep if spec == "uniform-from" else torch.zeros(len(tie.biases))
                    spread(kernels.flatten().to(self.weights[i]), tie.weights, self.weights[i][replica].view(-1))
                    spread(biases.flatten().to(self.biases[i]), tie.biases, self.biases[i][replica].view(-1))
                    continue
                self.weights[i][replica] = draw((n_out, n_in), n_in, n_out, g) * keep
                self.biases[i][replica] = draw((1, n_out), n_in, n_out, g) * keep if spec == "uniform-from" else 0.0
        if self.norm:
            self.norm.reset()

    def predict(self, x: Float[Tensor, "n n_in"], chunk: int = 2000) -> Float[Tensor, "replicas n n_out"]:
        """The output a_{L+1} for inputs shared by all replicas, in evaluation mode: no dropout, running statistics."""
        return torch.cat([self._outputs(part) for part in x.to(self.dtype).split(chunk)], dim=1)

    def _outputs(self, x: Tensor) -> Tensor:
        h = x.expand(self.replicas, *x.shape)
        for i in range(1, self.depth + 2):
            h = torch.baddbmm(self.biases[i], h, self.weights[i].transpose(1, 2))
            if i <= self.depth:
                if self.norm:
                    h = self.norm.evaluate(i, h)
                self.unit.apply(h)
        return h

    def state(self) -> dict[str, Tensor]:
        """The parameters, and the running statistics of batch normalisation, by name, as views."""
        kinds = self.parameters | (self.norm.running if self.norm else {})
        return {f"{kind}{k}": tensor for kind, stacks in kinds.items() for k, tensor in enumerate(stacks.tensors)}


class BatchNorm:
    """Batch normalisation of every hidden layer (Ioffe and Szegedy), between its affine map and its activation:

        u = scale * (a - mean) / sqrt(variance + EPS) + shift,    h = f(u)

    unit by unit, each quantity as `Stacks` of (m, R, 1, n). In training, mean and variance are the batch's; in evaluation they
    are the running ones, which every forward pass in training moves by the share `MOMENTUM` towards the batch's mean and
    unbiased variance. Both constants are those of torch.nn.BatchNorm1d.
    """

    EPS, MOMENTUM = 1e-5, 0.1

    def __init__(self, network: Network) -> None:
        def stacks() -> Stacks:
            return Stacks(network.runs, [network.empty(len(run), 1, network.widths[run.start]) for run in network.runs])

        self.parameters = {"scales": stacks(), "shifts": stacks()}
        self.running = {"means": stacks(), "variances": stacks()}
        self.reset()

    def reset(self) -> None:
        """The values before training: scale and variance 1, shift and mean 0."""
        for kind, stacks in (self.parameters | self.running).items():
            for tensor in stacks.tensors:
                tensor.fill_(kind in ("scales", "variances"))

    def evaluate(self, layer: int, a: Tensor, replica: int | slice = slice(None)) -> Tensor:
        """What f sees of a (R, batch, n) in evaluation mode; with `replica`, of that one's a (batch, n)."""
        kinds = (self.running["means"], self.running["variances"], self.parameters["scales"], self.parameters["shifts"])
        mean, variance, scale, shift = (stacks[layer][replica] for stacks in kinds)
        return torch.addcmul(shift, (a - mean).mul_(torch.rsqrt(variance + self.EPS)), scale)


class _NormPass:
    """Batch normalisation on one batch: the forward pass, what it keeps, and the exact backward pass of a delta.

    `into` takes a_i and holds it standardised; the gradients of scale and shift are there after `backward`.
    """

    def __init__(self, network: Network, batch: int, training: bool) -> None:
        def stacks(rows: int) -> Stacks:
            return Stacks(network.runs, [network.empty(len(run), rows, network.widths[run.start]) for run in network.runs])

        self.norm, self.batch, self.training = network.norm, batch, training
        self.into, self.inverse = stacks(batch), stacks(1)  # the inverse of the standard deviation
        self.gradients = {kind: stacks(1) for kind in self.norm.parameters}
        kept = (*self.norm.running.values(), *self.norm.parameters.values(), self.into, self.inverse)
        self._layers = {i: tuple(part[i] for part in kept) for run in network.runs for i in run}

    def forward(self, layer: int, out: Tensor) -> None:
        """From a_i, as `into` has it, to what f sees."""
        mean, variance, scale, shift, x, inverse = self._layers[layer]
        if self.training:
            running = mean, variance
            variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
            running[0].lerp_(mean, self.norm.MOMENTUM)
            running[1].lerp_(variance * (self.batch / max(self.batch - 1, 1)), self.norm.MOMENTUM)
        torch.rsqrt(variance + self.norm.EPS, out=inverse)
        torch.addcmul(shift, x.sub_(mean).mul_(inverse), scale, out=out)

    def backward(self, layers: range, delta: Tensor) -> Callable[[], None]:
        """A function that takes the deltas (m, R, batch, n) of a span of layers from f's argument to a_i, in place."""
        x, inverse = self.into.span(layers), self.inverse.span(layers)
        scale, (of_scale, of_shift) = self.norm.parameters["scales"].span(layers), (g.span(layers) for g in self.gradients.values())

        def phase() -> None:
            torch.sum(delta, dim=2, keepdim=True, out=of_shift)
            torch.sum(delta * x, dim=2, keepdim=True, out=of_scale)
            if self.training:  # the batch's mean and variance depend on a, too
                delta.sub_(of_shift / self.batch).addcmul_(x, of_scale, value=-1 / self.batch)
            delta.mul_(inverse * scale)

        return phase


class Workspace:
    """The buffers of one training step on a batch, made once: inputs, activations, deltas. The forward and feedback products of a step
    write into them.

    `h` are the outputs of f; `z` is what the next layer sees, h times the dropout mask (h itself without dropout); `a` is the
    argument of f, where its derivative needs that. `training` says which statistics batch normalisation takes.
    """

    def __init__(
        self, network: Network, batch: int, reduction: str = "mean", dropout_input: float = 0.0, dropout: float = 0.0,
        training: bool = True,
    ) -> None:  # fmt: skip
        self.network, self.batch = network, batch
        self.error_scale = 1 / batch if reduction == "mean" else 1.0  #: what e is multiplied by, for every layer that it reaches
        self.rates = (dropout_input, dropout)

        def stacks() -> Stacks:
            return Stacks(network.runs, [network.empty(len(run), batch, network.widths[run.start]) for run in network.runs])

        self.x = network.empty(1, batch, network.widths[0])[0]
        self.y = network.empty(1, batch, network.widths[-1])[0]
        self.output = network.empty(1, batch, network.widths[-1])[0]
        self.e = network.empty(1, batch, network.widths[-1])[0]
        self.h, self.delta = stacks(), stacks()
        self.a = stacks() if network.unit.keeps_a else None
        self.norm = _NormPass(network, batch, training) if network.norm else None
        self.z, self.mask, self.mask_x = self.h, None, None
        if dropout:
            self.z = stacks()
            # Replica before layer in memory: each replica's masks come from its own generator in one contiguous draw.
            self.mask = Stacks(network.runs, [t.transpose(0, 1).contiguous().transpose(0, 1) for t in stacks().tensors])
        if dropout_input:
            self.mask_x = torch.zeros_like(self.x)
        inputs = {1: self.x} | {i + 1: self.z[i] for i in range(1, network.depth + 1)}
        hidden = self.norm.into if self.norm else self.a or self.h
        self._layers = [
            (network.biases[i], inputs[i], network.weights[i].transpose(1, 2), self.output if last else hidden[i], last, i)
            for i in range(1, network.depth + 2)
            for last in (i == network.depth + 1,)
        ]

    def inputs(self, layers: range) -> Tensor:
        """What a span of layers in one weight stack reads, (m, R, batch, n_in)."""
        return self.x.unsqueeze(0) if layers.start == 1 else self.z.span(range(layers.start - 1, layers.stop - 1))

    def draw_masks(self, generators: Sequence[torch.Generator]) -> None:
        """New dropout masks: 0 with the dropout rate, else 1 / (1 - rate)."""
        for replica, g in enumerate(generators):
            if self.mask_x is not None:
                self.mask_x[replica].bernoulli_(1 - self.rates[0], generator=g)
            for mask in self.mask.tensors if self.mask else ():
                mask[:, replica].bernoulli_(1 - self.rates[1], generator=g)
        if self.mask_x is not None:
            self.mask_x.mul_(1 / (1 - self.rates[0]))
        for mask in self.mask.tensors if self.mask else ():
            mask.mul_(1 / (1 - self.rates[1]))

    def forward(self) -> None:
        """From `x` to `output`, keeping what the update needs. With dropout, `x` is masked in place by the caller's draw."""
        apply, mask, norm = self.network.unit.apply, self.mask, self.norm
        for bias, below, weight, into, last, i in self._layers:
            torch.baddbmm(bias, below, weight, out=into)
            if last:
                continue
            if norm is not None:
                into = (self.a or self.h)[i]
                norm.forward(i, into)
            if self.a is not None:
                into = self.h[i].copy_(into)
            apply(into)
            if mask is not None:
                torch.mul(into, mask[i], out=self.z[i])
