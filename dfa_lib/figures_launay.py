"""Figures and tables of chapter 11_alignment_and_practice, from the records of `experiments.launay`.

Each takes an `Evidence` and shows the largest budget that has the records; where there are none it says so, and how to make them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import figures, style
from .experiments import launay
from .figures import _band, _bars, _edge, _mean, _shades, find_all
from .sweep import Results
from .verdicts import CONTRADICTED, NOT_RUN, PARTLY, REPRODUCED, Evidence, combination, difference, verdict

TEST = launay.TEST
#: The lowest training error that a logarithmic axis shows: one of 60,000 examples.
FLOOR_PCT = 100 / 60_000


# --- alignment in training -----------------------------------------------------------------------------------------------


def measures(evidence: Evidence, variant: str = "DFA") -> Figure:
    """The three quantities that are called alignment, of one and the same run, by epoch and layer. Band: one deviation over examples."""
    results = evidence.find(launay.ALIGNMENT.name, [variant])
    if not results:
        return figures.not_run(launay.ALIGNMENT)
    results = replace(results, records=tuple(results.of(variant)[:1]))
    spread = figures.alignment(results, variant, "delta_angle_sd")[2][0]
    figure, axes = plt.subplots(1, 3, figsize=(style.TEXT_WIDTH, 3.0), sharey=True)
    for ax, (measure, title) in zip(axes, launay.MEASURES.items(), strict=True):
        layers, epochs, (values,) = figures.alignment(results, variant, measure)
        for shade, layer, curve, sd in zip(_shades(len(layers)), layers, values.T, spread.T, strict=True):
            ax.plot(epochs, curve, color=shade, label=f"layer {layer}")
            if measure == "delta_angle":
                ax.fill_between(epochs, curve - sd, curve + sd, color=shade, alpha=0.12, linewidth=0)
        ax.axhline(90, color=style.GREY, linewidth=0.8, linestyle="--")
        ax.set(title=title, xlabel="epoch", ylim=(0, 115), yticks=(0, 30, 60, 90))
    axes[0].set_ylabel("angle (degrees)")
    return figures._finish(figure, axes, results)


def growth(evidence: Evidence) -> Figure:
    """The delta angle of each layer over the first steps under five rules, and (last panel) when it has come half of its way."""
    results = find_all(evidence, launay.FIRST_STEPS)
    if not results:
        return figures.not_run(launay.FIRST_STEPS)
    figure, axes = plt.subplots(2, 3, figsize=(style.TEXT_WIDTH, 5.0))
    panels = axes.ravel()
    for ax, name in zip(panels, launay.FOLLOWED, strict=False):
        layers, _, angles = figures.alignment(results, name, "delta_angle")
        steps = np.array([row["step"] for row in launay.aligned(results.of(name)[0])])
        shades = _shades(len(layers))
        for k in launay.learnt_through_b(results.of(name)[0]):
            _band(ax, steps, angles[:, :, k], color=shades[k], label=f"layer {layers[k]}")
        ax.axhline(90, color=style.GREY, linewidth=0.8, linestyle="--")
        ax.set(title=name, ylim=(20, 105), yticks=(30, 60, 90), xlabel="step")
        ax.xaxis.set_major_locator(plt.MaxNLocator(3))
    for name, look in _looks().items():
        if found := [half for record in results.of(name) if (half := launay.halfway(record))]:
            _band(panels[5], 1 + np.arange(len(found[0])), np.array(found), color=look.color, marker=look.marker, label=name)
    top = 1.6 * panels[5].dataLim.ymax  # room for the legend
    panels[5].set(title="half of the way", xlabel="layer", ylabel="step", xticks=range(1, 1 + len(layers)), ylim=(0, top))
    for ax in axes[:, 0]:
        ax.set_ylabel("delta angle (degrees)")
    panels[5].legend(fontsize=7.5, ncols=2, loc="upper left", columnspacing=1.0)
    return figures._finish(figure, panels[:5], results)


def _looks() -> dict[str, style.Style]:
    """How the five rules look."""
    return {name: style.method(str(rule)) for name, rule in launay.FOLLOWED.items()}


def zero(evidence: Evidence) -> Figure:
    """Delta angle (mean over layers) against running training error, as it goes to zero; below: examples without a direction."""
    results = find_all(evidence, launay.ALIGNMENT)
    if not results:
        return figures.not_run(launay.ALIGNMENT)
    figure, (above, below) = plt.subplots(2, 1, figsize=(style.TEXT_WIDTH, 4.4), sharex=True, height_ratios=(4, 1))
    for name, look in _looks().items():
        curves = []
        for record in results.of(name):
            rows = [row for row in launay.aligned(record) if row.get("train_error_pct") is not None]
            angles = [launay.over_layers(record, row, "delta_angle") for row in rows]
            curves.append([[max(row["train_error_pct"], FLOOR_PCT) for row in rows], [np.nan if a is None else a for a in angles],
                           [max(row["alignment"]["undefined"]) for row in rows]])  # fmt: skip
        shortest = min(len(train) for train, *_ in curves)
        train, angle, undefined = np.array([[row[:shortest] for row in curve] for curve in curves], dtype=float).mean(axis=0)
        above.plot(train, angle, color=look.color, marker=look.marker, markersize=3.5, linewidth=1.2, label=name)
        below.plot(train, undefined, color=look.color, linewidth=1.2)
    above.axhline(90, color=style.GREY, linewidth=0.8, linestyle="--")
    above.set(ylabel="delta angle (degrees)", ylim=(20, 95), yticks=(30, 60, 90), xscale="log")
    examples = results.experiment.configs(results.profile)["DFA"].alignment
    below.set(xlabel="training error (%)", ylabel=f"undefined,\nof {examples}", ylim=(-1, max(10, 1.1 * below.dataLim.ymax)))
    below.set_xticks(ticks := [t for t in (30, 10, 3, 1, 0.3, 0.1, 0.03, 0.01) if t > below.dataLim.xmin], [f"{t:g}" for t in ticks])
    below.minorticks_off()
    below.invert_xaxis()
    return figures._finish(figure, [above], results)


def followed_table(evidence: Evidence) -> pd.DataFrame:
    """At the end, one row a rule: errors, the three measures (degrees; mean over hidden layers; mean and deviation over seeds), the
    deviation of the delta angle over examples, and how many examples are without a direction."""
    rows = {}
    for name in launay.ALIGNMENT.variants:
        results = evidence.find(launay.ALIGNMENT.name, [name])
        rows[name] = {"training %": NOT_RUN}
        if results:
            found = results.of(name)
            *angles, spread = (
                [launay.over_layers(record, launay.aligned(record)[-1], measure) for record in found]
                for measure in (*launay.MEASURES, "delta_angle_sd")
            )
            rows[name] = {"training %": _mean(results.final(name, "train_error_pct"), 3), "test %": _mean(results.final(name, TEST))}
            rows[name] |= {title: _mean(values, 1) for title, values in zip(launay.MEASURES.values(), angles, strict=True)}
            rows[name] |= {"over examples": f"± {np.mean(np.array(spread, dtype=float)):.1f}",
                           "undefined": f"{max(launay.most_undefined(record) for record in found):.0f}", "n": len(found)}  # fmt: skip
    return pd.DataFrame(rows).T.fillna("")


# --- practices -----------------------------------------------------------------------------------------------------------


def practices(evidence: Evidence) -> Figure:
    """Test error of DFA and of its control under BP, one row a practice, with 95 % intervals over seeds."""
    results = find_all(evidence, launay.PRACTICE)
    if not results:
        return figures.not_run(launay.PRACTICE)
    figure, ax = plt.subplots(figsize=(style.TEXT_WIDTH, 0.9 + 0.27 * len(launay.PRACTICES)))
    for method, shift in (("BP", 0.13), ("DFA", -0.13)):
        look = style.method(method.lower())
        for k, practice in enumerate(launay.PRACTICES):
            name = f"{method}, {practice if method == 'DFA' else launay.CONTROLS[practice]}"
            _point(ax, results.final(name, TEST), k + shift, color=look.color, marker=look.marker, label=look.label, markersize=4,
                   markerfacecolor=look.color if name.endswith(f", {practice}") else "none")  # fmt: skip
    ax.set_yticks(range(len(launay.PRACTICES)), [f"{practice}  {k}" for k, practice in enumerate(launay.PRACTICES, 1)])
    ax.invert_yaxis()
    ax.set(xlabel="test error (%)", xscale="log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("{x:g}")
    return figures._finish(figure, [ax], results)


def _point(ax: Axes, values: Sequence[float], y: float, **look) -> None:
    """The mean, with its interval where there are seeds for one."""
    bars = _bars(combination([values], [1.0])) if len(values) > 1 else None
    ax.errorbar(np.mean(values), y, xerr=bars, linestyle="none", linewidth=1, **look)


def scatter(evidence: Evidence) -> Figure:
    """Test error against alignment, and its excess over BP's: a point a practice, numbered as in `practices`. Bars: 95 % intervals over
    seeds upright, lowest to highest seed across. Above: L1's correlations."""
    results = find_all(evidence, launay.PRACTICE)
    if not results:
        return figures.not_run(launay.PRACTICE)
    figure, axes = plt.subplots(1, 2, figsize=(style.TEXT_WIDTH, 3.6), sharex=True)
    for ax, claim, label in zip(axes, launay.L1.values(), ("DFA's test error (%)", "DFA's test error minus BP's (points)"), strict=True):
        found, places = verdict(claim, evidence), []
        for cosines, errors, control in claim.test.points(results):
            x, y = np.array(cosines, dtype=float), np.mean(errors) - np.mean(control or [0.0])
            places.append((x.mean(), y))
            ax.plot(x.mean(), y, "^", color=style.BLUE, markersize=4)
            if min(len(errors), len(control or errors)) > 1:
                effect = difference(errors, control) if control else combination([errors], [1.0])
                spread = [[x.mean() - x.min()], [x.max() - x.mean()]]
                ax.errorbar(x.mean(), y, xerr=spread, yerr=_bars(effect), color=style.BLUE, alpha=0.35, linewidth=1)
        _number(ax, np.array(places))
        said = f"{found.effect:.2f}\nover {found.effect.n} practices" if found.effect else NOT_RUN
        ax.set_title(f"rank correlation {said}")
        ax.set(xlabel="cosine with BP's delta", ylabel=label)
    axes[1].axhline(0, color=style.GREY, linewidth=0.8, linestyle="--")
    figure.supxlabel(results.provenance(), fontsize=7.5, color=style.GREY)
    return figure


def _number(ax: Axes, points: np.ndarray) -> None:
    """Numbers from 1 beside points, (n, 2), each on the side away from its nearest neighbour."""
    scaled = points / np.maximum(np.ptp(points, axis=0), 1e-9)
    for k, point in enumerate(scaled):
        others = np.delete(scaled, k, axis=0)
        dx, dy = point - others[np.square(others - point).sum(axis=1).argmin()]
        side = {"ha": "left" if dx >= 0 else "right", "va": "bottom" if dy >= 0 else "top"}
        ax.annotate(f"{k + 1}", points[k], (3 if dx >= 0 else -3, 1 if dy >= 0 else -1), textcoords="offset points", fontsize=8, **side)


def practice_table(evidence: Evidence) -> pd.DataFrame:
    """One row a practice: the methods' own rates, alignment under DFA, errors (test, in brackets training), DFA minus BP, its interval."""
    rows = {}
    for k, practice in enumerate(launay.PRACTICES, 1):
        dfa, bp = f"DFA, {practice}", f"BP, {launay.CONTROLS[practice]}"
        rows[f"{k} {practice}"] = {"rates": " / ".join(_rate(name) for name in (dfa, bp)), "DFA, %": NOT_RUN}
        if results := evidence.find(launay.PRACTICE.name, [dfa, bp]):
            mine, theirs = results.final(dfa, TEST), results.final(bp, TEST)
            rows[f"{k} {practice}"] |= {
                "cosine": _mean([launay.cosine(record) for record in results.of(dfa)]),
                "DFA, %": _errors(results, dfa), "BP, %": _errors(results, bp),
                "DFA minus BP [95 %]": f"{difference(mine, theirs):+.2f}" if min(len(mine), len(theirs)) > 1 else "one seed: no interval",
            }  # fmt: skip
    return pd.DataFrame(rows).T.fillna("")


def _rate(variant: str) -> str:
    """A method's own rate for a practice."""
    method, practice = variant.split(", ", 1)
    rate = launay.OWN_RATES[method, practice]
    return f"{rate:g}{_edge(rate, launay.rates(practice))}"


def _errors(results: Results, variant: str) -> str:
    test, train = (_mean(results.final(variant, f"{part}_error_pct")) for part in ("test", "train"))
    return f"{test} ({train.split(' ')[0]})"


_CHANGES = {REPRODUCED: "better", CONTRADICTED: "worse", PARTLY: "unclear"}


def good_table(evidence: Evidence) -> pd.DataFrame:
    """One row a practice: what it changes against the base, in alignment, in DFA's test error and in its distance from BP's, each with
    its 95 % interval and the verdict on 'better'."""
    titles = ("cosine", "DFA's test error", "minus BP's")
    rows = {}
    for practice, claim in launay.GOOD.items():
        found = verdict(claim, evidence)
        said = [f"{part.effect:+.2f}, {_CHANGES[part.outcome]}" if part.effect else NOT_RUN for part in found.parts]
        rows[practice] = dict(zip(titles, said, strict=False)) | {"all of it": found.outcome}
    return pd.DataFrame(rows).T.reindex(columns=[*titles, "all of it"]).fillna("the same")
