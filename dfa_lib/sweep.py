"""Many runs: what is missing, what it will cost, worker processes, resume; and the results of an experiment, gathered.

Each run writes its own record as it ends, so an interrupted sweep loses at most the part of a run since its last checkpoint.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from . import data, records
from .config import Config, content_hash, seed_count
from .errors import DfaLibError
from .experiments import PROFILES, Experiment, Run, get
from .records import Record, results_dir
from .theory import StudentTeacher, simulate
from .training import Result, Trainer, had, train

if TYPE_CHECKING:
    import pandas

#: The two final figures that a summary shows, by its columns' titles.
SHOWN = {
    Config: {"test error %": "test_error_pct", "training error %": "train_error_pct"},
    StudentTeacher: {"generalisation error": "error", "cosine of v and F": "cosine"},
}


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

    def final(self, variant: str, metric: str) -> list:
        """A final metric of each seed of a variant: a number, None where it is not finite, or a list with one a layer."""
        return [record.final[metric] for record in self.of(variant)]

    def summary(self) -> pandas.DataFrame:
        """One row a variant: seeds, test and training error (percent; mean and deviation over seeds), and how its runs ended. What a step
        takes is for `bench` to say: these runs had other work beside them.

        Of a student and its teacher: generalisation error, and the cosine of the second layer with the feedback vector.
        """
        import pandas as pd

        rows = []
        for variant, config in self.experiment.configs(self.profile).items():
            found = self.of(variant)
            (judged, first), (beside, second) = (
                (title, pd.Series(self.final(variant, metric), dtype=float)) for title, metric in SHOWN[type(config)].items()
            )
            outcome = Counter("constant output" if r.final.get("constant_output") else r.status for r in found)
            rows.append({"variant": variant, "seeds": len(found), judged: first.mean(), "sd": first.std(),
                         beside: second.mean(),
                         "outcome": ", ".join(k if n == len(found) else f"{n} {k}" for k, n in outcome.items())})  # fmt: skip
        return pd.DataFrame(rows)

    def provenance(self) -> str:
        """One line for under a figure: data, budget, seeds, profile, machine, and whether anything is stale."""
        found = Counter(record.variant for record in self.records)
        ran, seeds = list(self.experiment.configs(self.profile, found).values()), found.values()
        budget = " or ".join(dict.fromkeys(config.budget for config in ran))
        count = seed_count(min(seeds)) if min(seeds) == max(seeds) else f"{min(seeds)} to {max(seeds)} seeds"
        devices = ", ".join(sorted({record.device for record in self.records}))
        torches = ", ".join(sorted({record.versions["torch"].partition("+")[0] for record in self.records}))
        old = f"; {len(self.stale)} stale records left out" if self.stale else ""
        titles = dict.fromkeys("student and teacher" if isinstance(c, StudentTeacher) else data.DATASETS[c.data].title for c in ran)
        return f"{' or '.join(titles)}, {budget}, {count}, profile '{self.profile}', {devices}, torch {torches}{old}"


def load(experiment: Experiment | str, profile: str = "recorded", directory: str | Path | None = None) -> Results:
    """The recorded results of an experiment.

    "recorded" is the largest profile in which every variant has a record. Raises `DfaLibError`, with the command that makes
    them, when there are none.
    """
    experiment = get(experiment) if isinstance(experiment, str) else experiment
    if profile != "recorded":
        experiment.profile(profile)
    for name, results in recorded(experiment, directory, profile).items():
        complete = {record.variant for record in results.records} == set(experiment.configs(name))
        if complete and profile in ("recorded", name):
            return results
    if profile == "recorded":
        profile = "laptop" if "laptop" in experiment.profiles else next(iter(experiment.profiles))
    command = f"dfa-lib run {experiment.name} --profile {profile}"
    raise DfaLibError(f"{experiment.name} has no complete records; make them with: {command}")


def recorded(experiment: Experiment | str, directory: str | Path | None = None, profile: str = "recorded") -> dict[str, Results]:
    """What is recorded of an experiment, complete or not, by profile from the largest budget to the smallest; its own records
    and those of the experiments that it shares runs with. Where two budgets share runs, and these are too few for the larger one,
    they stand under the smaller one alone, unless `profile` asks for the larger by name."""
    experiment = get(experiment) if isinstance(experiment, str) else experiment
    own = records.read_all(experiment.name, directory)
    shared = [record for name in experiment.shares for record in records.read_all(name, directory)]
    found, old = {record.hash: record for record in (*shared, *own)}, stale(experiment, own)
    seeds, made = {record.seed for record in found.values()}, {}
    for name in (name for name in reversed(PROFILES) if name in experiment.profiles):
        current = []
        for variant, config in experiment.configs(name).items():
            matching = (found.get(content_hash(config, seed)) for seed in sorted(seeds))
            current += [replace(r, variant=variant) for r in matching if r is not None and _same(config, r)]
        for larger in [other for other, results in made.items() if {r.hash for r in results.records} == {r.hash for r in current}]:
            if larger != profile and len(current) < len(experiment.runs(larger)):
                del made[larger]
        if current:
            made[name] = Results(experiment, name, tuple(current), old)
    return made


def stale(experiment: Experiment, found: Sequence[Record]) -> tuple[Record, ...]:
    """The records that match no current configuration of the experiment: the code has moved on since they were made."""
    configs = [config for profile in experiment.profiles for config in experiment.configs(profile).values()]
    current = {content_hash(config, seed): config for config in configs for seed in {record.seed for record in found}}
    return tuple(record for record in found if record.hash not in current or not _same(current[record.hash], record))


def _same(config: Config | StudentTeacher, record: Record) -> bool:
    """Whether a record was made with this configuration. A field that the record does not know yet must have its default."""
    return _agree(config.as_dict(), record.config) and content_hash(config, record.seed) == record.hash


def _agree(current: object, recorded: object) -> bool:
    """Whether the fields that both know have the same values."""
    if isinstance(current, dict) and isinstance(recorded, dict):
        return all(_agree(current[name], value) for name, value in recorded.items() if name in current)
    return current == recorded


def missing(runs: Sequence[Run], directory: str | Path | None = None) -> list[Run]:
    """The runs that have no record yet, or one of another meaning (a default has changed since)."""
    folders = {name for run in runs for name in (run.experiment, *run.also)}
    have = {(name, r.hash): r for name in folders for r in records.read_all(name, directory)}

    def made(run: Run) -> bool:
        found = (have.get((name, run.hash)) for name in (run.experiment, *run.also))
        return any(record is not None and _same(run.config, record) for record in found)

    return [run for run in runs if not made(run)]


def estimate(runs: Sequence[Run], device: str = "cpu", steps: int = 6) -> dict[str, float]:
    """Predicted seconds of each run, by hash: a few steps of each configuration timed here, evaluation not counted."""
    configs = {f"{run.config}": run.config for run in runs}
    with _threads(device):
        seconds = {key: _seconds(config, device, steps) for key, config in configs.items()}
    return {run.hash: seconds[f"{run.config}"] for run in runs}


def _seconds(config: Config | StudentTeacher, device: str, steps: int) -> float:
    if isinstance(config, StudentTeacher):
        short = replace(config, steps=100 * steps, evaluations=2)
        started = time.perf_counter()
        simulate(short, [0])
        return (time.perf_counter() - started) * config.steps / short.steps
    with torch.inference_mode():
        trainer = Trainer(config, [0], _stand_in(config), device)
        indices = torch.arange(config.batch).unsqueeze(0).to(trainer.device)
        times = []
        for _ in range(steps):
            started = time.perf_counter()
            trainer.step(indices)
            if trainer.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
    per_epoch = math.ceil((data.DATASETS[config.data].n_train - config.validation) / config.batch)
    before = _seconds(config.after, device, steps) if config.after else 0.0
    return before + sorted(times)[steps // 2] * (config.steps or config.epochs * per_epoch)


@contextlib.contextmanager
def _threads(device: str) -> Iterator[None]:
    """One thread on a CPU, of torch and of numpy: the workers share the cores, and the number of threads decides the bits. On a GPU, that
    one and no other."""
    if had(device).type == "cuda":
        with torch.cuda.device(device):
            yield
        return
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def _stand_in(config: Config) -> data.Dataset:
    """Noise of the data set's shape, whole batches of it: timing needs no real data."""
    info, g = data.DATASETS[config.data], torch.Generator().manual_seed(0)
    n = config.batch * math.ceil(max(config.alignment, config.features, config.tsne, 1) / config.batch)
    x, y = torch.rand(n, math.prod(info.shape), generator=g), torch.arange(n) % info.classes
    return data.Dataset(config.data, x, y, x, y, info.shape, info.classes, (), "", "noise, for timing", 0)


def run(
    runs: Sequence[Run],
    jobs: int = 1,
    device: str = "cpu",
    directory: str | Path | None = None,
    report: Callable[[Run, float], None] | None = None,
) -> list[Record]:
    """Make the runs that are missing and write their records; the records of those, in the order in which they ended.

    On a CPU each run is one task of one thread, `jobs` of them at a time; on a GPU, and of a student and its teacher anywhere,
    all seeds of a configuration are one batched run. `report(run, fraction done)` is called as the work goes on. Interrupted by Ctrl-C, finished runs are
    recorded and a long run goes on from its checkpoint next time.
    """
    directory = results_dir(directory).resolve()  # a worker's working folder and environment may be others
    todo = missing(runs, directory)
    for name in {run.config.data for run in todo if isinstance(run.config, Config)}:
        data.load(name)  # a data set that cannot be had stops the sweep before it starts, and so does a folder
    for name in {run.experiment for run in todo}:
        records.prepare(name, directory)
    groups: dict[tuple[str, str], list[Run]] = {}
    for item in todo:
        alone = device == "cpu" and isinstance(item.config, Config)
        groups.setdefault((item.experiment, item.hash if alone else f"{item.config}"), []).append(item)
    tasks = list(groups.values())
    try:
        if jobs == 1 or len(tasks) < 2:
            return [record for task in tasks for record in _work(task, device, directory, report)]
        return _parallel(tasks, min(jobs, len(tasks)), device, directory, report)
    except BaseException:
        for item in todo:  # what a worker was writing when it was stopped
            for partial in directory.glob(f"*/*{item.hash}-*.partial"):
                partial.unlink(missing_ok=True)
        raise


def _work(task: list[Run], device: str, directory: Path, report: Callable[[Run, float], None] | None) -> list[Record]:
    """Train the seeds of one configuration together and write their records."""
    config, seeds = task[0].config, [item.seed for item in task]
    machine = records.machine()  # of the code that runs, not of what it was edited to meanwhile

    def progress(step: int, total: int, _: object) -> None:
        for item in task:
            if step < total:  # the last word, 1.0, is said when the record is written
                report(item, step / total)

    with _threads(device):
        checkpoint = directory / ".checkpoints" / f"{task[0].hash}-{len(task)}.pt"
        if isinstance(config, StudentTeacher):
            results, seen = _simulated(config, seeds), {"name": "student-teacher", "fingerprint": "", "split": "a fresh example a step"}
        else:
            dataset = data.load(config.data, validation=config.validation)
            results = train(config, seeds, dataset, device, progress if report else None, checkpoint)
            seen = {"name": dataset.name, "fingerprint": dataset.fingerprint, "split": dataset.split}
        made = []
        for item, result in zip(task, results, strict=True):
            made.append(
                Record(
                    experiment=item.experiment, variant=item.variant, profile=item.profile, seed=item.seed, hash=item.hash,
                    config=config.as_dict(), status=result.status, step=result.step, evaluations=result.evaluations,
                    final=result.final, wall_s=result.wall_s, step_ms=result.step_ms, replicas=len(task),
                    device=torch.cuda.get_device_name() if device != "cpu" else "CPU", threads=torch.get_num_threads(),
                    data=seen, **machine,
                )  # fmt: skip
            )
            records.write(made[-1], directory)
            if report:
                report(item, 1.0)
        return made


def _simulated(config: StudentTeacher, seeds: Sequence[int]) -> list[Result]:
    """The runs of a student and its teacher, as `train` gives those of a network."""
    started = time.perf_counter()
    order = simulate(config, seeds)
    wall = time.perf_counter() - started
    status = ["finished" if math.isfinite(error) else "diverged" for error in order.error[:, -1]]
    return [
        Result(seed, status[i], config.steps, order.evaluations(i), order.final(i), wall, 1e3 * wall / config.steps)
        for i, seed in enumerate(seeds)
    ]


def _parallel(tasks: list[list[Run]], jobs: int, device: str, directory: Path, report: Callable | None) -> list[Record]:
    import threading
    from multiprocessing import Manager

    from joblib import Parallel, delayed
    from joblib.externals.loky import BrokenProcessPool, get_reusable_executor

    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = before or "1"  # read by the workers when they start
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
            with _deaf_children():
                made = parallel(delayed(_worker)(task, device, directory, queue) for task in tasks)
            return [record for group in made for record in group]
        except BrokenProcessPool:
            what = "a worker process was killed, perhaps for want of memory; finished runs are recorded"
            raise DfaLibError(f"{what}: go on with fewer than {jobs} jobs") from None
        finally:
            get_reusable_executor(reuse=True).shutdown(kill_workers=True)  # later ones see the environment as it is then
            if before is None:
                del os.environ["OMP_NUM_THREADS"]
            if report:
                queue.put(None)
                listener.join(timeout=1.0)  # seconds


@contextlib.contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes started here do not hear Ctrl-C, ever, nor does this one meanwhile: a worker that dies of it would look like
    one that failed, and would say so in a traceback."""
    import threading

    if threading.current_thread() is not threading.main_thread():  # only that one may, and only that one hears it
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _worker(task: list[Run], device: str, directory: Path, queue) -> list[Record]:
    return _work(task, device, directory, (lambda run, fraction: queue.put((run, fraction))) if queue is not None else None)
