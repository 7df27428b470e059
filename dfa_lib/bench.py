"""What a step costs on this machine: rules side by side, interleaved in one process, as ratios.

Every contender takes the same batch through a whole training step: gather the examples, forward, deltas, gradients, update.
The baseline is what any user of torch has: autograd, `torch.nn.Linear`, `torch.optim`. The floor of a rule is its own matrix
products and nothing else, timed here in the same rounds: no program made of these products is faster.
"""

from __future__ import annotations

import gc
import importlib.util
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from .config import Config, Optimizer
from .data import Dataset
from .errors import unknown
from .graph import Rule, bdfa, bp, dfa, fa
from .network import Workspace
from .records import machine
from .training import Trainer

NETWORKS = {"2x800": (800,) * 2, "7x240": (240,) * 7, "15x720": (720,) * 15, "100x200": (200,) * 100, "100x240": (240,) * 100}
OPTIMIZERS = {
    "sgd": Optimizer("sgd", lr=1e-6),  # so small that the weights, and with them the arithmetic, stay as they are
    "momentum": Optimizer("momentum", lr=1e-7),
    "rmsprop": Optimizer("rmsprop", lr=1e-8),
    "adam": Optimizer("adam", lr=1e-8, decay=0.999),
}
RULES: dict[str, Rule] = {"BP": bp(), "FA": fa(), "DFA": dfa(), "BDFA(25)": bdfa(25)}


@dataclass(frozen=True)
class Timing:
    """One contender on one network: milliseconds a step (median and quartiles over rounds), and the median over rounds of its
    ratios to the baseline and to its own floor, each taken within a round."""

    network: str
    optimizer: str
    contender: str
    ms: float
    ms_low: float
    ms_high: float
    of_autograd: float
    share_of_floor: float | None  #: floor over step: 1 where nothing but the products takes time


def compare(
    network: str, optimizer: str, batch: int = 64, rounds: int = 15, device: str = "cpu", rules: Sequence[str] = tuple(RULES)
) -> list[Timing]:
    """Time every contender on one network, interleaved. Raises `DfaLibError` for an unknown network or optimizer."""
    for kind, name, known in (("network", network, NETWORKS), ("optimizer", optimizer, OPTIMIZERS)):
        if name not in known:
            raise unknown(kind, name, known)
    hidden, dataset = NETWORKS[network], _noise(4 * batch)
    config = Config(hidden=hidden, optimizer=OPTIMIZERS[optimizer], batch=batch, epochs=1)
    steps: dict[str, Callable[[Tensor], object]] = {"autograd": _autograd(config, dataset, device)}
    floors: dict[str, Callable[[Tensor], object]] = {}
    for name in rules:
        if name == "BDFA(25)" and len(hidden) <= 25:
            continue
        trainer = Trainer(Config(**{**vars(config), "rule": RULES[name]}), [0], dataset, device)
        steps[name], floors[name] = trainer.step, products_alone(trainer, batch)
    if importlib.util.find_spec("biotorch"):
        steps |= {f"biotorch {kind}": _biotorch(config, dataset, device, kind) for kind in ("FA", "DFA")}
    times = _interleaved(steps | {f"floor {name}": step for name, step in floors.items()}, batch, rounds, device)
    base = times["autograd"]
    return [
        Timing(
            network, optimizer, name, statistics.median(times[name]), *_quartiles(times[name]),
            of_autograd=statistics.median(t / b for t, b in zip(times[name], base, strict=True)),
            share_of_floor=statistics.median(f / t for t, f in zip(times[name], times[f"floor {name}"], strict=True))
            if name in floors else None,
        )
        for name in steps
    ]  # fmt: skip


def _interleaved(steps: dict[str, Callable], batch: int, rounds: int, device: str) -> dict[str, list[float]]:
    """Milliseconds a step of every contender, round by round; in a round each takes its turn for about the same time."""
    indices = torch.arange(batch, device=device).unsqueeze(0)

    def timed(step: Callable, count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            step(indices)
        if device != "cpu":
            torch.cuda.synchronize()
        return 1000 * (time.perf_counter() - started) / count

    with torch.inference_mode(False):
        counts = {name: max(1, round(40 / (timed(step, 2) and timed(step, 2)))) for name, step in steps.items()}
        gc.disable()
        try:
            rows = [{name: timed(step, counts[name]) for name, step in steps.items()} for _ in range(rounds)]
        finally:
            gc.enable()
    return {name: [row[name] for row in rows] for name in steps}


def _quartiles(values: list[float]) -> tuple[float, float]:
    low, _, high = statistics.quantiles(values, n=4)
    return low, high


def _noise(n: int) -> Dataset:
    x, y = torch.rand(n, 784, generator=torch.Generator().manual_seed(0)), torch.arange(n) % 10
    return Dataset("noise", x, y, x, y, (1, 28, 28), 10, (), "", "noise: a step's time does not depend on the data", 0)


def _autograd(
    config: Config,
    dataset: Dataset,
    device: str,
    linear: Callable[[int, int], torch.nn.Module] = torch.nn.Linear,
    backward: Callable[[Tensor, Tensor], None] = lambda loss, output: loss.backward(),
) -> Callable:
    """Plain torch: Linear and Tanh in sequence, autograd, torch.optim with the same hyperparameters."""
    widths = (784, *config.hidden, 10)
    layers: list[torch.nn.Module] = []
    for n_in, n_out in zip(widths, widths[1:], strict=False):
        layers += [linear(n_in, n_out), torch.nn.Tanh()]
    model, o = torch.nn.Sequential(*layers[:-1]).to(device), config.optimizer
    optimizer = {
        "sgd": lambda p: torch.optim.SGD(p, lr=o.lr),
        "momentum": lambda p: torch.optim.SGD(p, lr=o.lr, momentum=o.momentum),
        "rmsprop": lambda p: torch.optim.RMSprop(p, lr=o.lr, alpha=o.decay, eps=o.eps),
        "adam": lambda p: torch.optim.Adam(p, lr=o.lr, betas=(o.momentum, o.decay), eps=o.eps),
    }[o.name](model.parameters())
    x, y = dataset.train_x.to(device), dataset.train_y.to(device)

    def step(indices: Tensor) -> None:
        optimizer.zero_grad()
        output = model(x[indices[0]])
        backward(torch.nn.functional.cross_entropy(output, y[indices[0]]), output)
        optimizer.step()

    return step


def _biotorch(config: Config, dataset: Dataset, device: str, kind: str) -> Callable:
    """The same network of biotorch's layers: its FA is autograd with a random backward matrix, its DFA replaces each layer's
    input gradient, computed first, by a projection of the output error (as its `BioModule` does)."""
    from biotorch.layers import dfa as dfa_layers
    from biotorch.layers import fa as fa_layers

    if kind == "FA":
        return _autograd(config, dataset, device, fa_layers.Linear)
    options = {"options": {"constrain_weights": False, "gradient_clip": False, "init": "xavier"}}
    made: list[torch.nn.Module] = []

    def linear(n_in: int, n_out: int) -> torch.nn.Module:
        made.append(dfa_layers.Linear(n_in, n_out, 10, layer_config=options))
        return made[-1]

    def backward(loss: Tensor, output: Tensor) -> None:
        gradient = torch.autograd.grad(loss, output, retain_graph=True)[0]
        for layer in made:
            layer.loss_gradient = gradient
        loss.backward()

    return _autograd(config, dataset, device, linear, backward)


def products_alone(trainer: Trainer, batch: int) -> Callable[[Tensor], None]:
    """The matrix products of one step of a trainer's rule, on its own parameters, with nothing around them."""
    network, work = trainer.network, Workspace(trainer.network, batch)
    with torch.no_grad():
        for stacks in (work.h, work.delta):
            for tensor in stacks.tensors:
                tensor.normal_(std=0.1)
        work.x.normal_()
        work.e.normal_(std=0.1)
    calls = []
    for i in range(1, network.depth + 2):
        below = work.x if i == 1 else work.h[i - 1]
        into = work.output if i == network.depth + 1 else torch.empty_like(work.h[i])
        calls.append((below, network.weights[i].transpose(1, 2), into))
    for product in trainer.feedback.products:
        source = work.e if product.source == "error" else work.delta[product.source]
        delta, first = work.delta.span(product.targets), product.targets.start
        matrix = trainer.feedback.matrices[first] if product.carrier.stored else network.weights[first + 1].unsqueeze(0)
        wide = source.expand(len(product.targets), *source.shape).reshape(-1, *source.shape[1:])
        calls.append((wide, matrix.view(-1, *matrix.shape[2:]), torch.empty_like(delta.view(-1, *delta.shape[2:]))))
    for span in network.weights.cut(trainer.updater.learning):
        delta = work.e.unsqueeze(0) if span.start == network.depth + 1 else work.delta.span(span)
        z, weight = work.inputs(span), network.weights.span(span)
        flat = [t.view(-1, *t.shape[2:]) for t in (delta, z, weight)]
        calls.append((flat[0].transpose(1, 2), flat[1], torch.empty_like(flat[2])))

    def step(_: Tensor) -> None:
        for a, b, into in calls:
            torch.bmm(a, b, out=into)

    return step


def describe(timings: Sequence[Timing], batch: int) -> dict:
    """Timings with the machine that they were read on, as JSON values."""
    cpu = platform.processor() or platform.machine()
    here = {"cpu": cpu, "threads": torch.get_num_threads(), "system": platform.system(), **machine()}
    return {"batch": batch, "machine": here, "timings": [asdict(timing) for timing in timings]}
