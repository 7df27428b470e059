"""Figures and tables of chapters 06_nokland_mnist and 07_nokland_features, from the records of `experiments.nokland`.

Each takes an `Evidence` and shows the largest budget that has the records; where there are none it says so, and how to make them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from . import figures, style
from .experiments import nokland
from .experiments.base import Experiment
from .figures import Budgeted, _band, _bars, _mean, _shades, find_all
from .sweep import Results
from .verdicts import NOT_RUN, Claim, Evidence, difference, verdict

if TYPE_CHECKING:
    from .records import Record

METHODS = ("BP", "FA", "DFA")


# --- how many claims came out how ------------------------------------------------------------------------------------------


def count(chosen: Iterable[Claim], evidence: Evidence) -> str:
    """How many claims came out how, in one line."""
    outcomes = Counter(verdict(claim, evidence).outcome for claim in chosen)
    return ", ".join(f"{n} {outcome}" for outcome, n in outcomes.most_common())


# --- Table 1 -------------------------------------------------------------------------------------------------------------


def table1(evidence: Evidence) -> pd.DataFrame:
    """The paper's cell and ours, one row a cell: test error, mean and deviation over seeds, in brackets the training error where
    it is above 0.01 %; seeds, the epochs that they took, and the profile; whether it is the paper's number (within 0.3 points); the
    gap to BP with its interval, and N1's verdict."""
    rows = {}
    for cell, claim in nokland.CELL_CLAIMS.items():
        row = {"paper, %": str(nokland.TABLE1.get(cell, "no convergence")), "here, %": NOT_RUN}
        results = evidence.find(claim.test.experiment, [cell], claim.test.seeds)
        if results:
            train = float(np.mean(np.array(results.final(cell, "train_error_pct"), dtype=float)))
            row |= {
                "here, %": _mean(results.final(cell, "test_error_pct")) + ("" if train <= 0.01 else f" ({train:.2f})"),
                "seeds x epochs": f"{len(results.of(cell))} x {_epochs(results.of(cell))}, {results.profile}",
                "the number": verdict(claim, evidence).outcome,
            }
        if cell in nokland.GAP_CLAIMS:
            gap = verdict(nokland.GAP_CLAIMS[cell], evidence)
            row |= {"minus BP [95 %]": f"{gap.effect:+.2f}" if gap.effect else "", "N1": gap.outcome}
        rows[cell] = row
    return pd.DataFrame(rows).T.fillna("")


def _epochs(records: Iterable[Record]) -> str:
    """The epochs that runs took; from fewest to most where some came sooner to the end that they were set."""
    taken = sorted({round(record.evaluations[-1]["epoch"]) for record in records})
    return f"{taken[0]}" if len(taken) == 1 else f"{taken[0]} to {taken[-1]}"


def gaps(evidence: Evidence) -> Figure:
    """Test error minus BP's on the same network, FA and DFA, with 95 % intervals; hollow: the paper's. Dashed: N1's bound."""
    rows = [row for row in nokland.ROWS if row != nokland.DEEP]
    figure, ax = plt.subplots(figsize=(style.TEXT_WIDTH, 4.2))
    budgets: dict[str, None] = {}
    for method, shift in (("FA", -0.14), ("DFA", 0.14)):
        look = style.method(method.lower())
        how = {"color": look.color, "marker": look.marker, "linestyle": "none"}
        for k, row in enumerate(rows):
            found = verdict(nokland.GAP_CLAIMS[f"{row} {method}"], evidence)
            paper = nokland.TABLE1[f"{row} {method}"].test - nokland.TABLE1[f"{row} BP"].test
            ax.plot(paper, k + shift, markersize=9, markerfacecolor="none", label=f"{method}, the paper", zorder=4, **how)  # ours may lie on it
            if found.effect:
                budgets[found.budget] = None
                ax.errorbar(found.effect.mean, k + shift, xerr=_bars(found.effect), label=f"{method}, here", **how)
    ax.axvline(0, color=style.GREY, linewidth=0.8)
    ax.axvline(nokland.CLOSE, color=style.GREY, linewidth=0.8, linestyle="--")
    ax.set_yticks(range(len(rows)), rows)
    ax.invert_yaxis()
    ax.set(xlabel="test error minus BP's (points)")
    handles, labels = figures._unique([ax])
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    figure.supxlabel("\n".join(budgets) or NOT_RUN, fontsize=7.5, color=style.GREY)
    return figure


def error_curves(evidence: Evidence, experiment: Experiment, variants: Sequence[str], title: str) -> Figure:
    """`figures.error_curves` in one panel."""
    results = find_all(evidence, experiment, variants)
    return figures.error_curves(results, {title: variants}) if results else figures.not_run(experiment)


def variants_table(evidence: Evidence) -> pd.DataFrame:
    """The code, other readings and controls, each with its difference from the table's own cell at the same epoch."""
    rows = {}
    for name in nokland.VARIANTS.variants:
        base = f"2x800 {'adversarial ' if 'adversarial' in name else ''}{name.split(',')[0]}"
        rows[name] = {"compared with": base, "here, test %": NOT_RUN}
        own = find_all(evidence, nokland.VARIANTS, [name])
        other = own and _table_beside(evidence, own, [base])
        if own:
            epochs = own.of(name)[0].evaluations[-1]["epoch"]
            ends = own.final(name, "test_error_pct")
            rows[name] |= {"epochs": f"{epochs:g}", "n": len(ends), "here, test %": _mean(ends)}
        if other:
            bases = [_at(record, epochs) for record in other.of(base)]
            enough = min(len(ends), len(bases)) > 1
            rows[name] |= {"the cell's": _mean(bases), "difference [95 %]": f"{difference(ends, bases):+.2f}" if enough else ""}
    return pd.DataFrame(rows).T.fillna("")


def _table_beside(evidence: Evidence, own: Results, cells: Sequence[str]) -> Results | None:
    """The records of Table 1's cells at the profile of other records, so that both have one budget."""
    return Evidence(own.profile, evidence.directory, _read=evidence._read).find(nokland.TABLE.name, cells)


def _at(record: Record, epochs: float) -> float:
    """Test error (%) at the evaluation nearest to an epoch."""
    return min(record.evaluations, key=lambda row: abs(row["epoch"] - epochs))["test_error_pct"]


# --- learning rates ------------------------------------------------------------------------------------------------------


def rates(evidence: Evidence) -> Figure:
    """Held-out error against learning rate, one panel a network. Dashed: the common rate."""
    results = find_all(evidence, nokland.RATE_SEARCH)
    if not results:
        return figures.not_run(nokland.RATE_SEARCH)
    figure, axes = plt.subplots(1, len(nokland.SEARCHED), figsize=(style.TEXT_WIDTH, 3.0), sharey=True)
    for ax, row in zip(axes, nokland.SEARCHED, strict=True):
        for method in METHODS:
            look = style.method(method.lower())
            ends = [results.final(f"{row} {method} {rate:g}", "test_error_pct") for rate in nokland.RATES]
            shared = np.array(list(zip(*ends, strict=False)), dtype=float)  # the seeds that every rate has
            _band(ax, np.array(nokland.RATES), shared, color=look.color, marker=look.marker, label=look.label)
        ax.axvline(1e-4, color=style.GREY, linewidth=0.8, linestyle="--")
        ax.set(title=row, xlabel="learning rate", xscale="log", yscale="log")
        ax.set_yticks([2, 5, 10, 20, 50, 90], ["2", "5", "10", "20", "50", "90"])
        ax.minorticks_off()
    axes[0].set_ylabel("held-out error (%)")
    return figures._finish(figure, axes, results)


def own_rates_table(evidence: Evidence) -> pd.DataFrame:
    """Each method at the common rate and at its own best, for as many epochs: test error, and the difference from BP at that rate."""
    rows = {}
    for row in nokland.SEARCHED:
        names = [f"{row} {method}" for method in METHODS]
        own = find_all(evidence, nokland.OWN, names)
        common = own and _table_beside(evidence, own, names)
        for name in names:
            rows[name] = {"common rate": "1e-4", **_beside_bp(common, name, names[0]),
                          "own rate": f"{nokland.OWN_RATES[name]:g}",
                          **{f"{k} ": v for k, v in _beside_bp(own, name, names[0]).items()}}  # fmt: skip
    return pd.DataFrame(rows).T


def _beside_bp(results: Results | None, name: str, base: str) -> dict[str, str]:
    if not results:
        return {"test %": NOT_RUN, "minus BP [95 %]": ""}
    mine, bp = (results.final(variant, "test_error_pct") for variant in (name, base))
    gap = f"{difference(mine, bp):+.2f}" if name != base and min(len(mine), len(bp)) > 1 else ""
    return {"test %": _mean(mine), "minus BP [95 %]": gap}


# --- 100 x 240 -----------------------------------------------------------------------------------------------------------


def deep_map(evidence: Evidence) -> Figure:
    """Held-out error of every trial on 100 layers of 240: a row an initialisation and feedback, a column an optimizer and rate."""
    experiment = nokland.DEEP_SEARCH
    results = find_all(evidence, experiment) or (evidence.profile == "smoke" and find_all(evidence, experiment, experiment.profiles["smoke"].only))
    if not results:
        return figures.not_run(experiment)
    columns = list(nokland.DEEP_OPTIMIZERS)
    found: dict[str, dict[str, dict[str, float]]] = {method: {} for method in METHODS}
    for name in {record.variant for record in results.records}:
        method, *start, optimizer = name.split(", ")
        found[method].setdefault(", ".join(start), {})[optimizer] = float(np.mean(results.final(name, "test_error_pct")))
    heights = [len(found[method]) for method in METHODS]
    figure, axes = plt.subplots(3, 1, figsize=(style.TEXT_WIDTH, 0.6 + 0.38 * sum(heights) + 0.9), sharex=True, height_ratios=heights)
    for ax, method in zip(axes, METHODS, strict=True):
        starts = sorted(found[method])
        grid = np.array([[found[method][start].get(column, np.nan) for column in columns] for start in starts])
        ax.imshow(grid, cmap="cividis_r", vmin=0, vmax=90, aspect="auto")
        for (i, j), error in np.ndenumerate(grid):
            if np.isfinite(error):
                ax.text(j, i, f"{error:.1f}", ha="center", va="center", fontsize=8.5, color="white" if error > 45 else "black")
        ax.set_yticks(range(len(starts)), [f"{method}, {start}" for start in starts])
        ax.set_xticks(range(len(columns)), [column.replace(" ", "\n") for column in columns])
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
    figure.supxlabel(results.provenance(), fontsize=7.5, color=style.GREY)
    return figure


def deep_table(evidence: Evidence) -> Budgeted:
    """The row of 100 layers of 240, and what was run beside it: errors and outcome."""
    rows = {}
    for experiment, name in ((e, name) for e in (nokland.DEEP_ROW, nokland.DEEP_TUNED) for name in e.variants):
        results = find_all(evidence, experiment, [name])
        rows[name] = {"here, test %": NOT_RUN}
        if results:
            outcomes = Counter("constant output" if r.final["constant_output"] else r.status for r in results.of(name))
            budget = f"{results.experiment.configs(results.profile)[name].epochs} epochs, {results.profile}"
            rows[name] = {"here, test %": _mean(results.final(name, "test_error_pct")), "n": len(results.of(name)), "budget": budget,
                          "training %": _mean(results.final(name, "train_error_pct")),
                          "outcome": ", ".join(f"{n} {outcome}" for outcome, n in outcomes.items())}  # fmt: skip
    return Budgeted(pd.DataFrame(rows).T.fillna(""))


# --- Figure 2, left ------------------------------------------------------------------------------------------------------


def unfreezing(evidence: Evidence) -> Figure:
    """Running training error before and after unfreezing (left), and test error in the first epoch after it (right)."""
    experiment, frozen = nokland.UNFREEZE, "first layer frozen"
    rules, starts = list(nokland.UNFROZEN), [f"{rule}, first epoch" for rule in nokland.UNFROZEN]
    results = find_all(evidence, experiment, [frozen, *rules, *starts])
    before = results is not None
    results = results or find_all(evidence, experiment, rules)
    if not results:
        return figures.not_run(experiment)
    figure, axes = plt.subplots(1, 2, figsize=(style.TEXT_WIDTH, 3.4), sharey=True, width_ratios=(2, 1))
    begun = 0.0
    if before:
        epochs, errors = figures.curves(results, frozen, "train_error_pct")
        _band(axes[0], epochs, errors, color=style.GREY, label="BP, first layer frozen")
        begun = epochs[-1]
        axes[0].axvline(begun, color=style.GREY, linewidth=0.8, linestyle="--")
    for rule, color, marker in zip(rules, (style.BLACK, style.BLUE, style.SKY), "o^v", strict=True):
        epochs, errors = figures.curves(results, rule, "train_error_pct")
        look = {"color": color, "marker": marker, "label": rule}
        _band(axes[0], begun + epochs, errors, markevery=max(1, len(epochs) // 8), **look)
        if before:
            epochs, errors = figures.curves(results, f"{rule}, first epoch", "test_error_pct")
            _band(axes[1], epochs, errors, markevery=3, **look)
    for ax, title, x in zip(axes, ("training error", "test error, just after"), ("epoch", "epochs since unfreezing"), strict=True):
        ax.set(title=title, xlabel=x, yscale="log")
        ax.yaxis.set_major_formatter("{x:g}")
    axes[0].set_ylabel("error (%)")
    return figures._finish(figure, axes[:1], results)


# --- Figure 3 ------------------------------------------------------------------------------------------------------------

_FEATURE_LOOKS = {"BP": "bp", "FA": "fa", "DFA": "dfa", "untrained": "shallow"}


def readers(evidence: Evidence) -> Figure:
    """Errors of the two readers at the input and at each hidden layer."""
    results = find_all(evidence, nokland.FEATURES)
    if not results:
        return figures.not_run(nokland.FEATURES)
    figure, axes = plt.subplots(1, 2, figsize=(style.TEXT_WIDTH, 3.2))
    for ax, (metric, reader) in zip(axes, nokland.READERS.items(), strict=True):
        for variant, rule in _FEATURE_LOOKS.items():
            errors = np.array(results.final(variant, metric))
            look = style.method(rule)
            _band(ax, np.arange(errors.shape[1]), errors, color=look.color, marker=look.marker, label=variant)
        ax.set(title=reader.removesuffix("'s"), xticks=range(errors.shape[1]), ylim=(0, None))
        ax.set_xticklabels(["input", *(f"h{i}" for i in range(1, errors.shape[1]))])
    axes[0].set_ylabel("test error (%)")
    return figures._finish(figure, axes, results)


def tsne(evidence: Evidence) -> Figure:
    """t-SNE of test images: the input, and each hidden layer under BP (above) and DFA (below). A colour a class."""
    results = find_all(evidence, nokland.TSNE)
    if not results:
        return figures.not_run(nokland.TSNE)
    figure, axes = plt.subplots(2, 4, figsize=(style.TEXT_WIDTH, 3.9))
    for line, variant in zip(axes, ("BP", "DFA"), strict=True):
        plane = results.of(variant)[0].final["tsne"]
        for k, (ax, points) in enumerate(zip(line, plane["layers"], strict=True)):
            x, y = np.array(points).reshape(-1, 2).T
            dots = ax.scatter(x, y, c=plane["labels"], cmap="tab10", vmin=-0.5, vmax=9.5, s=3, linewidths=0, rasterized=True)
            ax.set(xticks=(), yticks=(), title=(f"h{k}" if k else "input") if variant == "BP" else None)
            ax.grid(visible=False)
            ax.spines[:].set_visible(False)
        line[0].set_ylabel(variant)
    bar = figure.colorbar(dots, ax=axes, ticks=range(10), shrink=0.8, pad=0.01)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    figure.supxlabel(results.provenance(), fontsize=7.5, color=style.GREY)
    return figure


# --- Theorem 1 -----------------------------------------------------------------------------------------------------------

QUANTITIES = {"K": "$K_k$", "L": "$L_k$", "beta": r"$\beta_k$ (degrees)", "turned": "turned by (degrees)"}


def theorem(evidence: Evidence, network: str = "4x100 DFA", suffix: str = "") -> Figure:
    """K, L, beta and the turn of the update directions by layer, from the first (dark) to the last; one column a start."""
    variants = {start: f"{network}, {start}{suffix}" for start in nokland.STARTS}
    variants = {start: name for start, name in variants.items() if find_all(evidence, nokland.THEOREM, [name])}
    results = variants and find_all(evidence, nokland.THEOREM, list(variants.values()))
    if not results:
        return figures.not_run(nokland.THEOREM)
    size = (style.TEXT_WIDTH, 6.4)
    figure, axes = plt.subplots(len(QUANTITIES), len(variants), figsize=size, sharex="col", sharey="row", squeeze=False)
    for ax, label in zip(axes[:, 0], QUANTITIES.values(), strict=True):
        ax.set_ylabel(label)
    for column, (start, variant) in zip(axes.T, variants.items(), strict=True):
        for ax, name in zip(column, QUANTITIES, strict=True):
            layers, epochs, values = figures.alignment(results, variant, name)
            for k, (layer, shade) in enumerate(zip(layers, _shades(len(layers)), strict=True)):
                _band(ax, epochs, values[:, :, k], color=shade, label=f"layer {layer}")
            ax.axhline(90 if name == "beta" else 0, color=style.GREY, linewidth=0.8, linestyle="--")
            if name == "L":  # from one start it is a hundred times what it is from the others
                ax.set_yscale("symlog", linthresh=0.01)
        column[0].set_title(start)
        column[-1].set_xlabel("epoch")
    return figures._finish(figure, axes[0], results)


def theorem_table(evidence: Evidence) -> pd.DataFrame:
    """Means over seeds, the least aligned layer of each run: beta at the start and late, K's change, the turn of the directions."""
    metrics: dict[str, Callable] = {
        "beta, first": nokland.first_beta, "beta, late": nokland.late_beta, "change of K": nokland.k_change, "turned by": nokland.turned,
    }  # fmt: skip
    rows = {}
    for name in (name for name in nokland.THEOREM.variants if not name.endswith("first steps")):
        results = find_all(evidence, nokland.THEOREM, [name])
        rows[name] = {"training %": NOT_RUN}
        if results:
            found = results.of(name)
            rows[name] = {"training %": _mean(results.final(name, "train_error_pct"))} | {
                label: _mean([metric(r) for r in found], digits=1) for label, metric in metrics.items()
            }
    return pd.DataFrame(rows).T.fillna("")


# --- frozen layers above, zero weights -----------------------------------------------------------------------------------


def above(evidence: Evidence) -> Figure:
    """Test loss by epoch: the first layer alone learns below random weights (left), and all layers learn (right)."""
    results = find_all(evidence, nokland.ABOVE)
    if not results:
        return figures.not_run(nokland.ABOVE)
    figure, axes = plt.subplots(1, 2, figsize=(style.TEXT_WIDTH, 3.0), sharey=True)
    for ax, which in zip(axes, ("above frozen", "all learn"), strict=True):
        for method in METHODS:
            look = style.method(method.lower())
            epochs, losses = figures.curves(results, f"{method}, {which}", "test_loss")
            _band(ax, epochs, losses, color=look.color, marker=look.marker, markevery=4, label=look.label)
        ax.set(title=which, xlabel="epoch", ylim=(0, None))
    axes[0].set_ylabel("test loss (nats)")
    return figures._finish(figure, axes, results)


def zero_table(evidence: Evidence) -> pd.DataFrame:
    """Training error (percent) from zero weights and biases, by rule and non-linearity."""
    rows: dict[str, dict[str, str]] = {}
    for name in nokland.ZERO.variants:
        rule, activation = name.split(", ")
        results = find_all(evidence, nokland.ZERO, [name])
        rows.setdefault(rule, {})[activation] = _mean(results.final(name, "train_error_pct")) if results else NOT_RUN
    return pd.DataFrame(rows).T
