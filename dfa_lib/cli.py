"""The command line: dfa-lib list | show | run | status | data | bench. Nothing imports this module."""

from __future__ import annotations

import math
import os
import sys
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .config import differences, seed_count
from .errors import DfaLibError
from .experiments import EXPERIMENTS, get

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, help="Feedback alignment, reproduced.")
#: click.ClickException, whether typer brings its own copy of click or not.
UsageProblem = typer.BadParameter.__mro__[2]
#: Where nobody looks, a line is one line: no wrapping at 80 columns.
console = Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 1000)

#: Columns of characters that a table of five columns needs.
ROOM = 140
#: Columns of words.
LEFT = ("variant", "outcome", "network", "optimizer", "contender", "rule", "how", "cell")
#: An experiment that is a table of its paper: the function of `figures_nokland` that sets it beside the paper's numbers.
TABLES = {"nokland-table1": "table1"}

ExperimentName = Annotated[str, typer.Argument(help="an experiment's name; `dfa-lib list` has them")]


@app.command("list")
def list_() -> None:
    """List the experiments: name and what they reproduce; where there is room, also source, number of variants and profiles."""
    columns = ("experiment", "reproduces", "source", "variants", "profiles")
    columns = columns[:2] if console.is_terminal and console.width < ROOM else columns
    table = _table(*columns)
    for name, experiment in EXPERIMENTS.items():
        row = name, experiment.title, experiment.source, str(len(experiment.variants)), ", ".join(experiment.profiles)
        table.add_row(*row[: len(columns)])
    console.print(table)


@app.command()
def show(experiment: ExperimentName, profile: str = "laptop") -> None:
    """Show what an experiment runs under a profile: the first variant in full, the others as differences from it."""
    chosen = get(experiment)
    configs = chosen.configs(profile)
    base_name, base = next(iter(configs.items()))
    console.print(f"{chosen.title}\n{chosen.source}; profile {profile!r}, {seed_count(chosen.profile(profile).seeds)}\n")
    table = _table("field", base_name)
    for name, value in base.as_dict().items():
        table.add_row(name, _short(value))
    console.print(table)
    for name, config in configs.items():
        changed = ", ".join(f"{field}: {_short(new)}" for field, (_, new) in differences(base, config).items())
        console.print(f"{name}: {changed or 'as above'}", soft_wrap=True)


@app.command()
def run(
    experiment: ExperimentName = "bp-fa-dfa",
    profile: Annotated[str, typer.Option(help="smoke (seconds a run), laptop (minutes) or paper")] = "smoke",
    seeds: Annotated[int | None, typer.Option(min=1, help="seeds of each variant; default: the profile's")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    jobs: Annotated[int | None, typer.Option(min=1, help="worker processes; default: one a core, on a GPU one")] = None,
) -> None:
    """Train what is not recorded yet, write the records, and print the table. Says beforehand what it will cost. Records are looked for
    and written in the folder that DFA_LIB_RESULTS names, by default the project's results/."""
    from . import sweep
    from .training import had

    chosen = get(experiment)
    had(device)
    runs = chosen.runs(profile, seeds)
    todo = sweep.missing(runs)
    jobs = min(jobs or (os.cpu_count() or 1 if device == "cpu" else 1), max(1, len(todo)))
    console.print(f"{chosen.title}: {len(runs)} runs, {len(runs) - len(todo)} recorded")
    if not todo:
        console.print("nothing to train; to train anew, name another folder for the records: DFA_LIB_RESULTS=FOLDER dfa-lib run ...")
    else:
        seconds = sweep.estimate(todo, device)
        total = sum(seconds.values())
        console.print(f"{len(todo)} to make: about {_duration(total / jobs)} with {jobs} worker(s), evaluation not counted")
        try:
            with _Progress(seconds) as progress:
                sweep.run(todo, jobs, device, report=progress)
        except KeyboardInterrupt:
            left = len(sweep.missing(runs))
            console.print(f"stopped: {len(runs) - left} of {len(runs)} runs are recorded; the same command goes on from there")
            sys.exit(130)  # past `main`, which would say it again
    _print_summary(sweep.load(chosen, profile))
    if experiment in TABLES:
        from . import figures_nokland
        from .verdicts import Evidence

        _print_frame(getattr(figures_nokland, TABLES[experiment])(Evidence(profile)).reset_index(names="cell"))


@app.command()
def status() -> None:
    """Say for each experiment and profile how many of its runs are recorded, and which records are stale."""
    from . import records, sweep

    table = _table("experiment", "profile", "recorded", "stale records")
    for name, experiment in EXPERIMENTS.items():
        stale = len(sweep.stale(experiment, records.read_all(name)))
        for profile in experiment.profiles:
            runs = experiment.runs(profile)
            table.add_row(name, profile, f"{len(runs) - len(sweep.missing(runs))} of {len(runs)}", str(stale))
    console.print(table)


@app.command()
def data(
    download: Annotated[str | None, typer.Option(help="fetch this data set into the root and verify it")] = None,
) -> None:
    """Say which data sets this machine has and how to get the others."""
    from . import data as data_sets

    if download:
        dataset = data_sets.load(download)
        console.print(f"{download}: {len(dataset.train_x)} + {len(dataset.test_x)} examples, {dataset.split}")
        return
    table = _table("data set", "here", "where, or how to get it")
    for row in data_sets.status():
        table.add_row(row.name, "yes" if row.present else "no", row.where if row.present else row.how)
    console.print(table)


@app.command()
def bench(
    study: Annotated[str, typer.Option(help="steps, depth, workers or replicas")] = "steps",
    network: Annotated[list[str] | None, typer.Option(help="of steps; may be repeated; default: all")] = None,
    optimizer: Annotated[list[str] | None, typer.Option(help="of steps and replicas; may be repeated; default: sgd and rmsprop")] = None,
    threads: Annotated[int, typer.Option(min=1, help="threads of this process")] = 1,
    rounds: Annotated[int | None, typer.Option(min=2, help="how often everything is measured; default: the study's")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    json: Annotated[str | None, typer.Option(help="write the report to this file, with the machine's description")] = None,
) -> None:
    """Time training steps on this machine against torch's autograd and against their own matrix products, ratios first."""
    from . import bench as timing

    if json:
        timing.check(json)
    chosen = {"networks": network or None, "optimizers": optimizer or ["sgd", "rmsprop"]}
    with console.status("") as spinner:
        told = (lambda what: spinner.update(f"timing {what}")) if console.is_terminal else lambda what: None
        report = timing.measure(study, **chosen, threads=threads, rounds=rounds, device=device, told=told)
    if json:
        timing.write(report, json)
    console.print(report.provenance())
    _print_frame(timing.summary(report))


class _Progress:
    """A bar with the time left on a terminal, a plain line for each finished run elsewhere. Runs weigh what they cost."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds, self.done = seconds, dict.fromkeys(seconds, 0.0)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn())
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self.task = self.bar.add_task(f"{len(seconds)} runs", total=sum(seconds.values()))

    def __enter__(self) -> _Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, item, fraction: float) -> None:
        self.done[item.hash] = fraction
        finished = sum(done >= 1 for done in self.done.values())
        self.bar.update(self.task, completed=sum(self.seconds[h] * done for h, done in self.done.items()),
                        description=f"{finished} of {len(self.done)} runs")  # fmt: skip
        if fraction >= 1 and not console.is_terminal:
            console.print(f"{finished} of {len(self.done)}: {item.variant}, seed {item.seed}")


def _table(*columns: str) -> Table:
    """Boxed on a terminal, the first column whole; elsewhere plain lines, one a row."""
    table = Table(box=box.HEAVY_HEAD if console.is_terminal else None, pad_edge=console.is_terminal)
    for k, name in enumerate(columns):
        table.add_column(name, no_wrap=k == 0)
    return table


def _short(value: object) -> str:
    """A value in words; a hundred layers of one width are not a hundred numbers."""
    if isinstance(value, list) and len(value) > 4 and len(set(map(str, value))) == 1:
        return f"{len(value)} x {value[0]}"
    return str(value)


def _print_summary(results) -> None:
    console.print(results.provenance())
    _print_frame(results.summary())


def _print_frame(frame) -> None:
    table = _table()
    for name in frame.columns:
        table.add_column(name, justify="left" if name in LEFT else "right")
    for row in frame.itertuples(index=False):
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.2f}" if value == 0 or abs(value) >= 0.01 else f"{value:.1e}"
    return str(value)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def main() -> None:
    """Run the command line; a mistake is one line on standard error and a non-zero exit."""
    try:
        code = app(standalone_mode=False)
        if code == 130:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
    except (KeyboardInterrupt, typer.Abort):
        print("dfa-lib: stopped", file=sys.stderr)
        code = 130
    except UsageProblem as problem:
        print(f"dfa-lib: {problem.format_message()}", file=sys.stderr)
        code = 2
    except (DfaLibError, OSError) as problem:
        print(f"dfa-lib: {problem}", file=sys.stderr)
        code = 1
    sys.exit(code)
