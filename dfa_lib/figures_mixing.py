"""Figures and tables of chapter 14_mixing_bp_and_dfa, from the records of `experiments.mixing`.

Each takes an `Evidence` and shows the largest budget that has the records; where there are none it says so, and how to make them.
`sizes` needs no records: it trains.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import figures, style
from .config import Config
from .experiments import mixing
from .figures import _band, _bars, _edge, _mean, find_all
from .sweep import Results
from .verdicts import NOT_RUN, Evidence, Metric, difference, measure

#: Of switching by step the line is full and the marker solid; by layer, dashed and hollow.
_LINES = {"by step": "-", "by layer": "--"}
_PANELS = {"switching": ("by step", "by layer"), "dropout": ("dropout",), "weight decay": ("weight decay",)}


def _look(name: str) -> dict[str, object]:
    """How a method looks: as its rule does, which is BP's for dropout and weight decay."""
    found = style.method({"by step": "switching", "by layer": "switching", "DFA": "dfa"}.get(name, "bp"))
    return {"color": found.color, "marker": found.marker, "markerfacecolor": "white" if name == "by layer" else found.color}


def _search(evidence: Evidence) -> Results | None:
    """The records of the search, with all trials of their profile."""
    experiment = mixing.SEARCH
    tried = experiment.profiles["smoke"].only if evidence.profile == "smoke" else None
    return find_all(evidence, experiment, tried)


def _seeds(results: Results, choices: Sequence[tuple[str, float, float]], metric: Metric) -> np.ndarray:
    """A metric of the trials, a row a seed; only the seeds that all of them have."""
    found = [results.of(mixing.trial(*choice)) for choice in choices]
    shared = set.intersection(*({record.seed for record in runs} for runs in found))
    return np.array([[measure(r, metric) for r in runs if r.seed in shared] for runs in found], dtype=float).T


def _swept(results: Results, name: str) -> list[tuple[str, float, float]]:
    """Each strength of a method with its own best rate; of switching, from BP at 0 to DFA at 1."""
    chosen = [(name, *mixing.best(results, name, (strength,))) for strength in mixing.METHODS[name].strengths]
    ends = [(end, *mixing.best(results, end)) for end in ("BP", "DFA")]
    return [ends[0], *chosen, ends[1]] if name in _LINES else chosen


# --- the search ----------------------------------------------------------------------------------------------------------


def strengths(evidence: Evidence) -> Figure:
    """Held-out error, its gap to the training error, and the gap of the losses against strength, each strength at its own best
    rate; a column a regulariser. Dashed: BP without any."""
    results = _search(evidence)
    if not results:
        return figures.not_run(mixing.SEARCH)
    rows = {"held-out\nerror (%)": mixing.settled_error, "error minus\ntraining's (points)": mixing.error_gap,
            "loss minus\ntraining's (nats)": mixing.loss_gap}  # fmt: skip
    size = (style.TEXT_WIDTH, 5.8)
    figure, axes = plt.subplots(len(rows), len(_PANELS), figsize=size, sharex="col", sharey="row", width_ratios=(1.5, 1, 1))
    for line, (label, metric) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(label)
        bp = _seeds(results, [("BP", *mixing.best(results, "BP"))], metric).mean()
        for ax, (title, names) in zip(line, _PANELS.items(), strict=True):
            for name in names:
                choices = _swept(results, name)
                x, values = np.array([strength for _, strength, _ in choices]), _seeds(results, choices, metric)
                _band(ax, x, values, _LINES.get(name, "-"), label=name if name in _LINES else None, **_look(name))
            if title == "switching":
                for k, end in ((0, "BP"), (-1, "DFA")):  # drawn over both lines, which begin and end there
                    ax.plot(x[k], values[:, k].mean(), linestyle="none", zorder=3, label=end, **_look(end))
            ax.axhline(bp, color=style.GREY, linewidth=0.8, linestyle="--")
    for ax, title, x in zip(axes[-1], _PANELS, ("probability of DFA", "rate of hidden units", r"$\lambda$"), strict=True):
        ax.set(xlabel=x, xscale="log" if title == "weight decay" else "linear")
    for ax, title in zip(axes[0], _PANELS, strict=True):
        ax.set_title(title)
    return figures._finish(figure, axes[0], results)


def rates(evidence: Evidence) -> Figure:
    """Held-out error against learning rate: BP, DFA, and switching from the smallest p (dark) to the largest; a panel a way to switch.
    The axis ends at one and a half times the lowest error."""
    results = _search(evidence)
    if not results:
        return figures.not_run(mixing.SEARCH)
    figure, axes = plt.subplots(1, 2, figsize=(style.TEXT_WIDTH, 3.2), sharey=True)
    for ax, name in zip(axes, _LINES, strict=True):
        for end in ("BP", "DFA"):
            _against_rate(ax, results, end, mixing.METHODS[end].strengths[0], label=end, **_look(end))
        shades = plt.get_cmap("viridis")(np.linspace(0.15, 0.9, len(mixing.PROBABILITIES)))
        for p, shade in zip(mixing.PROBABILITIES, shades, strict=True):
            _against_rate(ax, results, name, p, label=f"p = {p:g}", color=shade, marker=style.method("switching").marker)
        ax.set(title=name, xlabel="learning rate", xticks=mixing.WIDE_RATES)
    lowest = min(min(line.get_ydata()) for ax in axes for line in ax.lines)
    axes[0].set_ylim(0.95 * lowest, 1.5 * lowest)
    axes[0].set_ylabel("held-out error (%)")
    return figures._finish(figure, axes, results)


def _against_rate(ax: Axes, results: Results, name: str, strength: float, **look) -> None:
    have = {record.variant for record in results.records}
    choices = [(name, strength, rate) for rate in mixing.METHODS[name].rates if mixing.trial(name, strength, rate) in have]
    _band(ax, np.array([rate for *_, rate in choices]), _seeds(results, choices, mixing.settled_error), **look)


def alignment(evidence: Evidence) -> Figure:
    """Angle between the output weights and the last hidden layer's feedback at the end, against p, each p at its own best rate."""
    results = _search(evidence)
    if not results:
        return figures.not_run(mixing.SEARCH)
    figure, ax = plt.subplots(figsize=(style.TEXT_WIDTH, 3.0))
    for name, line in _LINES.items():
        choices = _swept(results, name)[1:]  # under BP there is no feedback to align with
        angles = _seeds(results, choices, mixing.weight_angle)
        _band(ax, np.array([strength for _, strength, _ in choices]), angles, line, label=name, **_look(name))
    ax.plot(1.0, angles[:, -1].mean(), linestyle="none", zorder=3, label="DFA", **_look("DFA"))
    ax.axhline(90, color=style.GREY, linewidth=0.8, linestyle="--")
    ax.set(xlabel="probability of DFA", ylabel="weight angle (degrees)", xlim=(0, 1.03), ylim=(None, 95))
    return figures._finish(figure, [ax], results)


def choices(evidence: Evidence) -> pd.DataFrame:
    """What the search chose for each method: trials, strength, learning rate, held-out error there. A choice at the edge of its grid
    says so: a better one may lie beyond."""
    results, rows = _search(evidence), {}
    for name, method in mixing.METHODS.items():
        rows[name] = {"trials": len(method.strengths) * len(method.rates), "strength": "", "learning rate": "", "held-out %": NOT_RUN}
        if results:
            strength, rate = mixing.best(results, name)
            rows[name] |= {"strength": f"{method.knob} = {strength:g}{_edge(strength, method.strengths)}" if method.knob else "",
                           "learning rate": f"{rate:g}{_edge(rate, method.rates)}",
                           "held-out %": _mean(_seeds(results, [(name, strength, rate)], mixing.settled_error)[:, 0].tolist())}  # fmt: skip
    return pd.DataFrame(rows).T


# --- the final comparison ------------------------------------------------------------------------------------------------


def _named(name: str) -> str:
    """A method with the strength that the search gave it."""
    strength, knob = mixing.OWN[name][0], mixing.METHODS[name].knob
    return f"{name}, {knob} = {strength:g}" if knob else name


def final(evidence: Evidence) -> Figure:
    """Each method minus BP, with 95 % intervals over seeds: held-out error, its gap to the training error, the gap of the losses."""
    names = [name for name in mixing.OWN if name != "BP"]
    results = find_all(evidence, mixing.FINAL)
    if not results or min(len(results.of(name)) for name in mixing.OWN) < 2:
        return figures.not_run(mixing.FINAL)
    metrics = {"held-out error\n(points)": mixing.settled_error, "error minus\ntraining's (points)": mixing.error_gap,
               "loss minus\ntraining's (nats)": mixing.loss_gap}  # fmt: skip
    figure, axes = plt.subplots(1, len(metrics), figsize=(style.TEXT_WIDTH, 2.9), sharey=True)
    for ax, (title, metric) in zip(axes, metrics.items(), strict=True):
        base = [measure(record, metric) for record in results.of("BP")]
        for k, name in enumerate(names):
            effect = difference([measure(record, metric) for record in results.of(name)], base)
            ax.errorbar(effect.mean, k, xerr=_bars(effect), linestyle="none", capsize=3, **_look(name))
        ax.axvline(0, color=style.GREY, linewidth=0.8)
        ax.set(title=title, xlabel="minus BP's")
    axes[0].set_yticks(range(len(names)), [_named(name) for name in names])
    axes[0].invert_yaxis()
    figure.supxlabel(results.provenance(), fontsize=7.5, color=style.GREY)
    return figure


def final_table(evidence: Evidence) -> pd.DataFrame:
    """Each method at its own best: held-out error (median of the last three evaluations), then, at the end, training error, both
    losses; and the error minus BP's with its 95 % interval over seeds."""
    return _table(find_all(evidence, mixing.FINAL), {name: _named(name) for name in mixing.OWN}, "held-out")


def mnist_table(evidence: Evidence) -> pd.DataFrame:
    """The same of the runs on all of MNIST, on its test set."""
    return _table(find_all(evidence, mixing.MNIST), {name: name for name in mixing.MNIST.variants}, "test")


def _table(results: Results | None, names: dict[str, str], part: str) -> pd.DataFrame:
    rows = {}
    for name, title in names.items():
        rows[title] = {f"{part} %": NOT_RUN}
        if results:
            mine, bp = ([mixing.settled_error(record) for record in results.of(which)] for which in (name, "BP"))
            gap = f"{difference(mine, bp):+.2f}" if name != "BP" and min(len(mine), len(bp)) > 1 else ""
            rows[title] = {f"{part} %": _mean(mine), "minus BP [95 %]": gap, "training %": _mean(results.final(name, "train_error_pct")),
                           f"{part} loss": _mean(results.final(name, "test_loss"), 3),
                           "training loss": _mean(results.final(name, "train_loss"), 4), "n": len(mine)}  # fmt: skip
    return pd.DataFrame(rows).T.fillna("")


def convergence(evidence: Evidence) -> Figure:
    """Test error (above) and running training error (below) by epoch on all of MNIST; a column a p."""
    experiment = mixing.MNIST
    shown = [name for name in experiment.variants if not name.startswith("dropout")]
    results = find_all(evidence, experiment, shown)
    if not results:
        return figures.not_run(experiment)
    rows = {"test error (%)": "test_error_pct", "training error (%)": "train_error_pct"}
    figure, axes = plt.subplots(2, len(mixing.MNIST_P), figsize=(style.TEXT_WIDTH, 4.6), sharex=True, sharey="row")
    for line, (label, metric) in zip(axes, rows.items(), strict=True):
        for ax, p in zip(line, mixing.MNIST_P, strict=True):
            for name in ("BP", "by step", "by layer", "DFA"):
                epochs, values = figures.curves(results, f"{name}, {p:g}" if name in _LINES else name, metric)
                x, y = epochs[epochs > 0], np.maximum(values[:, epochs > 0], 1e-3)
                _band(ax, x, y, _LINES.get(name, "-"), label=name, markevery=max(1, len(x) // 6), **_look(name))
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter("{x:g}")
        line[0].yaxis.set_minor_formatter("")
        if metric == "test_error_pct":
            line[0].set_yticks(ticks := (2, 3, 5, 10, 20), [f"{tick}" for tick in ticks])
        line[0].set_ylabel(label)
    for ax, p in zip(axes[0], mixing.MNIST_P, strict=True):
        ax.set_title(f"p = {p:g}")
    for ax in axes[1]:
        ax.set_xlabel("epoch")
    return figures._finish(figure, axes[0], results)


# --- how large the two signals are ---------------------------------------------------------------------------------------


def sizes(config: Config, examples: int = 200) -> pd.DataFrame:
    """DFA's signal over BP's, by hidden layer: |B_i e| / |W_{i+1}^T delta_{i+1}| at the same weights, a median over training
    examples, before training and after `config.epochs` of it, of seed 0, under a rule with a matrix B at every layer."""
    import torch

    from . import data
    from .feedback import Feedback
    from .graph import bp
    from .network import Workspace
    from .training import Trainer

    dataset = data.load(config.data, validation=config.validation)  # kept for others, so no inference tensors
    with torch.inference_mode():
        trainer = Trainer(config, [0], dataset)
        network, rows = trainer.network, {}
        work = Workspace(network, examples, "sum", training=False)
        exact = Feedback(bp().graph(network.widths), network, "zeros", [0])
        for when, epochs in (("before", 0), ("after", config.epochs)):
            for epoch in range(epochs):
                for batch in trainer.order(epoch).split(config.batch, dim=1):
                    trainer.step(batch)
            work.x.copy_(trainer.train_x[:examples].expand_as(work.x))
            work.y.copy_(trainer.one_hot[:examples].expand_as(work.y))
            work.forward()
            trainer.loss(work.output, work.y, work.e)
            signals: dict[int, torch.Tensor] = {}
            exact.bind(work, signals)()
            ratios = {i: (work.e @ trainer.feedback.matrix(i)).norm(dim=-1) / signal.norm(dim=-1) for i, signal in signals.items()}
            rows[when] = {f"h{i}": ratios[i].nanmedian().item() for i in sorted(ratios)}
    return pd.DataFrame(rows).T
