"""The training loop: batches, evaluation on a schedule, early stop, outcomes, checkpoint and exact resume.

One call trains R seeds of one configuration as replicas of one batched run. The same seed gives the same bits on the same
machine and thread count. No autograd: a step is forward, feedback, update (`network`, `feedback`, `optim`).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from . import features
from .alignment import Probe, weight_angles
from .config import Config, content_hash
from .convolution import make_ties
from .data import Dataset, load
from .errors import DfaLibError, unknown
from .feedback import LOSSES, Feedback
from .graph import bp
from .network import Network, Workspace, generator
from .optim import Updater


@dataclass
class Result:
    """What one seed's run gave. `evaluations` is a list of dicts: step, epoch, train_loss, train_error_pct (both running, over
    the batches since the last evaluation, before their updates), test_loss, test_error_pct, and alignment where measured."""

    seed: int
    status: str = "running"  #: finished, or diverged (a loss that is not finite)
    step: int = 0  #: the step of the last evaluation
    evaluations: list[dict] = field(default_factory=list)
    final: dict = field(default_factory=dict)  #: train and test error and loss in evaluation mode, saturation, constant output
    wall_s: float = 0.0  #: of the whole batched run, evaluation included
    step_ms: float = 0.0  #: of one step of the batched run, evaluation excluded


def had(device: str) -> torch.device:
    """The device "cpu", "cuda" or, of several, "cuda:1". Raises `DfaLibError` when this machine does not have it."""
    if device.split(":")[0] not in ("cpu", "cuda"):
        raise unknown("device", device, ("cpu", "cuda"))
    here = ["cpu", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))]
    if device not in here and not (device == "cuda" and len(here) > 1):
        raise DfaLibError(f"device {device!r} cannot be had here; this machine has: {', '.join(here)}")
    return torch.device(device)


class Trainer:
    """A configuration made ready to train: parameters, feedback, buffers. `step(indices)` makes one update.

    Raises `DfaLibError` when the data set does not fit the configuration or the device cannot be had.
    """

    def __init__(
        self, config: Config, seeds: Sequence[int], dataset: Dataset, device: str = "cpu", lrs: Sequence[float] | None = None
    ) -> None:
        self.config, self.seeds, self.lrs, self.device = config, list(seeds), lrs, had(device)
        self.dtype = getattr(torch, config.dtype)
        self.dataset, classes = dataset, config.classes or dataset.classes
        if classes > dataset.classes:
            raise DfaLibError(f"{dataset.name} has {dataset.classes} classes; labels modulo {classes} are no {classes} classes")
        self.train_x, self.train_y = dataset.train_x.to(self.device, self.dtype), dataset.train_y.to(self.device) % classes
        self.test_x, self.test_y = dataset.test_x.to(self.device, self.dtype), dataset.test_y.to(self.device) % classes
        for name, there in (("alignment", self.train_x), ("features", self.train_x), ("tsne", self.test_x)):
            if getattr(config, name) > len(there):
                raise DfaLibError(f"{name}={getattr(config, name)}, and {dataset.name} has {len(there)} examples for that")
        self.one_hot = torch.eye(classes, dtype=self.dtype, device=self.device)[self.train_y]
        graph = config.graph(self.train_x.shape[1], classes)
        batch = min(config.batch, len(self.train_x))
        if config.batch_norm and 1 in (batch, len(self.train_x) % batch):
            raise DfaLibError(f"batch normalisation needs two examples in every batch, and {len(self.train_x)} examples in batches of "
                              f"{config.batch} leave one of 1; change the batch size")  # fmt: skip
        ties = make_ties(dataset.shape, config.convolutions, config.hidden, config.tied)
        self.network = Network(graph.widths, config.activation, len(self.seeds), self.dtype, self.device, config.batch_norm, ties)
        self.network.initialise(config.init, self.seeds)
        self.feedback = Feedback(graph, self.network, config.feedback, self.seeds, config.bottleneck)
        learning = ({edge.target for edge in graph.edges} | {graph.depth + 1}) - set(config.frozen)
        self.updater = Updater(config.optimizer, self.network, learning, lrs)
        self.loss = LOSSES[config.loss]
        self.dropout = [generator(seed, "dropout", self.device) for seed in self.seeds]
        self.exact = Feedback(bp().graph(graph.widths), self.network, "zeros", self.seeds) if config.adversarial else None
        self.probe = None
        if config.alignment:
            n = config.alignment
            self.probe = Probe(self.network, self.feedback, self.loss, self.train_x[:n], self.one_hot[:n], config.theorem)
        self.redraws = any(product.carrier.redrawn for product in self.feedback.products)
        self.wrong = torch.zeros(len(self.seeds), dtype=torch.float64, device=self.device)
        self.loss_sum = torch.zeros_like(self.wrong)
        self.seen = 0
        self._steps: dict[int, Callable[[Tensor], None]] = {}

    def start(self) -> None:
        """What comes before the first step: the preceding stage, whose last weights become the first of this one."""
        if self.config.after:
            earlier = Trainer(replace(self.config.after, alignment=0, theorem=False), self.seeds, self.dataset, str(self.device))
            _Loop(earlier, None, None, math.inf).run()
            for name, tensor in self.network.state().items():
                tensor.copy_(earlier.network.state()[name])
        if self.probe:
            self.probe.anchor()

    def step(self, indices: Tensor) -> None:
        """One update on the training examples `indices`, (R, batch): each replica has its own."""
        batch = indices.shape[1]
        if batch not in self._steps:
            self._steps[batch] = self._bind(batch)
        self._steps[batch](indices)
        self.seen += batch

    def _bind(self, batch: int) -> Callable[[Tensor], None]:
        config, work = self.config, Workspace(self.network, batch, self.config.reduction, self.config.dropout_input, self.config.dropout)
        feedback, update = self.feedback.bind(work), self.updater.bind(work)
        exact = self.exact.bind(work) if self.exact else None
        x, y = work.x.view(-1, work.x.shape[-1]), work.y.view(-1, work.y.shape[-1])
        scale = work.error_scale

        def draw() -> None:
            if self.redraws:
                self.feedback.redraw()
            if self.feedback.switches:
                self.feedback.switch()
            if config.dropout or config.dropout_input:
                work.draw_masks(self.dropout)

        def compute(indices: Tensor) -> None:
            flat = indices.reshape(-1)
            torch.index_select(self.train_x, 0, flat, out=x)
            torch.index_select(self.one_hot, 0, flat, out=y)
            if work.mask_x is not None:
                work.x.mul_(work.mask_x)
            work.forward()
            if exact is not None:  # the fast sign method (Goodfellow et al.), its sign from BP's gradient under every rule
                self.loss(work.output, work.y, work.e)
                exact()
                below = work.delta[1] if self.network.depth else work.e
                work.x.add_(torch.bmm(below, self.network.weights[1]).sign_(), alpha=config.adversarial)
                work.forward()
            loss = self.loss(work.output, work.y, work.e)
            self.loss_sum += loss.sum(dim=1)
            self.wrong += (work.output.argmax(dim=-1) != work.y.argmax(dim=-1)).sum(dim=1)
            if scale != 1.0:
                work.e.mul_(scale)
            feedback()
            update()

        run = compute if self.device.type == "cpu" else self._captured(compute, batch)

        def step(indices: Tensor) -> None:
            draw()
            run(indices)

        return step

    def _captured(self, compute: Callable[[Tensor], None], batch: int) -> Callable[[Tensor], None]:
        """A step recorded once as a CUDA graph and replayed: one launch instead of a few hundred."""
        indices = torch.zeros(len(self.seeds), batch, dtype=torch.int64, device=self.device)
        before = [(tensor, tensor.clone()) for tensor in self.state().values()]
        side = torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            for _ in range(2):  # the libraries behind the products take their workspaces outside the recording
                compute(indices)
        torch.cuda.current_stream(self.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            compute(indices)
        for tensor, value in before:  # warming up has moved the weights
            tensor.copy_(value)

        def replay(batch_indices: Tensor) -> None:
            indices.copy_(batch_indices)
            graph.replay()

        return replay

    def order(self, epoch: int) -> Tensor:
        """Each replica's order of the training examples in one epoch, (R, n_train)."""
        n = len(self.train_x)
        return torch.stack([torch.randperm(n, generator=generator(s, f"order/{epoch}")) for s in self.seeds]).to(self.device)

    def running(self) -> tuple[list[float], list[float]]:
        """Mean loss and error (percent) of each replica over the batches since the last call."""
        loss, error = (self.loss_sum / self.seen).tolist(), (100 * self.wrong / self.seen).tolist()
        self.loss_sum.zero_(), self.wrong.zero_()
        self.seen = 0
        return loss, error

    def evaluate(self, x: Tensor, y: Tensor) -> tuple[list[float], list[float], Tensor]:
        """Mean loss, error (percent) and predicted classes (R, n) on inputs x and labels y, in evaluation mode."""
        output = self.network.predict(x)
        one_hot = torch.eye(output.shape[-1], dtype=self.dtype, device=self.device)[y].expand_as(output)
        predicted = output.argmax(dim=-1)
        return self.loss(output, one_hot).mean(dim=1).tolist(), (100 * (predicted != y).double().mean(dim=1)).tolist(), predicted

    def saturation(self) -> list[list[float]]:
        """For each replica, by hidden layer, the fraction of units within 1 % of a flat end of f, on 1,000 test examples."""
        if self.network.unit.saturated is None:
            return [[] for _ in self.seeds]
        x = self.test_x[:1000]
        work = Workspace(self.network, len(x), training=False)
        work.x.copy_(x.expand_as(work.x))
        work.forward()
        by_layer = [self.network.unit.saturated(work.h[i]).double().mean(dim=(1, 2)).tolist() for i in range(1, self.network.depth + 1)]
        return [[layer[replica] for layer in by_layer] for replica in range(len(self.seeds))]

    def layers(self, replica: int) -> dict[str, object]:
        """What each layer's features show of the classes, where the configuration asks for it."""
        config, made = self.config, {}
        if config.features:
            n = config.features
            made |= features.judge(self.network, replica, self.train_x[:n], self.train_y[:n], self.test_x, self.test_y)
        if config.tsne:
            n = config.tsne
            made["tsne"] = features.layout(self.network, replica, self.test_x[:n], self.test_y[:n])
        return made

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, as views: parameters, feedback matrices, moments, running sums."""
        sums = {"wrong": self.wrong, "loss_sum": self.loss_sum}
        theorem = self.probe.theorem if self.probe else None
        first = {f"first{i}": direction for i, direction in theorem.first.items()} if theorem else {}
        return self.network.state() | self.feedback.state() | self.updater.state() | sums | first

    def generators(self) -> list[torch.Generator]:
        """The streams that a step draws from, whose states a resumed run needs."""
        return [*self.dropout, *self.feedback.generators, *self.feedback.switches]


def train(
    config: Config,
    seeds: Sequence[int],
    dataset: Dataset | None = None,
    device: str = "cpu",
    progress: Callable[[int, int, list[Result]], None] | None = None,
    checkpoint: Path | None = None,
    checkpoint_every_s: float = 30.0,
    lrs: Sequence[float] | None = None,
    batched: bool | None = None,
) -> list[Result]:
    """Train each seed of a configuration to the end of its budget; one `Result` a seed. With `lrs`, a learning-rate search:
    one rate a seed.

    `batched` trains the seeds as replicas, all in one step; otherwise each has its turn. Left open, a GPU batches, which saves
    launches, and a CPU takes turns: its caches hold one network, and eight of 7x240 in one step take about a tenth longer.

    `progress(step, total, results)` is called after every evaluation but that of step 0. With `checkpoint`, the state is saved there at
    evaluations at least `checkpoint_every_s` seconds apart, and a run that finds its own file there goes on from it, to the
    same bits; the file is removed at the end. Raises `DfaLibError` for a checkpoint of another run.
    """
    if lrs is not None and len(lrs) != len(seeds):
        raise DfaLibError(f"{len(seeds)} seeds need as many learning rates; got {len(lrs)}")
    dataset = dataset or load(config.data, validation=config.validation)  # kept for others, so no inference tensors
    flushed = not (torch.tensor(1e-310, dtype=torch.float64) * 1).item()
    torch.set_flush_denormal(True)  # deltas that vanish with depth would make BP many times slower
    try:
        with torch.inference_mode():
            if len(seeds) == 1 or (device != "cpu" if batched is None else batched):
                return _Loop(Trainer(config, seeds, dataset, device, lrs), progress, checkpoint, checkpoint_every_s).run()
            done: list[Result] = []
            for turn, seed in enumerate(seeds):
                trainer = Trainer(config, [seed], dataset, device, lrs and [lrs[turn]])
                mine = checkpoint and checkpoint.with_name(f"{turn}-{checkpoint.name}")
                told = progress and (lambda step, total, new, k=turn: progress(k * total + step, len(seeds) * total, done + new))
                done = done + _Loop(trainer, told, mine, checkpoint_every_s).run()
            return done
    finally:
        torch.set_flush_denormal(flushed)


class _Loop:
    def __init__(self, trainer: Trainer, progress: Callable | None, checkpoint: Path | None, checkpoint_every_s: float) -> None:
        self.config, self.trainer = trainer.config, trainer
        config = trainer.config
        self.results = [Result(seed) for seed in trainer.seeds]
        self.progress, self.checkpoint, self.every_s = progress, checkpoint, checkpoint_every_s
        self.per_epoch = math.ceil(len(self.trainer.train_x) / config.batch)
        self.total = config.steps if config.steps is not None else config.epochs * self.per_epoch
        self.every = config.evaluate_every or self.per_epoch
        self.step, self.wall_s, self.train_s = 0, 0.0, 0.0

    def run(self) -> list[Result]:
        trainer, order, epoch = self.trainer, None, -1
        self._resume()
        started = saved = time.perf_counter()
        before = self.wall_s
        if self.step == 0:
            trainer.start()
            self._evaluate()
            self._finish()
        while self.step < self.total and any(r.status == "running" for r in self.results):
            tick = time.perf_counter()
            while True:
                if self.step // self.per_epoch != epoch:
                    epoch = self.step // self.per_epoch
                    order = trainer.order(epoch)
                first = self.step % self.per_epoch * self.config.batch
                trainer.step(order[:, first : first + self.config.batch])
                self.step += 1
                if self.step % self.every == 0 or self.step == self.total:
                    break
            if trainer.device.type == "cuda":
                torch.cuda.synchronize(trainer.device)
            now = time.perf_counter()
            self.train_s += now - tick
            self._evaluate()
            self.wall_s = before + time.perf_counter() - started
            self._finish()
            if self.progress:
                self.progress(self.step, self.total, self.results)
            if self.checkpoint and self.step < self.total and now - saved > self.every_s:
                self._save()
                saved = time.perf_counter()
        if self.checkpoint:
            self.checkpoint.unlink(missing_ok=True)
        return self.results

    def _evaluate(self) -> None:
        trainer = self.trainer
        test_loss, test_error, _ = trainer.evaluate(trainer.test_x, trainer.test_y)
        running = trainer.running() if trainer.seen else None
        aligned = trainer.probe() if trainer.probe else None
        angles = weight_angles(trainer.network, trainer.feedback) if trainer.probe else None
        for r, result in enumerate(self.results):
            if result.status != "running":
                continue
            result.step = self.step
            row = {"step": self.step, "epoch": self.step / self.per_epoch}
            if running:
                row |= {"train_loss": running[0][r], "train_error_pct": running[1][r]}
            row |= {"test_loss": test_loss[r], "test_error_pct": test_error[r]}
            if aligned:
                row |= {"alignment": aligned[r] | {"weight_angle": angles[r]}}
            result.evaluations.append(row)
            if not math.isfinite(test_loss[r]) or (running and not math.isfinite(running[0][r])):
                result.status = "diverged"

    def _finish(self) -> None:
        """Close the runs that have diverged, stopped or used their budget, each at its own last evaluation."""
        stop = self.config.stop_train_error
        ended = [
            r for r in self.results
            if not r.final and (r.status == "diverged" or self.step >= self.total
                                or (stop is not None and r.evaluations[-1].get("train_error_pct", math.inf) <= stop))
        ]  # fmt: skip
        if not ended:
            return
        trainer = self.trainer
        train_loss, train_error, _ = trainer.evaluate(trainer.train_x, trainer.train_y)
        test_loss, test_error, predicted = trainer.evaluate(trainer.test_x, trainer.test_y)
        saturation = trainer.saturation()
        for r, result in enumerate(self.results):
            if result not in ended:
                continue
            if result.status == "running":
                result.status = "finished"
            result.wall_s, result.step_ms = self.wall_s, 1000 * self.train_s / max(self.step, 1)
            result.final = {
                "train_loss": train_loss[r],
                "train_error_pct": train_error[r],
                "test_loss": test_loss[r],
                "test_error_pct": test_error[r],
                "constant_output": bool((predicted[r] == predicted[r, 0]).all()),
                "saturation": saturation[r],
            } | trainer.layers(r)

    def _save(self) -> None:
        payload = {
            "run": self._identity(),
            "loop": {"step": self.step, "wall_s": self.wall_s, "train_s": self.train_s, "seen": self.trainer.seen,
                     "results": [vars(result) for result in self.results]},
            "state": self.trainer.state(),
            "generators": [g.get_state() for g in self.trainer.generators()],
        }  # fmt: skip
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        partial = self.checkpoint.with_name(f"{self.checkpoint.name}.{os.getpid()}.partial")
        torch.save(payload, partial)
        os.replace(partial, self.checkpoint)

    def _resume(self) -> None:
        if not (self.checkpoint and self.checkpoint.exists()):
            return
        saved = torch.load(self.checkpoint, map_location=self.trainer.device, weights_only=True)
        if saved["run"] != self._identity():
            raise DfaLibError(f"{self.checkpoint} is the checkpoint of another run, or of this one on other data or another device; "
                              "remove it to start this one anew")  # fmt: skip
        loop = saved["loop"]
        self.step, self.wall_s, self.train_s = loop["step"], loop["wall_s"], loop["train_s"]
        self.trainer.seen = loop["seen"]
        self.results = [Result(**result) for result in loop["results"]]
        for name, tensor in self.trainer.state().items():
            tensor.copy_(saved["state"][name])
        for g, state in zip(self.trainer.generators(), saved["generators"], strict=True):
            g.set_state(state.cpu())

    def _identity(self) -> list[str]:
        rates = self.trainer.lrs or [self.config.optimizer.lr] * len(self.trainer.seeds)
        optimizer = self.config.optimizer
        hashes = [
            content_hash(replace(self.config, optimizer=replace(optimizer, lr=lr)), seed)
            for lr, seed in zip(rates, self.trainer.seeds, strict=True)
        ]
        return [*hashes, self.trainer.dataset.fingerprint, self.trainer.device.type]
