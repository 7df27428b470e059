"""Update rules over stacked parameters, fused with the weight gradients where that saves a pass over memory.

dW_i = delta_i^T z_{i-1} is a batched product over a stack. Plain SGD adds it to the weights inside that product. The others
form it for one chunk of a stack at a time, small enough to stay in the processor's cache, and update the chunk at once.
The chunks go from the last layer to the first: the forward pass left the last ones in cache, and begins with the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from .config import Optimizer
from .convolution import spread
from .errors import DfaLibError
from .network import Network, Stacks, Workspace

#: Numbers in a chunk of weights: its gradient (2 MiB in float32) is used while it is still in cache. Found by timing 2^15 to 2^20.
CHUNK = 1 << 19
#: Numbers from which torch's fused kernel saves more than the 15 microseconds that calling it takes.
LARGE = 1 << 16


class Updater:
    """Applies an `Optimizer` to the layers of a network that learn. Moments are part of the saved state.

    `lrs` gives each replica a learning rate of its own; without it all take the optimizer's.
    """

    def __init__(self, optimizer: Optimizer, network: Network, learning: set[int], lrs: Sequence[float] | None = None) -> None:
        if lrs is not None and len(lrs) != network.replicas:
            raise DfaLibError(f"{network.replicas} replicas need as many learning rates; got {len(lrs)}")
        self.optimizer, self.network, self.learning = optimizer, network, learning
        numbers = {"dtype": network.dtype, "device": network.device}
        # One rate for all is a number; several, or Adam's, which change from step to step, are a tensor that broadcasts.
        self.lr = optimizer.lr if lrs is None else torch.tensor(lrs, **numbers).view(-1, 1, 1)
        moments = {"sgd": 0, "momentum": 1, "rmsprop": 1, "adam": 2}[optimizer.name]
        self.moments = [
            [torch.zeros_like(tensor) for stacks in network.parameters.values() for tensor in stacks.tensors] for _ in range(moments)
        ]
        self.powers = torch.ones(2, dtype=torch.float64, device=network.device)  #: Adam's momentum^t and decay^t
        self.bases = torch.tensor([optimizer.momentum, optimizer.decay], dtype=torch.float64, device=network.device)
        self.step_size = torch.zeros(network.replicas, 1, 1, **numbers)  #: Adam's lr, corrected for the bias of its moments
        self.eps = torch.zeros((), **numbers)
        self._update = {"sgd": self._sgd, "momentum": self._momentum, "rmsprop": self._rmsprop, "adam": self._adam}[optimizer.name]

    def bind(self, work: Workspace) -> Callable[[], None]:
        """The update on one workspace: a function that reads its deltas and inputs and moves the weights and biases."""
        network, fused = self.network, self.optimizer.name == "sgd" and isinstance(self.lr, float)
        decay = self.optimizer.weight_decay  # always part of the product that makes the gradient, so it costs no call
        steps: list[Callable[[], object]] = []
        scratch: dict[str, Tensor] = {}

        def buffers(shape: torch.Size) -> tuple[Tensor, Tensor]:
            size = math.prod(shape)
            for name in ("gradient", "temporary"):
                if name not in scratch or scratch[name].numel() < size:
                    scratch[name] = torch.empty(size, dtype=network.dtype, device=network.device)
            return scratch["gradient"][:size].view(shape), scratch["temporary"][:size].view(shape)

        def flat(tensor: Tensor) -> Tensor:
            return tensor.view(-1, *tensor.shape[2:])  # never a copy: what does not fit is an error

        free = self.learning - network.ties.keys()
        for span in reversed(network.weights.cut(free)):
            delta = work.e.unsqueeze(0) if span.start == network.depth + 1 else work.delta.span(span)
            z, weight = work.inputs(span), network.weights.span(span)
            moments = [self._moment(k, "weights", span) for k in range(len(self.moments))]
            for layers, rows in reversed(_chunks(weight.shape)):
                w, m = weight[layers, :, rows], [moment[layers, :, rows] for moment in moments]
                d, zz = flat(delta[layers, :, :, rows]).transpose(1, 2), flat(z[layers])
                if fused and w.is_contiguous():
                    steps.append(lambda w=flat(w), d=d, z=zz: w.baddbmm_(d, z, beta=1 - self.lr * decay, alpha=-self.lr))
                    continue
                g, t = buffers(w.shape)
                if self._through_adagrad(w):
                    c = math.sqrt(1 - self.optimizer.decay)
                    steps.append(lambda d=d, z=zz, g=flat(g), c=c: torch.baddbmm(g, d, z, beta=0, alpha=c, out=g))
                    steps.append(self._adagrad(w, g, *m))
                    continue
                if decay:
                    steps.append(lambda w=flat(w), d=d, z=zz, g=flat(g): torch.baddbmm(w, d, z, beta=decay, out=g))
                else:
                    steps.append(lambda d=d, z=zz, g=flat(g): torch.bmm(d, z, out=g))
                steps.append(lambda w=w, g=g, m=m, t=t: self._update(w, g, m, t))
        for span in network.biases.cut(free):
            delta = work.e.unsqueeze(0) if span.start == network.depth + 1 else work.delta.span(span)
            bias, (g, t) = network.biases.span(span), buffers(network.biases.span(span).shape)
            moments = [self._moment(k, "biases", span) for k in range(len(self.moments))]
            steps.append(lambda d=delta, g=g: torch.sum(d, dim=2, keepdim=True, out=g))
            steps.append(lambda b=bias, g=g, m=moments, t=t: self._update(b, g, m, t))
        for layer in sorted(self.learning & network.ties.keys()):
            steps += self._tied(layer, work)
        for kind, gradients in work.norm.gradients.items() if work.norm else ():
            parameters = network.parameters[kind]
            for span in parameters.cut(self.learning):
                p, g, moments = parameters.span(span), gradients.span(span), [self._moment(k, kind, span) for k in range(len(self.moments))]
                steps.append(lambda p=p, g=g, m=moments, t=buffers(p.shape)[1]: self._update(p, g, m, t))

        def phase() -> None:
            if self.optimizer.name == "adam":
                self._correct()
            for step in steps:
                step()

        return phase

    def _tied(self, layer: int, work: Workspace) -> list[Callable[[], object]]:
        """The update of a convolution: the dense gradient, summed over the places of each number of the kernels. Those and their
        moments are taken out, updated, and put back, so that ties hold to the bit."""
        span, tie, steps = range(layer, layer + 1), self.network.ties[layer], []
        delta, z = work.delta[layer], work.inputs(span)[0]
        dense = {kind: torch.empty_like(self.network.parameters[kind][layer]) for kind in ("weights", "biases")}
        steps.append(lambda: torch.bmm(delta.transpose(1, 2), z, out=dense["weights"]))
        steps.append(lambda: torch.sum(delta, dim=1, keepdim=True, out=dense["biases"]))
        for kind, places in (("weights", tie.weights), ("biases", tie.biases)):
            whole = [self.network.parameters[kind].span(span), *(self._moment(k, kind, span) for k in range(len(self.moments)))]
            flat = [tensor.view(*tensor.shape[:2], 1, -1) for tensor in whole]  # never copies
            gradient = dense[kind].view(flat[0].shape)
            decay = self.optimizer.weight_decay if kind == "weights" else 0.0

            def update(flat=flat, gradient=gradient, places=places, decay=decay) -> None:
                w, *moments = (tensor[..., places[:, 0]] for tensor in flat)
                g = gradient[..., places].sum(dim=-1).add_(w, alpha=decay)
                self._update(w, g, moments, torch.empty_like(g))
                for tensor, new in zip(flat, (w, *moments), strict=True):
                    spread(new, places, tensor)

            steps.append(update)
        return steps

    def _moment(self, k: int, kind: str, span: range) -> Tensor:
        offset = 0
        for name, stacks in self.network.parameters.items():
            if name == kind:
                return Stacks(stacks.runs, self.moments[k][offset : offset + len(stacks.tensors)]).span(span)
            offset += len(stacks.tensors)
        raise KeyError(kind)

    # Each takes parameters w (layers, R, rows, columns), their gradient g, their moments, and a buffer t; g and t are free to use.

    def _sgd(self, w: Tensor, g: Tensor, moments: list[Tensor], t: Tensor) -> None:
        self._descend(w, g)

    def _momentum(self, w: Tensor, g: Tensor, moments: list[Tensor], t: Tensor) -> None:
        (v,) = moments
        self._descend(w, v.mul_(self.optimizer.momentum).add_(g))

    def _rmsprop(self, w: Tensor, g: Tensor, moments: list[Tensor], t: Tensor) -> None:
        (v,) = moments
        v.mul_(self.optimizer.decay).addcmul_(g, g, value=1 - self.optimizer.decay)
        denominator = _sqrt(v, t).add_(self.optimizer.eps)
        if isinstance(self.lr, float):
            w.addcdiv_(g, denominator, value=-self.lr)
        else:
            w.addcmul_(g.div_(denominator), self.lr, value=-1)

    def _through_adagrad(self, w: Tensor) -> bool:
        fits = w.device.type == "cpu" and w.is_contiguous() and w.numel() >= LARGE
        return fits and self.optimizer.name == "rmsprop" and isinstance(self.lr, float)

    def _adagrad(self, w: Tensor, g: Tensor, v: Tensor) -> Callable[[], None]:
        """RMSprop of one chunk through torch's fused Adagrad, v <- v + g^2, w <- w - lr g / (sqrt(v) + eps), which takes half
        the time: v is decayed first, and g comes multiplied by sqrt(1 - decay)."""
        lr = self.lr / math.sqrt(1 - self.optimizer.decay)
        decay = self.optimizer.weight_decay * math.sqrt(1 - self.optimizer.decay)
        adagrad = torch.optim.Adagrad([w], lr=lr, eps=self.optimizer.eps, weight_decay=decay, fused=True)
        adagrad.state[w]["sum"], w.grad = v, g

        def update() -> None:
            v.mul_(self.optimizer.decay)
            adagrad.step()

        return update

    def _adam(self, w: Tensor, g: Tensor, moments: list[Tensor], t: Tensor) -> None:
        m, v = moments
        m.lerp_(g, 1 - self.optimizer.momentum)
        v.mul_(self.optimizer.decay).addcmul_(g, g, value=1 - self.optimizer.decay)
        w.addcmul_(torch.div(m, _sqrt(v, t).add_(self.eps), out=t), self.step_size, value=-1)

    def _correct(self) -> None:
        """Adam's step size and eps of this step, kept in tensors so that a captured step can be replayed."""
        self.powers.mul_(self.bases)
        root = (1 - self.powers[1]).sqrt()
        self.step_size.copy_(self.lr * root / (1 - self.powers[0]))
        self.eps.copy_(self.optimizer.eps * root)

    def _descend(self, w: Tensor, direction: Tensor) -> None:
        if isinstance(self.lr, float):
            w.add_(direction, alpha=-self.lr)
        else:
            w.addcmul_(direction, self.lr, value=-1)

    def state(self) -> dict[str, Tensor]:
        """The moments by name, as views, and how far Adam has come."""
        moments = {f"moment{k}.{j}": tensor for k, tensors in enumerate(self.moments) for j, tensor in enumerate(tensors)}
        return moments | ({"powers": self.powers} if self.optimizer.name == "adam" else {})


def _sqrt(v: Tensor, out: Tensor) -> Tensor:
    if v.device.type == "cpu" and v.is_contiguous():
        np.sqrt(v.numpy(), out=out.numpy())  # the same memory; a quarter faster than torch's
        return out
    return torch.sqrt(v, out=out)


def _chunks(shape: torch.Size) -> list[tuple[slice, slice]]:
    """Cuts of a weight stack (layers, R, rows, columns) into pieces of about `CHUNK` numbers: whole layers, or rows of one."""
    layers, replicas, rows, columns = shape
    one = replicas * rows * columns
    if one <= CHUNK:
        size = CHUNK // one
        return [(slice(i, min(i + size, layers)), slice(0, rows)) for i in range(0, layers, size)]
    size = math.ceil(rows / math.ceil(one / CHUNK))
    return [(slice(i, i + 1), slice(r, min(r + size, rows))) for i in range(layers) for r in range(0, rows, size)]
