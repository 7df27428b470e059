"""Many runs: what is missing, what it will cost, worker processes, resume; and the results of an experiment, gathered.

Each run writes its own record as it ends, so an interrupted sweep loses at most the part of a run since its last checkpoint.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from . import data, records
from .config import Config
from .errors import DfaLibError
from .experiments import PROFILES, Experiment, Run, get
from .records import Record, results_dir
from .training import Trainer, train

if TYPE_CHECKING:
    import pandas

#: Seconds between two looks at how far the workers are.
POLL_S = 0.5


@dataclass(frozen=True)
class Results:
    """The records of an experiment under one profile, and those of its folder that match no current configuration."""

    experiment: Experiment
    profile: str
    records: tuple[Record, ...]
    stale: tuple[Record, ...] = ()

    def of(self, variant: str) -> list[Record]:
        """One variant's records, by seed. Raises `DfaLibError` when there is none."""
        found = sorted((r for r in self.records if r.variant == variant), key=lambda r: r.seed)
        if not found:
            raise DfaLibError(f"no record of {variant!r} in {self.experiment.name} ({self.profile})")
        return found

    def final(self, variant: str, metric: str) -> list[float]:
        """A final metric of each seed of a variant, None where it is not finite."""
        return [record.final[metric] for record in self.of(variant)]

    def summary(self) -> pandas.DataFrame:
        """One row a variant: seeds, test and training error (percent, mean and standard deviation over seeds), milliseconds a step."""
        import pandas as pd

        rows = []
        for variant in self.experiment.configs(self.profile):
            found = self.of(variant)
            test, train = (pd.Series(self.final(variant, f"{part}_error_pct"), dtype=float) for part in ("test", "train"))
            outcome = Counter("constant output" if r.final["constant_output"] else r.status for r in found)
            rows.append({"variant": variant, "seeds": len(found), "test error %": test.mean(), "sd": test.std(),
                         "training error %": train.mean(), "ms a step": pd.Series([r.step_ms for r in found]).median(),
                         "outcome": ", ".join(k if n == len(found) else f"{n} {k}" for k, n in outcome.items())})  # fmt: skip
        return pd.DataFrame(rows)

    def provenance(self) -> str:
        """One line for under a figure: data, budget, seeds, profile, machine, and whether anything is stale."""
        config = next(iter(self.experiment.configs(self.profile).values()))
        seeds = Counter(record.variant for record in self.records).values()
        budget = f"{config.epochs} epochs" if config.epochs else f"{config.steps:,} steps"
        count = f"{min(seeds)}" if min(seeds) == max(seeds) else f"{min(seeds)} to {max(seeds)}"
        devices = ", ".join(sorted({record.device for record in self.records}))
        torches = ", ".join(sorted({record.versions["torch"] for record in self.records}))
        old = f"; {len(self.stale)} stale record(s) left out" if self.stale else ""
        title = data.DATASETS[config.data].title
        return f"{title}, {budget}, {count} seed(s), profile '{self.profile}', {devices}, torch {torches}{old}"


def load(experiment: Experiment | str, profile: str = "recorded", directory: str | Path | None = None) -> Results:
    """The recorded results of an experiment.

    "recorded" is the largest profile in which every variant has a record. Raises `DfaLibError`, with the command that makes
    them, when there are none.
    """
    experiment = get(experiment) if isinstance(experiment, str) else experiment
    found = records.read_all(experiment.name, directory)
    old = stale(experiment, found)
    for name in [profile] if profile != "recorded" else [p for p in reversed(PROFILES) if p in experiment.profiles]:
        configs = experiment.configs(name)
        current = tuple(record for record in found if record.variant in configs and _same(configs[record.variant], record))
        if current and {record.variant for record in current} == set(configs):
            return Results(experiment, name, current, old)
    budget = profile if profile != "recorded" else "laptop"
    raise DfaLibError(f"{experiment.name} has no complete records; make them with: dfa-lib run {experiment.name} --profile {budget}")


def stale(experiment: Experiment, found: Sequence[Record]) -> tuple[Record, ...]:
    """The records that match no current configuration of the experiment: the code has moved on since they were made."""
    configs = [(variant, config) for profile in experiment.profiles for variant, config in experiment.configs(profile).items()]
    return tuple(r for r in found if not any(variant == r.variant and _same(config, r) for variant, config in configs))


def _same(config: Config, record: Record) -> bool:
    """Whether a record was made with this configuration. A field that the record does not know yet must have its default."""
    current, run = config.as_dict(), Run("", "", "", config, record.seed)
    return run.hash == record.hash and all(current[name] == value for name, value in record.config.items() if name in current)


def missing(runs: Sequence[Run], directory: str | Path | None = None) -> list[Run]:
    """The runs that have no record yet, or one of another meaning (a default has changed since)."""
    have = {record.hash: record for name in {run.experiment for run in runs} for record in records.read_all(name, directory)}
    return [run for run in runs if run.hash not in have or not _same(run.config, have[run.hash])]


def estimate(runs: Sequence[Run], device: str = "cpu", steps: int = 6) -> dict[str, float]:
    """Predicted seconds of each run, by hash: a few steps of each configuration timed here, evaluation not counted."""
    seconds: dict[str, float] = {}
    for run in runs:
        if (key := f"{run.config}") not in seconds:
            info, config = data.DATASETS[run.config.data], run.config
            n_train = info.n_train - config.validation
            with torch.inference_mode():
                trainer = Trainer(config, [0], _stand_in(config), device)
                indices = torch.arange(config.batch).unsqueeze(0).to(trainer.device)
                times = []
                for _ in range(steps):
                    started = time.perf_counter()
                    trainer.step(indices)
                    times.append(time.perf_counter() - started)
            per_epoch = -(-n_train // config.batch)
            seconds[key] = sorted(times)[steps // 2] * (config.steps or config.epochs * per_epoch)
    return {run.hash: seconds[f"{run.config}"] for run in runs}


def _stand_in(config: Config) -> data.Dataset:
    """Noise of the data set's shape, enough for one batch: timing needs no real data."""
    info, n = data.DATASETS[config.data], max(config.batch, config.alignment)
    x, y = torch.rand(n, math.prod(info.shape)), torch.arange(n) % info.classes
    return data.Dataset(config.data, x, y, x, y, info.shape, info.classes, (), "", "noise, for timing", 0)


def run(
    runs: Sequence[Run],
    jobs: int = 1,
    device: str = "cpu",
    directory: str | Path | None = None,
    report: Callable[[Run, float], None] | None = None,
) -> list[Record]:
    """Make the runs that are missing and write their records; the records of those, in the order in which they ended.

    On a CPU each run is one task of one thread, `jobs` of them at a time; on a GPU all seeds of a configuration are one
    batched run. `report(run, fraction done)` is called as the work goes on. Interrupted by Ctrl-C, finished runs are
    recorded and a long run goes on from its checkpoint next time.
    """
    todo = missing(runs, directory)
    for name in {run.config.data for run in todo}:
        data.load(name)  # a data set that cannot be had stops the sweep before it starts
    groups: dict[str, list[Run]] = {}
    for item in todo:
        groups.setdefault(item.hash if device == "cpu" else f"{item.config}", []).append(item)
    tasks = list(groups.values())
    if jobs == 1 or len(tasks) < 2:
        return [record for task in tasks for record in _work(task, device, directory, report)]
    return _parallel(tasks, min(jobs, len(tasks)), device, directory, report)


def _work(task: list[Run], device: str, directory: str | Path | None, report: Callable[[Run, float], None] | None) -> list[Record]:
    """Train the seeds of one configuration together and write their records."""
    config, seeds = task[0].config, [item.seed for item in task]
    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        checkpoint = results_dir(directory) / ".checkpoints" / f"{task[0].hash}-{len(task)}.pt"
        dataset = data.load(config.data, validation=config.validation)
        progress = (lambda step, total, _: [report(item, step / total) for item in task]) if report else None
        made = []
        for item, result in zip(task, train(config, seeds, dataset, device, progress, checkpoint), strict=True):
            made.append(
                Record(
                    experiment=item.experiment, variant=item.variant, profile=item.profile, seed=item.seed, hash=item.hash,
                    config=config.as_dict(), status=result.status, step=result.step, evaluations=result.evaluations,
                    final=result.final, wall_s=result.wall_s, step_ms=result.step_ms, replicas=len(task),
                    device=torch.cuda.get_device_name() if device != "cpu" else "CPU", threads=torch.get_num_threads(),
                    data={"name": dataset.name, "fingerprint": dataset.fingerprint, "split": dataset.split}, **records.machine(),
                )  # fmt: skip
            )
            records.write(made[-1], directory)
        return made
    finally:
        torch.set_num_threads(threads)


def _parallel(tasks: list[list[Run]], jobs: int, device: str, directory: str | Path | None, report: Callable | None) -> list[Record]:
    import threading
    from multiprocessing import Manager

    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by the workers when they start
    with Manager() as manager:
        queue = manager.Queue() if report else None

        def listen() -> None:
            while (message := queue.get()) is not None:
                report(*message)

        listener = threading.Thread(target=listen, daemon=True)
        if report:
            listener.start()
        try:
            parallel = Parallel(n_jobs=jobs, backend="loky", return_as="generator_unordered")
            made = parallel(delayed(_worker)(task, device, directory, queue) for task in tasks)
            return [record for group in made for record in group]
        except KeyboardInterrupt:
            get_reusable_executor().shutdown(wait=False, kill_workers=True)
            raise
        finally:
            if report:
                queue.put(None)
                listener.join(timeout=2 * POLL_S)


def _worker(task: list[Run], device: str, directory: str | Path | None, queue) -> list[Record]:
    return _work(task, device, directory, (lambda run, fraction: queue.put((run, fraction))) if queue is not None else None)
