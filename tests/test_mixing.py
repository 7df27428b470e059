"""Switching between BP and DFA: what is tried and at what price, what is chosen, the claims on made-up records, figures and tables."""

import re
from dataclasses import replace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from dfa_lib import data, figures_mixing, records, style, sweep
from dfa_lib.config import differences
from dfa_lib.experiments import EXPERIMENTS, bdfa, launay, mixing, nokland, slides
from dfa_lib.graph import bp, dfa, switching
from dfa_lib.records import Record
from dfa_lib.verdicts import CONTRADICTED, NOT_RUN, PARTLY, REPRODUCED, Evidence, describe, verdict

CLAIMS = {claim.id: claim for claim in mixing.CLAIMS}
SWITCHED = ("by step", "by layer")


# --- made-up records -----------------------------------------------------------------------------------------------------


def made(experiment, variant, seed=0, profile="laptop", test=4.0, train=0.0, late=None, angle=75.0, loss=None):
    """A made-up run, evaluated at epochs 0, 10, 20, 30 and 40; `late` are the last three test errors."""
    tests = (90.0, test + 2, *(late or (test, test, test)))
    rows = [{"step": 1570 * k, "epoch": 10.0 * k, "test_error_pct": error, "test_loss": 0.2} for k, error in enumerate(tests)]
    for k, row in enumerate(rows):
        row |= {"train_error_pct": max(train, 8.0 - 2 * k), "train_loss": 0.1} if k else {}
        if not variant.startswith(("BP", "dropout", "weight")):
            row["alignment"] = {"layers": [1, 2, 3], "delta_angle": [50.0] * 3, "weight_angle": {3: 90.0 + (angle - 90.0) * k / 4}}
    final = {"test_error_pct": tests[-1], "train_error_pct": train, "test_loss": test / 20 if loss is None else loss,
             "train_loss": 0.001, "constant_output": False}  # fmt: skip
    return Record(experiment, variant, profile, seed, "0" * 16, {}, "finished", 6280, rows, final, 1.0, 2.0, 1, "CPU", 1,
                  {"torch": "2.9"}, {}, {})  # fmt: skip


def error_of(name, strength=0.0, rate=0.3):
    """A world in which every method of some strength helps, all at rate 0.3, dropout most; DFA does not."""
    best = {"BP": 4.5, "by step": 4.2, "by layer": 4.3, "DFA": 5.0, "dropout": 4.15, "weight decay": 4.25}[name]
    off = 0.0 if name in ("BP", "DFA") else abs(mixing.METHODS[name].strengths.index(strength) - 1) / 10
    return best + off + 3 * abs(rate - 0.3)


def of(experiment, variant, seed, profile="laptop"):
    name, *numbers = variant.split(", ")
    if experiment == mixing.FINAL.name:
        numbers = mixing.METHODS[name].strengths[min(1, len(mixing.METHODS[name].strengths) - 1)], 0.3
    elif experiment == mixing.MNIST.name:
        numbers = (mixing.METHODS[name].strengths[-1 if name == "DFA" else min(1, len(mixing.METHODS[name].strengths) - 1)], 0.3)
    strength, rate = map(float, numbers)
    angle = 90 - 40 * (strength if name in (*SWITCHED, "DFA") else 0)
    return made(experiment, variant, seed, profile, error_of(name, strength, rate) + seed / 500, train=seed / 1000, angle=angle)


def evidence(profile="laptop", seeds=None, recorded="recorded"):
    read = {}
    for experiment in mixing.EXPERIMENTS:
        runs = experiment.runs(profile, seeds)
        found = tuple(of(run.experiment, run.variant, run.seed, profile) for run in runs)
        read[experiment.name] = {profile: sweep.Results(experiment, profile, found)}
    return Evidence(recorded, _read=read)


def put(found, *changed):
    """The same evidence with other records in the place of some."""
    read = dict(found._read)
    for record in changed:
        results = read[record.experiment][record.profile]
        kept = (record if (r.variant, r.seed) == (record.variant, record.seed) else r for r in results.records)
        read[record.experiment] = {record.profile: replace(results, records=tuple(kept))}
    return Evidence(_read=read)


@pytest.fixture(scope="module")
def helped():
    return evidence()


@pytest.fixture(scope="module")
def smoke():
    return evidence("smoke", recorded="smoke")


@pytest.fixture(scope="module")
def nothing(tmp_path_factory):
    return Evidence(directory=tmp_path_factory.mktemp("results"))


@pytest.fixture(autouse=True)
def styled():
    with mpl.rc_context():
        style.use()
        yield
    plt.close("all")


# --- what is tried -------------------------------------------------------------------------------------------------------


def test_search_holds_50000_training_images_out_and_never_sees_the_test_set():
    for experiment in (mixing.SEARCH, mixing.FINAL):
        assert {config.validation for config in experiment.configs("laptop").values()} == {50_000}
        assert {config.validation for config in experiment.configs("smoke").values()} == {1000}
    assert {config.validation for config in mixing.MNIST.configs("laptop").values()} == {0}


def test_regularisers_have_as_many_trials_and_rates_each():
    tried = [name.split(", ")[0] for name in mixing.SEARCH.variants]
    regularisers = [name for name in mixing.METHODS if name not in ("BP", "DFA")]
    assert {name: tried.count(name) for name in regularisers} == dict.fromkeys(regularisers, 15)
    assert tried.count("BP") == tried.count("DFA") == 5 and set(mixing.RATES) < set(mixing.WIDE_RATES)


@pytest.mark.parametrize("name", mixing.METHODS)
def test_a_method_changes_its_own_knob_and_the_rate_only(name):
    own = {"dropout": {"dropout", "dropout_input"}, "weight decay": {"optimizer"}, "BP": set()}.get(name, {"rule", "alignment"})
    for strength in mixing.METHODS[name].strengths:
        config = mixing.configure(name, strength, 0.2)
        assert config == mixing.SEARCH.variants[mixing.trial(name, strength, 0.2)]
        assert set(differences(mixing.BASE, config)) == own | {"optimizer"} and config.optimizer.lr == 0.2
        assert (config.optimizer.weight_decay, config.dropout) == (
            strength if name == "weight decay" else 0, strength if name == "dropout" else 0)  # fmt: skip
    rule = {"by step": switching(0.9), "by layer": switching(0.9, by="layer"), "DFA": dfa()}.get(name, bp())
    assert config.rule == rule and config.dropout_input == (0.2 if name == "dropout" else 0)


def test_final_comparison_is_of_the_search_s_own_choices_on_seeds_that_it_has_not_seen():
    assert list(mixing.OWN) == list(mixing.FINAL.variants) == list(mixing.METHODS)
    for name, (strength, rate) in mixing.OWN.items():
        assert mixing.FINAL.variants[name] == mixing.SEARCH.variants[mixing.trial(name, strength, rate)]
    for profile in ("laptop", "paper"):
        searched, judged = ({run.seed for run in experiment.runs(profile)} for experiment in (mixing.SEARCH, mixing.FINAL))
        assert not searched & judged and len(judged) >= 5
        assert mixing.FINAL.configs(profile)["BP"].epochs == mixing.SEARCH.configs(profile)[mixing.trial("BP", 0.0, 0.3)].epochs


def test_own_choices_are_those_of_the_recorded_search(searched):
    found = searched(mixing.SEARCH)
    assert mixing.OWN == {name: mixing.best(found, name) for name in mixing.METHODS}


def test_runs_on_all_of_mnist_differ_in_the_method_only():
    configs = mixing.MNIST.configs("laptop")
    for name, config in configs.items():
        changed = {"dropout", "dropout_input"} if name.startswith("dropout") else set() if name == "BP" else {"rule", "alignment"}
        assert set(differences(configs["BP"], config)) == changed
    assert [str(configs[f"{name}, {p:g}"].rule) for p in mixing.MNIST_P for name in SWITCHED] == [
        "switching(p=0.1)", "switching(p=0.1, by=layer)", "switching(p=0.5)", "switching(p=0.5, by=layer)"]  # fmt: skip


def test_signals_of_bp_and_dfa_are_of_one_size_when_training_begins_and_not_with_feedback_of_another_kind(monkeypatch):
    g, y = torch.Generator().manual_seed(0), torch.arange(300) % 10
    x = torch.rand(10, 784, generator=g)[y].mul_(0.3) + 0.1 * torch.rand(300, 784, generator=g)
    monkeypatch.setattr(data, "load", lambda name, validation: data.Dataset(name, x, y, x, y, (1, 28, 28), 10, (), "", "made up", 0))
    config = mixing.configure("by step", 0.5, 0.2, replace(mixing.BASE, data="digits-5k", validation=0, epochs=20, hidden=(60,) * 3))
    own, other = figures_mixing.sizes(config), figures_mixing.sizes(replace(config, init="uniform-from", feedback="uniform-to"))
    assert own.loc["before"].between(0.75, 1.35).all() and (own.loc["after"] < own.loc["before"]).all()
    assert other.loc["before", "h1"] > 2.4 and other.loc["before", "h3"] == pytest.approx(1, abs=0.25)


# --- metrics and the choice ----------------------------------------------------------------------------------------------


def test_metrics_of_one_run():
    run = made("mixing-final", "by step", train=0.5, late=(4.4, 9.6, 4.2), angle=70.0)
    assert mixing.settled_error(run) == 4.4  # one bad moment is not what the run learned
    assert mixing.error_gap(run) == pytest.approx(3.7) and mixing.weight_angle(run) == 70.0
    assert mixing.loss_gap(made("mixing-final", "BP", loss=0.25)) == pytest.approx(0.249)
    run.final["test_loss"] = None
    assert mixing.loss_gap(run) is None
    assert describe(mixing.error_gap) == "Test error minus training error, both at the end (points)"


def test_best_is_the_lowest_mean_over_seeds_of_what_has_records(helped):
    results = helped.find("mixing-search", list(mixing.SEARCH.variants))
    assert mixing.best(results, "BP") == (0.0, 0.3) and mixing.best(results, "by step") == (0.25, 0.3)
    assert mixing.best(results, "by step", (0.75,)) == (0.75, 0.3) and mixing.best(results, "weight decay") == (3e-5, 0.3)
    lower = made("mixing-search", "by step, 0.9, 0.4", test=1.0)
    assert mixing.best(replace(results, records=(*results.records, lower, lower)), "by step") == (0.9, 0.4)
    few = replace(results, records=tuple(r for r in results.records if r.variant.endswith(", 0.2")))
    assert mixing.best(few, "dropout") == (0.2, 0.2)


# --- claims --------------------------------------------------------------------------------------------------------------


def test_claims_are_unique_and_name_runs_that_a_laptop_makes():
    assert len(CLAIMS) == len(mixing.CLAIMS) == 19 and all(name.startswith("F4/") for name in CLAIMS)
    assert not {claim.id for other in (bdfa, launay, nokland, slides) for claim in other.CLAIMS} & set(CLAIMS)
    for claim in CLAIMS.values():
        experiment = EXPERIMENTS[claim.test.experiment]
        assert set(claim.test.weights) <= set(experiment.configs("laptop")) and claim.source == "zarlenga_bdfa, section 7"
        assert experiment.profile("laptop").seeds >= claim.test.seeds


def test_what_helps_is_said_to_help_and_what_does_not_is_not(helped):
    found = {name: verdict(claim, helped) for name, claim in CLAIMS.items()}
    assert {name for name, v in found.items() if v.outcome != REPRODUCED} == {"F4/DFA", "F4/DFA/gap", "F4/DFA/loss-gap", "F4/layer/dropout"}
    assert found["F4/DFA"].outcome == found["F4/layer/dropout"].outcome == CONTRADICTED
    assert found["F4/step"].n == 8 and found["F4/step"].effect.mean == pytest.approx(-0.3)
    assert found["F4/MNIST/step/0.1"].n == 3
    assert "claimed below 0" in found["F4/step/gap"].basis and "claimed at most 0.1" in found["F4/step/dropout"].basis


@pytest.mark.parametrize("name", CLAIMS)
def test_one_bad_run_makes_a_claim_hold_partly_and_worse_runs_contradict_it(name, helped):
    claim = CLAIMS[name]
    variant = next(v for v, weight in claim.test.weights.items() if weight > 0)
    runs = helped.find(claim.test.experiment, [variant]).of(variant)


    def after(level, which):
        changed = (made(claim.test.experiment, variant, r.seed, test=level + r.seed / 500) for r in which)
        return verdict(claim, put(helped, *changed)).outcome

    assert [after(6.0, runs), after(1.0, runs)] == [CONTRADICTED, REPRODUCED]
    against = verdict(claim, helped).outcome == CONTRADICTED
    assert after(1.0 if against else 9.0, runs[:1]) == PARTLY


def test_a_narrower_gap_may_come_from_a_higher_training_error(helped):
    runs = helped.find("mixing-final", ["DFA"]).of("DFA")
    found = put(helped, *(made("mixing-final", "DFA", r.seed, test=5 + r.seed / 500, train=2.0) for r in runs))
    assert verdict(CLAIMS["F4/DFA"], found).outcome == CONTRADICTED and verdict(CLAIMS["F4/DFA/gap"], found).outcome == REPRODUCED


def test_a_record_on_disk_is_what_a_claim_reads(tmp_path):
    for run in mixing.FINAL.runs("laptop", seeds=3):
        records.write(replace(of(run.experiment, run.variant, run.seed), hash=run.hash, config=run.config.as_dict()), tmp_path)
    found = Evidence(directory=tmp_path)
    assert verdict(CLAIMS["F4/step"], found).outcome == REPRODUCED and verdict(CLAIMS["F4/step"], found).n == 3
    assert mixing.weight_angle(found.find("mixing-final", ["DFA"]).of("DFA")[0]) == 50
    assert verdict(CLAIMS["F4/MNIST/step/0.1"], found).outcome == NOT_RUN


# --- figures and tables --------------------------------------------------------------------------------------------------

FIGURES = (figures_mixing.strengths, figures_mixing.rates, figures_mixing.alignment, figures_mixing.final, figures_mixing.convergence)
TABLES = (figures_mixing.choices, figures_mixing.final_table, figures_mixing.mnist_table)
each_figure = pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.__name__)


@each_figure
def test_figure_shows_its_records_and_their_budget(figure, helped):
    drawn = figure(helped)
    drawn.canvas.draw()
    assert all(ax.lines for ax in drawn.axes) and re.search(r"\d seeds?, profile 'laptop'", drawn.get_supxlabel())


@each_figure
def test_figure_without_records_says_so_and_how_to_make_them(figure, nothing):
    (text,) = figure(nothing).axes[0].texts
    command = text.get_text().removeprefix("not run here; to make it:  dfa-lib run ").split()
    assert command[0] in EXPERIMENTS and command[1:] == ["--profile", "laptop"]


@each_figure
def test_figure_of_some_of_its_records(figure, helped, smoke):
    """Of an interrupted sweep, and of the smallest profile, which leaves most trials out."""
    read = {name: {"laptop": replace(found["laptop"], records=found["laptop"].records[:4])} for name, found in helped._read.items()}
    figure(Evidence(_read=read)).canvas.draw()
    figure(smoke).canvas.draw()


def test_strengths_stand_where_the_records_say(helped):
    figure = figures_mixing.strengths(helped)
    switched, dropout, decay, below = figure.axes[:4]
    assert np.allclose(figure.axes[6].lines[0].get_ydata(), np.array([4.5, 4.3, 4.2, 4.3, 4.4, 4.5, 5.0]) / 20 - 0.001)
    curves = {line.get_label(): line for line in switched.lines}
    assert list(curves["by step"].get_xdata()) == [0, *mixing.PROBABILITIES, 1]
    assert np.allclose(curves["by step"].get_ydata(), [4.5, 4.3, 4.2, 4.3, 4.4, 4.5, 5.0])
    assert list(dropout.lines[0].get_xdata()) == [0.1, 0.2, 0.3, 0.4, 0.5] and np.allclose(dropout.lines[0].get_ydata()[1], 4.15)
    assert decay.get_xscale() == "log" and np.allclose(below.lines[0].get_ydata(), curves["by step"].get_ydata())
    assert [ax.lines[-1].get_ydata() for ax in figure.axes[:3]] == [[4.5, 4.5]] * 3  # BP
    worse = made("mixing-search", "by step, 0.25, 0.3", test=9.0)
    lines = {line.get_label(): line for line in figures_mixing.strengths(put(helped, worse)).axes[0].lines}
    assert lines["by step"].get_ydata()[2] == pytest.approx(4.5)  # another rate is now that strength's best


def test_final_has_intervals_against_bp(helped):
    left, middle, right = figures_mixing.final(helped).axes
    assert [label.get_text() for label in left.get_yticklabels()] == [
        f"by step, p = {mixing.OWN['by step'][0]:g}", f"by layer, p = {mixing.OWN['by layer'][0]:g}", "DFA",
        f"dropout, rate = {mixing.OWN['dropout'][0]:g}", f"weight decay, λ = {mixing.OWN['weight decay'][0]:g}"]  # fmt: skip
    assert np.allclose([c.lines[0].get_xdata()[0] for c in left.containers], [-0.3, -0.2, 0.5, -0.35, -0.25])
    assert [c.lines[0].get_xdata()[0] for c in right.containers] == pytest.approx([-0.015, -0.01, 0.025, -0.0175, -0.0125])
    assert len(middle.containers) == 5


def test_rates_leave_out_of_sight_what_has_hardly_learned(helped):
    lost = made("mixing-search", "BP, 0, 0.5", test=90.0)
    left, right = figures_mixing.rates(put(helped, lost)).axes
    assert left.get_ylim() == right.get_ylim() == pytest.approx((0.95 * 4.2, 1.5 * 4.2))
    curves = {line.get_label(): line for line in left.lines}
    assert list(curves["BP"].get_xdata()) == [0.1, 0.2, 0.3, 0.4, 0.5] and curves["BP"].get_ydata()[-1] == 90
    assert list(curves["p = 0.9"].get_xdata()) == [0.2, 0.3, 0.4] and len(curves) == 7


def test_alignment_is_the_angle_of_each_p(helped):
    (ax,) = figures_mixing.alignment(helped).axes
    step = next(line for line in ax.lines if line.get_label() == "by step")
    assert list(step.get_xdata()) == [*mixing.PROBABILITIES, 1] and np.allclose(step.get_ydata(), [86, 80, 70, 60, 54, 50])


def test_convergence_has_a_panel_a_p(helped):
    figure = figures_mixing.convergence(helped)
    assert [ax.get_title() for ax in figure.axes] == ["p = 0.1", "p = 0.5", "", ""]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["BP", "by step", "by layer", "DFA"]
    assert figure.axes[0].lines[0].get_xdata()[0] == 10  # nothing is to be seen before the first epoch
    assert np.allclose(figure.axes[2].lines[0].get_ydata(), [6, 4, 2, 1e-3], atol=1e-3) and figure.axes[0].lines[0].get_ydata()[-1] > 4


def test_tables_say_what_was_chosen_and_what_it_gave(helped):
    chosen = figures_mixing.choices(helped)
    assert chosen.loc["by step"].to_dict() == {"trials": 15, "strength": "p = 0.25", "learning rate": "0.3", "held-out %": "4.20"}
    assert chosen.loc["BP", "trials"] == 5 and chosen.loc["BP", "strength"] == ""
    low = made("mixing-search", "dropout, 0.1, 0.4", test=1.0)
    edges = figures_mixing.choices(put(helped, low)).loc["dropout", ["strength", "learning rate"]]
    assert edges.tolist() == ["rate = 0.1 (edge)", "0.4 (edge)"]
    table = figures_mixing.final_table(helped)
    assert table.loc["DFA", "minus BP [95 %]"].startswith("+0.50 [+0.4") and table.loc["DFA", "n"] == 8
    assert table.loc["BP", "minus BP [95 %]"] == "" and table.loc["BP", "held-out %"] == "4.53 ± 0.00"
    assert figures_mixing.mnist_table(helped).loc["by layer, 0.5", "minus BP [95 %]"].startswith("-0.20 [")


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_table_without_records_says_so_in_every_row(table, nothing):
    assert (table(nothing) == NOT_RUN).any(axis=1).all()
