"""Figures and tables of chapter 12_bottleneck, from the records of `experiments.bottleneck`.

Each takes an `Evidence` and shows the largest budget that has the records; where there are none it says so, and how to make them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from . import data, figures, style
from .config import Config
from .convolution import make_ties
from .experiments import bottleneck, launay
from .experiments.base import Experiment
from .experiments.bottleneck import ABOVE, ANGLE, BELOW, BY_CLASSES, CLASSES, CONVOLUTION, MIDDLE, STARTS, TWINS, WIDTH
from .figures import _band, _mean, find_any
from .sweep import Results
from .verdicts import NOT_RUN, Evidence, difference

LAYERS = {BELOW: "layer below", MIDDLE: "the layer itself", ABOVE: "layer above"}
#: Degrees from the wide network's angle within which a layer counts as aligned as well.
TOLERANCE = 10.0

_DFA = style.method("dfa")
#: How a curve looks, by what its variants' names have before the number of units; dashed where only a gradient is narrow.
LOOKS: Mapping[str, tuple[style.Style, str]] = {
    "narrow": (style.Style(_DFA.color, _DFA.marker, "narrow layer"), "-"),
    "masked": (style.Style(style.SKY, "o", "gradient mask"), "--"),
    "BP, narrow": (style.Style(style.BLACK, "o", "BP, narrow layer"), "-"),
    "BP slower, narrow": (style.Style(style.GREY, "s", "BP, a third of the rate"), "-"),
    "10 classes, random start": (style.Style(_DFA.color, _DFA.marker, "10 classes, random start"), "-"),
    "10 classes, zero start": (style.Style(style.ORANGE, "D", "10 classes, zero start"), "-"),
    **{f"{c} classes, masked": (style.Style(color, marker, f"{c} classes, gradient mask"), "--")
       for c, color, marker in ((2, style.WINE, "s"), (10, style.SKY, "o"))},
}  # fmt: skip
CLASS_LOOKS = dict(zip(CLASSES, ((style.WINE, "s"), (style.GREEN, "v"), (style.BLUE, "^")), strict=True))
NETWORK_LOOKS = dict(zip(TWINS, ((style.VERMILION, "P"), (style.ORANGE, "s"), (style.BLUE, "^")), strict=True))
#: Under a mask the widest is the network without one.
UNMASKED = {"masked": "narrow"} | {f"{c} classes, masked": f"{c} classes, random start" for c in CLASSES}

Metric = Callable[..., float | None]


# --- curves over the width -------------------------------------------------------------------------------------------------


def curve(results: Results, prefix: str, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    """Units of the bottleneck, and one row of a metric a seed: those seeds that all widths have. Under a mask the last is the
    network without one."""
    found = {record.variant for record in results.records}
    points = {int(name.rpartition(", ")[2]): name for name in found if name.rpartition(", ")[0] == prefix}
    if prefix in UNMASKED and points:
        whole = {int(name.rpartition(", ")[2]): name for name in found if name.rpartition(", ")[0] == UNMASKED[prefix]}
        points |= {max(whole): whole[max(whole)]} if whole else {}
    widths = sorted(points)
    columns = ([metric(record) for record in results.of(points[n])] for n in widths)
    return np.array(widths), np.array(list(zip(*columns, strict=False)), dtype=float)


def predicted(angle: float, widths: np.ndarray, classes: int) -> np.ndarray:
    """The angle (degrees) below a layer of so many units, where without a bottleneck it is `angle`."""
    return np.degrees(np.arccos(math.cos(math.radians(angle)) * np.array([bottleneck.share(float(n), classes) for n in widths])))


def _names(experiment: Experiment, prefixes: Collection[str]) -> list[str]:
    chosen = {*prefixes, *(UNMASKED[prefix] for prefix in prefixes if prefix in UNMASKED)}
    return [name for name in experiment.variants if name.rpartition(", ")[0] in chosen]


def _across(ax: Axes, widest: int, **options: object) -> None:
    ax.set(xscale="log", **options)
    ax.set_xticks([1, 10, 100, widest] if widest > 200 else [1, 10, 100])
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())


def angles(evidence: Evidence, experiment: Experiment, prefixes: Sequence[str], classes: int = 0) -> Figure:
    """Alignment angle at the end against the units of the bottleneck: of the layer below, of itself, and of the one above, a curve
    a prefix. With `classes`, dotted: what is left to the layer below of the first one. Dashed: 90 degrees."""
    results = find_any(evidence, experiment, _names(experiment, prefixes))
    if not results:
        return figures.not_run(experiment)
    figure, axes = plt.subplots(1, 3, figsize=(style.TEXT_WIDTH, 3.3), sharey=True)
    widest = 1
    for ax, (layer, title) in zip(axes, LAYERS.items(), strict=True):
        for k, prefix in enumerate(prefixes):
            widths, values = curve(results, prefix, ANGLE[layer])
            if not values.size:
                continue
            look, line = LOOKS[prefix]
            face = {"markerfacecolor": "white"} if line == "--" else {}
            _band(ax, widths, values, line, color=look.color, marker=look.marker, label=look.label, **face)
            widest = max(widest, int(widths[-1]))
            if classes and k == 0 and layer == BELOW:
                fine = np.geomspace(1, widths[-1], 60)
                ax.plot(fine, predicted(values[:, -1].mean(), fine, classes), ":", color=style.BLACK, label="predicted")
        if experiment is bottleneck.STAND_IN and layer == MIDDLE:
            cosines = bottleneck.AUTHORS
            ax.plot(list(cosines), np.degrees(np.arccos(list(cosines.values()))), "x", color=style.BLACK, label="the authors' code")
        ax.axhline(90, color=style.GREY, linewidth=0.8, linestyle="--")
        ax.set(title=title, xlabel="units", ylim=(0, 105), yticks=(0, 30, 60, 90))
    if max(ax.dataLim.y1 for ax in axes) > 105:
        axes[0].set(ylim=(0, 180), yticks=(0, 45, 90, 135, 180))
    for ax in axes:
        _across(ax, widest)
    axes[0].set_ylabel("alignment angle (degrees)")
    return figures._finish(figure, axes, results)


def errors(evidence: Evidence) -> Figure:
    """Test error against the units of the bottleneck, both logarithmic: narrow under DFA and BP, which is too fast for very narrow ones
    and so has a slower twin; and masked under DFA."""
    prefixes = ("BP, narrow", "BP slower, narrow", "narrow", "masked")
    results = find_any(evidence, WIDTH, _names(WIDTH, prefixes))
    if not results:
        return figures.not_run(WIDTH)
    figure, ax = plt.subplots(figsize=(style.TEXT_WIDTH, 3.4))
    for prefix in prefixes:
        widths, values = curve(results, prefix, lambda record: record.final["test_error_pct"])
        if values.size:
            look, line = LOOKS[prefix]
            label = look.label if prefix.startswith("BP") else f"DFA, {look.label}"
            face = {"markerfacecolor": "white"} if line == "--" else {}
            _band(ax, widths, values, line, color=look.color, marker=look.marker, label=label, **face)
    _across(ax, bottleneck.WIDE, xlabel="units", ylabel="test error (%)", yscale="log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())
    return figures._finish(figure, [ax], results)


def classes(evidence: Evidence) -> Figure:
    """Alignment angle of the layer below against the units of the bottleneck, a curve a number of classes, and what is predicted
    (dotted); from random weights (left) and from zero (right)."""
    prefixes = {start: {c: f"{c} classes, {start}" for c in CLASSES} for start in STARTS}
    results = find_any(evidence, BY_CLASSES, _names(BY_CLASSES, [name for of in prefixes.values() for name in of.values()]))
    if not results:
        return figures.not_run(BY_CLASSES)
    curves = {start: {c: curve(results, name, ANGLE[BELOW]) for c, name in names.items()} for start, names in prefixes.items()}
    curves = {start: found for start, found in curves.items() if any(values.size for _, values in found.values())}
    figure, axes = plt.subplots(1, len(curves), figsize=(style.TEXT_WIDTH, 3.4), sharey=True, squeeze=False)
    for ax, (start, found) in zip(axes[0], curves.items(), strict=True):
        for c, (widths, values) in found.items():
            if not values.size:
                continue
            color, marker = CLASS_LOOKS[c]
            _band(ax, widths, values, color=color, marker=marker, label=f"{c} classes")
            fine = np.geomspace(1, widths[-1], 60)
            ax.plot(fine, predicted(values[:, -1].mean(), fine, c), ":", color=color)
        ax.plot([], [], ":", color=style.GREY, label="predicted")
        ax.axhline(90, color=style.GREY, linewidth=0.8, linestyle="--")
        _across(ax, bottleneck.BY_CLASS_WIDE, title=start, xlabel="units", ylim=(0, 105), yticks=(0, 30, 60, 90))
    axes[0, 0].set_ylabel("angle of the layer below (degrees)")
    return figures._finish(figure, axes[0], results)


# --- the knee --------------------------------------------------------------------------------------------------------------


def knees(results: Results, prefix: str, layer: int) -> list[int]:
    """For each seed the smallest width from which on the layer's angle stays within `TOLERANCE` of the widest one's."""
    widths, values = curve(results, prefix, ANGLE[layer])
    near = np.abs(values - values[:, -1:]) <= TOLERANCE if values.size else np.empty((0, 1))
    return [int(widths[len(widths) - int(np.cumprod(row[::-1]).sum())]) for row in near]


def predicted_knee(angle: float, classes: int) -> float:
    """The width at which the prediction is `TOLERANCE` from `angle`, the angle without a bottleneck."""
    ratio = math.cos(math.radians(angle + TOLERANCE)) / math.cos(math.radians(angle))
    return (classes - 2) * ratio**2 / (1 - ratio**2)


def knee_table(evidence: Evidence) -> pd.DataFrame:
    """The knee of each layer by network and bottleneck (its range over seeds), what is predicted for the layer below a narrow one,
    and the angles of the widest network."""
    rows = {}
    cases = [(WIDTH, "narrow", 10), (WIDTH, "masked", 10), (bottleneck.STAND_IN, "narrow", 10)]
    cases += [(BY_CLASSES, f"{c} classes, {how}", c) for how in (*STARTS, "masked") for c in CLASSES if how != "masked" or c != 5]
    for experiment, prefix, c in cases:
        network = next(iter(experiment.variants.values()))
        row = f"3x{network.hidden[0]}{', CIFAR-10 as JPEG' * (experiment is bottleneck.STAND_IN)}, {prefix}"
        rows[row] = dict.fromkeys((*LAYERS.values(), "below, predicted", "without: below, itself, above"), "")
        results = find_any(evidence, experiment, _names(experiment, [prefix]))
        if not results or not curve(results, prefix, ANGLE[BELOW])[1].size:
            rows[row][LAYERS[BELOW]] = NOT_RUN
            continue
        wide = [float(curve(results, prefix, ANGLE[layer])[1][:, -1].mean()) for layer in LAYERS]
        for layer, title in LAYERS.items():
            found = sorted(knees(results, prefix, layer))
            rows[row][title] = f"{found[0]}" + (f" to {found[-1]}" if found[-1] > found[0] else "")
        rows[row]["without: below, itself, above"] = ", ".join(f"{angle:.0f}°" for angle in wide)
        if "masked" not in prefix:
            rows[row]["below, predicted"] = f"{predicted_knee(wide[0], c):.0f}"
    return pd.DataFrame(rows).T


# --- convolutions ------------------------------------------------------------------------------------------------------------


def by_layer(evidence: Evidence) -> Figure:
    """Alignment angle under DFA at the end, by hidden layer: the convolutional network and its twins."""
    results = find_any(evidence, CONVOLUTION, [f"{network} DFA" for network in TWINS])
    if not results:
        return figures.not_run(CONVOLUTION)
    have, layers = {record.variant for record in results.records}, (BELOW, MIDDLE, ABOVE)
    figure, ax = plt.subplots(figsize=(style.TEXT_WIDTH, 3.4))
    for network, (color, marker) in NETWORK_LOOKS.items():
        if f"{network} DFA" in have:
            values = np.array([[ANGLE[layer](record) for layer in layers] for record in results.of(f"{network} DFA")], dtype=float)
            _band(ax, np.array(layers), values, color=color, marker=marker, label=network)
    ax.axhline(90, color=style.GREY, linewidth=0.8, linestyle="--")
    hidden = bottleneck.NETWORKS[TWINS[0]]["hidden"]
    ax.set_xticks(layers, [f"hidden layer {layer}\n{hidden[layer - 1]:,} units" for layer in layers])
    ax.set(ylabel="alignment angle (degrees)", ylim=(0, 105), yticks=(0, 30, 60, 90), xlim=(0.8, 3.2))
    return figures._finish(figure, [ax], results)


def numbers(config: Config) -> int:
    """Free parameters of a network: of a convolution its kernels and biases."""
    info = data.DATASETS[config.data]
    widths = (math.prod(info.shape), *config.hidden, config.classes or info.classes)
    ties = make_ties(info.shape, config.convolutions, config.hidden, config.tied)
    dense = sum(widths[i] * (widths[i - 1] + 1) for i in range(1, len(widths)) if i not in ties)
    return dense + sum(len(tie.weights) + len(tie.biases) for tie in ties.values())


def convolution_table(evidence: Evidence) -> pd.DataFrame:
    """By network: free parameters, test error (percent, mean and deviation over seeds) under DFA, BP, and DFA with the first layer
    or the first two frozen, and the difference of DFA and BP."""
    rows = {}
    for network in TWINS:
        names = {"DFA, %": "DFA", "BP, %": "BP", "layer 1 frozen, %": "frozen-1", "1 and 2, %": "frozen"}
        names = {column: f"{network} {name}" for column, name in names.items()}
        rows[network] = {"free parameters": f"{numbers(CONVOLUTION.variants[names['DFA, %']]):,}", "DFA, %": NOT_RUN}
        results = evidence.find(CONVOLUTION.name, list(names.values()))
        if not results:
            continue
        ends = {column: results.final(name, "test_error_pct") for column, name in names.items()}
        rows[network] |= {column: _mean(values) for column, values in ends.items()}
        n = min(map(len, ends.values()))
        gap = f"{difference(ends['DFA, %'], ends['BP, %']):+.2f}" if n > 1 else "one seed: no interval"
        rows[network] |= {"n": n, "DFA minus BP [95 %]": gap}
    return pd.DataFrame(rows).T.fillna("")


def rates_table(evidence: Evidence) -> pd.DataFrame:
    """Error on 10,000 held-out training examples (percent, mean over epochs) by network and learning rate, and the rate that the others
    use."""
    rows = {}
    for (network, method), own in bottleneck.OWN_RATES.items():
        names = {f"{rate:g}": f"{network}, {method}, {rate:g}" for rate in bottleneck.RATES[network]}
        results = evidence.find(bottleneck.RATE_SEARCH.name, list(names.values()))
        ends = {rate: _mean([launay.held_out(r) for r in results.of(name)]) if results else NOT_RUN for rate, name in names.items()}
        rows[f"{network}, {method}"] = ends | {"used": f"{own:g}"}
    tried = [f"{rate:g}" for rate in sorted({rate for rates in bottleneck.RATES.values() for rate in rates})]
    return pd.DataFrame(rows).T[[*tried, "used"]].fillna("")
