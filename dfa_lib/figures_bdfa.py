"""Figures and tables of chapters 09_feedback_propagation and 10_blocked_dfa, from the records of `experiments.bdfa`.

Each takes an `Evidence` and shows the largest budget that has the records; where there are none it says so, and how to make them.
Two need no records: `samples` shows what comes with the library, `delta_norms` computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise, product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator

from . import data, figures, style
from .config import Config
from .experiments import bdfa
from .experiments.base import Experiment
from .figures import Budgeted, _mean, find_any
from .records import Record
from .sweep import Results
from .verdicts import NOT_RUN, Evidence, Interval, difference, verdict

Panel = tuple[Experiment, Sequence[str]]  #: an experiment, and those of its variants that a panel shows
TEST = "test_error_pct"
SAMPLES = Path(__file__).with_name("notmnist_samples.png")


# --- looks ---------------------------------------------------------------------------------------------------------------


def _shade(color: str, other: str, share: float) -> str:
    """A colour on the way to another."""
    mixed = ((1 - share) * np.array(to_rgb(color)) + share * np.array(to_rgb(other))).clip(0, 1)
    return "#" + "".join(f"{round(255 * c):02X}" for c in mixed)


#: FP(k) goes from DFA to BP, so from a light sky towards BP's black; a block's colour darkens as it gets smaller. The number
#: that tells members of a family apart is the marker.
LOOKS: dict[str, style.Style] = {
    "k = 0": replace(style.method("dfa"), label="k = 0 (DFA)"),
    **{f"k = {k}": style.Style(_shade(style.SKY, style.BLACK, (k - 1) / 5), f"${k}$", f"k = {k}") for k in bdfa.DEPTHS[1:]},
    "block 50": style.Style(_shade(style.VERMILION, "#FFFFFF", 0.35), "$50$", "block 50"),
    "block 25": style.Style(style.VERMILION, "$25$", "block 25"),
    "block 10": style.Style(_shade(style.VERMILION, style.BLACK, 0.4), "$10$", "block 10"),
    "block 5": style.Style(_shade(style.VERMILION, style.BLACK, 0.7), "$5$", "block 5"),
    "output layer only": style.method("shallow"),
}


def look(variant: str) -> style.Style:
    """How a variant looks: by the member of its family that its name holds ("Adam, k = 2", "block 25, redrawn"), else by its rule."""
    for part in variant.split(", "):
        if part in LOOKS:
            return LOOKS[part]
    return style.method(variant.replace(",", " ").split()[0].lower())


def _how(variant: str, points: int) -> dict[str, object]:
    """Markers stand at other places for each member of a family, so that curves that lie on one another can be told apart."""
    found, every = look(variant), max(1, points // 6)
    number = found.marker.startswith("$")
    shift = list(LOOKS.values()).index(found) % 6 if found in LOOKS.values() else 0
    return {"color": found.color, "marker": found.marker, "markersize": 3.5 + 2.2 * len(found.marker.strip("$")) if number else 5,
            "markevery": (shift * every // 6, every), "markeredgewidth": 0.3 if number else 1.0,
            "path_effects": [withStroke(linewidth=3, foreground="white")] if number else []}  # fmt: skip


# --- records -------------------------------------------------------------------------------------------------------------


def present(results: Results, variants: Sequence[str]) -> list[str]:
    """Of these variants those that have records, in this order."""
    have = {record.variant for record in results.records}
    return [variant for variant in variants if variant in have]


def accuracies(results: Results, variant: str) -> list[float]:
    """Test accuracy (percent) of each seed at the end."""
    return [100 - error for error in results.final(variant, TEST)]


def _band(ax: Axes, x: np.ndarray, values: np.ndarray, line: str = "-", **how) -> None:
    """The mean over seeds, and a band from the lowest to the highest."""
    _line(ax, x, np.nanmean(values, axis=0), line, **how)
    ax.fill_between(x, np.nanmin(values, axis=0), np.nanmax(values, axis=0), color=how["color"], alpha=0.18, linewidth=0)


def _line(ax: Axes, x: np.ndarray, y: np.ndarray, line: str, **how) -> None:
    """A curve; a number on it is drawn above all curves, with a white rim."""
    if not how["marker"].startswith("$"):
        ax.plot(x, y, line, **how)
        return
    label = how.pop("label", None)
    ax.plot(x, y, line, color=how["color"])
    ax.plot(x, y, linestyle="none", zorder=3, **how)
    ax.plot([], [], line, label=label, **how)  # for the legend


def _finish(figure: Figure, axes: Sequence[Axes], shown: Sequence[Results], columns: int | None = None) -> Figure:
    """One legend above the panels, and below them where the numbers come from, each budget once."""
    handles, labels = figures._unique(axes)
    if handles:
        figure.legend(handles, labels, loc="outside upper center", ncols=columns or len(labels), columnspacing=1.4)
    lines = dict.fromkeys(results.provenance() for results in shown)
    figure.supxlabel("\n".join(lines), fontsize=7.5, color=style.GREY)
    return figure


def _steps_axis(ax: Axes) -> None:
    ax.set(xlabel="step", ylim=(0, 100), yticks=range(0, 101, 20))
    ax.xaxis.set_major_locator(plt.MaxNLocator(4))
    ax.xaxis.set_major_formatter("{x:,.0f}")


# --- accuracy by step: Figures 7, 8, 9 -----------------------------------------------------------------------------------


def accuracy(evidence: Evidence, panels: Mapping[str, Panel]) -> Figure:
    """Test accuracy against steps, one panel a title. Ticks at the right edge: the paper's final numbers."""
    found = {title: find_any(evidence, *panel) for title, panel in panels.items()}
    shown = [results for results in found.values() if results]
    if not shown:
        return figures.not_run(next(iter(panels.values()))[0])
    figure, axes = plt.subplots(1, len(panels), figsize=(style.TEXT_WIDTH, 3.4), sharey=True, squeeze=False)
    for ax, (title, (experiment, variants)) in zip(axes[0], panels.items(), strict=True):
        ax.set_title(title)
        if not found[title]:
            figures.say(ax, f"not run here; to make it:\n{figures.command(experiment)}")
            continue
        _accuracy_panel(ax, found[title], present(found[title], variants))
        _paper_marks(ax, bdfa.ACCURACY.get(experiment.name, {}), present(found[title], variants))
        _steps_axis(ax)
    axes[0, 0].set_ylabel("test accuracy (%)")
    names = [name for _, variants in panels.values() for name in variants]
    return _finish(figure, list(axes[0]), shown, columns=6 if len(set(names)) > 6 else None)


def _accuracy_panel(ax: Axes, results: Results, variants: Sequence[str]) -> None:
    for variant in variants:
        steps, errors = figures.curves(results, variant, TEST, "step")
        _band(ax, steps, 100 - errors, label=look(variant).label, **_how(variant, len(steps)))


def _paper_marks(ax: Axes, numbers: Mapping[str, float], variants: Sequence[str]) -> None:
    """The paper's final accuracies: a short line at the right edge and the number beside it, those that are equal once."""
    marks: dict[float, list[str]] = {}
    for variant in variants:
        if variant in numbers:
            marks.setdefault(numbers[variant], []).append(variant)
    low, high = ax.get_xlim()
    at = -np.inf
    for number, who in sorted(marks.items()):
        color = look(who[0]).color if len(who) == 1 else "#444444"
        ax.plot([high - 0.05 * (high - low), high], [number, number], color=color, linewidth=2.2, solid_capstyle="butt", zorder=3)
        at = max(number, at + 5.0)  # numbers as close as the paper's would lie on one another
        ax.annotate(f"{number:.1f}", (high, number), xytext=(1.02, at - 3.0 if len(marks) > 1 else number), color=color, fontsize=7.5,
                    textcoords=ax.get_yaxis_transform(), va="center")  # fmt: skip
    if marks:
        ax.text(1.02, at + (2.0 if len(marks) > 1 else 5.0), "paper", transform=ax.get_yaxis_transform(), fontsize=7.5, va="center",
                color="#666666")  # fmt: skip
    ax.set_xlim(low, high)


def accuracy_table(evidence: Evidence, *experiments: Experiment) -> Budgeted:
    """The paper's accuracy and ours at the end (mean and deviation over seeds), one row a variant: seeds, steps, the verdict on the
    paper's number, and the steps to 80 % (mean over the seeds that get there). With several experiments, later ones add rows, of other
    variants."""
    rows: dict[str, dict[str, object]] = {}
    for experiment in experiments:
        for variant in experiment.variants:
            paper = bdfa.ACCURACY.get(experiment.name, {}).get(variant, "")
            rows[variant] = {"paper, %": paper, "here, %": NOT_RUN}
            results = find_any(evidence, experiment, [variant])
            if not results:
                continue
            runs, claim = results.of(variant), bdfa.NUMBERS.get(experiment.name, {}).get(variant)
            rows[variant] |= {
                "here, %": _mean(accuracies(results, variant), 1),
                "n": len(runs),
                "budget": f"{results.experiment.configs(results.profile)[variant].budget}, {results.profile}",
                "the paper's number": verdict(claim, evidence).outcome if claim else "",
                "steps to 80 %": _steps(runs),
            }
    return Budgeted(pd.DataFrame(rows).T.fillna(""))


# --- cost: counted beside measured -----------------------------------------------------------------------------------------


def cost_table(evidence: Evidence, base: str, *experiments: Experiment) -> pd.DataFrame:
    """What a step of each variant asks for, counted from its graph, beside the milliseconds that a step of these very runs took
    (median over seeds), and both as ratios to the variant `base`. Evaluation and alignment are not in a step's time.

    levels: feedback products that must wait for one another; M: million multiply-accumulates of a batch.
    """
    counted, measured, device = {}, {}, {}
    for experiment in experiments:
        for variant in experiment.variants:
            results = find_any(evidence, experiment, [variant])
            config = (results.experiment.configs(results.profile) if results else experiment.variants)[variant]
            shape = data.DATASETS[config.data]
            counted[variant] = config.graph(int(np.prod(shape.shape)), shape.classes).cost(config.batch)
            if results:
                runs = results.of(variant)
                measured[variant] = float(np.median([run.step_ms / run.replicas for run in runs]))
                device[variant] = (results.profile, *sorted({run.device for run in runs}))
    rows = {}
    for variant, cost in counted.items():
        comparable = variant in measured and device[variant] == device.get(base)
        rows[variant] = {
            "levels": cost.sequential_steps,
            "products": cost.products,
            "feedback, M": f"{cost.feedback_macs / 1e6:,.0f}",
            "step, M": f"{cost.macs / 1e6:,.0f}",
            f"of {base}'s": f"{cost.macs / counted[base].macs:.2f}",
            "measured, ms": f"{measured[variant]:.1f}" if variant in measured else NOT_RUN,
            f"of {base}'s ": f"{measured[variant] / measured[base]:.2f}" if comparable else "",
        }
    return pd.DataFrame(rows).T


# --- learning rates --------------------------------------------------------------------------------------------------------


def rates(evidence: Evidence) -> Figure:
    """Held-out `late_error` against learning rate, a line a block size; rings: each one's best, if it learns. Dashed: the notebook's rate."""
    names = {name: [f"{name}, {rate:g}" for rate in bdfa.RATES] for name in bdfa.TUNED}
    return _rates(evidence, bdfa.RATE_SEARCH, {"": names}, bdfa.RATES, bdfa.late_error, ring=True)


def fp_rates(evidence: Evidence) -> Figure:
    """Held-out error of FP(k) against learning rate, a panel a setting. Dotted: the paper's error, named in the first."""
    panels = {
        setting: {f"k = {k}": [f"k = {k}, {setting}, {rate:g}" for rate in bdfa.FP_RATES] for k in bdfa.SEARCHED_DEPTHS}
        for setting in bdfa.FP_SETTINGS
    }
    return _rates(evidence, bdfa.FP_SEARCH, panels, bdfa.FP_RATES, lambda run: run.final[TEST], paper=100 - bdfa.FIGURE7_ACCURACY)


def _rates(
    evidence: Evidence,
    experiment: Experiment,
    panels: Mapping[str, Mapping[str, Sequence[str]]],
    all_rates: Sequence[float],
    error: Callable[[Record], float],
    ring: bool = False,
    paper: float | None = None,
) -> Figure:
    results = find_any(evidence, experiment)
    if not results:
        return figures.not_run(experiment)
    figure, axes = plt.subplots(1, len(panels), figsize=(style.TEXT_WIDTH, 3.3), sharey=True, squeeze=False)
    for ax, (title, lines) in zip(axes[0], panels.items(), strict=True):
        for name, variants in lines.items():
            have = [(rate, v) for rate, v in zip(all_rates, variants, strict=True) if present(results, [v])]
            if not have:
                continue
            x = np.array([rate for rate, _ in have])
            seeds = zip(*([error(record) for record in results.of(v)] for _, v in have), strict=False)  # those that all rates have
            errors = np.array(list(seeds), dtype=float)
            _band(ax, x, errors, label=look(name).label, **(_how(name, 1) | {"markevery": 1}))
            best = errors.mean(axis=0).argmin()
            if ring and len(have) > 1 and errors.mean(axis=0)[best] < bdfa.UNTRAINED:
                ax.plot(x[best], errors.mean(axis=0)[best], "o", markersize=16, markerfacecolor="none", color=look(name).color)
        ax.axvline(bdfa.NOTEBOOK.optimizer.lr, color=style.GREY, linewidth=0.8, linestyle="--")
        if paper:
            ax.axhline(paper, color=style.GREY, linewidth=1.0, linestyle=":")
        ax.set(title=title, xlabel="learning rate", xscale="log", yscale="log", ylim=(paper and paper / 2, 100))
        ax.set_xticks(all_rates, [f"{rate:g}" for rate in all_rates])
        ax.set_yticks([5, 10, 20, 50, 90], ["5", "10", "20", "50", "90"])
        ax.minorticks_off()
    if paper:
        axes[0, 0].annotate(f"the paper's {paper:g} %", (1, paper), xytext=(-2, 3), xycoords=axes[0, 0].get_yaxis_transform(),
                            textcoords="offset points", ha="right", fontsize=8, color="#666666")  # fmt: skip
    axes[0, 0].set_ylabel("held-out error (%)")
    return _finish(figure, list(axes[0]), [results])


def own_rates_table(evidence: Evidence) -> pd.DataFrame:
    """Each block size at the notebook's rate and at its own best: accuracy at the end and its difference from DFA's at that rate
    with its 95 % interval; and steps to 80 %. A best rate at the edge of the grid says so: a better one may lie beyond."""
    rows = {}
    for name, rate in bdfa.OWN_RATES.items():
        rows[name] = {f"at {bdfa.NOTEBOOK.optimizer.lr:g}, %": NOT_RUN, "minus DFA [95 %]": "", "steps to 80 %": "",
                      "own rate": f"{rate:g}{figures._edge(rate, bdfa.RATES)}", "at it, %": NOT_RUN, "minus DFA [95 %] ": "",
                      "steps to 80 % ": ""}  # fmt: skip
        for experiment, space in ((bdfa.FIGURE8, ""), (bdfa.OWN, " ")):
            mine = find_any(evidence, experiment, [name])
            if not mine:
                continue
            base = find_any(Evidence(mine.profile, evidence.directory, _read=evidence._read), experiment, ["DFA"])
            enough = base and name != "DFA" and min(len(mine.of(name)), len(base.of("DFA"))) > 1
            rows[name] |= {
                "at it, %" if space else f"at {bdfa.NOTEBOOK.optimizer.lr:g}, %": _mean(accuracies(mine, name), 1),
                f"minus DFA [95 %]{space}": f"{_accuracy_gap(mine, name, base):+.1f}" if enough else "",
                f"steps to 80 %{space}": _steps(mine.of(name)),
            }
    return pd.DataFrame(rows).T


def _steps(runs: Sequence[Record]) -> str:
    """Steps to 80 % accuracy, the mean over the seeds that get there, and how many those are where it is not all."""
    reached = [steps for run in runs if (steps := bdfa.steps_to(run, bdfa.TRAINED)) is not None]
    count = f" ({len(reached)} of {len(runs)})" if len(reached) < len(runs) else ""
    return f"{np.mean(reached):,.0f}{count}" if reached else "not reached"


def _accuracy_gap(results: Results, name: str, base: Results) -> Interval:
    return difference(accuracies(results, name), accuracies(base, "DFA"))


# --- BP and the initialisation -----------------------------------------------------------------------------------------------


def init_map(evidence: Evidence) -> Figure:
    """Test accuracy of 100 layers under BP (above) and DFA, a row a learning rate, a column an initialisation with the gain of its
    weights. Where every seed answers one class for everything the cell says so."""
    experiment = bdfa.BP_DEPTH
    results = find_any(evidence, experiment)
    if not results:
        return figures.not_run(experiment)
    figure, axes = plt.subplots(2, 1, figsize=(style.TEXT_WIDTH, 3.9), sharex=True)
    width = bdfa.DEEP[0]
    for ax, rule in zip(axes, ("BP", "DFA"), strict=True):
        names = [[f"{rule}, {init}, {rate:g}" for init in bdfa.INITS] for rate in bdfa.BP_RATES]
        grid = np.array([[np.mean(accuracies(results, n)) if present(results, [n]) else np.nan for n in line] for line in names])
        image = ax.imshow(grid, cmap="cividis", vmin=10, vmax=100, aspect="auto")
        for (i, j), value in np.ndenumerate(grid):
            if np.isfinite(value):
                constant = all(record.final["constant_output"] for record in results.of(names[i][j]))
                words = f"{value:.0f} %" + ("\none class\nfor all" if constant else "")
                ax.text(j, i, words, ha="center", va="center", fontsize=7.5 if constant else 10, color="black" if value > 60 else "white")
        ax.set_yticks(range(len(bdfa.BP_RATES)), [f"{rate:g}" for rate in bdfa.BP_RATES])
        ax.set_xticks(range(len(bdfa.INITS)), [f"{_two_lines(n)}\ngain {bdfa.hop_gain(spec, width):.2f}" for n, spec in bdfa.INITS.items()])
        ax.set(title=f"{rule} on 100 layers of {width}", ylabel="learning rate")
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, shrink=0.9, pad=0.02, ticks=(10, 40, 70, 100), label="test accuracy (%)")
    bar.outline.set_visible(False)
    return _finish(figure, [], [results])


def _two_lines(name: str) -> str:
    return name.replace("truncated normal", "truncated\nnormal") if " " in name else f"\n{name}"


# --- fixed, redrawn, none ----------------------------------------------------------------------------------------------------


def redrawn(evidence: Evidence) -> Figure:
    """Feedback fixed (full), redrawn at every step (dashed), and only the output layer learning (grey): accuracy by step above, and
    the delta angle by layer at the end below."""
    experiment, control = bdfa.REDRAWN, "output layer only"
    results = find_any(evidence, experiment)
    if not results:
        return figures.not_run(experiment)
    figure, axes = plt.subplots(2, 2, figsize=(style.TEXT_WIDTH, 5.2), sharey="row", sharex="row", height_ratios=(1.2, 1))
    for column, rule in zip(axes.T, ("DFA", "block 25"), strict=True):
        for variant, line, label in ((rule, "-", "fixed"), (f"{rule}, redrawn", "--", "redrawn at every step"), (control, ":", control)):
            if not present(results, [variant]):
                continue
            steps, errors = figures.curves(results, variant, TEST, "step")
            how = _how(variant, len(steps)) | ({"marker": "None"} if line == "--" else {})
            _band(column[0], steps, 100 - errors, line, label=f"{look(variant).label}, {label}" if variant != control else label, **how)
            if variant != control:
                _by_layer(column[1], results, variant, line)
        column[0].set_title(rule)
        _steps_axis(column[0])
        _angle_axis(column[1])
    axes[0, 0].set_ylabel("test accuracy (%)")
    axes[1, 0].set_ylabel("delta angle\nat the end (degrees)")
    return _finish(figure, list(axes[0]), [results], columns=3)


def last_angles(results: Results, variant: str) -> tuple[np.ndarray, np.ndarray]:
    """Measured layers, and the delta angle there at the last measurement, one row a seed; nan where it is undefined."""
    measured = [next((r["alignment"] for r in reversed(run.evaluations) if "alignment" in r), None) for run in results.of(variant)]
    measured = [m for m in measured if m and m["layers"]]
    if not measured:
        return np.empty(0), np.empty((1, 0))
    return np.array(measured[0]["layers"]), np.array([m["delta_angle"] for m in measured], dtype=float)


def _by_layer(ax: Axes, results: Results, variant: str, line: str = "-") -> None:
    layers, angles = last_angles(results, variant)
    known = np.isfinite(angles).any(axis=0)  # a layer without a direction in any seed has no point
    if known.any():
        how = _how(variant, 1) | {"markevery": 1 if line == "-" else [-1]}
        _band(ax, layers[known], angles[:, known], line, label=look(variant).label, **how)


def _angle_axis(ax: Axes) -> None:
    ax.axhline(90, color=style.GREY, linewidth=0.8, linestyle="--")
    ax.set(xlabel="hidden layer", ylim=(0, 125), yticks=(0, 30, 60, 90, 120))


def by_layer(evidence: Evidence, *experiments: Experiment) -> Figure:
    """At the end of training, by hidden layer: the angle between a rule's delta and BP's (above), and the share of saturated units
    (below). One column an experiment; notches on the axis: where the blocks of that colour begin."""
    found = {experiment.name: find_any(evidence, experiment) for experiment in experiments}
    shown = [results for results in found.values() if results]
    if not shown:
        return figures.not_run(experiments[0])
    figure, axes = plt.subplots(2, len(experiments), figsize=(style.TEXT_WIDTH, 5.0), sharex=True, sharey="row", squeeze=False)
    for column, experiment in zip(axes.T, experiments, strict=True):
        results = found[experiment.name]
        column[0].set_title(f"layers of {next(iter(experiment.variants.values())).hidden[0]} units")
        if not results:
            figures.say(column[0], f"not run here; to make it:\n{figures.command(experiment)}")
            column[1].set_axis_off()
            continue
        for variant in present(results, list(experiment.variants)):
            if variant != "BP":
                _by_layer(column[0], results, variant)
            units = np.array([run.final["saturation"] for run in results.of(variant)], dtype=float)
            _band(column[1], np.arange(1, units.shape[1] + 1), 100 * units, label=look(variant).label, **_how(variant, units.shape[1]))
            depth, block = units.shape[1], dict(experiment.variants[variant].rule.options).get("block")
            for start in range(depth - block, 0, -block) if block else ():  # higher for larger blocks, which share their boundaries
                how = {"color": look(variant).color, "transform": column[1].get_xaxis_transform(), "linewidth": 2.5}
                column[1].plot([start, start], [0, 0.02 + 0.0016 * block], zorder=3 - block / 100, solid_capstyle="butt", **how)
        _angle_axis(column[0])
        column[0].set_xlabel("")
        column[1].set(xlabel="hidden layer", ylim=(-2, 102))
    axes[0, 0].set_ylabel("delta angle (degrees)")
    axes[1, 0].set_ylabel("saturated units (%)")
    return _finish(figure, list(axes[1]), shown)


# --- Figure 7's alternatives ---------------------------------------------------------------------------------------------------


def why(evidence: Evidence) -> Figure:
    """Test accuracy by step of FP(k), one small panel an alternative, all with the same axes."""
    experiment = bdfa.FIGURE7_WHY
    results = find_any(evidence, experiment)
    if not results:
        return figures.not_run(experiment)
    figure, axes = plt.subplots(2, 3, figsize=(style.TEXT_WIDTH, 4.6), sharex=True, sharey=True)
    for ax, (title, configs) in zip(axes.flat, bdfa.WHY.items(), strict=False):
        _accuracy_panel(ax, results, present(results, [f"{title}, {k}" for k in configs]))
        _steps_axis(ax)
        ax.set(title=title.replace("feedback as small", "feedback as small\n") if len(title) > 25 else title, xlabel="")
        ax.title.set_fontsize(9.5)
    for ax in axes.flat[len(bdfa.WHY) :]:
        ax.set_axis_off()
    axes.flat[2].tick_params(labelbottom=True)
    for ax in (*axes[1, :2], axes[0, 2]):
        ax.set_xlabel("step")
    for ax in axes[:, 0]:
        ax.set_ylabel("test accuracy (%)")
    handles, labels = figures._unique(axes.flat)
    axes.flat[-1].legend(handles, labels, loc="center")
    return _finish(figure, [], [results])


# --- 15 layers, two data sets ------------------------------------------------------------------------------------------------


def fifteen(evidence: Evidence) -> Figure:
    """Test accuracy by step on 15 layers under BP, FA and DFA, one panel a data set."""
    variants = list(bdfa.FIFTEEN.variants)
    return accuracy(evidence, {title: (bdfa.FIFTEEN, [v for v in variants if v.endswith(f" {title}")]) for title in ("MNIST", "notMNIST")})


def fifteen_table(evidence: Evidence) -> pd.DataFrame:
    """Accuracy at the end, and the test error minus BP's with its 95 % interval."""
    table = accuracy_table(evidence, bdfa.FIFTEEN).drop(columns=["paper, %", "the paper's number"], errors="ignore")
    for title in ("MNIST", "notMNIST"):
        for rule in ("FA", "DFA"):
            names = [f"{rule} {title}", f"BP {title}"]
            results = evidence.find(bdfa.FIFTEEN.name, names)
            ends = [results.final(name, TEST) for name in names] if results else [[]]
            if min(map(len, ends)) > 1:
                table.loc[names[0], "error minus BP's [95 %]"] = f"{difference(*ends):+.2f}"
    return table.fillna("")


def samples() -> Figure:
    """Four images of each letter of notMNIST, a column a letter: the first of each class in the training part of `notmnist-10k`.

    They come with the library, so that nobody needs the data set to see them; a test holds them to it.
    """
    letters = np.split(plt.imread(SAMPLES), 10, axis=1)  # each (4 * 28, 28), in [0, 1]
    figure, axes = plt.subplots(1, len(letters), figsize=(style.TEXT_WIDTH, 2.8))
    for letter, images, ax in zip("ABCDEFGHIJ", letters, axes, strict=True):
        column = np.pad(images.reshape(-1, 28, 28), ((0, 0), (1, 1), (1, 1)), constant_values=0.35).reshape(-1, 30)
        ax.imshow(column, cmap="gray", vmin=0, vmax=1, rasterized=True)
        ax.set(title=letter, xticks=(), yticks=())
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
    return figure


# --- the map -----------------------------------------------------------------------------------------------------------------

BETTER, WORSE, MIXED, NOTHING = "smaller is better", "smaller is worse", "no order", "none learns"
_TINTS = {BETTER: "#D9EFE6", WORSE: "#F9DFCF", MIXED: "#F2F2F2", NOTHING: "#FFFFFF"}
#: Accuracies (points) as close as this count as equal in the map, and below this (percent) nothing was learnt: at first a deep
#: net often tells one digit from all others, which gives about 20.
EQUAL, LEARNT = 1.0, 30.0


def block_order(found: Sequence[float]) -> str:
    """In words, how accuracies (percent) go from the largest block (DFA) to the smallest: by every step that is not a tie."""
    if max(found) < LEARNT:
        return NOTHING
    steps = [after - before for before, after in pairwise(found) if abs(after - before) > EQUAL]
    return BETTER if steps and min(steps) > 0 else WORSE if steps and max(steps) < 0 else MIXED


def block_map(evidence: Evidence) -> Figure:
    """Test accuracy against block size in every cell of the map; the tint and the words say how the paper's block sizes compare."""
    experiment = bdfa.MAP
    results = find_any(evidence, experiment)
    if not results:
        return figures.not_run(experiment)
    lines = list(product(bdfa.MAP_OPTIMIZERS, bdfa.MAP_INITS))
    figure, axes = plt.subplots(len(lines), len(bdfa.GAINS), figsize=(style.TEXT_WIDTH, 1.18 * len(lines) + 0.9), sharex=True, sharey=True)
    width, blocks, changes = bdfa.DEEP[0], list(bdfa.MAP_BLOCKS), experiment.profile(results.profile).changes
    for line, (optimizer, init) in zip(axes, lines, strict=True):
        for ax, gain in zip(line, bdfa.GAINS, strict=True):
            _map_cell(ax, results, [bdfa.map_variant(gain, init, optimizer, block) for block in blocks])
        config = replace(experiment.variants[bdfa.map_variant(gain, init, optimizer, "DFA")], **changes)  # as it ran, or would
        words = (f"{optimizer.removeprefix('slow ')}, rate {config.optimizer.lr:g}", f"{config.steps:,} steps",
                 init.replace("truncated normal", "trunc. normal"), f"weights' gain {bdfa.hop_gain(config.init, width):.2f}")  # fmt: skip
        line[0].set_ylabel("\n".join(words), fontsize=8, rotation=0, ha="right", va="center")
    for ax, (gain, (spec, options)) in zip(axes[0], bdfa.GAINS.items(), strict=True):
        words = "at boundaries" if options else f"gain {bdfa.hop_gain(spec, width):.2f} a hop"
        ax.set_title(f"{gain}\n{words}", fontsize=9.5)
    for ax in axes[-1]:
        ax.set_xticks(range(len(blocks)), [block.removeprefix("block ") for block in blocks])
    axes[-1, len(bdfa.GAINS) // 2].set_xlabel("block size (DFA: one block of 100)")
    axes[0, 0].set(ylim=(0, 125), yticks=(0, 50, 100), xlim=(-0.4, len(blocks) - 0.6))
    figure.supylabel("test accuracy (%)", fontsize=10)
    return _finish(figure, [], [results])


def _map_cell(ax: Axes, results: Results, variants: Sequence[str]) -> None:
    have = [(k, accuracies(results, variant)) for k, variant in enumerate(variants) if present(results, [variant])]
    ax.tick_params(labelsize=7.5, length=2)
    if len(have) < len(variants):
        ax.text(0.5, 0.5, NOT_RUN, ha="center", va="center", fontsize=8, color=style.GREY, transform=ax.transAxes)
        return
    means = [float(np.mean(values)) for _, values in have]
    blocks = [variant.rpartition(", ")[2] for variant in variants]
    order = block_order([mean for mean, block in zip(means, blocks, strict=True) if block in bdfa.BLOCKS])
    ax.set_facecolor(_TINTS[order])
    ax.text(0.5, 0.97, order, ha="center", va="top", fontsize=8, color=style.GREY if order == NOTHING else "black", transform=ax.transAxes)
    ax.plot(range(len(means)), means, color=style.GREY, linewidth=1)
    for (k, values), block in zip(have, blocks, strict=True):
        color = look(block).color
        ax.plot([k, k], [min(values), max(values)], color=color, linewidth=2)
        ax.plot(k, means[k], "o", color=color, markersize=5, markerfacecolor=color if block in bdfa.BLOCKS else "white")


# --- what a hop does, without training -----------------------------------------------------------------------------------------


@cache
def deltas(config: Config, examples: int = 200) -> np.ndarray:
    """The norm of each hidden layer's delta before the first step, a median over examples of the embedded digits; per example, so
    the batch's mean is not taken. In float64, since products of a hundred small factors leave float32's range."""
    import torch

    from .feedback import LOSSES, Feedback
    from .network import Network, Workspace

    digits = data.load("digits-5k")
    graph = config.graph(digits.train_x.shape[1], digits.classes)
    network = Network(graph.widths, config.activation, dtype=torch.float64)
    network.initialise(config.init, [0])
    work = Workspace(network, examples, reduction="sum")
    work.x.copy_(digits.train_x[:examples])
    work.y.copy_(torch.eye(digits.classes, dtype=torch.float64)[digits.train_y[:examples]])
    work.forward()
    LOSSES[config.loss](work.output, work.y, work.e)
    Feedback(graph, network, config.feedback, [0]).bind(work)()
    return np.array([work.delta[i].norm(dim=-1).median().item() for i in range(1, graph.depth + 1)])


def delta_norms(panels: Mapping[str, Mapping[str, Config]]) -> Figure:
    """Norm of each layer's delta before the first step, one panel a title -> variants, on a logarithmic scale."""
    figure, axes = plt.subplots(1, len(panels), figsize=(style.TEXT_WIDTH, 3.2), sharey=True, squeeze=False)
    found = {title: {variant: deltas(config) for variant, config in configs.items()} for title, configs in panels.items()}
    every = np.concatenate([norms for lines in found.values() for norms in lines.values()])
    for ax, (title, lines) in zip(axes[0], found.items(), strict=True):
        for variant, norms in lines.items():
            _line(ax, np.arange(1, len(norms) + 1), norms, "-", label=look(variant).label, **_how(variant, len(norms)))
        ax.set(title=title, xlabel="hidden layer", yscale="log")
        ax.xaxis.set_major_locator(plt.MaxNLocator(5, integer=True))
    if every.max() < 100 * every.min():  # too few powers of ten for an axis
        axes[0, 0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes[0, 0].yaxis.set_major_formatter("{x:g}")
        axes[0, 0].yaxis.set_minor_locator(plt.NullLocator())
    axes[0, 0].set_ylabel(r"norm of $\delta_i$, untrained")
    handles, labels = figures._unique(axes[0])
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure
