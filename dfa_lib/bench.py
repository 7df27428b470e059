"""What a step costs on this machine: rules side by side, interleaved in one process, as ratios. Chapter 03_cost_of_a_step.

Every contender takes the same batch through a whole training step: gather the examples, forward, deltas, gradients, update.
The baseline is what any user of torch has: autograd, `torch.nn.Linear`, `torch.optim`. The floor of a rule is its own matrix
products and nothing else, timed here in the same rounds: no program made of these products is faster.

Four studies, each a list of rows that is written down with the machine it was measured on: `steps` (networks, optimizers,
contenders), `depth` (the phases of a step against depth), `workers` (a sweep in one process and in two) and `replicas`
(seeds batched in one step, or one after another).
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import json
import math
import os
import platform
import re
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode  # the one place where torch's manual has it

from . import sweep
from .config import Config, Optimizer
from .data import Dataset
from .errors import DfaLibError, unknown
from .experiments import Run
from .graph import Rule, bdfa, bp, dfa, fa, fp
from .network import Workspace
from .optim import CHUNK
from .records import machine, results_dir, write_whole
from .training import Trainer, had, train
from .verdicts import CONTRADICTED, PARTLY, REPRODUCED, Interval

if TYPE_CHECKING:
    import pandas

NETWORKS = {"2x800": (800,) * 2, "7x240": (240,) * 7, "15x720": (720,) * 15, "100x200": (200,) * 100, "100x240": (240,) * 100}
OPTIMIZERS = {
    "sgd": Optimizer("sgd", lr=1e-6),  # so small that the weights, and with them the arithmetic, stay as they are
    "momentum": Optimizer("momentum", lr=1e-7),
    "rmsprop": Optimizer("rmsprop", lr=1e-8),
    "adam": Optimizer("adam", lr=1e-8, decay=0.999),
}
RULES: dict[str, Rule] = {"BP": bp(), "FA": fa(), "DFA": dfa(), "BDFA(25)": bdfa(25)}
DEPTHS = (2, 5, 10, 20, 50, 100, 200)
DEPTH_RULES: dict[str, Rule] = {"BP": bp(), "FA": fa(), "DFA": dfa(), "FP(5)": fp(5), "BDFA(25)": bdfa(25)}
BATCH = 64
#: Milliseconds of one turn: long against the clock, short against the machine's moods.
TURN_MS = 40
#: A round during which other processes took more than this share of a core is measured again, up to so many times the rounds.
QUIET, PATIENCE = 0.1, 2


# --- what is measured --------------------------------------------------------------------------------------------------


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


@dataclass(frozen=True)
class Depth:
    """One rule at one depth: what the graph counts, what the executor calls, and the milliseconds of each phase, round by round."""

    rule: str
    depth: int
    levels: int  #: sequential steps of the feedback phase
    products: int  #: matrix products of the feedback phase
    forward_macs: int
    feedback_macs: int
    gradient_macs: int
    critical_macs: int  #: on the longest chain, every layer having a worker
    calls: int  #: calls into torch's kernels that the feedback phase makes
    called_macs: int  #: multiply-accumulates of the products among those
    ms: Mapping[str, Sequence[float]]  #: forward, feedback, update, and the whole step measured by itself


@dataclass(frozen=True)
class Workers:
    """The same set of runs by so many worker processes: seconds from the call to the last record, round by round."""

    runs: int
    jobs: int
    seconds: Sequence[float]


@dataclass(frozen=True)
class Replicas:
    """Eight seeds trained in one of four ways (`batched`, `turns`, `single`, and `one`: a single seed): seconds, round by round."""

    rule: str
    optimizer: str
    how: str
    seconds: Sequence[float]


STUDIES = {"steps": Timing, "depth": Depth, "workers": Workers, "replicas": Replicas}


@dataclass(frozen=True)
class Report:
    """The rows of one study, with the batch and the machine."""

    study: str
    batch: int
    machine: dict
    rows: tuple

    def provenance(self) -> str:
        """One line for under a figure: where this was measured, and how."""
        m = self.machine
        counts = ", ".join(f"{m[name]} {name[:-1]}" + "s" * (m[name] != 1) for name in ("cores", "threads"))
        software = f"torch {m['versions']['torch'].partition('+')[0]}, {m['blas']}"
        busy = "" if m["others"] is None else f", other load {m['others']:.2f} cores"
        return f"{m['device']}, {counts}, {software}; batches of {self.batch}, medians of {m['rounds']} rounds{busy}"


# --- the clock -----------------------------------------------------------------------------------------------------------


def _interleaved(
    turns: Mapping[str, Callable[[], dict[str, float]]], rounds: int, patience: int = PATIENCE
) -> tuple[list[dict[str, dict[str, float]]], float | None]:
    """What each turn returned, round by round, and the share of a core that other processes took (median over rounds).

    Rounds that others disturbed are measured again, and the quietest are kept.
    """
    taken: list[tuple[float, dict[str, dict[str, float]]]] = []
    while len(taken) < patience * rounds and sum(busy <= QUIET for busy, _ in taken) < rounds:
        started, before = time.perf_counter(), _others_s()
        row = {name: turn() for name, turn in turns.items()}
        seconds = time.perf_counter() - started
        taken.append(((_others_s() - before) / seconds, row))
    kept = sorted(taken, key=lambda pair: pair[0])[:rounds]
    known = Path("/proc/stat").exists()
    return [row for _, row in kept], max(0.0, statistics.median(busy for busy, _ in kept)) if known else None


def _others_s() -> float:
    """Seconds of processor time that all processes but this one and its finished children have taken since the start; 0 where
    the system does not say."""
    try:
        user, nice, system, _, _, irq, soft, steal = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    except OSError:
        return 0.0
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


@contextlib.contextmanager
def _settled(threads: int) -> Iterator[None]:
    """So many threads, no garbage collection, and as in training no denormal numbers: at 100 layers those slow the baseline."""
    before, collected = torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(threads)
    flushed = torch.set_flush_denormal(True)
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if flushed:
            torch.set_flush_denormal(False)
        if collected:
            gc.enable()


def _seconds(call: Callable[[], object], device: str = "cpu") -> float:
    started = time.perf_counter()
    call()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _turn(step: Callable[[Tensor], object], indices: Tensor, device: str, ours: bool) -> Callable[[], dict[str, float]]:
    """A turn of a contender: one step that brings its numbers into cache, then as many timed ones as fill `TURN_MS`."""

    def steps(count: int) -> float:
        def call() -> None:
            for _ in range(count):
                step(indices)

        with torch.inference_mode(ours):  # as `training.train` does; autograd cannot
            step(indices)
            return 1000 * _seconds(call, device) / count

    steps(1)  # buffers are made, libraries loaded
    count = max(2, round(TURN_MS / steps(2)))
    return lambda: {"step": steps(count)}


# --- steps ---------------------------------------------------------------------------------------------------------------


def compare(
    network: str, optimizer: str, batch: int = BATCH, rounds: int = 15, device: str = "cpu", rules: Sequence[str] = tuple(RULES)
) -> list[Timing]:
    """Time every contender on one network, interleaved. Raises `DfaLibError` for an unknown network or optimizer."""
    return _compare(network, optimizer, batch, rounds, device, rules)[0]


def _compare(
    network: str, optimizer: str, batch: int, rounds: int, device: str, rules: Sequence[str], patience: int = PATIENCE
) -> tuple[list[Timing], float | None]:
    for kind, name, known in (("network", network, NETWORKS), ("optimizer", optimizer, OPTIMIZERS)):
        if name not in known:
            raise unknown(kind, name, known)
    dataset = noise(4 * batch)
    base = Config(hidden=NETWORKS[network], optimizer=OPTIMIZERS[optimizer], batch=batch, epochs=1)
    yours = {"autograd": autograd(base, dataset, device)}
    if importlib.util.find_spec("biotorch"):
        yours |= {f"biotorch {kind}": biotorch(base, dataset, device, kind) for kind in ("FA", "DFA")}
    ours: dict[str, Callable[[Tensor], object]] = {}
    for name in rules:
        if name == "BDFA(25)" and len(base.hidden) <= 25:  # one block: DFA
            continue
        with torch.inference_mode():
            trainer = Trainer(Config(**{**vars(base), "rule": RULES[name]}), [0], dataset, device)
            ours |= {name: trainer.step, f"floor of {name}": products_alone(trainer, batch)}
    indices = torch.arange(batch, device=device).unsqueeze(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using a non-full backward hook", FutureWarning)  # biotorch's, once a layer and step
        turns = {name: _turn(step, indices, device, name in ours) for name, step in (yours | ours).items()}
        taken, others = _interleaved(turns, rounds, patience)
    times = {name: [row[name]["step"] for row in taken] for name in turns}
    return [
        Timing(
            network, optimizer, name, *_quartiles(times[name]),
            of_autograd=_ratio(times[name], times["autograd"]),
            share_of_floor=_ratio(times[f"floor of {name}"], times[name]) if name in ours else None,
        )
        for name in ("autograd", *(name for name in ours if not name.startswith("floor")), *list(yours)[1:])
    ], others  # fmt: skip


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, lower and upper quartile."""
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return middle, low, high


def _ratio(above: Sequence[float], below: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def noise(n: int) -> Dataset:
    """MNIST's shape without its digits: a step's time does not depend on them."""
    x, y = torch.rand(n, 784, generator=torch.Generator().manual_seed(0)), torch.arange(n) % 10
    return Dataset("noise", x, y, x, y, (1, 28, 28), 10, (), "", "noise: a step's time does not depend on the data", 0)


def autograd(
    config: Config,
    dataset: Dataset,
    device: str = "cpu",
    linear: Callable[[int, int], torch.nn.Module] = torch.nn.Linear,
    backward: Callable[[Tensor, Tensor], None] = lambda loss, output: loss.backward(),
) -> Callable[[Tensor], None]:
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


def biotorch(config: Config, dataset: Dataset, device: str, kind: str) -> Callable[[Tensor], None]:
    """The same network of biotorch's layers: its FA is autograd with a random backward matrix, its DFA replaces each layer's
    input gradient, computed first, by a projection of the output error (as its `BioModule` does)."""
    from biotorch.layers import dfa as dfa_layers
    from biotorch.layers import fa as fa_layers

    if kind == "FA":
        return autograd(config, dataset, device, fa_layers.Linear)
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

    return autograd(config, dataset, device, linear, backward)


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
    gradients, buffers = [], {}
    for span in network.weights.cut(trainer.updater.learning):
        delta = work.e.unsqueeze(0) if span.start == network.depth + 1 else work.delta.span(span)
        z, shape = work.inputs(span), network.weights.span(span).shape
        size = max(1, CHUNK // math.prod(shape[1:]))
        for i in range(0, len(span), size):
            d, zz = (t[i : i + size].view(-1, *t.shape[2:]) for t in (delta, z))
            into = buffers.setdefault(shape[1:], torch.zeros(min(size, len(span)), *shape[1:], device=work.x.device))
            gradients.append((d.transpose(1, 2), zz, into[: len(d) // shape[1]].view(-1, *shape[2:])))

    def step(_: Tensor) -> None:
        for a, b, into in calls:
            torch.bmm(a, b, out=into)
        for a, b, into in gradients:  # added up in place, which is a little faster, and into a buffer that stays in cache
            into.baddbmm_(a, b, alpha=1e-6)

    return step


# --- depth ---------------------------------------------------------------------------------------------------------------


def phases(trainer: Trainer, batch: int) -> dict[str, Callable[[Tensor], object]]:
    """A trainer's step taken apart: called in this order, the three do what `Trainer.step` does, on the same weights."""
    work = Workspace(trainer.network, batch, trainer.config.reduction)
    feedback, update = trainer.feedback.bind(work), trainer.updater.bind(work)
    x, y = work.x.view(-1, work.x.shape[-1]), work.y.view(-1, work.y.shape[-1])

    def forward(indices: Tensor) -> None:
        """Gather, forward pass, loss and output error."""
        flat = indices.reshape(-1)
        torch.index_select(trainer.train_x, 0, flat, out=x)
        torch.index_select(trainer.one_hot, 0, flat, out=y)
        work.forward()
        trainer.loss(work.output, work.y, work.e)
        work.e.mul_(work.error_scale)

    return {"forward": forward, "feedback": lambda _: feedback(), "update": lambda _: update()}


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls, self.macs = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        name = func.overloadpacket.__name__
        if name in ("bmm", "baddbmm", "baddbmm_"):
            a, b = args[-2:]
            self.macs += a.numel() * b.shape[-1]
        return func(*args, **(kwargs or {}))


def count(call: Callable[[], object]) -> tuple[int, int]:
    """How many of torch's kernels `call` calls, and the multiply-accumulates of the batched products among them."""
    with torch.inference_mode(), _Counter() as counter:
        call()
    return counter.calls, counter.macs


def depth(
    depths: Sequence[int] = DEPTHS, width: int = 200, batch: int = BATCH, rounds: int = 15, device: str = "cpu",
    rules: Mapping[str, Rule] = DEPTH_RULES,
) -> list[Depth]:  # fmt: skip
    """Count and time the phases of a step, plain SGD, for each rule at each depth that it can have, all interleaved."""
    return _depth(depths, width, batch, rounds, device, rules)[0]


def _depth(depths, width, batch, rounds, device, rules, patience=PATIENCE) -> tuple[list[Depth], float | None]:
    indices, made, turns = torch.arange(batch, device=device).unsqueeze(0), [], {}
    for layers in depths:
        for name, rule in rules.items():
            if dict(rule.options).get("k", 0) > layers:  # FP(k) needs k layers
                continue
            trainer, parts = _taken_apart(rule, layers, width, batch, device)
            made.append(_counted(name, trainer, parts, batch))
            turns[f"{name}/{layers}"] = _phased(trainer, parts, indices, device)
    taken, others = _interleaved(turns, rounds, patience)
    for k, row in enumerate(made):
        mine = [each[f"{row.rule}/{row.depth}"] for each in taken]
        made[k] = replace(row, ms={part: [each[part] for each in mine] for part in mine[0]})
    return made, others


def counted(name: str, layers: int, width: int = 200, batch: int = BATCH) -> Depth:
    """What `depth` counts for one of `DEPTH_RULES`, without its timings: the same on every machine."""
    if name not in DEPTH_RULES:
        raise unknown("rule", name, DEPTH_RULES)
    return _counted(name, *_taken_apart(DEPTH_RULES[name], layers, width, batch, "cpu"), batch)


def _taken_apart(
    rule: Rule, layers: int, width: int, batch: int, device: str
) -> tuple[Trainer, dict[str, Callable[[Tensor], object]]]:
    config = Config(hidden=(width,) * layers, rule=rule, optimizer=OPTIMIZERS["sgd"], batch=batch, epochs=1)
    with torch.inference_mode():
        trainer = Trainer(config, [0], noise(4 * batch), device)
        return trainer, phases(trainer, batch)


def _counted(name: str, trainer: Trainer, parts: dict[str, Callable[[Tensor], object]], batch: int) -> Depth:
    indices = torch.arange(batch, device=trainer.device).unsqueeze(0)
    with torch.inference_mode():
        parts["forward"](indices)
    calls, called = count(lambda: parts["feedback"](indices))
    c = trainer.feedback.graph.cost(batch)
    macs = {f"{kind}_macs": getattr(c, f"{kind}_macs") for kind in ("forward", "feedback", "gradient", "critical")}
    return Depth(name, trainer.network.depth, c.sequential_steps, c.products, calls=calls, called_macs=called, ms={}, **macs)


def _phased(trainer: Trainer, parts: dict[str, Callable[[Tensor], object]], indices: Tensor, device: str) -> Callable:
    """A turn that times the phases, each where it stands in a step, and then whole steps."""
    whole = _turn(trainer.step, indices, device, ours=True)
    repeats = max(2, round(TURN_MS / whole()["step"]))

    def turn() -> dict[str, float]:
        spent = dict.fromkeys(parts, 0.0)
        with torch.inference_mode():
            for _ in range(repeats):
                for name, part in parts.items():
                    spent[name] += _seconds(lambda part=part: part(indices), device)
        return {name: 1000 * seconds / repeats for name, seconds in spent.items()} | whole()

    return turn


def power(x: Sequence[float | int], y: Sequence[float | int]) -> Interval:
    """The exponent p of y ~ x^p: the slope of log y against log x, with its 95 % interval from the scatter about the line."""
    from scipy import stats

    if len(set(y)) == 1:
        return Interval(0.0, 0.0, 0.0, len(x))
    fit = stats.linregress([math.log(v) for v in x], [math.log(v) for v in y])
    half = float(stats.t.ppf(0.975, len(x) - 2)) * float(fit.stderr)
    return Interval(float(fit.slope), float(fit.slope) - half, float(fit.slope) + half, len(x))


def constant(exponent: Interval, tolerance: float = 0.1) -> str:
    """The verdict on 'constant in x': reproduced where the whole interval lies within the tolerance of 0, contradicted where it
    lies outside, else partly."""
    if -tolerance <= exponent.low and exponent.high <= tolerance:
        return REPRODUCED
    return CONTRADICTED if exponent.low > tolerance or exponent.high < -tolerance else PARTLY


#: Ways to ask whether a step is constant in depth, two counted and two measured: a name, and how to read it from a row.
READINGS: dict[str, Callable[[Depth], float]] = {
    "feedback steps": lambda row: row.levels,
    "feedback time": lambda row: statistics.median(row.ms["feedback"]),
    "longest chain": lambda row: row.critical_macs,
    "step time": lambda row: statistics.median(row.ms["step"]),
}


@dataclass(frozen=True)
class Growth:
    """How one reading of one rule grows with depth, and what that says of 'constant in the depth'."""

    rule: str
    reading: str
    exponent: Interval
    outcome: str


def growth(report: Report, tolerance: float = 0.1) -> list[Growth]:
    """Claim B9, rule by rule and reading by reading, from the records of a depth study."""
    made = []
    for rule in DEPTH_RULES:
        rows = [row for row in report.rows if row.rule == rule]
        for reading, value in READINGS.items():
            exponent = power([row.depth for row in rows], [value(row) for row in rows])
            made.append(Growth(rule, reading, exponent, constant(exponent, tolerance)))
    return made


def together(outcomes: Sequence[str]) -> str:
    """The verdict on a claim from those on its readings: theirs where they agree, else partly."""
    return outcomes[0] if len(set(outcomes)) == 1 else PARTLY


# --- workers and replicas ------------------------------------------------------------------------------------------------


def workers(runs: Sequence[int] = (4, 16), jobs: Sequence[int] = (1, 2), steps: int = 1000, rounds: int = 3) -> list[Workers]:
    """Seconds of small sweeps (DFA on 7x240, the embedded digits) by so many worker processes, start-up included."""
    return _workers(runs, jobs, steps, rounds)[0]


def _workers(runs, jobs, steps, rounds, patience=1) -> tuple[list[Workers], float | None]:
    config = Config(data="digits-5k", hidden=NETWORKS["7x240"], rule=dfa(), optimizer=OPTIMIZERS["rmsprop"], steps=steps)

    def turn(n: int, j: int) -> dict[str, float]:
        work = [Run("bench", "DFA", "smoke", config, seed) for seed in range(n)]
        with tempfile.TemporaryDirectory() as folder:
            return {"s": _seconds(lambda: sweep.run(work, jobs=j, directory=folder))}

    kinds = [(n, j) for n in runs for j in jobs]
    turn(1, 1)  # the data set is read, libraries are loaded
    taken, others = _interleaved({f"{n}/{j}": lambda n=n, j=j: turn(n, j) for n, j in kinds}, rounds, patience)
    return [Workers(n, j, [row[f"{n}/{j}"]["s"] for row in taken]) for n, j in kinds], others


def replicas(
    rules: Sequence[str] = ("BP", "DFA"), optimizers: Sequence[str] = ("sgd", "rmsprop"), seeds: int = 8, steps: int = 100,
    rounds: int = 5, device: str = "cpu",
) -> list[Replicas]:  # fmt: skip
    """Seconds of training so many seeds of 7x240: batched in one step, in turns in one call, in single calls, and one seed."""
    return _replicas(rules, optimizers, seeds, steps, rounds, device)[0]


def _replicas(rules, optimizers, seeds, steps, rounds, device, patience=PATIENCE) -> tuple[list[Replicas], float | None]:
    dataset, turns = noise(10 * BATCH), {}
    for rule in rules:
        for optimizer in optimizers:
            base = Config(hidden=NETWORKS["7x240"], steps=steps, evaluate_every=steps)
            config = replace(base, rule=RULES[rule], optimizer=OPTIMIZERS[optimizer])
            each = list(range(seeds))
            ways = {
                "batched": lambda c=config: train(c, each, dataset, device, batched=True),
                "turns": lambda c=config: train(c, each, dataset, device, batched=False),
                "single": lambda c=config: [train(c, [seed], dataset, device) for seed in each],
                "one": lambda c=config: train(c, [0], dataset, device),
            }
            turns |= {(rule, optimizer, how): lambda call=call: {"s": _seconds(call, device)} for how, call in ways.items()}
    taken, others = _interleaved({"/".join(key): turn for key, turn in turns.items()}, rounds, patience)
    return [Replicas(*key, seconds=[row["/".join(key)]["s"] for row in taken]) for key in turns], others


# --- reports -------------------------------------------------------------------------------------------------------------


def measure(
    study: str = "steps", networks: Sequence[str] | None = None, optimizers: Sequence[str] = ("sgd", "rmsprop"), threads: int = 1,
    rounds: int | None = None, device: str = "cpu", told: Callable[[str], None] = lambda what: None, patience: int | None = None,
    **options: object,
) -> Report:  # fmt: skip
    """Make one study; `told(what)` is called before each part. `networks` belong to `steps`, `optimizers` also to `replicas`;
    `options` go to the study's own function. Disturbed rounds are repeated, up to `patience` times as many as asked for. Raises
    `DfaLibError` for an unknown study, network, optimizer or device."""
    if study not in STUDIES:
        raise unknown("study", study, STUDIES)
    networks = list(NETWORKS) if networks is None else networks
    for kind, names, known in (("network", networks, NETWORKS), ("optimizer", optimizers, OPTIMIZERS)):
        for name in names:
            if name not in known:
                raise unknown(kind, name, known)
    had(device)
    if study == "workers" and device != "cpu":
        raise DfaLibError("the study of worker processes is the CPU's: on a GPU all seeds are one run")
    rounds = rounds or {"steps": 15, "depth": 15, "workers": 3, "replicas": 5}[study]
    options |= {} if patience is None else {"patience": patience}
    with _settled(threads):
        if study == "steps":
            parts = []
            for network in networks:
                for optimizer in optimizers:
                    told(f"{network}, {optimizer}")
                    parts.append(_compare(network, optimizer, BATCH, rounds, device, tuple(RULES), **options))
        else:
            told(study)
            function = {"depth": _depth, "workers": _workers, "replicas": _replicas}[study]
            given = {
                "depth": {"depths": DEPTHS, "width": 200, "batch": BATCH, "device": device, "rules": DEPTH_RULES},
                "workers": {"runs": (4, 16), "jobs": (1, 2), "steps": 1000},
                "replicas": {"rules": ("BP", "DFA"), "optimizers": tuple(optimizers), "seeds": 8, "steps": 100, "device": device},
            }[study]
            parts = [function(**(given | options), rounds=rounds)]
        busy = [others for _, others in parts if others is not None]
        here = describe(device) | {"rounds": rounds, "others": round(statistics.median(busy), 3) if busy else None}
    return Report(study, BATCH, here, tuple(row for rows, _ in parts for row in rows))


#: What the chapter measures when it is run with another profile than "recorded": under a minute.
LIVE: dict[str, dict] = {
    "steps": {"networks": ("2x800", "7x240"), "rounds": 3},
    "steps-2-threads": {"networks": ("2x800",), "optimizers": ("sgd",), "threads": 2, "rounds": 3},
    "depth": {"depths": (2, 5, 20, 100), "rounds": 3},
    "workers": {"runs": (4,), "steps": 100, "rounds": 1},
    "replicas": {"rules": ("DFA",), "optimizers": ("rmsprop",), "steps": 30, "rounds": 2},
}


def reports(profile: str = "recorded") -> dict[str, Report]:
    """The reports that chapter 3 shows: the committed ones, or with another profile few rounds of the same, measured now."""
    if profile == "recorded":
        return {name: read(results_dir() / "bench" / f"{name}.json") for name in LIVE}
    return {name: measure(name.partition("-")[0], **options, patience=1) for name, options in LIVE.items()}


def describe(device: str = "cpu") -> dict:
    """The machine as JSON values: device, cores, threads, system, BLAS, versions, revision of the library."""
    name = torch.cuda.get_device_name() if device != "cpu" else _cpu()
    shown = torch.__config__.show()
    mkl = re.search(r"Math Kernel Library Version ([\d.]+)", shown)
    blas = f"MKL {mkl[1]}" if mkl else (re.search(r"BLAS_INFO=(\w+)", shown) or ["", "unknown BLAS"])[1]
    here = {"device": name, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "blas": blas, "system": platform.system()}
    return here | machine()


def _cpu() -> str:
    try:
        return re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[1].strip()
    except (OSError, TypeError):
        return platform.processor() or platform.machine()


def write(report: Report, path: str | Path) -> Path:
    """Write a report, whole or not at all. Raises `DfaLibError` where nothing can be written."""
    path = Path(path)
    rows = [_short(asdict(row)) for row in report.rows]
    head = {"study": report.study, "batch": report.batch, "machine": report.machine}
    text = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items())
    text = "{\n" + text + ',\n"rows": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]\n}\n"
    check(path)
    return write_whole(path, text)


def check(path: str | Path) -> None:
    """Raises `DfaLibError` where no report could be written, which is better known before an hour's measurement."""
    folder = Path(path).parent
    if Path(path).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise DfaLibError(f"{path}: no report can be written there; name a file in a folder that exists")


def read(path: str | Path) -> Report:
    """Read a report back. Raises `DfaLibError`, naming the file, when it is none."""
    path = Path(path)
    try:
        values = json.loads(path.read_text())
        kind = STUDIES[values["study"]]
        return Report(values["study"], values["batch"], values["machine"], tuple(kind(**row) for row in values["rows"]))
    except OSError as problem:
        raise DfaLibError(f"{path}: cannot be read ({problem.strerror}); make it with: dfa-lib bench --json {path.name}") from None
    except (ValueError, KeyError, TypeError) as problem:
        raise DfaLibError(f"{path}: not a report of dfa-lib bench ({type(problem).__name__}: {problem})") from None


def _short(value: object) -> object:
    """Four significant digits: what a timing is good for."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {k: _short(v) for k, v in value.items()}
    return [_short(v) for v in value] if isinstance(value, list) else value


def summary(report: Report) -> pandas.DataFrame:
    """A report as a table, ratios first, then medians with their quartiles."""
    import pandas as pd

    def spread(values: Sequence[float]) -> str:
        middle, low, high = _quartiles(values)
        return f"{middle:.4g} [{low:.4g}, {high:.4g}]"

    rows, made = report.rows, []
    for row in rows:
        if report.study == "steps":
            floor = "" if row.share_of_floor is None else f"{row.share_of_floor:.2f}"
            made.append({"network": row.network, "optimizer": row.optimizer, "contender": row.contender,
                         "of autograd": f"{row.of_autograd:.3f}", "share of floor": floor,
                         "ms a step [quartiles]": f"{row.ms:.4g} [{row.ms_low:.4g}, {row.ms_high:.4g}]"})  # fmt: skip
        elif report.study == "depth":
            base = next(r for r in rows if r.rule == "BP" and r.depth == row.depth)
            made.append({"rule": row.rule, "layers": row.depth, "step of BP's": f"{_ratio(row.ms['step'], base.ms['step']):.3f}",
                         "feedback of BP's": f"{_ratio(row.ms['feedback'], base.ms['feedback']):.3f}", "levels": row.levels,
                         "calls": row.calls, "feedback MACs": f"{row.feedback_macs:,}",
                         "feedback ms": spread(row.ms["feedback"]), "step ms": spread(row.ms["step"])})  # fmt: skip
        elif report.study == "workers":
            one = next(r for r in rows if r.runs == row.runs)
            made.append({"runs": row.runs, "workers": row.jobs, "of one worker": f"{_ratio(row.seconds, one.seconds):.3f}",
                         "seconds": spread(row.seconds)})  # fmt: skip
        else:
            same = {r.how: r for r in rows if (r.rule, r.optimizer) == (row.rule, row.optimizer)}
            single, one = same["single"], same["one"]
            made.append({"rule": row.rule, "optimizer": row.optimizer, "how": row.how,
                         "of single runs": f"{_ratio(row.seconds, single.seconds):.3f}",
                         "of one seed": f"{_ratio(row.seconds, one.seconds):.2f}", "seconds": spread(row.seconds)})  # fmt: skip
    return pd.DataFrame(made)
