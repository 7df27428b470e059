"""Update rules over stacked parameters, fused with the weight gradients where that saves a pass over memory.

dW_i = delta_i^T z_{i-1} is a batched product over a stack. Plain SGD adds it to the weights inside that product. The others
form it for one chunk of a stack at a time, small enough to stay in the processor's cache, and update the chunk at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .config import Optimizer
from .network import Network, Workspace

#: Numbers in a chunk of weights: its gradient (2 MiB in float32) is used while it is still in cache. Found by timing 2^15 to 2^20.
CHUNK = 1 << 19


class Updater:
    """Applies an `Optimizer` to the layers of a network that learn. Moments are part of the saved state."""

    def __init__(self, optimizer: Optimizer, network: Network, learning: set[int]) -> None:
        self.optimizer, self.network, self.learning = optimizer, network, learning
        self.count = 0  #: updates made: Adam's bias correction needs it
        moments = {"sgd": 0, "momentum": 1, "rmsprop": 1, "adam": 2}[optimizer.name]
        self.moments = [
            [torch.zeros_like(tensor) for tensor in (*network.weights.tensors, *network.biases.tensors)] for _ in range(moments)
        ]
        self._update = {"momentum": self._momentum, "rmsprop": self._rmsprop, "adam": self._adam}.get(optimizer.name)

    def bind(self, work: Workspace) -> Callable[[], None]:
        """The update on one workspace: a function that reads its deltas and inputs and moves the weights and biases."""
        network, lr = self.network, self.optimizer.lr
        weight_steps: list[Callable[[], object]] = []
        bias_steps: list[Callable[[], object]] = []
        scratch: dict[str, Tensor] = {}

        def buffers(shape: torch.Size) -> tuple[Tensor, Tensor]:
            size = math.prod(shape)
            for name in ("gradient", "temporary"):
                if name not in scratch or scratch[name].numel() < size:
                    scratch[name] = torch.empty(size, dtype=network.dtype, device=network.device)
            return scratch["gradient"][:size].view(shape), scratch["temporary"][:size].view(shape)

        def flat(tensor: Tensor) -> Tensor:
            return tensor.reshape(-1, *tensor.shape[2:])

        for span in network.weights.cut(self.learning):
            delta = work.e.unsqueeze(0) if span.start == network.depth + 1 else work.delta.span(span)
            z, weight = flat(work.inputs(span)), flat(network.weights.span(span))
            delta_t = flat(delta).transpose(1, 2)
            moments = [flat(self._moment(k, "weights", span)) for k in range(len(self.moments))]
            if self._update is None:
                weight_steps.append(lambda w=weight, d=delta_t, z=z: w.baddbmm_(d, z, alpha=-lr))
                continue
            for index in _chunks(weight.shape):
                w, d, zz = weight[index], delta_t[index], z[index[0]]
                m = [moment[index] for moment in moments]
                g, t = buffers(w.shape)
                weight_steps.append(lambda w=w, d=d, z=zz, m=m, g=g, t=t: (torch.bmm(d, z, out=g), self._update(w, g, m, t)))
        for span in network.biases.cut(self.learning):
            delta = work.e.unsqueeze(0) if span.start == network.depth + 1 else work.delta.span(span)
            bias = network.biases.span(span)
            moments = [self._moment(k, "biases", span) for k in range(len(self.moments))]
            g, t = buffers(bias.shape)

            def step(b: Tensor = bias, d: Tensor = delta, m: list = moments, g: Tensor = g, t: Tensor = t) -> None:
                torch.sum(d, dim=2, keepdim=True, out=g)
                if self._update is None:
                    b.add_(g, alpha=-lr)
                else:
                    self._update(b, g, m, t)

            bias_steps.append(step)

        def phase() -> None:
            self.count += 1
            for step in weight_steps:
                step()
            for step in bias_steps:
                step()

        return phase

    def _moment(self, k: int, kind: str, span: range) -> Tensor:
        stacks = getattr(self.network, kind)
        offset = 0 if kind == "weights" else len(self.network.weights.tensors)
        tensors = self.moments[k][offset : offset + len(stacks.tensors)]
        return type(stacks)(stacks.runs, tensors).span(span)

    def _momentum(self, w: Tensor, g: Tensor, moments: list[Tensor], t: Tensor) -> None:
        (v,) = moments
        w.add_(v.mul_(self.optimizer.momentum).add_(g), alpha=-self.optimizer.lr)

    def _rmsprop(self, w: Tensor, g: Tensor, moments: list[Tensor], t: Tensor) -> None:
        (v,) = moments
        v.mul_(self.optimizer.decay).addcmul_(g, g, value=1 - self.optimizer.decay)
        w.addcdiv_(g, _sqrt(v, t).add_(self.optimizer.eps), value=-self.optimizer.lr)

    def _adam(self, w: Tensor, g: Tensor, moments: list[Tensor], t: Tensor) -> None:
        m, v = moments
        o = self.optimizer
        m.lerp_(g, 1 - o.momentum)
        v.mul_(o.decay).addcmul_(g, g, value=1 - o.decay)
        correction = math.sqrt(1 - o.decay**self.count)
        step = o.lr * correction / (1 - o.momentum**self.count)
        w.addcdiv_(m, _sqrt(v, t).add_(o.eps * correction), value=-step)

    def state(self) -> dict[str, Tensor]:
        """The moments by name, as views."""
        return {f"moment{k}.{j}": tensor for k, tensors in enumerate(self.moments) for j, tensor in enumerate(tensors)}


def _sqrt(v: Tensor, out: Tensor) -> Tensor:
    if v.device.type == "cpu" and v.is_contiguous():
        np.sqrt(v.numpy(), out=out.numpy())  # the same memory; a quarter faster than torch's here
        return out
    return torch.sqrt(v, out=out)


def _chunks(shape: torch.Size) -> list[tuple[slice, slice]]:
    """Cuts of a weight stack (k, rows, columns) into pieces of about `CHUNK` numbers: whole layers, or rows of one."""
    k, rows, columns = shape
    if rows * columns <= CHUNK:
        size = CHUNK // (rows * columns)
        return [(slice(i, min(i + size, k)), slice(0, rows)) for i in range(0, k, size)]
    parts = math.ceil(rows * columns / CHUNK)
    size = math.ceil(rows / parts)
    return [(slice(i, i + 1), slice(r, min(r + size, rows))) for i in range(k) for r in range(0, rows, size)]
