"""Alignment and practice: what the experiments change, the metrics, L1 against made-up records, figures and tables."""

import math
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from dfa_lib import figures_launay, sweep
from dfa_lib.config import differences
from dfa_lib.experiments import EXPERIMENTS, launay
from dfa_lib.graph import bp
from dfa_lib.records import Record
from dfa_lib.verdicts import CONTRADICTED, NOT_RUN, PARTLY, REPRODUCED, Evidence, Parts, difference, verdict

CLAIMS = {claim.id: claim for claim in launay.CLAIMS}
SEEDS = 3
#: Cosines of the practices, all different; errors fall with them, and BP's do not know of them.
COSINE = {practice: 0.3 + 0.02 * ((7 * k) % 17) for k, practice in enumerate(launay.PRACTICES)}

# --- made-up records -----------------------------------------------------------------------------------------------------------


def growing(order=(1, 2, 3, 4, 5), evaluations=9):
    """Delta angles by evaluation and layer that fall from 90° one layer after another, then rise by 4°."""
    curves = [[90 - 50 * (1 - math.exp(-k / rank)) for rank in order] for k in range(evaluations - 1)]
    return [*curves, [angle + 4 for angle in curves[-1]]]


def made(experiment, variant, seed=0, profile="laptop", test=3.0, train=0.1, angles=None, cosine=0.5, undefined=0):
    """A made-up run with five layers, whose running training error halves between evaluations."""
    rows = []
    for k, by_layer in enumerate(growing() if angles is None else angles):
        measured = {"layers": [1, 2, 3, 4, 5], "delta_angle": list(by_layer), "delta_angle_sd": [6.0 + seed] * 5,
                    "signal_angle": [a and a + 2.0 for a in by_layer], "mean_angle": [a and a - 8.0 for a in by_layer],
                    "delta_cos": [cosine + 0.1 * (i - 2) for i in range(5)], "undefined": [0, 0, undefined * (k == 3), 0, 0]}  # fmt: skip
        if variant == "FP(2)":
            for name in ("delta_angle", "signal_angle", "mean_angle"):
                measured[name][3:] = [0.0, 0.0]
        rows.append({"step": 100 * k, "epoch": 2.0 * k, "test_error_pct": test, "test_loss": 0.1, "alignment": measured})
        rows[-1] |= {"train_error_pct": 40.0 * 0.5**k, "train_loss": 0.1} if k else {}
    final = {"test_error_pct": test, "train_error_pct": train, "test_loss": 0.1, "train_loss": 0.1, "constant_output": False}
    return Record(experiment, variant, profile, seed, f"{variant}{seed}", {}, "finished", 800, rows, final, 1.0, 2.0, 1, "CPU", 1,
                  {"torch": "2.9"}, {}, {})  # fmt: skip


def practice(variant, seed=0, profile="laptop", cosine=None, test=None):
    """A made-up run of a practice, in which L1 holds."""
    method, name = variant.split(", ", 1)
    off = (seed - 1) / 1000
    cosine = COSINE[name] if cosine is None else cosine
    error = (6 - 5 * cosine if method == "DFA" else 2.0) if test is None else test
    return made("launay-practices", variant, seed, profile, test=error + off, cosine=cosine - off, angles=[[50.0] * 5])


def results(name, profile="laptop", seeds=SEEDS, **changes):
    """All runs of an experiment, with other ones of the variants in `changes`."""
    def one(variant, seed):
        if name == "launay-practices":
            return practice(variant, seed, profile, **changes.get(variant, {}))
        return made(name, variant, seed, profile, **changes.get(variant, {}))

    only = EXPERIMENTS[name].profile(profile).only or EXPERIMENTS[name].variants
    runs = [one(variant, seed) for variant in only for seed in range(seeds)]
    return sweep.Results(EXPERIMENTS[name], profile, tuple(runs))


def evidence(*found, profile="recorded"):
    read = {experiment.name: {} for experiment in launay.EXPERIMENTS}
    return Evidence(profile, _read=read | {r.experiment.name: {r.profile: r} for r in found})


def everything(profile="laptop", seeds=SEEDS):
    """Records in which alignment explains everything."""
    found = [results(experiment.name, profile, seeds) for experiment in launay.EXPERIMENTS]
    return evidence(*found, profile="recorded" if profile == "laptop" else profile)


def changed(**changes):
    """The practices with other records of some."""
    return evidence(results("launay-practices", **changes))


@pytest.fixture(scope="module")
def all_good():
    return everything()


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


# --- what was run --------------------------------------------------------------------------------------------------------------


def test_practices_change_what_they_name_and_the_rate_only():
    base = launay.PRACTICE.variants["DFA, base"]
    for name, changes in launay.PRACTICES.items():
        config = launay.PRACTICE.variants[f"DFA, {name}"]
        assert set(differences(base, config)) - {"optimizer"} == set(changes) - {"optimizer"}, name
        assert config.optimizer.name == changes.get("optimizer", base.optimizer).name
    together = launay.PRACTICE.variants["DFA, together"]
    assert (together.batch_norm, together.dropout, together.optimizer.name) == (True, 0.2, "momentum")
    assert str(together.rule) == "dfa(shared=True)"
    assert launay.PRACTICE.variants["DFA, Adam"].optimizer.decay == 0.999  # Kingma and Ba's


def test_control_is_the_same_network_under_bp_and_feedback_has_none_of_its_own():
    borrowed = {name for name, control in launay.CONTROLS.items() if name != control}
    assert borrowed == {name for name in launay.PRACTICES if "feedback" in name}
    for name, control in launay.CONTROLS.items():
        config, beside = launay.PRACTICE.variants[f"DFA, {name}"], launay.PRACTICE.variants[f"BP, {control}"]
        assert beside.rule == bp() and beside.alignment == 0
        assert set(differences(config, beside)) <= {"rule", "alignment", "optimizer", "feedback"}, name
        assert config.optimizer.name == beside.optimizer.name
    assert "BP, shared feedback" not in launay.PRACTICE.variants


def test_each_method_and_practice_has_as_many_trials_on_held_out_data():
    trials = [variant.rpartition(", ")[0] for variant in launay.RATE_SEARCH.variants]
    assert {trials.count(name) for name in trials} == {7} and sorted(set(trials)) == sorted(launay.PRACTICE.variants)
    for profile in launay.RATE_SEARCH.profiles:
        configs = launay.RATE_SEARCH.configs(profile)
        assert {config.validation for config in configs.values()} == {1000 if profile == "smoke" else 10_000}
        assert {config.alignment for config in configs.values()} == {0}
    for (method, name), rate in launay.OWN_RATES.items():
        assert rate in launay.rates(name)
        run = launay.PRACTICE.variants[f"{method}, {name}"]
        tried = launay.RATE_SEARCH.variants[f"{method}, {name}, {rate:g}"]
        assert set(differences(run, tried)) <= {"validation", "alignment"}


def test_best_rate_is_that_of_the_lowest_mean_held_out_error():
    held_out = {f"DFA, base, {rate:g}": error for rate, error in zip(launay.SGD_RATES, (5.0, 4.0, 3.0, 2.0, 9.0, 90.0, 90.0), strict=True)}
    runs = [made("launay-rates", name, seed, test=error + seed) for name, error in held_out.items() for seed in (0, 1)]
    runs += [made("launay-rates", f"BP, Adam, {rate}", test=error) for rate, error in (("0.001", 2.0), ("0.01", 1.0))]
    runs[-1].evaluations[-1]["test_error_pct"] = 0.1  # a lucky end does not choose...
    runs[-1].evaluations[0]["test_error_pct"] = 90.0  # ...and where a run starts says nothing about its rate
    runs += [made("launay-rates", "BP, Adam, 0.03", test=1.5)]
    runs[-1].evaluations[-1]["test_error_pct"] = 0.5
    found = launay.best_rates(sweep.Results(launay.RATE_SEARCH, "laptop", tuple(runs)))
    assert found == {("DFA", "base"): 1.0, ("BP", "Adam"): 0.01}


def test_own_rates_are_the_best_of_the_recorded_search(searched):
    best = launay.best_rates(searched(launay.RATE_SEARCH))
    assert {tuned: best[tuned] for tuned in best if best[tuned] != launay.OWN_RATES[tuned]} == {}, "these rates were better"


def test_rules_are_followed_on_one_network_and_the_first_steps_are_the_same_runs():
    for experiment in (launay.ALIGNMENT, launay.FIRST_STEPS):
        first, *others = experiment.configs("laptop").values()
        assert [set(differences(first, other)) for other in others] == [{"rule"}] * 3 + [{"rule", "optimizer"}]  # IFA is slower
        assert experiment.profile("laptop").seeds >= 3
    for name, config in launay.ALIGNMENT.configs("laptop").items():
        assert set(differences(config, launay.FIRST_STEPS.configs("laptop")[name])) == {"epochs", "steps", "evaluate_every"}
    assert launay.PRACTICE.profile("laptop").seeds >= 3


# --- metrics -------------------------------------------------------------------------------------------------------------------


def followed(angles, variant="DFA", **how):
    return made("launay-alignment", variant, angles=angles, **how)


def test_halfway_is_read_between_evaluations():
    falls = [[90.0, 90.0], [80.0, 90.0], [50.0, 70.0], [52.0, 50.0]]  # halves: 70 and 70
    run = replace(followed([]), evaluations=[{"step": 100 * k, "alignment": {"delta_angle": row}} for k, row in enumerate(falls)])
    assert launay.halfway(run) == pytest.approx([100 + 100 / 3, 200])
    assert launay.upward(run) == pytest.approx(1)
    for lost in ([[90.0, None], *falls[1:]], [*falls[:3], [52.0, None]], [[90.0, 10.0], *falls[1:]]):
        broken = replace(run, evaluations=[{"step": k, "alignment": {"delta_angle": row}} for k, row in enumerate(lost)])
        assert launay.halfway(broken) is None and launay.upward(broken) is None


@pytest.mark.parametrize("order, rank", [((1, 2, 3, 4, 5), 1), ((5, 4, 3, 2, 1), -1), ((2, 1, 3, 4, 5), 0.9)])
def test_upward_is_the_order_in_which_layers_align(order, rank):
    assert launay.upward(followed(growing(order))) == pytest.approx(rank)


def test_layers_that_learn_by_bp_are_left_out():
    run = followed(growing(), "FP(2)")
    assert launay.learnt_through_b(run) == [0, 1, 2] and len(launay.halfway(run)) == 3
    assert launay.angle(run) == pytest.approx(np.mean(growing()[-1][:3]))
    assert launay.learnt_through_b(followed([[None] * 5, [60.0] * 5])) == [0, 1, 2, 3, 4]  # from zero weights: undefined, not 0


def test_measures_at_the_end_over_layers():
    run = followed(growing(), cosine=0.4)
    assert launay.cosine(run) == pytest.approx(0.4) and launay.angle(run) == pytest.approx(np.mean(growing()[-1]))
    assert launay.measures_apart(run) == pytest.approx(10)  # from 8 below to 2 above
    run.evaluations[-1]["alignment"]["signal_angle"][1] = None
    assert launay.measures_apart(run) is None and launay.cosine(run) is not None
    run.evaluations[-1]["alignment"]["delta_cos"][4] = None
    assert launay.cosine(run) is None


def test_fall_is_from_two_percent_training_error_to_the_end():
    curve = [[90.0] * 5, *([a] * 5 for a in (80.0, 70.0, 60.0, 50.0, 40.0, 41.0, 43.0, 46.5))]  # 40, 20, ..., 1.25 at the sixth
    assert launay.falls_back(followed(curve)) == pytest.approx(46.5 - 40)
    assert launay.falls_back(followed(curve[:5])) is None  # not below 2.5 %
    lost = followed(curve)
    lost.evaluations[5]["alignment"]["delta_angle"][0] = None
    assert launay.falls_back(lost) is None
    del lost.evaluations[5]["alignment"]
    assert launay.falls_back(lost) == pytest.approx(46.5 - 41)


def test_undefined_examples_are_counted_over_layers_and_evaluations():
    assert launay.most_undefined(followed(growing())) == 0 and launay.most_undefined(followed(growing(), undefined=17)) == 17


# --- claims --------------------------------------------------------------------------------------------------------------------


def leaves(test):
    return [leaf for part in test.parts for leaf in leaves(part)] if isinstance(test, Parts) else [test]


def test_claims_are_unique_and_name_runs_that_a_laptop_makes():
    assert len(CLAIMS) == len(launay.CLAIMS) == 2 + 16 + 6 * 5
    configs = {experiment.name: set(experiment.configs("laptop")) for experiment in launay.EXPERIMENTS}
    for claim in launay.CLAIMS:
        for leaf in leaves(claim.test):
            names = leaf.variants + leaf.controls if hasattr(leaf, "variants") else tuple(leaf.weights)
            assert set(names) <= configs[leaf.experiment], claim.id
            assert EXPERIMENTS[leaf.experiment].profile("laptop").seeds >= leaf.seeds, claim.id


def test_l1_is_over_every_practice_with_its_own_control():
    error, excess = (launay.L1[name].test for name in ("error", "excess"))
    assert error.variants == excess.variants == tuple(name for name in launay.PRACTICE.variants if name.startswith("DFA"))
    assert error.controls == () and len(set(excess.controls)) == 14
    assert dict(zip(excess.variants, excess.controls, strict=True))["DFA, shared feedback"] == "BP, base"


def test_l1_follows_the_records(all_good):
    assert {verdict(claim, all_good).outcome for claim in launay.L1.values()} == {REPRODUCED}
    assert verdict(launay.L1["error"], all_good).n == 17
    reverse = {f"DFA, {name}": {"cosine": cosine, "test": 5 * cosine} for name, cosine in COSINE.items()}
    assert {verdict(claim, changed(**reverse)).outcome for claim in launay.L1.values()} == {CONTRADICTED}
    shuffled = {f"DFA, {name}": {"test": 2 + (5 * k) % 17 / 10} for k, name in enumerate(launay.PRACTICES)}
    assert {verdict(claim, changed(**shuffled)).outcome for claim in launay.L1.values()} == {PARTLY}


def test_l1_of_the_excess_sees_what_helps_bp_as_much():
    beside = {f"BP, {name}": {"test": 6 - 6 * COSINE[name]} for name in launay.PRACTICES if f"BP, {name}" in launay.PRACTICE.variants}
    own = {f"DFA, {name}": {"test": 6 - 5 * COSINE[name] + 6 * (COSINE[name] - COSINE[launay.CONTROLS[name]])} for name in launay.PRACTICES
           if launay.CONTROLS[name] != name}  # fmt: skip
    found = changed(**beside, **own)
    assert verdict(launay.L1["excess"], found).outcome == CONTRADICTED


def test_good_practice_is_better_in_all_that_is_asked(all_good):
    assert min(COSINE, key=COSINE.get) == "base"
    assert {verdict(claim, all_good).outcome for claim in launay.GOOD.values()} == {REPRODUCED}
    assert {name for name, claim in launay.GOOD.items() if len(claim.test.parts) == 2} == {"raw feedback", "shared feedback"}
    mixed = verdict(launay.GOOD["dropout"], changed(**{"DFA, dropout": {"test": 9.0}}))
    assert (mixed.outcome, [part.outcome for part in mixed.parts]) == (PARTLY, [REPRODUCED, CONTRADICTED, CONTRADICTED])
    closer = verdict(launay.GOOD["dropout"], changed(**{"DFA, dropout": {"test": 5.0}, "BP, dropout": {"test": 9.0}}))
    assert [part.outcome for part in closer.parts] == [REPRODUCED, CONTRADICTED, REPRODUCED]
    assert closer.parts[2].effect.mean == pytest.approx((5 - 9) - (6 - 5 * COSINE["base"] - 2))
    assert verdict(launay.GOOD["ReLU"], changed(**{"DFA, ReLU": {"cosine": 0.1, "test": 9.0}})).outcome == CONTRADICTED


def test_claims_about_the_rules_follow_the_records(all_good):
    assert {verdict(claim, all_good).outcome for claims in launay.FOLLOWED_CLAIMS.values() for claim in claims.values()} == {REPRODUCED}
    bad = {"angles": growing((5, 4, 3, 2, 1))[:-1], "train": 3.0, "undefined": 2}  # from the last layer down, and never back
    found = evidence(results("launay-alignment", DFA=bad, FA={"angles": [[100.0] * 5] * 9}), results("launay-first-steps", DFA=bad))
    outcome = {question: verdict(claims["DFA"], found).outcome for question, claims in launay.FOLLOWED_CLAIMS.items()}
    assert outcome == {"measures": REPRODUCED, "upward": CONTRADICTED, "zero": CONTRADICTED, "falls back": CONTRADICTED,
                       "stays": REPRODUCED, "defined": CONTRADICTED}  # fmt: skip
    assert verdict(launay.FOLLOWED_CLAIMS["stays"]["FA"], found).outcome == CONTRADICTED
    slow = evidence(results("launay-alignment", IFA={"angles": growing()[:5]}))
    assert verdict(launay.FOLLOWED_CLAIMS["falls back"]["IFA"], slow).outcome == NOT_RUN


def test_claims_without_records_are_not_run_here(tmp_path):
    nothing = Evidence(directory=tmp_path)
    assert {verdict(claim, nothing).outcome for claim in launay.CLAIMS} == {NOT_RUN}


# --- figures -------------------------------------------------------------------------------------------------------------------

FIGURES = {"measures": "alignment", "growth": "first-steps", "zero": "alignment", "practices": "practices", "scatter": "practices"}


def drawn(ax):
    return {line.get_label(): line for line in ax.lines if line.get_label()[0] != "_"}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_says_its_budget_or_how_to_make_its_records(name, all_good, tmp_path):
    figure = getattr(figures_launay, name)(all_good)
    figure.canvas.draw()
    assert f"{'1 seed' if name == 'measures' else f'{SEEDS} seeds'}, profile 'laptop', CPU, torch 2.9" in figure.get_supxlabel()
    nothing = getattr(figures_launay, name)(Evidence(directory=tmp_path))
    assert f"dfa-lib run launay-{FIGURES[name]} --profile laptop" in nothing.axes[0].texts[0].get_text()


def test_one_seed_draws_every_figure_without_intervals():
    smoke = everything("smoke", seeds=1)
    for name in FIGURES:
        figure = getattr(figures_launay, name)(smoke)
        figure.canvas.draw()
        assert "1 seed, profile 'smoke'" in figure.get_supxlabel()
    assert {ax.get_title() for ax in figures_launay.scatter(smoke).axes} == {"rank correlation not run here"}


def test_half_a_sweep_is_not_run():
    whole = results("launay-practices")
    half = evidence(replace(whole, records=tuple(r for r in whole.records if "Adam" not in r.variant)))
    assert "not run here" in figures_launay.practices(half).axes[0].texts[0].get_text()
    assert "not run here" in figures_launay.scatter(half).axes[0].texts[0].get_text()


def test_three_measures_of_one_run_stand_side_by_side(all_good):
    axes = figures_launay.measures(all_good).axes
    assert [ax.get_title() for ax in axes] == ["delta angle", "signal angle", "mean angle"]
    ends = [drawn(ax)["layer 2"].get_ydata()[-1] for ax in axes]
    assert ends == pytest.approx([growing()[-1][1] + off for off in (0, 2, -8)])
    assert [len(ax.collections) for ax in axes] == [5, 0, 0]  # the band is one deviation over examples
    band = axes[0].collections[0].get_datalim(axes[0].transData).intervaly
    assert band[0] == pytest.approx(min(row[0] for row in growing()) - 6) and len(axes[0].lines) == 6


def test_growth_shows_layers_that_learn_through_b_and_when_each_is_half_way(all_good):
    axes = figures_launay.growth(all_good).axes
    assert [ax.get_title() for ax in axes] == [*launay.FOLLOWED, "half of the way"]
    assert [len(drawn(ax)) for ax in axes] == [5, 5, 5, 3, 5, 5]
    steps = drawn(axes[5])["DFA"].get_ydata()
    assert steps == pytest.approx(launay.halfway(made("launay-first-steps", "DFA"))) and list(steps) == sorted(steps)
    assert list(drawn(axes[5])["FP(2)"].get_xdata()) == [1, 2, 3]


def test_undefined_examples_are_shown_below_the_angles_and_not_averaged_in(all_good):
    found = evidence(results("launay-alignment", DFA={"undefined": 30}))
    above, below = figures_launay.zero(found).axes
    fa, dfa = below.lines[0].get_ydata(), below.lines[1].get_ydata()
    assert max(fa) == 0 and sorted(dfa)[-2:] == [0, 30] and len(drawn(above)) == 5
    assert drawn(above)["DFA"].get_ydata() == pytest.approx(drawn(figures_launay.zero(all_good).axes[0])["DFA"].get_ydata())
    assert drawn(above)["DFA"].get_xdata()[-1] == pytest.approx(40 * 0.5**8) and above.xaxis_inverted()
    lost = results("launay-alignment")
    lost.records[4].evaluations[-1]["alignment"]["delta_angle"][0] = None  # a seed of DFA loses a layer
    assert lost.records[4].variant == "DFA" and np.isnan(drawn(figures_launay.zero(evidence(lost)).axes[0])["DFA"].get_ydata()[-1])


def test_practices_have_a_point_of_dfa_and_a_control_each(all_good):
    (ax,) = figures_launay.practices(all_good).axes
    points = [(bar.lines[0].get_xdata()[0], bar.lines[0].get_markerfacecolor() == "none") for bar in ax.containers]
    assert len(points) == 34 and [hollow for _, hollow in points].count(True) == 3
    assert points[17][0] == pytest.approx(6 - 5 * COSINE["base"]) and points[0][0] == pytest.approx(2)
    assert [tick.get_text().rsplit("  ", 1)[1] for tick in ax.get_yticklabels()] == [str(k) for k in range(1, 18)]


def test_scatter_is_what_l1_correlates(all_good):
    error, excess = figures_launay.scatter(all_good).axes
    for ax, claim, off in ((error, launay.L1["error"], 0), (excess, launay.L1["excess"], 2)):
        found = verdict(claim, all_good)
        assert ax.get_title() == f"rank correlation {found.effect:.2f}\nover 17 practices"
        marks = [line for line in ax.lines if line.get_marker() == "^"]
        assert [text.get_text() for text in ax.texts] == [str(k) for k in range(1, 18)]
        where = marks[3].get_xdata()[0], marks[3].get_ydata()[0]
        assert where == pytest.approx((COSINE["ReLU"], 6 - 5 * COSINE["ReLU"] - off))


# --- tables --------------------------------------------------------------------------------------------------------------------


def test_followed_table_has_measures_spread_and_the_undefined(all_good, tmp_path):
    table = figures_launay.followed_table(evidence(results("launay-alignment", DFA={"undefined": 30})))
    assert table["undefined"].to_dict() == {"FA": "0", "DFA": "30", "BDFA(2)": "0", "FP(2)": "0", "IFA": "0"}
    end = np.mean(growing()[-1])
    assert (table.loc["DFA", "delta angle"], table.loc["DFA", "mean angle"]) == (f"{end:.1f} ± 0.0", f"{end - 8:.1f} ± 0.0")
    assert table.loc["DFA", "over examples"] == "± 7.0" and table.loc["DFA", "n"] == 3
    assert set(figures_launay.followed_table(Evidence(directory=tmp_path))["training %"]) == {NOT_RUN}


def test_practice_table_compares_with_the_control_and_flags_edges(all_good, monkeypatch, tmp_path):
    monkeypatch.setattr(launay, "OWN_RATES", {**launay.OWN_RATES, ("DFA", "base"): 30.0})
    table = figures_launay.practice_table(all_good)
    assert table.loc["1 base", "rates"] == "30 (edge) / 0.3" and table.loc["2 raw feedback", "rates"] == "0.3 / 0.3"
    gap = difference([6 - 5 * COSINE["base"] + off for off in (-1e-3, 0.0, 1e-3)], [2.0 + off for off in (-1e-3, 0.0, 1e-3)])
    assert table.loc["1 base", "DFA minus BP [95 %]"] == f"{gap:+.2f}"
    assert table.loc["1 base", "BP, %"] == table.loc["3 shared feedback", "BP, %"] == "2.00 ± 0.00 (0.10)"
    assert set(figures_launay.practice_table(Evidence(directory=tmp_path))["DFA, %"]) == {NOT_RUN}


def test_good_table_says_what_gets_better_and_what_worse(tmp_path):
    table = figures_launay.good_table(changed(**{"DFA, ReLU": {"cosine": 0.1, "test": 9.0}, "DFA, erf": {"test": 9.0}}))
    assert [table.loc["ReLU", column].split(", ")[-1] for column in table.columns[:3]] == ["worse"] * 3
    assert table.loc["erf", "cosine"].endswith("better") and table.loc["erf", "all of it"] == PARTLY
    assert table.loc["raw feedback", "minus BP's"] == "the same" and table.loc["raw feedback", "all of it"] == REPRODUCED
    assert set(figures_launay.good_table(Evidence(directory=tmp_path))["all of it"]) == {NOT_RUN}
