"""Figures and tables of chapter 03_cost_of_a_step, from the reports of `bench`. Functions return a Figure or a DataFrame."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from . import style
from .bench import DEPTH_RULES, RULES, Depth, Report, growth, together
from .graph import Cost

#: Phases of a step, dark to light, so that no phase has a method's colour.
PHASES = {"forward": "#5B5B5B", "feedback": "#A3A3A3", "update": "#DADADA"}


def _median(row: Depth, part: str) -> float:
    return statistics.median(row.ms[part])


def _finish(figure: Figure, report: Report) -> Figure:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    figure.supxlabel(report.provenance(), fontsize=7.5, color=style.GREY)
    return figure


def counted_and_measured(
    report: Report, part: str, counted: Callable[[Depth], float], titles: tuple[str, str], labels: tuple[str, str]
) -> Figure:
    """What the graph counts (left) beside one part's time (right), against depth; under each its ratio to BP's."""
    figure, axes = plt.subplots(2, 2, figsize=(style.TEXT_WIDTH, 5.2), sharex=True, height_ratios=(1.6, 1))
    axes[1, 1].sharey(axes[1, 0])
    base = {row.depth: row for row in report.rows if row.rule == "BP"}
    for column, value in enumerate((counted, lambda row: _median(row, part))):
        for rule in DEPTH_RULES:
            rows = [row for row in report.rows if row.rule == rule]
            depths, look = [row.depth for row in rows], style.method(str(DEPTH_RULES[rule]))
            # BP and FA, and BDFA up to its block and DFA, lie on one another: the later ones are hollow.
            hollow = {"markerfacecolor": "none", "markersize": 8} if rule in ("FA", "BDFA(25)") else {}
            how = {"color": look.color, "marker": look.marker, **hollow}
            axes[0, column].plot(depths, [value(row) for row in rows], label=rule, **how)
            axes[1, column].plot(depths, [value(row) / value(base[row.depth]) for row in rows], **how)
        axes[0, column].set(title=titles[column], xscale="log", yscale="log", ylabel=labels[column])
        axes[1, column].set(xlabel="hidden layers", ylim=(0, 1.2), yticks=(0, 0.5, 1), ylabel="of BP's" if column == 0 else None)
    ticks = sorted(base)
    for ax in axes.flat:
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
        ax.minorticks_off()
    for ax in axes[0]:
        ax.yaxis.set_major_formatter("{x:g}")
    return _finish(figure, report)


def phase_bars(report: Report, layers: int) -> Figure:
    """The three phases of a step at one depth, one bar a rule, with each phase's share of BP's whole step."""
    rows = [row for row in report.rows if row.depth == layers]
    figure, ax = plt.subplots(figsize=(style.TEXT_WIDTH, 2.9))
    whole = sum(_median(rows[0], phase) for phase in PHASES)
    left = [0.0] * len(rows)
    for phase, shade in PHASES.items():
        values = [_median(row, phase) for row in rows]
        ax.barh([row.rule for row in rows], values, left=left, color=shade, edgecolor="white", label=phase)
        for k, value in enumerate(values):
            if value / whole > 0.03:
                color = "white" if phase == "forward" else "black"
                ax.text(left[k] + value / 2, k, f"{100 * value / whole:.0f} %", ha="center", va="center", fontsize=8.5, color=color)
        left = [a + b for a, b in zip(left, values, strict=True)]
    ax.set(xlabel=f"milliseconds of a step, {layers} layers of 200 units; labels: share of BP's step")
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    return _finish(figure, report)


# --- tables --------------------------------------------------------------------------------------------------------------


def steps_table(report: Report) -> pd.DataFrame:
    """Each contender's step as a ratio to autograd's, one row a network and optimizer, and DFA's share of its floor."""
    rows: dict[str, dict[str, str]] = {}
    for t in report.rows:
        row = rows.setdefault(f"{t.network}\N{NO-BREAK SPACE}{t.optimizer}", {})
        if t.contender == "autograd":
            row["torch, ms"] = f"{t.ms:.1f}" if t.ms >= 10 else f"{t.ms:.2f}"
        else:
            row[t.contender] = f"{t.of_autograd:.2f}"
        if t.contender == "DFA":
            row["floor"] = f"{t.share_of_floor:.2f}"
    order = ["torch, ms", *RULES, "floor", "biotorch FA", "biotorch DFA"]
    frame = pd.DataFrame(rows).T.fillna("")
    return frame[[name for name in order if name in frame]].rename(columns={"BDFA(25)": "BDFA (25)"})  # may be broken there


def depth_table(report: Report, layers: int) -> pd.DataFrame:
    """What is counted at one depth beside what is measured, each with its ratio to BP's."""
    rows = [row for row in report.rows if row.depth == layers]
    base, made = rows[0], []
    for row in rows:
        ms = {part: _median(row, part) / _median(base, part) for part in ("feedback", "step")}
        made.append({
            ("feedback", "levels"): row.levels, ("feedback", "calls"): row.calls,
            ("feedback", "M MACs"): f"{row.feedback_macs / 1e6:.0f}",
            ("feedback", "of BP's"): f"{row.feedback_macs / base.feedback_macs:.3f}",
            ("feedback", "ms"): f"{_median(row, 'feedback'):.2f}", ("feedback", "of BP's "): f"{ms['feedback']:.3f}",
            ("whole step", "M MACs"): f"{_macs(row) / 1e6:.0f}", ("whole step", "of BP's"): f"{_macs(row) / _macs(base):.2f}",
            ("whole step", "ms"): f"{_median(row, 'step'):.1f}", ("whole step", "of BP's "): f"{ms['step']:.2f}",
        })  # fmt: skip
    frame = pd.DataFrame(made, index=[row.rule for row in rows])
    return frame.set_axis(pd.MultiIndex.from_tuples(frame.columns), axis=1)


def _macs(row: Depth) -> int:
    return row.forward_macs + row.feedback_macs + row.gradient_macs


def added_table(report: Report) -> pd.DataFrame:
    """What one more layer adds to a step, between the two greatest depths: millions of multiply-accumulates counted, and
    microseconds measured."""
    shallow, deep = sorted({row.depth for row in report.rows})[-2:]
    made = {}
    for rule in DEPTH_RULES:
        one, two = (next(row for row in report.rows if (row.rule, row.depth) == (rule, n)) for n in (shallow, deep))
        per = deep - shallow
        row = {("million MACs", part): f"{(getattr(two, name) - getattr(one, name)) / per / 1e6:.2f}"
               for part, name in (("forward", "forward_macs"), ("feedback", "feedback_macs"), ("gradients", "gradient_macs"))}  # fmt: skip
        row |= {("microseconds", part): f"{1000 * (_median(two, part) - _median(one, part)) / per:.1f}" for part in (*PHASES, "step")}
        made[rule] = row
    return pd.DataFrame(made).T


def bound_table(costs: Mapping[str, Mapping[int, Cost]]) -> pd.DataFrame:
    """How many times faster than BP a rule's step can be, by its multiply-accumulates (`costs`: rule -> depth -> cost): on one
    worker, and with a worker for each layer."""
    made: dict[tuple[str, str], dict[str, str]] = {}
    for rule, of in costs.items():
        for depth, cost in of.items():
            base = costs["BP"][depth]
            made.setdefault((f"{depth} layers", "one worker"), {})[rule] = f"{base.macs / cost.macs:.2f}"
            made.setdefault((f"{depth} layers", "one a layer"), {})[rule] = f"{base.critical_macs / cost.critical_macs:.2f}"
    return pd.DataFrame(made)


def memory_table(costs: Mapping[str, Cost]) -> pd.DataFrame:
    """What each rule stores for a step in float32, in MiB: activations, weights and biases, feedback matrices."""
    made = {}
    for rule, cost in costs.items():
        numbers = {"activations": cost.activations, "weights": cost.parameters, "feedback matrices": cost.feedback_numbers}
        made[rule] = {f"{name}, MiB": f"{4 * n / 2**20:.2f}" for name, n in numbers.items()}
    return pd.DataFrame(made).T


def growth_table(report: Report) -> pd.DataFrame:
    """The exponent of each reading against depth, half of its 95 % interval after the sign: 0 is constant, 1 is in proportion."""
    made: dict[str, dict[str, str]] = {}
    for g in growth(report):
        made.setdefault(g.rule, {})[g.reading] = f"{g.exponent.mean:.2f} ± {(g.exponent.high - g.exponent.low) / 2:.2f}"
    return pd.DataFrame(made)


def verdict_table(report: Report) -> pd.DataFrame:
    """Claim B9, 'constant in the depth', of each rule that it names: by reading, and in the last row as a whole."""
    made: dict[str, dict[str, str]] = {}
    for g in growth(report):
        if g.rule != "BP":
            made.setdefault(g.rule, {})[g.reading] = g.outcome
    return pd.DataFrame({rule: row | {"B9": together(list(row.values()))} for rule, row in made.items()})


def workers_table(report: Report) -> pd.DataFrame:
    """Seconds of the same set of runs by one worker and by more, and their ratio."""
    rows = []
    for runs in dict.fromkeys(row.runs for row in report.rows):
        of = {row.jobs: row.seconds for row in report.rows if row.runs == runs}
        one, most = min(of), max(of)
        ratio = statistics.median(a / b for a, b in zip(of[most], of[one], strict=True))
        rows.append({"": f"{runs} runs", f"{one} worker, s": f"{statistics.median(of[one]):.1f}",
                     f"{most} workers, s": f"{statistics.median(of[most]):.1f}", "ratio": f"{ratio:.2f}"})  # fmt: skip
    return pd.DataFrame(rows).set_index("").rename_axis(None)


def replicas_table(report: Report) -> pd.DataFrame:
    """Seeds batched in one step and seeds in turns, as ratios to as many single runs one after another."""
    rows = []
    for rule, optimizer in dict.fromkeys((row.rule, row.optimizer) for row in report.rows):
        of = {row.how: row.seconds for row in report.rows if (row.rule, row.optimizer) == (rule, optimizer)}
        ratio = {how: statistics.median(a / b for a, b in zip(of[how], of["single"], strict=True)) for how in ("batched", "turns")}
        rows.append({"rule": rule, "optimizer": optimizer, "8 single runs, s": f"{statistics.median(of['single']):.2f}",
                     "one batched run": f"{ratio['batched']:.2f}", "in turns": f"{ratio['turns']:.2f}"})  # fmt: skip
    return pd.DataFrame(rows).set_index("rule").rename_axis(None)
