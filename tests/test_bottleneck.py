"""Launay, Poli and Krzakala's bottleneck: what was run, what is predicted, the claims against made-up records, figures and tables."""

import math
import re
from dataclasses import replace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from dfa_lib import figures_bottleneck, style, sweep, verdicts
from dfa_lib.config import differences
from dfa_lib.convolution import make_ties
from dfa_lib.data import DATASETS
from dfa_lib.experiments import EXPERIMENTS, Profile, bottleneck, launay
from dfa_lib.experiments.bottleneck import BY_CLASSES, CONVOLUTION, STAND_IN, WIDTH
from dfa_lib.graph import bp, dfa
from dfa_lib.records import Record
from dfa_lib.verdicts import CONTRADICTED, NOT_RUN, PARTLY, REPRODUCED, Evidence, Parts, verdict

CLAIMS = {claim.id: claim for claim in bottleneck.CLAIMS}
SEEDS = 3

# --- made-up records ---------------------------------------------------------------------------------------------------------


def angles_of(experiment, variant):
    """Angles of the three layers, as the claims would have them: below a narrow layer as predicted from 40 degrees."""
    if experiment == "bottleneck-convolution":
        return {"convolutional": (88.0, 77.0, 40.0), "locally connected": (80.0, 60.0, 41.0), "fully connected": (56.0, 45.0, 42.0)}[
            variant.rpartition(" ")[0]
        ]
    kind, _, n = variant.rpartition(", ")
    n, c = int(n), int(kind.split()[0]) if kind[0].isdigit() else 10
    if "masked" in kind:
        return 40.0 + 25 / n, 90.0 - 40 * n / 800, 40.0 + 20 / n
    below = math.degrees(math.acos(math.cos(math.radians(40)) * bottleneck.share(n, c)))
    return below, 85.0 if n == 1 else 40.0, 30.0 if "zero" in kind else 40.0 + 48 / math.sqrt(n) * (n < 400)


def made(experiment, variant, seed, profile="laptop"):
    """A made-up run, another one by a tenth of a degree or of a percent for each seed."""
    rows = [{"step": k, "epoch": k / 2, "test_error_pct": 90.0 - 40 * k, "test_loss": 1.0} for k in range(3)]
    if not re.search("BP|frozen", variant) and experiment != "bottleneck-rates":
        ends = [angle + 0.1 * seed for angle in angles_of(experiment, variant)]
        for k, row in enumerate(rows):
            found = ends if k == 2 else [90.0] * 3
            cosines = [math.cos(math.radians(angle)) for angle in found]
            row["alignment"] = {"layers": [1, 2, 3], "delta_angle": found, "delta_cos": cosines}
    error = 5.0 if "frozen" in variant else 4.0 if variant == "convolutional DFA" else 3.0 if "DFA" in variant else 2.0
    final = {"test_error_pct": error + 0.1 * seed, "train_error_pct": 1.0, "test_loss": 1.0, "constant_output": False}
    return Record(experiment, variant, profile, seed, "0" * 16, {}, "finished", 2, rows, final, 1.0, 2.0, 1, "CPU", 1,
                  {"torch": "2.9"}, {}, {})  # fmt: skip


def evidence(seeds=SEEDS, profile="laptop"):
    """All runs of all experiments."""
    read = {}
    for experiment in bottleneck.EXPERIMENTS:
        names = experiment.profile(profile).only or experiment.variants
        runs = [(experiment.name, variant, seed, profile) for variant in names for seed in range(seeds)]
        read[experiment.name] = {profile: sweep.Results(experiment, profile, tuple(made(*run) for run in runs))}
    return Evidence(_read=read)


def of(claim):
    """All that a claim reads, and nothing else: an experiment of few variants is quick."""
    read = {}
    for leaf in leaves(claim.test):
        names = dict.fromkeys([*leaf.weights, *(read[leaf.experiment].variants if leaf.experiment in read else ())])
        variants = {name: EXPERIMENTS[leaf.experiment].variants[name] for name in names}
        read[leaf.experiment] = replace(EXPERIMENTS[leaf.experiment], variants=variants, profiles={"laptop": Profile(SEEDS)})
    runs = {name: tuple(made(name, variant, seed) for variant in e.variants for seed in range(SEEDS)) for name, e in read.items()}
    return Evidence(_read={name: {"laptop": sweep.Results(read[name], "laptop", found)} for name, found in runs.items()})


def put(found, *changed):
    """The same evidence with other records in the place of some."""
    read = dict(found._read)
    for record in changed:
        results = read[record.experiment][record.profile]
        kept = (record if (r.variant, r.seed) == (record.variant, record.seed) else r for r in results.records)
        read[record.experiment] = {record.profile: replace(results, records=tuple(kept))}
    return Evidence(_read=read)


def shifted(record, layer=None, angle=0.0, cosine=0.0, error=0.0):
    """A run whose last measurement of a layer (all of them, without one) and whose error are other ones."""
    last = dict(record.evaluations[-1])
    if "alignment" in last:
        moved = {name: [v + by * (layer in (None, i)) for i, v in enumerate(last["alignment"][name], 1)]
                 for name, by in (("delta_angle", angle), ("delta_cos", cosine))}  # fmt: skip
        last["alignment"] = last["alignment"] | moved
    final = record.final | {"test_error_pct": record.final["test_error_pct"] + error}
    return replace(record, evaluations=[*record.evaluations[:-1], last], final=final)


@pytest.fixture(scope="module")
def whole():
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


# --- what was run ------------------------------------------------------------------------------------------------------------


def test_common_setting_is_the_authors_but_for_the_sums():
    base = bottleneck.BASE
    assert (base.hidden, base.activation, base.batch, base.epochs, base.reduction) == ((800,) * 3, "tanh", 128, 50, "mean")
    assert (base.optimizer.name, base.loss, base.feedback) == ("sgd", "cross-entropy", "normal-from-to")
    assert WIDTH.profile("laptop").seeds == STAND_IN.profile("laptop").seeds == 3


@pytest.mark.parametrize("experiment", [WIDTH, STAND_IN], ids=lambda e: e.name)
def test_bottlenecks_differ_in_the_middle_only(experiment):
    wide = experiment.variants["narrow, 800"]
    assert wide.hidden == (800,) * 3 and wide.rule == dfa() and wide.bottleneck is None
    assert wide.data == ("mnist" if experiment is WIDTH else "cifar10-jpeg")
    for name, config in experiment.variants.items():
        kind, _, n = name.rpartition(", ")
        expected = {"masked": {"bottleneck": (2, int(n))}}.get(kind, {"hidden": (800, int(n), 800)})
        slower = {"optimizer": replace(bottleneck._BP.optimizer, lr=0.1)} if kind.startswith("BP slower") else {}
        expected |= {"rule": bp(), "alignment": 0, "optimizer": bottleneck._BP.optimizer} | slower if kind.startswith("BP") else {}
        assert config == replace(wide, **expected), name


def test_classes_and_starts_differ_in_what_they_name():
    base = BY_CLASSES.variants["10 classes, random start, 400"]
    for name, config in BY_CLASSES.variants.items():
        kind, _, n = name.rpartition(", ")
        c, how = kind.split(" classes, ")
        expected = {"classes": None if c == "10" else int(c), "init": "zeros" if how == "zero start" else "uniform-from"}
        expected |= {"bottleneck": (2, int(n))} if how == "masked" else {"hidden": (400, int(n), 400)}
        assert config == replace(base, **expected), name
    assert len(BY_CLASSES.variants) == 3 * 2 * 7 + 2 * 3


def test_convolution_and_its_twins_are_equally_wide():
    convolutional = CONVOLUTION.variants["convolutional DFA"]
    for name, config in CONVOLUTION.variants.items():
        network, _, method = name.rpartition(" ")
        assert config.rule.name == ("bp" if method == "BP" else "dfa") and (config.alignment > 0) == (method == "DFA")
        assert config.frozen == {"frozen-1": (1,), "frozen": (1, 2)}.get(method, ())
        assert config.optimizer.lr == bottleneck.OWN_RATES[network, "BP" if method == "BP" else "DFA"]
        changed = set(differences(convolutional, config)) - {"rule", "alignment", "optimizer", "frozen"}
        assert changed == {"convolutional": set(), "locally connected": {"tied"}, "fully connected": {"convolutions"}}[network]
        for profile in CONVOLUTION.profiles:
            made_of = CONVOLUTION.configs(profile)[name]
            ties = make_ties(DATASETS[made_of.data].shape, made_of.convolutions, made_of.hidden, made_of.tied)
            assert set(ties) == (set() if network == "fully connected" else {1, 2})


def test_rate_search_changes_the_rate_and_holds_examples_out():
    assert len(bottleneck.RATE_SEARCH.variants) == len(bottleneck.TUNED) * 4 and set(bottleneck.OWN_RATES) == set(bottleneck.TUNED)
    for (network, method), own in bottleneck.OWN_RATES.items():
        assert own in bottleneck.RATES[network] and len(bottleneck.RATES[network]) == 4
        if network == "3x800":
            used = (WIDTH.variants["narrow, 800" if method == "DFA" else "BP, narrow, 800"],)
            used += (BY_CLASSES.variants["2 classes, masked, 10"],) if method == "DFA" else ()
        elif "CIFAR" in network:
            used = (STAND_IN.variants["narrow, 800"], STAND_IN.variants["narrow, 1"])
        else:
            used = (CONVOLUTION.variants[f"{network} {method}"],)
        assert {config.optimizer.lr for config in used} == {own}
        for rate in bottleneck.RATES[network]:
            trial = bottleneck.RATE_SEARCH.variants[f"{network}, {method}, {rate:g}"]
            assert trial == replace(used[0], optimizer=replace(used[0].optimizer, lr=rate), validation=10_000, alignment=0)


def test_own_rates_are_the_best_of_the_recorded_search(searched):
    found = searched(bottleneck.RATE_SEARCH)
    for (network, method), rate in bottleneck.OWN_RATES.items():
        trials = {r: found.of(f"{network}, {method}, {r:g}") for r in bottleneck.RATES[network]}
        errors = {r: np.mean([launay.held_out(record) for record in records]) for r, records in trials.items()}
        assert rate == min(errors, key=errors.get), (network, method, errors)


# --- metrics and the prediction ----------------------------------------------------------------------------------------------


def test_metrics_read_a_layer_at_the_end():
    record = made("bottleneck-width", "narrow, 10", 2)
    assert [bottleneck.ANGLE[layer](record) for layer in (2, 3)] == [40.2, pytest.approx(40.2 + 48 / math.sqrt(10))]
    assert bottleneck.COSINE[2](record) == pytest.approx(math.cos(math.radians(40.2)))
    assert verdicts.describe(bottleneck.ANGLE[1]) == "Alignment angle (degrees) of layer 1 at the end"
    last = record.evaluations[-1]
    undefined = last | {"alignment": last["alignment"] | {"delta_angle": [None] * 3}}
    assert bottleneck.ANGLE[1](replace(record, evaluations=[undefined])) is None


@pytest.mark.parametrize("c", [2, 5, 10])
@pytest.mark.parametrize("n", [2, 10, 50])
def test_share_is_the_cosine_of_a_sum_of_random_products(n, c):
    """Drawn: G = B^T B with n rows in the c - 1 dimensions of a softmax error; the mean square of the cosine between G e and e."""
    rng = np.random.default_rng(0)
    e = np.zeros(c - 1)
    e[0] = 1
    B = rng.normal(size=(4000, n, c - 1))
    Ge = np.einsum("kij,kil,l->kj", B, B, e)
    assert np.mean(Ge[:, 0] ** 2 / (Ge**2).sum(axis=1)) == pytest.approx(bottleneck.share(n, c) ** 2, abs=0.02)


def test_prediction_starts_from_the_wide_network_and_its_knee_grows_with_the_classes():
    angles = figures_bottleneck.predicted(40.0, np.array([1, 8, 10**6]), 10)
    assert angles[2] == pytest.approx(40, abs=0.01)
    assert angles[1] == pytest.approx(math.degrees(math.acos(math.cos(math.radians(40)) / math.sqrt(2))))
    for c in (5, 10, 100):
        knee = figures_bottleneck.predicted_knee(40.0, c)
        assert figures_bottleneck.predicted(40.0, np.array([knee]), c)[0] == pytest.approx(50)
        assert knee == pytest.approx((c - 2) * figures_bottleneck.predicted_knee(40.0, 3))
    assert figures_bottleneck.predicted_knee(40.0, 2) == 0


# --- claims ------------------------------------------------------------------------------------------------------------------


def leaves(test):
    return [leaf for part in test.parts for leaf in leaves(part)] if isinstance(test, Parts) else [test]


def pushed(leaf, record):
    """The record moved so far that the leaf no longer holds, in what the leaf reads."""
    sign = math.copysign(1, leaf.weights[record.variant]) * (-1 if leaf.low > -math.inf else 1)
    for metrics, name, by in ((bottleneck.ANGLE, "angle", 400.0), (bottleneck.COSINE, "cosine", 4.0)):
        for layer, metric in metrics.items():
            if metric is leaf.metric:
                return shifted(record, layer, **{name: sign * by})
    return shifted(record, error=sign * 50)


def test_claims_are_unique_and_name_runs_that_a_laptop_makes():
    assert len(CLAIMS) == len(bottleneck.CLAIMS) and {name[:2] for name in CLAIMS} == {"L2", "L3"}
    for claim in CLAIMS.values():
        assert claim.source == "launay2019, abstract" and "{" not in claim.text
        for leaf in leaves(claim.test):
            experiment, budget = EXPERIMENTS[leaf.experiment], EXPERIMENTS[leaf.experiment].profile("laptop")
            assert set(leaf.weights) <= set(experiment.variants) and not budget.only and budget.seeds >= leaf.seeds


@pytest.mark.parametrize("name", CLAIMS)
def test_records_as_claimed_reproduce_a_claim(name):
    found = verdict(CLAIMS[name], of(CLAIMS[name]))
    assert (found.outcome, found.n) == (REPRODUCED, SEEDS), found.basis


KINDS = ("L2/narrow/itself", "L2/masked/below/cifar10-jpeg", "L2/graded", "L2/prediction/3x800", "L2/classes/zero", "L2/classes/masked",
         "L2/start", "L3/layer-2", "L3/resists", "L3/zeros", "L3/ties")  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_one_seed_moved_makes_a_claim_hold_partly_and_all_of_a_run_contradict_a_part(name):
    claim, found = CLAIMS[name], of(CLAIMS[name])
    leaf = leaves(claim.test)[-1]
    runs = found.find(leaf.experiment, list(leaf.weights)).of(next(iter(leaf.weights)))
    assert verdict(claim, put(found, pushed(leaf, runs[0]))).outcome == PARTLY
    moved = put(found, *(pushed(leaf, run) for run in runs))
    assert verdict(replace(claim, test=leaf), moved).outcome == CONTRADICTED and verdict(claim, moved).outcome != REPRODUCED


def test_claims_without_records_are_not_run_here(tmp_path):
    found = Evidence(directory=tmp_path)
    assert {verdict(claim, found).outcome for name, claim in CLAIMS.items() if name.startswith("L3")} == {NOT_RUN}


# --- figures -----------------------------------------------------------------------------------------------------------------

MASKS = ["10 classes, masked", "2 classes, masked"]
FIGURES = {
    "angles": (WIDTH, lambda e: figures_bottleneck.angles(e, WIDTH, ["narrow", "masked"], 10)),
    "errors": (WIDTH, figures_bottleneck.errors),
    "classes": (BY_CLASSES, figures_bottleneck.classes),
    "starts": (BY_CLASSES, lambda e: figures_bottleneck.angles(e, BY_CLASSES, ["10 classes, random start", "10 classes, zero start"])),
    "masks": (BY_CLASSES, lambda e: figures_bottleneck.angles(e, BY_CLASSES, MASKS)),
    "stand-in": (STAND_IN, lambda e: figures_bottleneck.angles(e, STAND_IN, ["narrow", "masked"], 10)),
    "layers": (CONVOLUTION, figures_bottleneck.by_layer),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_shows_its_records_and_their_budget(name, whole):
    figure = FIGURES[name][1](whole)
    figure.canvas.draw()
    assert all(ax.lines for ax in figure.axes) and f"{SEEDS} seeds, profile 'laptop'" in figure.get_supxlabel()


@pytest.mark.parametrize("name", ["angles", "errors", "classes", "layers"])
def test_figure_without_records_says_so_and_how_to_make_them(name, tmp_path):
    experiment, draw = FIGURES[name]
    figure = draw(Evidence(directory=tmp_path))
    figure.canvas.draw()
    (text,) = figure.axes[0].texts
    assert text.get_text() == f"not run here; to make it:  dfa-lib run {experiment.name} --profile laptop"


@pytest.mark.parametrize("name", FIGURES)
def test_figure_of_the_smallest_profile(name, smoke):
    FIGURES[name][1](smoke).canvas.draw()


@pytest.mark.parametrize("name", FIGURES)
def test_interrupted_sweep_draws_too(name, whole):
    read = {}
    for experiment, found in whole._read.items():
        (results,) = found.values()
        names = list(results.experiment.variants)
        some = tuple(r for r in results.records if r.variant in names[::3] and r.seed < 2 or r.variant == names[0])
        read[experiment] = {"laptop": replace(results, records=some)}
    FIGURES[name][1](Evidence(_read=read)).canvas.draw()


def test_angles_stand_where_the_records_say(whole):
    below, itself, above = FIGURES["angles"][1](whole).axes
    curves = {line.get_label(): line for line in below.lines}
    assert list(curves["narrow layer"].get_xdata()) == [1, 2, 5, 10, 20, 50, 100, 300, 800]
    assert list(curves["gradient mask"].get_xdata()) == [1, 10, 50, 100, 200, 400, 800]
    wide = angles_of(WIDTH.name, "narrow, 800")[0] + 0.1
    assert curves["narrow layer"].get_ydata()[-1] == curves["gradient mask"].get_ydata()[-1] == pytest.approx(wide)
    assert curves["narrow layer"].get_ydata()[3] == pytest.approx(figures_bottleneck.predicted(40.0, np.array([10]), 10)[0] + 0.1)
    assert curves["predicted"].get_ydata()[[0, -1]] == pytest.approx(curves["narrow layer"].get_ydata()[[0, -1]], abs=0.6)
    assert "predicted" not in {line.get_label() for line in (*itself.lines, *above.lines)}
    assert itself.lines[0].get_ydata()[0] == pytest.approx(85.1) and above.lines[0].get_ydata()[0] == pytest.approx(88.1)


def test_authors_numbers_stand_beside_the_stand_in_only(whole):
    (points,) = [line for line in FIGURES["stand-in"][1](whole).axes[1].lines if line.get_label() == "the authors' code"]
    assert list(points.get_xdata()) == [1, 73, 800] and points.get_ydata() == pytest.approx([85.99, 46.37, 27.13], abs=0.01)
    assert not [line for ax in FIGURES["angles"][1](whole).axes for line in ax.lines if line.get_label() == "the authors' code"]


def test_errors_and_layers_stand_where_the_records_say(whole):
    (ax,) = figures_bottleneck.errors(whole).axes
    labels = ["BP, narrow layer", "BP, a third of the rate", "DFA, narrow layer", "DFA, gradient mask"]
    assert [line.get_label() for line in ax.lines] == labels
    assert ax.lines[2].get_ydata() == pytest.approx([2.1] * 9)
    (ax,) = figures_bottleneck.by_layer(whole).axes
    assert ax.lines[0].get_label() == "convolutional" and ax.lines[0].get_ydata() == pytest.approx([88.1, 77.1, 40.1])
    assert [label.get_text() for label in ax.get_xticklabels()][1] == "hidden layer 2\n256 units"


def test_curve_takes_the_seeds_that_all_widths_have(whole):
    results = whole.find(WIDTH.name, ["narrow, 1", "narrow, 800", "masked, 1"])
    fewer = replace(results, records=tuple(r for r in results.records if (r.variant, r.seed) != ("narrow, 800", 2)))
    widths, values = figures_bottleneck.curve(fewer, "masked", bottleneck.ANGLE[2])
    assert widths.tolist() == [1, 800] and values.shape == (2, 2)
    assert figures_bottleneck.curve(results, "BP, narrow", bottleneck.ANGLE[2])[1].size == 0


# --- tables ------------------------------------------------------------------------------------------------------------------


def test_knee_is_where_the_curve_stays_near_its_end(whole):
    results = whole.find(BY_CLASSES.name, [f"10 classes, random start, {n}" for n in (1, 2, 5, 10, 30, 100, 400)])
    for angles, expected in (((80, 70, 60, 49, 60, 45, 40), 100), ((80, 70, 60, 50, 49, 45, 40), 10), ((45, 44, 43, 42, 41, 41, 40), 1),
                             ((90, 90, 90, 90, 90, 90, 40), 400)):  # fmt: skip
        ends = dict(zip((1, 2, 5, 10, 30, 100, 400), angles, strict=True))
        moved = tuple(shifted(r, 3, angle=ends[int(r.variant.split()[-1])] - r.evaluations[-1]["alignment"]["delta_angle"][2])
                      for r in results.records)  # fmt: skip
        assert figures_bottleneck.knees(replace(results, records=moved), "10 classes, random start", 3) == [expected] * SEEDS


def test_knee_table_has_a_row_a_bottleneck(whole, tmp_path):
    found = figures_bottleneck.knee_table(whole)
    row = found.loc["3x800, narrow"].to_dict()
    assert (row["layer below"], row["the layer itself"], row["layer above"]) == ("20", "2", "50")
    assert row["below, predicted"] == "19" and row["without: below, itself, above"] == "40°, 40°, 40°"
    assert found.loc["3x400, 2 classes, zero start", "layer below"] == "1" and len(found) == 3 + 6 + 2
    assert found.loc["3x400, 2 classes, masked", "below, predicted"] == ""
    empty = figures_bottleneck.knee_table(Evidence(directory=tmp_path))
    assert set(empty["layer below"]) == {NOT_RUN} and len(empty) == len(found)


def test_convolution_table_counts_and_compares(whole, tmp_path):
    found = figures_bottleneck.convolution_table(whole)
    assert found["free parameters"].tolist() == ["30,134", "108,118", "1,226,198"]
    ends = found.loc["convolutional", ["DFA, %", "layer 1 frozen, %", "1 and 2, %"]]
    assert ends.tolist() == ["4.10 ± 0.10", "5.10 ± 0.10", "5.10 ± 0.10"]
    assert found.loc["convolutional", "DFA minus BP [95 %]"].startswith("+2.00 [") and found.loc["fully connected", "n"] == SEEDS
    assert set(figures_bottleneck.convolution_table(Evidence(directory=tmp_path))["DFA, %"]) == {NOT_RUN}


def test_rates_table_has_every_trial(whole, tmp_path):
    found = figures_bottleneck.rates_table(whole)
    assert list(found.columns) == ["0.01", "0.03", "0.1", "0.3", "1", "3", "used"] and list(found.index)[0] == "3x800, DFA"
    assert found.loc["fully connected, BP", ["0.03", "1"]].tolist() == ["", "30.00 ± 0.00"]  # of 50 and 10 %, the start left out
    assert set(figures_bottleneck.rates_table(Evidence(directory=tmp_path))["0.1"]) == {NOT_RUN}
