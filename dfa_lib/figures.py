"""Curves and tables from records. Functions return a Figure or a DataFrame; a chapter displays them.

Lines are means over seeds, bands reach from the lowest to the highest seed: with few seeds nothing is hidden.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import style
from .experiments.base import PROFILES, Experiment
from .sweep import Results
from .verdicts import CONTRADICTED, NOT_RUN, PARTLY, REPRODUCED, Claim, Evidence, Interval, difference, verdict


def curves(results: Results, variant: str, metric: str, x: str = "epoch") -> tuple[np.ndarray, np.ndarray]:
    """Epochs (or steps) of the longest run, and one row of `metric` a seed, read between its own evaluations, which are thinned to
    others where a run is shorter. Seeds that stopped early keep their last value."""
    rows = [[row for row in record.evaluations if row.get(metric) is not None] for record in results.of(variant)]
    grid = _longest(rows, x)
    return grid, np.array([np.interp(grid, [row[x] for row in seed], [row[metric] for row in seed]) for seed in rows])


def _longest(rows: Sequence[Sequence[Mapping]], x: str) -> np.ndarray:
    return np.array([row[x] for row in max(rows, key=lambda seed: seed[-1][x])], dtype=float)


def _style(results: Results, variant: str) -> style.Style:
    return style.method(str(results.experiment.configs(results.profile)[variant].rule))


def error_curves(results: Results, panels: Mapping[str, Sequence[str]]) -> Figure:
    """Test error (full lines) and running training error (dotted) against epochs, logarithmic; one panel a title -> variants."""
    figure, axes = plt.subplots(1, len(panels), figsize=(style.TEXT_WIDTH, 3.4), sharey=True, squeeze=False)
    for ax, (title, variants) in zip(axes[0], panels.items(), strict=True):
        for variant in variants:
            look = _style(results, variant)
            for metric, line in (("test_error_pct", "-"), ("train_error_pct", ":")):
                epochs, values = curves(results, variant, metric)
                keep = epochs > 0
                epochs, values = epochs[keep], np.maximum(values[:, keep], 1e-3)
                label = look.label if line == "-" else None
                ax.plot(epochs, values.mean(axis=0), line, color=look.color, label=label,
                        marker=look.marker if line == "-" else None, markevery=max(1, len(epochs) // 8))  # fmt: skip
                ax.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=look.color, alpha=0.18, linewidth=0)
        ax.set(title=title, xlabel="epoch", yscale="log")
        ax.yaxis.set_major_formatter("{x:g}")
    axes[0, 0].set_ylabel("error (%)")
    axes[0, -1].plot([], [], "-", color=style.GREY, label="test")
    axes[0, -1].plot([], [], ":", color=style.GREY, label="training")
    return _finish(figure, axes[0], results)


def alignment_curves(results: Results, panels: Mapping[str, str], measure: str = "delta_angle") -> Figure:
    """An alignment angle of each hidden layer against epochs, from the first layer (dark) to the last; one panel a title -> variant."""
    figure, axes = plt.subplots(1, len(panels), figsize=(style.TEXT_WIDTH, 3.0), sharey=True, squeeze=False)
    for ax, (title, variant) in zip(axes[0], panels.items(), strict=True):
        layers, epochs, angles = alignment(results, variant, measure)
        for layer, shade, curve in zip(layers, _shades(len(layers)), np.moveaxis(angles, 2, 0), strict=True):
            label = {layers[0]: "first hidden layer", layers[-1]: "last hidden layer"}.get(layer)
            ax.plot(epochs, curve.mean(axis=0), color=shade, label=label)
            ax.fill_between(epochs, curve.min(axis=0), curve.max(axis=0), color=shade, alpha=0.15, linewidth=0)
        ax.axhline(90, color=style.GREY, linewidth=0.8, linestyle="--")
        ax.set(title=title, xlabel="epoch", ylim=(0, 115), yticks=(0, 30, 60, 90))
    axes[0, 0].set_ylabel("alignment angle (degrees)")
    return _finish(figure, axes[0], results)


def alignment(results: Results, variant: str, measure: str) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Measured layers, epochs, and one measure as an array (seeds, epochs, layers), as `curves` has it; nan where it is undefined."""
    rows = [[row for row in record.evaluations if "alignment" in row] for record in results.of(variant)]
    grid, values = _longest(rows, "epoch"), []
    for seed in rows:
        measured = np.array([row["alignment"][measure] for row in seed], dtype=float)
        values.append(np.stack([np.interp(grid, [row["epoch"] for row in seed], layer) for layer in measured.T], axis=1))
    return rows[0][0]["alignment"]["layers"], grid, np.array(values)


def final_table(results: Results, groups: Mapping[str, Sequence[str]], paper: Mapping[str, str]) -> pd.DataFrame:
    """Paper and here, one row a variant. In each group the first variant is the one that the others are compared with:
    the difference in test error with its 95 % interval over seeds."""
    rows = []
    for variants in groups.values():
        base = results.final(variants[0], "test_error_pct")
        for variant in variants:
            test, train = (pd.Series(results.final(variant, f"{part}_error_pct"), dtype=float) for part in ("test", "train"))
            enough = min(len(test), len(base)) > 1
            gap = "" if variant == variants[0] else f"{difference(list(test), base):+.2f}" if enough else "one seed: no interval"
            rows.append({"": variant, "paper, test %": paper.get(variant, ""),
                         "here, test %": f"{test.mean():.2f}" + (f" ± {test.std():.2f}" if len(test) > 1 else ""), "training %": f"{train.mean():.3f}",
                         "n": len(test), "minus BP [95 %]": gap})  # fmt: skip
    return pd.DataFrame(rows).set_index("").rename_axis(None)


def command(experiment: Experiment) -> str:
    """What makes an experiment's records."""
    return f"dfa-lib run {experiment.name} --profile laptop"


def not_run(experiment: Experiment) -> Figure:
    """In the place of a figure whose records are not there: the command that makes them."""
    return sentence(f"not run here; to make it:  {command(experiment)}")


def sentence(words: str) -> Figure:
    """Words in the place of a figure."""
    figure, ax = plt.subplots(figsize=(style.TEXT_WIDTH, 0.8))
    say(ax, words)
    return figure


def say(ax: Axes, words: str) -> None:
    """Words in the place of what a panel would show."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, words, ha="center", va="center", color=style.GREY, transform=ax.transAxes)


class Budgeted(pd.DataFrame):
    """A table with a column `budget`, which on a page stands once, below the table, where all rows share it."""

    def _repr_html_(self) -> str:
        return self._page()

    def _page(self, **how) -> str:
        budgets, shown, below = set(self.get("budget", ())), self, ""
        if len(budgets) == 1:
            shown, (budget,) = self.drop(columns="budget"), budgets
            below = f'<p class="budget">{html.escape(budget)}</p>' if budget else ""
        with pd.option_context("display.max_colwidth", None):
            return shown.to_html(**how) + below


class Sentences(Budgeted):
    """A table of text: on a page its cells are whole, and set from the left (class `sentences`), each part of a verdict on a line of its
    own."""

    def _repr_html_(self) -> str:
        outcomes = "|".join((REPRODUCED, PARTLY, CONTRADICTED, NOT_RUN))
        page = self._page(classes="sentences")
        page = re.sub(r"; (?=\(\d+\) )", "<br>", page)
        page = re.sub(rf"(, (?:{outcomes})); ", r"\1<br>", page)
        page = re.sub(rf"(, claimed [^:<]+:) (?=[^<]*, (?:{outcomes})<br>)", r"\1<br>", page)
        return re.sub(rf"<td>({outcomes})</td>", lambda td: f'<td><span class="{td[1].replace(" ", "-")}">{td[1]}</span></td>', page)


def claims(chosen: Iterable[Claim], evidence: Evidence) -> Sentences:
    """One row a claim: what it says, the verdict, what that rests on (with the effect and its 95 % interval), and the budget."""
    rows = {}
    for found in (verdict(claim, evidence) for claim in chosen):
        rows[found.claim.id] = {"says": found.claim.text, "verdict": found.outcome, "rests on": found.basis, "budget": found.budget}
    return Sentences(pd.DataFrame(rows).T)


def _finish(figure: Figure, axes: Iterable[Axes], results: Results) -> Figure:
    """One legend above the panels, and below them where the numbers come from."""
    handles, labels = _unique(axes)
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    figure.supxlabel(results.provenance(), fontsize=7.5, color=style.GREY)
    return figure


def _unique(axes: Iterable[Axes]) -> tuple[list, list]:
    """Handles and labels of several axes, each label once."""
    found = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    return list(found.values()), list(found)


def find_all(evidence: Evidence, experiment: Experiment, variants: Collection[str] | None = None) -> Results | None:
    """The records of these variants under the largest budget that has them all; None where none has."""
    return evidence.find(experiment.name, variants or list(experiment.variants))


def find_any(evidence: Evidence, experiment: Experiment, variants: Sequence[str] | None = None) -> Results | None:
    """The records of these variants under the largest budget that has them all; else those of the largest budget that has any."""
    wanted = list(variants or experiment.variants)
    if whole := evidence.find(experiment.name, wanted):
        return whole
    for profile in reversed(PROFILES):
        if evidence.profile in ("recorded", profile):
            one = Evidence(profile, evidence.directory, _read=evidence._read)
            if some := [variant for variant in wanted if one.find(experiment.name, [variant])]:
                return one.find(experiment.name, some)
    return None


def _mean(values: Sequence[float | None], digits: int = 2) -> str:
    numbers = pd.Series(values, dtype=float)
    return f"{numbers.mean():.{digits}f}" + (f" ± {numbers.std():.{digits}f}" if len(numbers) > 1 else "")


def _band(ax: Axes, x: np.ndarray, values: np.ndarray, line: str = "-", **look) -> None:
    """The mean over seeds, and a band from the lowest to the highest."""
    ax.plot(x, values.mean(axis=0), line, **look)
    ax.fill_between(x, values.min(axis=0), values.max(axis=0), color=look["color"], alpha=0.18, linewidth=0)


def _shades(n: int) -> np.ndarray:
    """Colours from the first layer (dark) to the last."""
    return plt.get_cmap("cividis")(np.linspace(0, 0.85, n))


def _edge(value: float, grid: Sequence[float]) -> str:
    """What is said of a choice at the edge of what was tried: a better one may lie beyond."""
    return " (edge)" if value in (grid[0], grid[-1]) else ""


def _bars(effect: Interval) -> list[list[float]]:
    return [[effect.mean - effect.low], [effect.high - effect.mean]]
