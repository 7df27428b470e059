"""Figures and tables of chapter 04_feedback_alignment, from the records of `experiments.slides`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import figures, style
from .alignment import UNIT_QUANTILES
from .experiments import slides
from .sweep import Results
from .verdicts import difference

#: The lowest error that a logarithmic axis shows: one of 10,000 examples.
FLOOR_PCT = 0.01


def learning_curves(results: Results, panels: Mapping[str, Sequence[str]]) -> Figure:
    """Error above, loss below, test (full lines) and running training (dotted), logarithmic; one column a title -> variants."""
    figure, axes = plt.subplots(2, len(panels), figsize=(style.TEXT_WIDTH, 5.2), sharex=True, sharey="row", squeeze=False)
    for column, (title, variants) in zip(axes.T, panels.items(), strict=True):
        for ax, quantity, floor in zip(column, ("error_pct", "loss"), (FLOOR_PCT, 1e-4), strict=True):
            for variant in variants:
                _curve(ax, results, variant, quantity, floor)
            ax.set(yscale="log")
            ax.yaxis.set_major_formatter("{x:g}")
        column[0].set(title=title)
        column[1].set(xlabel="epoch")
    axes[0, 0].set(ylabel="error (%)")
    axes[1, 0].set(ylabel="cross-entropy (nats)")
    _line_key(axes[0, -1])
    return figures._finish(figure, axes[0], results)


def _curve(ax: Axes, results: Results, variant: str, quantity: str, floor: float) -> None:
    look = figures._style(results, variant)
    for part, line in (("test", "-"), ("train", ":")):
        epochs, values = figures.curves(results, variant, f"{part}_{quantity}")
        keep = epochs > 0
        epochs, values = epochs[keep], np.maximum(values[:, keep], floor)
        test = part == "test"
        ax.plot(epochs, values.mean(axis=0), line, color=look.color, label=look.label if test else None,
                marker=look.marker if test else None, markevery=max(1, len(epochs) // 8))  # fmt: skip
        ax.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=look.color, alpha=0.18, linewidth=0)


def _line_key(ax: Axes) -> None:
    ax.plot([], [], "-", color=style.GREY, label="test")
    ax.plot([], [], ":", color=style.GREY, label="training")


def matched_curves(results: Results, panels: Mapping[str, Sequence[str]]) -> Figure:
    """Test error against training error at the same moment, both logarithmic, means over seeds; one panel a title -> variants.
    The full grey line marks equal errors: the distance above it is over-fitting. The dashed one is where the rules are compared."""
    figure, axes = plt.subplots(1, len(panels), figsize=(style.TEXT_WIDTH, 3.2), sharex=True, sharey=True, squeeze=False)
    for ax, (title, variants) in zip(axes[0], panels.items(), strict=True):
        for variant in variants:
            look = figures._style(results, variant)
            train, test = np.array([slides.matched_errors(record) for record in results.of(variant)]).mean(axis=0).T
            look_of = {"color": look.color, "marker": look.marker, "label": look.label}
            ax.plot(np.maximum(train, FLOOR_PCT), test, markersize=3, linewidth=1, **look_of)
        ax.plot((1, 10), (1, 10), color=style.GREY, linewidth=0.8, label="training = test")
        ax.axvline(slides.EQUAL_PCT[slides.reading(variants[0])], color=style.GREY, linestyle="--", linewidth=0.8)
        ax.set(title=title, xlabel="training error (%)", xscale="log", yscale="log", yticks=(1, 2, 5, 10), ylim=(1.4, 14))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
    axes[0, 0].set_ylabel("test error (%)")
    axes[0, 0].invert_xaxis()
    return figures._finish(figure, axes[0], results)


def error_curves(results: Results, panels: Mapping[str, Sequence[str]]) -> Figure:
    """`figures.error_curves` with the slides' test error as a dashed line."""
    figure = figures.error_curves(results, panels)
    level = slides.PAPER_ERROR_PCT[results.experiment.name]
    for ax in figure.axes:
        ax.axhline(level, color=style.GREY, linestyle="--", linewidth=1)
    where = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right"}
    figure.axes[-1].annotate(f"slides: {level:g} %", (1, level), (-2, 3), color="#555555", fontsize=8.5, **where)
    return figure


def weight_angle_curves(panels: Mapping[str, tuple[Results, str]]) -> Figure:
    """By epoch, the angle of W_{i+1} with B_i^T (full lines) and the delta angle of layer i (dotted), from the first layer (dark)
    to the last; one panel a title -> results and variant."""
    figure, axes = plt.subplots(1, len(panels), figsize=(style.TEXT_WIDTH, 3.2), sharey=True, squeeze=False)
    for ax, (title, (results, variant)) in zip(axes[0], panels.items(), strict=True):
        layers, epochs, deltas = figures.alignment(results, variant, "delta_angle")
        for k, (layer, color) in enumerate(zip(layers, (style.BLUE, style.ORANGE), strict=False)):
            for values, line in ((weight_angles(results, variant, layer), "-"), (deltas[:, :, k], ":")):
                label = f"hidden layer {layer}" if line == "-" else None
                ax.plot(epochs, values.mean(axis=0), line, color=color, label=label)
                ax.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=color, alpha=0.18, linewidth=0)
        ax.axhline(90, color=style.GREY, linewidth=0.8, linestyle="--")
        ax.set(title=title, xlabel="epoch", ylim=(0, 100), yticks=(0, 30, 60, 90))
    axes[0, 0].set_ylabel("angle (degrees)")
    axes[0, -1].plot([], [], "-", color=style.GREY, label="weights and feedback")
    axes[0, -1].plot([], [], ":", color=style.GREY, label="delta and BP's delta")
    handles, labels = figures._unique(axes[0])
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    sources = dict.fromkeys(results.provenance() for results, _ in panels.values())
    figure.supxlabel("\n".join(sources), fontsize=7.5, color=style.GREY)
    return figure


def weight_angles(results: Results, variant: str, layer: int) -> np.ndarray:
    """The angle of W_{layer+1} with B_layer^T, (seeds, epochs)."""
    return np.array([[row["weight_angle"][str(layer)] for row in rows] for rows in _aligned(results, variant)], dtype=float)


def unit_angles(results: Results, variant: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs, and `UNIT_QUANTILES` of the angle between a unit's outgoing and feedback weights, (seeds, epochs, quantiles)."""
    epochs = [row["epoch"] for row in results.of(variant)[0].evaluations if "alignment" in row]
    values = [[next(iter(row["unit_angle"].values())) for row in rows] for rows in _aligned(results, variant)]
    return np.array(epochs), np.array(values, dtype=float)


def _aligned(results: Results, variant: str) -> list[list[dict]]:
    return [[row["alignment"] for row in record.evaluations if "alignment" in row] for record in results.of(variant)]


def unit_angle_fans(results: Results, panels: Mapping[str, str]) -> Figure:
    """The angles of single units by epoch: the median, and bands that hold 20, 40, 60 and 80 % of the units, means over seeds;
    one panel a title -> variant."""
    figure, axes = plt.subplots(1, len(panels), figsize=(style.TEXT_WIDTH, 3.2), sharey=True, squeeze=False)
    for ax, (title, variant) in zip(axes[0], panels.items(), strict=True):
        look = figures._style(results, variant)
        epochs, values = unit_angles(results, variant)
        quantiles = values.mean(axis=0).T
        for low, high in zip(quantiles, quantiles[:4:-1], strict=False):
            ax.fill_between(epochs, low, high, color=look.color, alpha=0.22, linewidth=0)
        ax.plot(epochs, quantiles[4], color=style.BLACK, label="median unit")
        for quantile in (quantiles[0], quantiles[-1]):
            ax.plot(epochs, quantile, color=look.color, linewidth=1, label="80 % of the units between")
        ax.axhline(90, color=style.GREY, linewidth=0.8, linestyle="--")
        ax.set(title=title, xlabel="epoch", ylim=(0, 120), yticks=(0, 30, 60, 90, 120))
    axes[0, 0].set_ylabel("angle of a unit (degrees)")
    return figures._finish(figure, axes[0], results)


def unit_angle_table(results: Results, variants: Iterable[str]) -> pd.DataFrame:
    """Quantiles over the units of the angle between outgoing and feedback weights, before training and at its end, in degrees."""
    rows = {}
    for variant in variants:
        epochs, values = unit_angles(results, variant)
        for when in (0, -1):
            rows[f"{variant}, epoch {epochs[when]:g}"] = values[:, when].mean(axis=0)
    return pd.DataFrame(rows, index=[f"{q:.0%} of units below" for q in UNIT_QUANTILES]).T.iloc[:, [0, 2, 4, 6, 8]].round(1)


def overfitting_table(results: Results) -> pd.DataFrame:
    """One row a variant, means over seeds: errors at the end, saturated units by layer, and the three measures of over-fitting."""
    rows = {}
    for variant in results.experiment.configs(results.profile):
        found = results.of(variant)
        row = {
            "training %": _mean(r.final["train_error_pct"] for r in found),
            "test %": _mean(r.final["test_error_pct"] for r in found),
            "minus BP [95 %]": _minus_bp(results, variant),
            "saturated units %": ", ".join(f"{100 * s:.0f}" for s in np.mean([r.final["saturation"] for r in found], axis=0)),
            "test loss": _mean(r.final["test_loss"] for r in found),
        }
        for name, (metric, _) in slides.overfitting(slides.reading(variant)).items():
            row[name] = _mean(metric(r) for r in found)
        rows[variant] = row
    return pd.DataFrame(rows).T.map(lambda v: v if isinstance(v, str) else f"{v:.3f}" if np.isfinite(v) else "-")


def _minus_bp(results: Results, variant: str) -> str:
    """A variant's test error minus that of BP in the same reading, with its interval; empty where there is no such pair of runs."""
    base = f"BP{slides.reading(variant)}"
    if variant == base or base not in results.experiment.configs(results.profile):
        return ""
    ends = [results.final(name, "test_error_pct") for name in (variant, base)]
    return f"{difference(*ends):+.2f}" if min(map(len, ends)) > 1 else "one seed: no interval"


def _mean(values: Iterable[float | None]) -> float:
    return float(np.mean([np.nan if v is None else v for v in values]))


def reached_table(results: Results, variants: Sequence[str]) -> pd.DataFrame:
    """The slides' test error and ours at the end, its difference from BP's, and the first epoch at which a seed is at or below
    the slides'."""
    level, rows = slides.PAPER_ERROR_PCT[results.experiment.name], {}
    for variant in variants:
        found = results.of(variant)
        firsts = [next((r["epoch"] for r in record.evaluations if r["test_error_pct"] <= level), None) for record in found]
        ends = pd.Series(results.final(variant, "test_error_pct"), dtype=float)
        made = [epoch for epoch in firsts if epoch is not None]
        rows[variant] = {
            "slides, test %": f"{level:g}" if figures._style(results, variant).label != "BP" else "",
            "here, test %": f"{ends.mean():.2f}" + (f" ± {ends.std():.2f}" if len(ends) > 1 else ""),
            "minus BP [95 %]": _minus_bp(results, variant),
            "reaches the slides'": f"epoch {min(made):g} to {max(made):g}" if made else "never",
            "seeds that reach it": f"{len(made)} of {len(found)}",
        }
    return pd.DataFrame(rows).T
