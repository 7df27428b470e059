"""Nøkland's paper as data: what was run, the numbers that it reports, its claims; the figures and the tables."""

import itertools
from dataclasses import replace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from dfa_lib import figures, figures_nokland, records, style, sweep, verdicts
from dfa_lib.config import differences
from dfa_lib.experiments import EXPERIMENTS, nokland
from dfa_lib.experiments.overview import BASE
from dfa_lib.graph import bp, dfa, fa
from dfa_lib.records import Record
from dfa_lib.verdicts import CONTRADICTED, NOT_RUN, PARTLY, REPRODUCED, Evidence, Parts, Share, verdict

METHODS = ("BP", "FA", "DFA")
CLAIMS = {claim.id: claim for claim in nokland.CLAIMS}
SEEDS = 4

# --- made-up records ---------------------------------------------------------------------------------------------------------


def made(experiment, variant, seed=0, profile="laptop", test=2.0, train=0.0, losses=(1.0, 0.6, 0.4), beta=(70.0, 80.0), K=(0.0, -2.0)):
    """A made-up run, evaluated at epochs 0, 50 and 100; beta and K at the start and at the end, in two layers."""
    tests, trains = (90.0, 91.0, test), (None, train, train)
    rows = [{"step": 10 * k, "epoch": 50.0 * k, "test_error_pct": tests[k], "test_loss": losses[k]} for k in range(3)]
    for k, row in enumerate(rows):
        row |= {"train_error_pct": trains[k], "train_loss": 0.1} if k else {}
        b, measure = (None if k == 0 and beta[0] == 0 else beta[min(k, 1)]), K[min(k, 1)]
        row["alignment"] = {"layers": [1, 2], "delta_angle": [80.0, 60.0], "weight_angle": {"2": 50.0}, "K": [measure - 1, measure],
                            "L": [0.0, 1.0], "beta": [b, b and b - 1], "L_share": [0.5, 1.0], "turned": [10.0 * k, 5.0 * k]}  # fmt: skip
    final = {"test_error_pct": test, "train_error_pct": train, "test_loss": losses[-1], "train_loss": 0.1, "constant_output": train > 80,
             "saturation": [0.1, 0.2]}  # fmt: skip
    final |= {metric: [5.0, 4.0, 3.0, 2.0 + seed / 100] for metric in nokland.READERS}
    final["tsne"] = {"labels": [0, 1, 9], "layers": [[0, 0, 500, 999, 999, 20 * k] for k in range(4)]}
    return Record(experiment, variant, profile, seed, "0" * 16, {}, "finished", 20, rows, final, 1.0, 2.0, 1, "CPU", 1,
                  {"torch": "2.9"}, {}, {})  # fmt: skip


def as_the_paper_says(experiment, variant, seed, profile="laptop"):
    """The run that the paper's author would have seen."""
    dead = any(word in variant for word in ("relu", "100x240 BP", "100x240 FA")) and "tuned" not in variant
    cell = nokland.TABLE1.get(variant.removesuffix(", tuned"))
    test, train = (90.2, 90.0) if dead else (cell.test if cell else 3.9, 5.0 if "frozen" in variant else 0.01)
    losses = (1.0, 0.9, 1.1 + seed / 100) if "FA, above frozen" in variant else (1.0, 0.6, 0.4 + seed / 100)
    beta = (120.0 if "opposed" in variant else 0.0, 80.0 + seed)
    return made(experiment, variant, seed, profile, test + (0 if dead else seed / 500), train, losses, beta)


def evidence(seeds=SEEDS, profile="laptop"):
    """All runs of all experiments."""
    read = {}
    for experiment in nokland.EXPERIMENTS:
        runs = [(experiment.name, variant, seed, profile) for variant in experiment.configs(profile) for seed in range(seeds)]
        read[experiment.name] = {profile: sweep.Results(experiment, profile, tuple(as_the_paper_says(*run) for run in runs))}
    return Evidence(_read=read)


def put(found, *changed):
    """The same evidence with other records in the place of some."""
    read = dict(found._read)
    for record in changed:
        results = read[record.experiment][record.profile]
        kept = (record if (r.variant, r.seed) == (record.variant, record.seed) else r for r in results.records)
        read[record.experiment] = {record.profile: replace(results, records=tuple(kept))}
    return Evidence(_read=read)


@pytest.fixture(scope="module")
def paper():
    return evidence()


@pytest.fixture(scope="module")
def smoke():
    return replace(evidence(seeds=1, profile="smoke"), profile="smoke")


@pytest.fixture(autouse=True)
def styled():
    with mpl.rc_context():
        style.use()
        yield
    plt.close("all")


# --- Table 1: what was run ---------------------------------------------------------------------------------------------------


def test_common_setting_is_the_papers():
    # Section 4. The rate and e as a sum are the author's code's.
    assert (BASE.data, BASE.loss, BASE.batch, BASE.epochs) == ("mnist", "binary-cross-entropy", 64, 300)
    assert (BASE.activation, BASE.feedback, BASE.reduction) == ("tanh", "uniform-to", "sum")
    assert (BASE.optimizer.name, BASE.optimizer.lr, BASE.dropout_input, BASE.dropout, BASE.adversarial) == ("rmsprop", 1e-4, 0, 0, 0)
    changes = nokland.TABLE.profile("paper").changes
    assert changes == {"epochs": 300, "stop_train_error": 0.01}
    assert nokland.TABLE.profile("laptop").changes == {"epochs": 30} and "100x240 DFA" in nokland.TABLE.configs("paper")


ROWS = {
    "7x240": ((240,) * 7, {}), "100x240": ((240,) * 100, {}), "1x800": ((800,), {}), "2x800": ((800,) * 2, {}), "3x800": ((800,) * 3, {}),
    "4x800": ((800,) * 4, {}), "2x800 logistic": ((800,) * 2, {"activation": "logistic"}),
    "2x800 ReLU": ((800,) * 2, {"activation": "relu"}),
    "2x800 dropout": ((800,) * 2, {"dropout_input": 0.1, "dropout": 0.5}), "2x800 adversarial": ((800,) * 2, {"adversarial": 0.08}),
}  # fmt: skip


def test_rows_differ_from_the_common_setting_in_what_they_name_only():
    assert list(nokland.TABLE.variants) == [f"{row} {method}" for row in ROWS for method in METHODS]
    for (row, (hidden, changes)), method in itertools.product(ROWS.items(), METHODS):
        config = nokland.TABLE.variants[f"{row} {method}"]
        random = method == "BP" or row == "2x800 ReLU"  # zero weights otherwise
        expected = {"hidden": hidden, "init": "uniform-from" if random else "zeros"} | changes
        assert {name: getattr(config, name) for name in expected} == expected
        assert config.rule == {"BP": bp(), "FA": fa(), "DFA": dfa()}[method]
        assert set(differences(BASE, config)) <= {"rule", *expected}


def test_methods_put_random_weights_under_relu_however_it_is_asked_for():
    for found in (nokland.methods(BASE, activation="relu"), nokland.methods(replace(BASE, activation="relu"))):
        assert {name: config.init for name, config in found.items()} == dict.fromkeys(METHODS, "uniform-from")
    assert nokland.methods(replace(BASE, activation="relu"), activation="tanh")["DFA"].init == "zeros"


#: As the paper prints it, cell by cell; None where the cell is empty.
PRINTED = """
2.16 ± 0.13 | 2.20 ± 0.13 (0.02) | 2.32 ± 0.15 (0.03)
None | None | 3.92 ± 0.09 (0.12)
1.59 ± 0.04 | 1.68 ± 0.05 | 1.68 ± 0.05
1.60 ± 0.06 | 1.64 ± 0.03 | 1.74 ± 0.08
1.75 ± 0.05 | 1.66 ± 0.09 | 1.70 ± 0.04
1.92 ± 0.11 | 1.70 ± 0.04 | 1.83 ± 0.07 (0.02)
1.67 ± 0.03 | 1.82 ± 0.10 | 1.75 ± 0.04
1.48 ± 0.06 | 1.74 ± 0.10 | 1.70 ± 0.06
1.26 ± 0.03 (0.18) | 1.53 ± 0.03 (0.18) | 1.45 ± 0.07 (0.24)
1.01 ± 0.08 | 1.14 ± 0.03 | 1.02 ± 0.05 (0.12)
"""


def test_every_cell_has_the_papers_number_and_claims_it():
    for row, line in zip(ROWS, PRINTED.strip().splitlines(), strict=True):
        for method, printed in zip(METHODS, line.split(" | "), strict=True):
            cell, claim = nokland.TABLE1.get(f"{row} {method}"), nokland.CELL_CLAIMS[f"{row} {method}"]
            assert str(cell) == printed
            home = "nokland-100x240" if row == "100x240" else "nokland-table1"
            assert (claim.test.experiment, dict(claim.test.weights)) == (home, {f"{row} {method}": 1.0})
            if cell is None:
                assert (claim.text, claim.test.metric, claim.test.low) == ("no convergence", "train_error_pct", 50)
            else:
                bounds = (pytest.approx(cell.test - 0.3), pytest.approx(cell.test + 0.3))
                assert (claim.test.metric, (claim.test.low, claim.test.high)) == ("test_error_pct", bounds)
                assert printed in claim.text
    assert len(nokland.CELL_CLAIMS) == 30 and len(nokland.TABLE1) == 28


def test_largest_gap_of_the_papers_own_table_is_close():
    cells = nokland.TABLE1
    widest = max(cells[f"{row} {m}"].test - cells[f"{row} BP"].test for row in ROWS if row != "100x240" for m in ("FA", "DFA"))
    assert round(widest, 2) == 0.27 <= nokland.CLOSE


# --- the other experiments ---------------------------------------------------------------------------------------------------


def test_rate_search_changes_the_rate_and_holds_examples_out():
    configs = nokland.RATE_SEARCH.variants
    assert len(configs) == 2 * 3 * 6 and nokland.RATES[2] == BASE.optimizer.lr
    for name, config in configs.items():
        cell, _, rate = name.rpartition(" ")
        assert config == replace(
            nokland.TABLE.variants[cell], optimizer=replace(BASE.optimizer, lr=float(rate)), validation=10_000, alignment=0
        )


def test_own_rates_are_the_best_of_the_recorded_search(searched):
    found = searched(nokland.RATE_SEARCH)
    for name, rate in nokland.OWN_RATES.items():
        errors = {rate: np.mean(found.final(f"{name} {rate:g}", "test_error_pct")) for rate in nokland.RATES}
        assert rate == min(errors, key=errors.get), errors


def test_each_method_has_as_many_trials_of_its_own_in_the_map_of_the_deep_net():
    names = [name.split(", ") for name in nokland.DEEP_SEARCH.variants]
    plain = [method for method, *start, _ in names if "wide B" not in start]
    assert {method: plain.count(method) for method in METHODS} == dict.fromkeys(METHODS, 4 * 7)
    for name, config in nokland.DEEP_SEARCH.variants.items():
        assert (config.hidden, config.validation, config.rule.name) == ((240,) * 100, 10_000, name.split(",")[0].lower())
        assert (config.feedback == "xavier-uniform") == ("wide B" in name) and name.split(", ")[1] == config.init


def test_tuned_deep_nets_are_the_best_of_the_recorded_map(searched):
    for method, trial in nokland.DEEP_BEST.items():
        assert replace(nokland.DEEP_SEARCH.variants[trial], validation=0, alignment=500) == nokland.DEEP_TUNED.variants[f"100x240 {method}, tuned"]
    found = searched(nokland.DEEP_SEARCH)
    for method, trial in nokland.DEEP_BEST.items():
        errors = {
            name: np.mean(found.final(name, "test_error_pct")) for name in nokland.DEEP_SEARCH.variants if name.startswith(f"{method},")
        }
        assert trial == min(errors, key=errors.get), errors


def test_frozen_layers_and_starts_are_the_papers():
    frozen, unfrozen = (nokland.UNFREEZE.variants[name] for name in ("first layer frozen", "DFA"))
    assert (frozen.hidden, frozen.frozen, frozen.epochs, frozen.rule.name) == ((50,) * 3, (1,), 50, "bp")
    assert (unfrozen.after, unfrozen.frozen, unfrozen.rule.name) == (frozen, (), "dfa")
    loop = nokland.LOOP.variants["IFA"]
    assert (loop.hidden, loop.rule.name, loop.init) == ((100,) * 4, "ifa", "uniform-from")
    assert {config.hidden for config in (*nokland.FEATURES.variants.values(), *nokland.TSNE.variants.values())} == {(400,) * 3}
    for name, config in nokland.ABOVE.variants.items():
        assert config.frozen == ((2, 3) if "frozen" in name else ())  # of 2x240 the second layer and the output
    assert {config.init for config in nokland.ZERO.variants.values()} == {"zeros"}
    opposed = nokland.THEOREM.variants["4x100 DFA, opposed"]
    assert opposed.feedback == "-" + opposed.after.feedback and opposed.rule == opposed.after.rule


# --- metrics -----------------------------------------------------------------------------------------------------------------


def test_metrics_of_one_run():
    run = made("nokland-theorem", "4x100 DFA, zero", beta=(120.0, 80.0), K=(1.0, -2.0), train=3.0)
    assert nokland.loss_drop(run) == pytest.approx(0.6) and nokland.rise(run) == 1.0
    assert nokland.rise(replace(run, evaluations=run.evaluations[::2])) == -88.0
    assert (nokland.first_beta(run), nokland.late_beta(run), nokland.k_change(run), nokland.turned(run)) == (120, 80, -3, 20)
    run.evaluations[-1]["alignment"]["K"] = [5.0, -2.0]
    assert nokland.k_change(run) == 5.0  # the layer that rose: from 0 to 5
    del run.evaluations[1]["alignment"]
    assert nokland.late_beta(run) == 80 and nokland.first_beta(run) == 120


def test_late_is_the_second_half_and_the_worst_layer():
    run = made("nokland-theorem", "4x100 DFA, zero")
    angles = [[99.0, 99.0], [98.0, 1.0], [2.0, 97.0], [3.0, 4.0]]
    rows = [{"epoch": float(k), "alignment": {"beta": beta}} for k, beta in enumerate(angles)]
    assert nokland.late_beta(replace(run, evaluations=rows)) == 97
    assert nokland.late_beta(replace(run, evaluations=[{"alignment": {"beta": [None, 120.0]}}, *rows])) == 97  # undefined: left out


@pytest.mark.parametrize("metric", [nokland.late_beta, nokland.first_beta, nokland.k_change, nokland.turned])
def test_what_is_nowhere_defined_is_unknown(metric):
    nothing = {name: [None, 1.0] for name in ("beta", "K", "turned")}
    assert metric(replace(made("nokland-theorem", "4x100 DFA, zero"), evaluations=[{"alignment": nothing}, {"epoch": 1.0}])) is None


def test_loss_that_is_not_finite_has_no_drop():
    assert nokland.loss_drop(made("nokland-above", "BP, above frozen", losses=(1.0, None, None))) is None
    assert nokland.loss_drop(made("nokland-above", "BP, above frozen", losses=(None, 1.0, 1.0))) is None


def test_training_error_is_read_at_epoch_50_or_at_the_end():
    run = made("nokland-figure2", "BP")
    rows = [{"epoch": float(e)} | ({"train_error_pct": 100.0 - e} if e else {}) for e in (0, 20, 48, 51, 90)]
    assert nokland.train_error_at_50(replace(run, evaluations=rows)) == 49
    assert nokland.train_error_at_50(replace(run, evaluations=rows[:3])) == 52


@pytest.mark.parametrize("metric", nokland.READERS)
def test_layer_gain_is_the_fall_from_the_layer_below(metric):
    run = made("nokland-features", "BP")
    run.final[metric] = [5.0, 3.0, 4.5, 4.0]
    assert [nokland._layer_gain(metric, layer)(run) for layer in (1, 2, 3)] == [2.0, -1.5, 0.5]
    reader = {"nearest_neighbour_error_pct": "nearest neighbour's", "linear_probe_error_pct": "linear probe's"}[metric]
    assert verdicts.describe(nokland._layer_gain(metric, 1)) == f"Fall of the {reader} test error from the input to layer 1 (points)"
    assert "from layer 2 to layer 3" in verdicts.describe(nokland._layer_gain(metric, 3))


# --- claims ------------------------------------------------------------------------------------------------------------------


def leaves(test):
    return [leaf for part in test.parts for leaf in leaves(part)] if isinstance(test, Parts) else [test]


def named(leaf):
    return [leaf.variant] if isinstance(leaf, Share) else list(leaf.weights)


def test_claims_are_unique_and_name_runs_that_a_laptop_makes():
    assert len(CLAIMS) == len(nokland.CLAIMS) == 30 + 18 + len(nokland.OTHER_CLAIMS)
    assert {"N1", "N2", "N3", "N5", "N6", "N7", "N8", "N9", "N10", "Table 1", "Theorem 1"} == {name.split("/")[0] for name in CLAIMS}
    for claim in CLAIMS.values():
        for leaf in leaves(claim.test):
            assert leaf.experiment in EXPERIMENTS
            assert set(named(leaf)) <= set(EXPERIMENTS[leaf.experiment].configs("laptop")), claim.id
            assert EXPERIMENTS[leaf.experiment].profile("laptop").seeds >= leaf.seeds, claim.id
        assert claim.source.startswith("nokland2016, ") and claim.text


def test_records_as_the_paper_says_reproduce_every_claim(paper):
    found = {name: verdict(claim, paper) for name, claim in CLAIMS.items()}
    assert {name: v.basis for name, v in found.items() if v.outcome != REPRODUCED} == {}
    assert {v.n for v in found.values()} == {SEEDS} and all(v.budget for v in found.values())
    assert not [v.basis for v in found.values() if "e-3" in v.basis or "inf" in v.basis]


def turned_over(record):
    """A run in which everything is the other way round."""
    final = record.final | {metric: record.final[metric][::-1] for metric in nokland.READERS}
    final |= {"test_error_pct": 95 - record.final["test_error_pct"], "train_error_pct": 95 - record.final["train_error_pct"]}
    start = record.evaluations[0]["test_loss"]
    final["test_loss"] = start + 20 * (start - record.final["test_loss"])  # so much that a tenth of it still counts
    rows = [dict(row) for row in record.evaluations]
    for k, row in enumerate(rows):
        angles = row["alignment"]["beta"]
        row["alignment"] = row["alignment"] | {"K": [-v for v in row["alignment"]["K"]],
                                               "beta": [b if b is None else 180 - b for b in angles]}  # fmt: skip
        row["test_error_pct"] = 50.0 - 10 * k
        if "train_error_pct" in row:
            row["train_error_pct"] = 95 - row["train_error_pct"]
    return replace(record, evaluations=rows, final=final)


@pytest.mark.parametrize("name", CLAIMS)
def test_one_record_changed_makes_a_claim_hold_partly_and_all_contradict_it(name, paper):
    claim, opposite = CLAIMS[name], []
    for leaf, variant in ((leaf, variant) for leaf in leaves(claim.test) for variant in named(leaf)):
        runs = paper.find(leaf.experiment, [variant]).of(variant)
        assert verdict(claim, put(paper, turned_over(runs[0]))).outcome == PARTLY, variant
        if name.startswith("N3/"):  # what helps FA and what helps DFA change places
            other = variant.replace("DFA", "FA") if "DFA" in variant else variant.replace("FA", "DFA")
            opposite += [replace(run, variant=variant) for run in paper.find(leaf.experiment, [other]).of(other)]
        elif not (name.startswith("N1/") and "BP" in variant):  # a gap to BP as it was
            opposite += map(turned_over, runs)
    assert verdict(claim, put(paper, *opposite)).outcome == CONTRADICTED


def test_claims_without_records_are_not_run_here(tmp_path):
    found = Evidence(directory=tmp_path)
    assert {verdict(claim, found).outcome for claim in CLAIMS.values()} == {NOT_RUN}
    assert figures_nokland.count(CLAIMS.values(), found) == f"{len(CLAIMS)} not run here"


def test_a_record_on_disk_is_what_a_claim_reads(tmp_path):
    claim = CLAIMS["N8/test"]
    for run in nokland.LOOP.runs("laptop", seeds=3):
        record = replace(made("nokland-single-loop", "IFA", run.seed, test=3.9 + run.seed / 50), hash=run.hash, config=run.config.as_dict())
        records.write(record, tmp_path)
    assert verdict(claim, Evidence(directory=tmp_path)).outcome == REPRODUCED
    records.write(replace(record, final=record.final | {"test_error_pct": 5.5}), tmp_path)
    assert verdict(claim, Evidence(directory=tmp_path)).outcome == PARTLY
    assert verdict(CLAIMS["N8/train"], Evidence(directory=tmp_path)).basis.endswith("3 seeds, and a verdict needs 4")


# --- figures -----------------------------------------------------------------------------------------------------------------

FIGURES = {
    "gaps": figures_nokland.gaps,
    "error curves": lambda e: figures_nokland.error_curves(e, nokland.TABLE, [f"2x800 {m}" for m in METHODS], "2x800"),
    "rates": figures_nokland.rates,
    "deep map": figures_nokland.deep_map,
    "unfreezing": figures_nokland.unfreezing,
    "readers": figures_nokland.readers,
    "t-SNE": figures_nokland.tsne,
    "theorem": figures_nokland.theorem,
    "theorem, first steps": lambda e: figures_nokland.theorem(e, suffix=", first steps"),
    "above": figures_nokland.above,
}
TABLES = (
    figures_nokland.table1, figures_nokland.variants_table, figures_nokland.own_rates_table, figures_nokland.deep_table,
    figures_nokland.theorem_table, figures_nokland.zero_table,
)  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_figure_shows_its_records_and_their_budget(name, paper):
    figure = FIGURES[name](paper)
    figure.canvas.draw()
    drawn = [ax for ax in figure.axes if ax.lines or ax.collections or ax.images]
    assert drawn and f"{SEEDS} seeds, profile 'laptop'" in figure.get_supxlabel()
    assert not [text for ax in figure.axes for text in ax.texts if NOT_RUN in text.get_text()]


@pytest.mark.parametrize("name", FIGURES)
def test_figure_without_records_says_so_and_how_to_make_them(name, tmp_path):
    figure = FIGURES[name](Evidence(directory=tmp_path))
    figure.canvas.draw()
    if name == "gaps":  # the paper's gaps are drawn all the same
        assert figure.get_supxlabel() == NOT_RUN and len(figure.axes[0].lines) == 18 + 2
    else:
        (text,) = figure.axes[0].texts
        command = text.get_text().removeprefix("not run here; to make it:  dfa-lib run ").split()
        assert command[0] in EXPERIMENTS and command[1:] == ["--profile", "laptop"] and not figure.axes[0].lines


@pytest.mark.parametrize("name", FIGURES)
def test_figure_of_the_smallest_profile(name, smoke):
    FIGURES[name](smoke).canvas.draw()


@pytest.mark.parametrize("name", FIGURES)
def test_interrupted_sweep_draws_too(name, paper):
    read = {}
    for experiment, found in paper._read.items():
        (results,) = found.values()
        first = results.records[0].variant
        read[experiment] = {"laptop": replace(results, records=tuple(r for r in results.records if r.variant == first or r.seed < 2))}
    FIGURES[name](Evidence(_read=read)).canvas.draw()


def test_gaps_stand_where_the_records_say(paper):
    (ax,) = figures_nokland.gaps(paper).axes
    here = {c.get_label(): c for c in ax.containers}
    assert set(here) == {"FA, here", "DFA, here"} and len(ax.containers) == 18
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert rows == [row for row in ROWS if row != "100x240"]
    fa = next(c.lines[0] for c in ax.containers if c.get_label() == "FA, here")
    assert fa.get_xdata()[0] == pytest.approx(0.04) and round(fa.get_ydata()[0]) == rows.index("7x240")
    (dfa, *_) = (line for line in ax.lines if line.get_label() == "DFA, the paper")
    assert (dfa.get_xdata()[0], dfa.get_ydata()[0]) == pytest.approx((2.32 - 2.16, 0.14))
    assert [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"] == [nokland.CLOSE]


def test_deep_map_holds_each_trial_in_its_place(paper):
    changed = replace(made("nokland-100x240-map", "DFA, zeros, RMSprop 3e-5"), seed=0)
    changed.final["test_error_pct"] = 43.9
    figure = figures_nokland.deep_map(put(paper, changed))
    grid = figure.axes[2].images[0].get_array()
    labels = [label.get_text() for label in figure.axes[2].get_yticklabels()]
    row, column = labels.index("DFA, zeros"), list(nokland.DEEP_OPTIMIZERS).index("RMSprop 3e-5")
    assert grid[row, column] == pytest.approx((43.9 + 3 * 3.9 + 6 / 500) / 4)
    assert np.isfinite(grid).sum() == sum(name.startswith("DFA") for name in nokland.DEEP_SEARCH.variants)
    assert "13.9" in [text.get_text() for text in figure.axes[2].texts]


def test_unfreezing_goes_on_from_where_it_was_frozen(paper):
    before, after = figures_nokland.unfreezing(paper).axes
    curves = {line.get_label(): line for line in before.lines}
    assert list(curves["BP, first layer frozen"].get_xdata()) == [50, 100] and list(curves["DFA"].get_xdata()) == [150, 200]
    assert list(curves["BP, first layer frozen"].get_ydata()) == [5, 5] and after.lines[0].get_ydata()[1] == 91


def test_readers_and_tsne_show_layers_from_the_input(paper):
    left, right = figures_nokland.readers(paper).axes
    assert [label.get_text() for label in right.get_xticklabels()] == ["input", "h1", "h2", "h3"]
    assert np.allclose(left.lines[0].get_ydata(), [5, 4, 3, 2.015]) and left.get_title() == "nearest neighbour"
    planes = figures_nokland.tsne(paper).axes[:8]
    assert [ax.get_title() for ax in planes] == ["input", "h1", "h2", "h3", "", "", "", ""]
    assert planes[7].collections[0].get_offsets().tolist() == [[0, 0], [500, 999], [999, 60]]
    assert planes[0].get_ylabel() == "BP" and planes[4].get_ylabel() == "DFA"


def test_theorem_has_a_column_a_start(paper):
    axes = figures_nokland.theorem(paper).axes
    assert len(axes) == 4 * 3 and [ax.get_title() for ax in axes[:3]] == list(nokland.STARTS)
    beta = axes[2 * 3 + 2].lines  # third row, opposed
    assert np.allclose(beta[0].get_ydata(), [120, 81.5, 81.5]) and [round(line.get_ydata()[0]) for line in beta[1:]] == [119, 90]


# --- tables ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_table_without_records_says_so_in_every_row(table, tmp_path):
    found = table(Evidence(directory=tmp_path))
    assert len(found) >= 4 and (found == NOT_RUN).any(axis=1).all()


def test_table1_has_the_papers_cell_and_ours(paper):
    found = figures_nokland.table1(paper)
    assert list(found.index) == list(nokland.TABLE.variants)
    dfa = found.loc["4x800 DFA"].to_dict()
    assert dfa.pop("minus BP [95 %]").startswith("-0.09 [-0.0")
    assert dfa == {"paper, %": "1.83 ± 0.07 (0.02)", "here, %": "1.83 ± 0.00", "seeds x epochs": f"{SEEDS} x 100, laptop",
                   "the number": REPRODUCED, "N1": REPRODUCED}  # fmt: skip
    deep = found.loc["100x240 BP"]
    assert (deep["paper, %"], deep["the number"]) == ("no convergence", REPRODUCED) and deep["here, %"].endswith(" (90.00)")
    assert deep["seeds x epochs"] == f"{SEEDS} x 100, laptop" and deep["N1"] == deep["minus BP [95 %]"] == "" == found.loc["1x800 BP", "N1"]


def test_table1_counts_the_epochs_that_were_run(paper):
    early = paper.find(nokland.TABLE.name, ["4x800 DFA"]).of("4x800 DFA")[0]
    found = figures_nokland.table1(put(paper, replace(early, evaluations=[*early.evaluations[:-1], early.evaluations[-1] | {"epoch": 57}])))
    assert found.loc["4x800 DFA", "seeds x epochs"] == f"{SEEDS} x 57 to 100, laptop"


def test_rates_are_compared_at_the_same_budget(paper):
    longer = tuple(as_the_paper_says(nokland.TABLE.name, f"2x800 {method}", seed, "paper") for method in METHODS for seed in range(SEEDS))
    longer = tuple(replace(record, final=record.final | {"test_error_pct": 0.5}) for record in longer)
    read = dict(paper._read)
    read[nokland.TABLE.name] = {"paper": sweep.Results(nokland.TABLE, "paper", longer)} | read[nokland.TABLE.name]  # largest first
    found = Evidence(_read=read)
    assert figures_nokland.table1(found).loc["2x800 BP", "here, %"].startswith("0.50")
    assert figures_nokland.own_rates_table(found).equals(figures_nokland.own_rates_table(paper))


def test_claims_table_has_a_row_a_claim(paper):
    found = figures.claims([CLAIMS["N8/test"], CLAIMS["N2/simple"]], paper)
    assert list(found.columns) == ["says", "verdict", "rests on", "budget"] and list(found.index) == ["N8/test", "N2/simple"]
    assert found.loc["N8/test", "rests on"] == f"test error (%) of IFA: 3.9 [3.9, 3.91], n = {SEEDS}; claimed 3.6 to 4.2"
    assert found.loc["N2/simple", "rests on"].startswith("(1) reproduced: train error (%) of 100x240 DFA: 0.01")
    assert found.loc["N2/simple", "rests on"].count("claimed at least 50") == 1  # of BP and of FA, said once
    assert found.loc["N8/test", "verdict"] == REPRODUCED and "profile 'laptop'" in found.loc["N8/test", "budget"]
    assert figures_nokland.count(CLAIMS.values(), paper) == f"{len(CLAIMS)} reproduced"


def test_other_tables_compare_with_the_right_run(paper):
    variants = figures_nokland.variants_table(paper)
    assert variants["compared with"].to_dict()["DFA, adversarial 0.25"] == "2x800 adversarial DFA"
    assert variants.loc["FA, redrawn", "compared with"] == "2x800 FA" and variants.loc["FA, redrawn", "the cell's"] == "1.64 ± 0.00"
    assert variants.loc["FA, redrawn", "difference [95 %]"].startswith("+2.26 [") and variants.loc["FA, redrawn", "n"] == SEEDS
    assert not [name for name, base in variants["compared with"].items() if base not in nokland.TABLE.variants]
    own = figures_nokland.own_rates_table(paper)
    assert list(own.index) == list(nokland.OWN_RATES) and own.loc["2x800 DFA", "minus BP [95 %]"].startswith("+0.14 [")
    deep = figures_nokland.deep_table(paper)
    assert deep.loc["100x240 BP", "outcome"] == "4 constant output" and deep.loc["100x240 DFA", "outcome"] == "4 finished"
    theorem = figures_nokland.theorem_table(paper).loc["2x100 FA, opposed"].to_dict()
    assert theorem["beta, first"] == "120.0 ± 0.0" and theorem["beta, late"] == "81.5 ± 1.3" and theorem["change of K"] == "-2.0 ± 0.0"
    zero = figures_nokland.zero_table(paper)
    assert list(zero.index) == ["BP", "FA", "DFA", "IFA"] and zero.loc["FA"].tolist() == ["0.01 ± 0.00", "0.01 ± 0.00", "90.00 ± 0.00"]
