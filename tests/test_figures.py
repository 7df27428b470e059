"""Curves and tables say what the records say."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from dfa_lib import figures, style, sweep
from dfa_lib.config import Config
from dfa_lib.experiments import Experiment, Profile
from dfa_lib.graph import bp, dfa
from dfa_lib.records import Record

CONFIGS = {"BP": Config(data="digits-5k", epochs=2), "DFA": Config(data="digits-5k", epochs=2, rule=dfa())}
EXPERIMENT = Experiment("made-up", "made up", "nokland2016", CONFIGS, {"smoke": Profile(seeds=2)})


def record(variant, seed, test, train, epochs=3):
    evaluations = [
        {"step": 10 * k, "epoch": float(k), "test_error_pct": test + 10 * (epochs - k), "train_error_pct": train,
         "alignment": {"layers": [1, 2], "delta_angle": [80.0 - 10 * k, None if k == 0 else 60.0 - seed]}}
        for k in range(epochs + 1)
    ]  # fmt: skip
    final = {"test_error_pct": test, "train_error_pct": train, "constant_output": False}
    return Record("made-up", variant, "smoke", seed, "0" * 16, {}, "finished", 30, evaluations, final, 1.0, 2.0, 1, "CPU", 1,
                  {"torch": "2.9"}, {}, {})  # fmt: skip


@pytest.fixture
def results():
    made = [record("BP", 0, 2.0, 0.5), record("BP", 1, 3.0, 0.7), record("DFA", 0, 4.0, 1.0), record("DFA", 1, 6.0, 1.2, epochs=2)]
    yield sweep.Results(EXPERIMENT, "smoke", tuple(made))
    plt.close("all")


def test_error_curves_are_means_over_seeds_and_a_stopped_seed_keeps_its_last_value(results):
    (ax,) = figures.error_curves(results, {"net": ["BP", "DFA"]}).axes
    curves = {line.get_label(): line.get_ydata() for line in ax.lines if line.get_linestyle() == "-"}
    assert np.allclose(curves["BP"], [22.5, 12.5, 2.5])
    assert np.allclose(curves["DFA"], [20.0, 10.0, 5.0])  # seeds 24, 14, 4 and 16, 6, 6


def test_seeds_with_other_evaluations_are_read_at_the_same_epochs():
    # Both have four evaluations; the second seed ended at half the epochs.
    late = record("BP", 0, 2.0, 0.5)
    early = replace(record("BP", 1, 2.0, 0.5), evaluations=[row | {"epoch": row["epoch"] / 2} for row in late.evaluations])
    found = sweep.Results(EXPERIMENT, "smoke", (late, early))
    epochs, errors = figures.curves(found, "BP", "test_error_pct")
    assert list(epochs) == [0, 1, 2, 3] and errors.tolist() == [[32, 22, 12, 2], [32, 12, 2, 2]]
    _, _, angles = figures.alignment(found, "BP", "delta_angle")
    assert angles[:, :, 0].tolist() == [[80, 70, 60, 50], [80, 60, 50, 50]]


def test_bands_reach_from_the_lowest_to_the_highest_seed(results):
    (ax,) = figures.error_curves(results, {"net": ["BP"]}).axes
    low, high = ax.collections[0].get_datalim(ax.transData).intervaly
    assert (low, high) == (2.0, 23.0)


def test_the_budget_stands_under_every_figure(results):
    for figure in (figures.error_curves(results, {"net": ["BP"]}), figures.alignment_curves(results, {"net": "DFA"})):
        assert figure.get_supxlabel() == results.provenance()
        assert "5,000 MNIST digits, 2 epochs, 2 seed" in results.provenance()


def test_alignment_keeps_undefined_values_undefined(results):
    layers, epochs, angles = figures.alignment(results, "DFA", "delta_angle")
    assert layers == [1, 2] and list(epochs) == [0, 1, 2, 3] and angles.shape == (2, 4, 2)
    assert np.isnan(angles[:, 0, 1]).all() and angles[1, 1, 1] == 59.0


def test_final_table_puts_paper_and_difference_beside_each_variant(results):
    table = figures.final_table(results, {"net": ["BP", "DFA"]}, {"BP": "1.60 ± 0.06"})
    assert table.loc["BP", "paper, test %"] == "1.60 ± 0.06" and table.loc["DFA", "paper, test %"] == ""
    assert table.loc["DFA", "here, test %"] == "5.00 ± 1.41" and table.loc["DFA", "n"] == 2
    assert table.loc["DFA", "minus BP [95 %]"].startswith("+2.50 [") and table.loc["BP", "minus BP [95 %]"] == ""


def test_final_table_gives_no_interval_for_one_seed(results):
    one = sweep.Results(EXPERIMENT, "smoke", tuple(r for r in results.records if r.seed == 0))
    assert figures.final_table(one, {"net": ["BP", "DFA"]}, {}).loc["DFA", "minus BP [95 %]"] == "one seed: no interval"


def test_a_rule_has_one_style_in_every_figure(results):
    (ax,) = figures.error_curves(results, {"net": ["BP", "DFA"]}).axes
    colors = {line.get_label(): line.get_color() for line in ax.lines if line.get_linestyle() == "-"}
    assert colors["BP"] == style.method(str(bp())).color and colors["DFA"] == style.method("dfa").color


def test_each_part_of_a_verdict_has_a_line_and_each_outcome_a_class():
    rests = "(1) reproduced: error of A: 1; claimed at most 2; (2) error, claimed above 0: A minus B: 1, reproduced; B minus C: 2, partly"
    page = figures.Sentences({"says": ["<b> & c"], "verdict": ["not run here"], "rests on": [rests]})._repr_html_()
    assert "at most 2<br>(2) error, claimed above 0:<br>A minus B: 1, reproduced<br>B minus C" in page and "A: 1; claimed" in page
    assert '<td><span class="not-run-here">not run here</span></td>' in page and "&lt;b&gt; &amp; c" in page


def test_a_budget_that_all_claims_share_stands_once_below_them():
    rows = {"says": ["a", "b"], "budget": ["MNIST, 3 epochs & more"] * 2}
    page = figures.Sentences(rows)._repr_html_()
    assert page.count("MNIST, 3 epochs &amp; more") == 1 and "<th>budget</th>" not in page
    page = figures.Sentences(rows | {"budget": ["3 epochs", "5 epochs"]})._repr_html_()
    assert "<th>budget</th>" in page and page.endswith("</table>")


def test_numbers_of_a_table_are_not_broken_over_lines():
    page = style._whole_numbers(pd.DataFrame({"gap": ["+0.01 [-0.17, +0.20]"], "here": ["2.59 ± 0.15 (0.84)"], "seeds": ["3 x 30, laptop"]}))
    assert "+0.01 [-0.17,\u00a0+0.20]" in page and "2.59\u00a0±\u00a00.15 (0.84)" in page and "3 x 30, laptop" in page
