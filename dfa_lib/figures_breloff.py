"""Figures and tables of chapter 13_zero_derivative, from the records of `experiments.breloff`.

Each takes an `Evidence` and shows the largest budget that has the records; where there are none it says so, and how to make them.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from . import figures, style
from .config import seed_count
from .experiments import breloff
from .experiments.base import Experiment
from .figures import Budgeted, _band, _bars, _edge, _mean, find_all
from .sweep import Results
from .verdicts import NOT_RUN, Evidence, Interval, difference

TEST = breloff.TEST
STRAIGHT = {
    "straight-through BP": style.Style(style.GREEN, "d", "straight-through BP"),
    "straight-through DFA": style.Style(style.SKY, "v", "straight-through DFA"),
}


def _look(variant: str) -> style.Style:
    rule = variant.split(",")[0]
    return STRAIGHT.get(rule) or style.method(rule.lower())


def _panels(experiment: Experiment) -> dict[str, dict[str, dict[float, str]]]:
    """Unit -> method -> learning rate or depth -> variant, read from the variants' names: "DFA, tanh, no derivative, 4"."""
    panels: dict[str, dict[str, dict[float, str]]] = {}
    for variant in experiment.variants:
        method, x = variant.rsplit(", ", 1)
        panels.setdefault(method.split(", ")[1], {}).setdefault(method, {})[float(x)] = variant
    return panels


def _title(unit: str) -> str:
    return {"relu": "ReLU"}.get(unit, unit)


# --- units whose derivative is zero ------------------------------------------------------------------------------------------


def rates(evidence: Evidence, experiment: Experiment) -> Figure:
    """Held-out error against learning rate, one panel a unit; rings: each method's best. Dashed: without the derivative."""
    results = find_all(evidence, experiment)
    if not results:
        return figures.not_run(experiment)
    figure, axes = plt.subplots(1, 3, figsize=(style.TEXT_WIDTH, 3.3), sharey=True)
    for ax, (unit, methods) in zip(axes, _panels(experiment).items(), strict=True):
        for method, variants in methods.items():
            dropped = method.endswith(breloff.DROPPED)
            _errors(ax, results, method, variants, line="--" if dropped else "-", ring=True)
        ax.set(title=_title(unit), xlabel="learning rate", xscale="log")
        ax.set_xticks(list(variants), [f"{rate:g}" for rate in variants], rotation=35)
        ax.minorticks_off()
    if experiment is breloff.F1_SEARCH:
        for line, label in (("-", "with the derivative"), ("--", "without")):
            axes[0].plot([], [], line, color=style.GREY, label=label)
    return _finish(figure, axes, "held-out error (%)", results)


def by_depth(evidence: Evidence) -> Figure:
    """Test error against the number of hidden layers, one panel a unit. Dashed: where a linear classifier ends."""
    results = find_all(evidence, breloff.ZERO_DERIVATIVE)
    if not results:
        return figures.not_run(breloff.ZERO_DERIVATIVE)
    figure, axes = plt.subplots(1, 3, figsize=(style.TEXT_WIDTH, 3.3), sharey=True)
    for ax, (unit, methods) in zip(axes, _panels(breloff.ZERO_DERIVATIVE).items(), strict=True):
        for method, variants in methods.items():
            _errors(ax, results, method, variants)
        ax.axhline(breloff.LEARNED, color=style.GREY, linewidth=0.8, linestyle="--")
        ax.set(title=_title(unit), xlabel="hidden layers", xticks=breloff.DEPTHS)
    return _finish(figure, axes, "test error (%)", results)


def _errors(ax: plt.Axes, results: Results, method: str, variants: dict[float, str], line: str = "-", ring: bool = False) -> None:
    """A method's error against what its variants differ in."""
    ends = [results.final(variant, TEST) for variant in variants.values()]
    errors, look = np.array(list(zip(*ends, strict=False)), dtype=float), _look(method)  # the seeds that all have
    x = np.array(list(variants))
    label = None if line == "--" else look.label
    _band(ax, x, errors, line, color=look.color, marker=look.marker, label=label, markerfacecolor="white" if line == "--" else look.color)
    if ring:
        best = errors.mean(axis=0).argmin()
        ax.plot(x[best], errors.mean(axis=0)[best], "o", markersize=11, markerfacecolor="none", color=look.color)


def _finish(figure: Figure, axes: np.ndarray, what: str, results: Results) -> Figure:
    axes[0].set(ylabel=what, yscale="log")
    ticks = (1, 2, 3, 5, 10, 20, 50, 90)
    low, high = axes[0].get_ylim()
    axes[0].set_yticks([tick for tick in ticks if low <= tick <= high], [f"{tick}" for tick in ticks if low <= tick <= high])
    axes[0].minorticks_off()
    return figures._finish(figure, axes, results)


def alignment(evidence: Evidence) -> Figure:
    """Angle of DFA's signal at h_i with that of BP, straight-through where the unit is flat, by epoch on four hidden layers."""
    variants = {unit: f"DFA, {unit}, {breloff.DEPTHS[-1]}" for unit in (*breloff.UNITS, "tanh")}
    results = find_all(evidence, breloff.ZERO_DERIVATIVE, list(variants.values()))
    return figures.alignment_curves(results, variants, "signal_angle") if results else figures.not_run(breloff.ZERO_DERIVATIVE)


# --- F1 ------------------------------------------------------------------------------------------------------------------


def lost(evidence: Evidence) -> Figure:
    """Test error without the derivative minus that with it (points), by depth, one panel a unit. Dashed: the claims' bound."""
    results = find_all(evidence, breloff.NO_DERIVATIVE)
    if not results:
        return figures.not_run(breloff.NO_DERIVATIVE)
    figure, axes = plt.subplots(1, 3, figsize=(style.TEXT_WIDTH, 3.3), sharey=True)
    for ax, (unit, methods) in zip(axes, _panels(breloff.NO_DERIVATIVE).items(), strict=True):
        for shift, name in zip((0.93, 1.0, 1.07), breloff.RULES, strict=True):
            with_it, without = (methods[f"{name}, {unit}{dropped}"] for dropped in ("", breloff.DROPPED))
            gaps = [_gap(results, without[n], with_it[n]) for n in breloff.F1_DEPTHS]
            look, means = _look(name), [gap.mean for gap in gaps]
            bars = np.hstack([_bars(gap) for gap in gaps])
            ax.errorbar(shift * np.array(breloff.F1_DEPTHS), means, yerr=bars, color=look.color, marker=look.marker, label=look.label)
        ax.axhline(0, color=style.GREY, linewidth=0.8)
        ax.axhline(breloff.LOST, color=style.GREY, linewidth=0.8, linestyle="--")
        ax.set(title=_title(unit), xlabel="hidden layers", xscale="log")
        ax.set_xticks(breloff.F1_DEPTHS, [f"{n}" for n in breloff.F1_DEPTHS])
        ax.minorticks_off()
    axes[0].set_ylabel("lost without the derivative (points)")
    axes[0].set_yscale("symlog", linthresh=1)
    axes[0].yaxis.set_major_formatter("{x:g}")
    return figures._finish(figure, axes, results)


def _gap(results: Results, variant: str, base: str) -> Interval:
    """Difference in test error with its 95 % interval; of one seed without a width."""
    mine, other = (results.final(name, TEST) for name in (variant, base))
    if min(len(mine), len(other)) > 1:
        return difference(mine, other)
    apart = float(np.mean(mine) - np.mean(other))
    return Interval(apart, apart, apart, 1)


# --- numbers -------------------------------------------------------------------------------------------------------------


def table(evidence: Evidence, experiment: Experiment) -> Budgeted:
    """Test error (percent; mean and deviation over seeds), a row a method, a column a depth; each method's learning rate, with a
    mark where it is at the edge of those that were tried; and the runs of each cell."""
    tried = breloff.RATES if experiment is breloff.ZERO_DERIVATIVE else breloff.F1_RATES
    rows: dict[str, dict[str, str]] = {}
    for method, variants in (item for methods in _panels(experiment).values() for item in methods.items()):
        row = {f"{n:g} layer{'s' if n > 1 else ''}": NOT_RUN for n in variants} | {"rate": "", "budget": ""}
        results = find_all(evidence, experiment, list(variants.values()))
        if results:
            ends = [results.final(variant, TEST) for variant in variants.values()]
            config = results.experiment.configs(results.profile)[variants[1]]
            rate = config.optimizer.lr
            row = {column: _mean(found) for column, found in zip(row, ends, strict=False)}
            row |= {"rate": f"{rate:g}{_edge(rate, tried)}",
                    "budget": f"{seed_count(min(map(len, ends)))}, {config.budget}, {results.profile}"}  # fmt: skip
        rows[method] = row
    return Budgeted(pd.DataFrame(rows).T)
