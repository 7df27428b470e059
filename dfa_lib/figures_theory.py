"""Figures of chapter 05_student_teacher: lines are the differential equations, dots are simulations, recorded or live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from . import style
from .sweep import Results
from .theory import Alignment, Order, gram_condition

#: One colour for each student unit.
UNIT_COLORS = (style.BLUE, style.VERMILION, style.GREEN, style.PURPLE, style.ORANGE, style.SKY, style.WINE, style.BLACK)
DOT = {"linestyle": "none", "marker": "o", "markersize": 3.2, "markeredgewidth": 0}
#: The smallest error that the digits of Q, R and v in a record give.
SMALLEST = 1e-5
#: Below this part of its first value a loss counts as learned: what is left of the update has no direction to speak of.
LEARNED = 1e-6
ALPHA = r"$\alpha$ = steps / $N$"


def recorded(results: Results, variant: str) -> Order:
    """The recorded runs of a student-teacher variant: axis 0 seeds, axis 1 times."""
    found = results.of(variant)
    config = results.experiment.configs(results.profile)[variant]
    return Order.from_records(config, [record.evaluations for record in found], [record.final for record in found])


def noted(figure: Figure, results: Results, variants: Sequence[str]) -> Figure:
    """The figure, with the line below it that says which recorded runs it shows."""
    shown = replace(results, records=tuple(record for record in results.records if record.variant in variants))
    figure.supxlabel(shown.provenance(), fontsize=7.5, color=style.GREY)
    return figure


def overlaps(simulated: Order, theory: Sequence[Order]) -> Figure:
    """R, Q and v.F of one run against alpha. `theory` holds the pieces of the solution, each from a state of its own."""
    figure, axes = plt.subplots(1, 3, figsize=(style.TEXT_WIDTH, 2.7), layout="constrained")
    K = simulated.config.K
    for order, look in [(piece, {"linestyle": "-", "linewidth": 1.3}) for piece in theory] + [(simulated, DOT)]:
        for k in range(K):
            color = UNIT_COLORS[k % len(UNIT_COLORS)]
            axes[0].plot(order.alpha, order.R[:, k], color=color, **look)
            off = np.delete(order.Q[:, k], np.s_[: k + 1], axis=-1)
            axes[1].plot(order.alpha, off, color=style.GREY, alpha=0.6, **look)
        for k in range(K):
            axes[1].plot(order.alpha, order.Q[:, k, k], color=UNIT_COLORS[k % len(UNIT_COLORS)], **look)
        axes[2].plot(order.alpha, order.overlap, color=style.method(simulated.config.rule).color, **look)
    axes[2].axhline(np.abs(simulated.F[0]).sum(), color=style.GREY, linestyle="--", linewidth=1)
    titles = "$R_{km}$: student and teacher", "$Q_{kl}$: student and student", r"$v\cdot F$: second layer"
    for ax, title in zip(axes, titles, strict=True):
        ax.set(title=title, xlabel=ALPHA)
        _logarithmic(ax, simulated)
        for piece in theory[1:]:
            ax.axvline(piece.alpha[0], color=style.GREY, linewidth=0.8, linestyle=":")
    return figure


def errors(runs: Mapping[str, Sequence[tuple[Order, Sequence[Order]]]]) -> Figure:
    """Generalisation error against alpha, both logarithmic, one panel a rule (rule -> simulation and pieces of theory, by seed)."""
    figure, axes = plt.subplots(1, len(runs), figsize=(style.TEXT_WIDTH, 3.1), sharey=True, layout="constrained", squeeze=False)
    for ax, (rule, seeds) in zip(axes[0], runs.items(), strict=True):
        for (simulated, theory), color in zip(seeds, UNIT_COLORS, strict=False):
            for number, piece in enumerate(theory):
                ax.plot(piece.alpha, piece.error, color=color, linewidth=1.1)
                if number:
                    ax.plot(piece.alpha[0], piece.error[0], marker="|", markersize=11, color=color)
            ax.plot(simulated.alpha, simulated.error, color=color, **DOT)
        ax.set(title=style.method(rule).label, xlabel=ALPHA, yscale="log")
        _logarithmic(ax, simulated)
    axes[0, 0].set(ylabel="generalisation error", ylim=(SMALLEST, None))
    return figure


def agreement(runs: Mapping[str, tuple[Order, Order]]) -> Figure:
    """Generalisation error and v.F against alpha: mean and deviation over seeds (axis 0) of simulations, and theory, by rule."""
    figure, axes = plt.subplots(1, 2, figsize=(style.TEXT_WIDTH, 2.9), layout="constrained")
    for rule, (simulated, theory) in runs.items():
        look = style.method(rule)
        for ax, name in zip(axes, ("error", "overlap"), strict=True):
            values = getattr(simulated, name)
            ax.plot(theory.alpha, getattr(theory, name), color=look.color, label=f"{look.label}, theory")
            ax.errorbar(simulated.alpha[0], values.mean(axis=0), values.std(axis=0, ddof=1), color=look.color, elinewidth=0.9,
                        **DOT | {"marker": look.marker}, label=f"{look.label}, simulation")  # fmt: skip
    axes[0].set(xlabel=ALPHA, ylabel="generalisation error", yscale="log")
    axes[1].set(xlabel=ALPHA, ylabel=r"$v\cdot F$")
    for ax in axes:
        _logarithmic(ax, simulated[0])
    axes[0].legend(fontsize=8)
    return figure


def degeneracy(fa: Order, bp: Order) -> Figure:
    """Where many draws end: v_k against F_k, and the cosine between v and F beside that of all sign patterns. Axis 0: draws."""
    figure, axes = plt.subplots(1, 2, figsize=(style.TEXT_WIDTH, 3.0), layout="constrained", width_ratios=(1, 1.15))
    for order in (bp, fa):
        look = style.method(order.config.rule)
        dots = DOT | {"marker": look.marker, "alpha": 0.8, "label": look.label}
        axes[0].plot(order.F.ravel(), order.v.ravel(), color=look.color, **dots)
    reach = np.abs(fa.F).max() * 1.05
    axes[0].plot([-reach, 0, 0, reach], [-1, -1, 1, 1], color=style.GREY, linewidth=1, label="stable under FA")
    axes[0].set(xlabel="feedback weight $F_k$", ylabel="second-layer weight $v_k$ at the end", ylim=(-1.75, 2.6))
    axes[0].legend(loc="upper left", fontsize=8)
    bins = np.linspace(-1, 1, 21)
    signs = np.array(np.meshgrid(*[(-1.0, 1.0)] * fa.config.K)).reshape(fa.config.K, -1)
    every = (fa.F / np.linalg.norm(fa.F, axis=1, keepdims=True)) @ signs / np.sqrt(fa.config.K)
    for values, look, kind in (
        (every.ravel(), {"color": style.GREY, "linewidth": 1.2, "linestyle": "--", "label": "all sign patterns"}, "step"),
        (bp.cosine, {"color": style.method("bp").color, "linewidth": 1.4, "label": "BP"}, "step"),
        (fa.cosine, {"color": style.method("fa").color, "alpha": 0.75, "label": "FA"}, "stepfilled"),
    ):
        axes[1].hist(values, bins, weights=np.full(len(values), 100 / len(values)), histtype=kind, **look)
    axes[1].set(xlabel="cosine between $v$ and $F$ at the end", ylabel="draws (%)")
    axes[1].legend(loc="upper left")
    return figure


def delays(fa: Order, signs: Order, bp: Order, theory: Order, level: float) -> Figure:
    """When each draw reaches an error: against its smallest feedback weight, and against BP from the same weights.

    `theory` solves the equations from the starts of `fa`.
    """
    figure, axes = plt.subplots(1, 2, figsize=(style.TEXT_WIDTH, 3.0), layout="constrained")
    mine, theirs, others = fa.first_below(level), bp.first_below(level), signs.first_below(level)
    limit, weakest = float(bp.alpha.max()), np.abs(fa.F[:, 0]).min(axis=-1)
    look, base = style.method("fa"), style.method("bp")
    reached = np.isfinite(mine)
    there = {"color": look.color, "linestyle": "none", "marker": look.marker}
    not_yet = {"color": look.color, "linestyle": "none", "marker": "^", "markerfacecolor": "none"}
    axes[0].plot(weakest[reached], mine[reached], **there, label="FA, $F$ normal")
    axes[0].plot(weakest[~reached], np.full((~reached).sum(), limit), **not_yet, label="FA, not by the end")
    solved = theory.first_below(level)
    ring = {"color": style.BLACK, "linestyle": "none", "marker": "o", "markersize": 8, "markerfacecolor": "none"}
    axes[0].plot(weakest[np.isfinite(solved)], solved[np.isfinite(solved)], **ring, label="FA, theory")
    if reached.any():
        weak = reached & (weakest <= np.median(weakest[reached]))
        line = np.array([weakest.min(), weakest.max()])
        slope = np.median((mine * weakest)[weak]) / line
        axes[0].plot(line, slope, color=style.GREY, linestyle="--", linewidth=1, label="slope $-1$")
    axes[0].axhline(np.median(np.minimum(theirs, limit)), color=base.color, linewidth=1.2, label="BP, median")
    axes[0].set(xlabel=r"smallest feedback weight $\min_k |F_k|$", ylabel=rf"$\alpha$ at error {level:g}")
    axes[0].set(xscale="log", yscale="log")
    _ticks(axes[0].xaxis, (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1))
    _ticks(axes[0].yaxis, (200, 500, 1000, 2000, 5000, 10_000))
    axes[0].set_ylim(min(mine.min(), theirs.min(), limit) * 0.7, limit * 6)
    axes[0].legend(fontsize=8, loc="upper right")
    with np.errstate(invalid="ignore"):
        rows = (("$F$ normal", mine / theirs), (r"$F_k = \pm 1$", others / theirs))
    spread = np.linspace(-0.12, 0.12, len(theirs))
    for row, (_, ratio) in enumerate(rows):
        good = np.isfinite(ratio)
        top = limit / np.median(np.minimum(theirs, limit))
        axes[1].plot(row + spread[good], ratio[good], **there)
        axes[1].plot(row + spread[~good], np.full((~good).sum(), top), **not_yet)
        axes[1].plot([row - 0.22, row + 0.22], [min(np.median(ratio), top)] * 2, color=style.BLACK, linewidth=1.6)
    axes[1].axhline(1, color=base.color, linewidth=1.2)
    axes[1].set(xticks=(0, 1), xticklabels=[name for name, _ in rows], xlim=(-0.5, 1.5))
    axes[1].set(ylabel="time under FA / time under BP", yscale="log")
    _ticks(axes[1].yaxis, (0.2, 0.5, 1, 2, 5, 10))
    return figure


def stuck(frozen: Mapping[int, tuple[Order, Order]], relu: Mapping[int, Order], fewer: Mapping[int, Order]) -> Figure:
    """What wrong feedback signs cost, by their number.

    Left, erf units with a frozen second layer (number -> simulation and theory, seeds on axis 0); right, ReLU units at the end of
    their runs, beside students with that many units fewer under BP.
    """
    figure, axes = plt.subplots(1, 2, figsize=(style.TEXT_WIDTH, 3.1), layout="constrained")
    shades = plt.get_cmap("cividis")(np.linspace(0, 0.88, len(frozen)))
    for shade, (wrong, (simulated, theory)) in zip(shades, frozen.items(), strict=True):
        mean = theory.error.mean(axis=0)
        axes[0].plot(theory.alpha[0], mean, color=shade, linewidth=1.3)
        axes[0].plot(simulated.alpha[0], simulated.error.mean(axis=0), color=shade, **DOT)
        lift = {0: -5, 1: 5}.get(wrong, 0)  # these two end close together
        axes[0].annotate(str(wrong), (theory.alpha[0, -1], mean[-1]), (5, lift), textcoords="offset points", va="center",
                         color=shade)  # fmt: skip
    axes[0].set(xlabel=ALPHA, ylabel="generalisation error", yscale="log", title="erf units, $v$ frozen at ones")
    _logarithmic(axes[0], simulated[0])
    for runs, look, label, shift in (
        (relu, style.method("fa"), "FA, all units", -0.08), (fewer, style.method("bp"), "BP, that many units fewer", 0.08),
    ):  # fmt: skip
        values = {wrong: run.error[:, -1] for wrong, run in runs.items()}
        means, deviations = [v.mean() for v in values.values()], [v.std(ddof=1) for v in values.values()]
        axes[1].errorbar([wrong + shift for wrong in values], means, deviations, color=look.color, marker=look.marker,
                         linestyle="none", label=label)  # fmt: skip
    axes[1].set(xlabel="wrong feedback signs", ylabel="generalisation error, end", yscale="log", xticks=list(relu))
    axes[1].set_title("ReLU units, $v$ learned")
    axes[1].legend()
    return figure


def deep(runs: Mapping[str, Alignment]) -> Figure:
    """Loss, conditioning of the output layer's alignment matrix, and gradient angle of the first layer against steps, by name."""
    figure, axes = plt.subplots(1, 3, figsize=(style.TEXT_WIDTH, 3.0), layout="constrained")
    for (name, run), color in zip(runs.items(), UNIT_COLORS, strict=False):
        learning = _learning(run)
        axes[0].plot(run.steps, run.loss / run.loss[0], color=color, label=name)
        axes[1].plot(run.steps[learning], run.condition[learning, -1], color=color)
        axes[2].plot(run.steps[learning], run.gradient[learning, 0], color=color)
    axes[0].set(title="loss / loss at the start", yscale="log", ylim=(LEARNED, 3))
    axes[1].set(title="condition number of $A_{L+1}$", yscale="log", ylim=(0.5, 1e6))
    axes[2].set(title="angle to the gradient (°)", ylim=(-4, 94), yticks=(0, 30, 60, 90))
    for ax in axes:
        ax.set(xlabel="step", xscale="log", xlim=(3, run.steps[-1]))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(runs))
    return figure


def deep_widths(runs: Mapping[str, Mapping[int, Sequence[Alignment]]]) -> Figure:
    """By feedback and hidden width (seeds inside): conditioning of A_3 at first, and the largest gradient angle at the end."""
    figure, axes = plt.subplots(1, 2, figsize=(style.TEXT_WIDTH, 2.9), layout="constrained")
    widths = np.array(sorted({width for rows in runs.values() for width in rows}))
    n_out = next(iter(next(iter(runs.values())).values()))[0].teacher.shape[0]
    for (name, rows), color, marker in zip(runs.items(), UNIT_COLORS, "os^D", strict=False):
        first = [[run.condition[np.isfinite(run.condition[:, 1])][0, 1] for run in found] for found in rows.values()]
        final = [[run.gradient[_learning(run)][-1].max() for run in found] for found in rows.values()]
        for ax, values in zip(axes, (first, final), strict=True):
            ax.plot(list(rows), np.mean(values, axis=1), color=color, marker=marker, label=name)
    fine = np.geomspace(n_out * 1.05, widths[-1], 200)
    limit = [gram_condition(n_out, width) for width in fine]
    axes[0].plot(fine, limit, color=style.GREY, linestyle="--", label="Marchenko-Pastur, Gaussian")
    axes[0].set(ylabel="condition number of $A_3$, early", yscale="log", ylim=(0.7, 1e4))
    axes[1].set(ylabel="largest angle to the gradient (°)", ylim=(-4, 94), yticks=(0, 30, 60, 90))
    for ax in axes:
        ax.set(xlabel="width of the hidden layers", xscale="log", xticks=widths, xticklabels=[str(width) for width in widths])
        ax.minorticks_off()
    axes[0].legend(fontsize=8)
    return figure


def _learning(run: Alignment) -> np.ndarray:
    """The evaluations at which a deep linear network has weights in every layer and something left to learn."""
    return np.isfinite(run.gradient).all(axis=1) & (run.loss > LEARNED * run.loss[0])


def _ticks(axis: Axis, at: Sequence[float | int]) -> None:
    axis.set_major_locator(FixedLocator(at))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def _logarithmic(ax: Axes, order: Order) -> None:
    """A logarithmic axis of alpha, from one step in ten inputs' worth on: before that nothing has moved."""
    ax.set(xscale="log", xlim=(max(0.1, order.alpha[order.alpha > 0][0] * 0.8), order.alpha[-1] * 1.25))
    ax.xaxis.set_major_formatter("{x:g}")
