"""The slides' experiments: what separates their variants, the measures of over-fitting, and the chapter's figures and tables."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest

from dfa_lib import figures, figures_slides, records, sweep, verdicts
from dfa_lib.config import differences
from dfa_lib.experiments import EXPERIMENTS, slides
from dfa_lib.network import Network
from dfa_lib.records import Record

NAMES = ("slides-200-80", "slides-1000", "slides-dfa")


def record(experiment, variant, seed, test, train, losses=None, every=30, unit=None):
    """A made-up run of evaluations at 0, 30, 60, ... steps, 30 an epoch."""
    losses, test, train = ([float(value) for value in values] for values in (losses or test, test, train))
    both = enumerate(zip(test, losses, strict=True))
    rows = [{"step": 30 * k, "epoch": float(k), "test_error_pct": t, "test_loss": loss} for k, (t, loss) in both]
    for row, error in zip(rows[1:], train, strict=True):
        row |= {"train_error_pct": error, "train_loss": error / 50}
    layers = {"slides-200-80": [1, 2], "slides-1000": [1], "slides-dfa": [1, 2, 3]}[experiment]
    for k, row in enumerate(rows):
        row["alignment"] = {"layers": layers, "delta_angle": [80.0 - k] * len(layers),
                            "weight_angle": {str(i): 90.0 - 10 * i - seed for i in layers}}  # fmt: skip
        if "BP" not in variant:
            row["alignment"]["unit_angle"] = {str(layers[-1]): unit or [10.0 * q - k for q in range(1, 10)]}
    final = {"test_error_pct": test[-1], "train_error_pct": train[-1], "test_loss": losses[-1], "train_loss": 0.1,
             "saturation": [0.5] * len(layers), "constant_output": False}  # fmt: skip
    return Record(experiment, variant, "laptop", seed, "0" * 16, {"evaluate_every": every}, "finished", rows[-1]["step"], rows,
                  final, 1.0, 2.0, 1, "CPU", 1, {"torch": "2.9"}, {}, {})  # fmt: skip


def results(name, seeds=3):
    variants = EXPERIMENTS[name].configs("laptop")
    made = [record(name, v, s, [90, 8, 6, 5, 4 + s / 50], [20, 7, 4, 0.5]) for v in variants for s in range(seeds)]
    return sweep.Results(EXPERIMENTS[name], "laptop", tuple(made))


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


# --- what was run --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("profile", ["smoke", "laptop"])
def test_variants_differ_in_the_rule_and_in_the_reading_only(name, profile):
    configs = EXPERIMENTS[name].configs(profile)
    for variant, config in configs.items():
        assert (config.activation, config.loss, config.feedback) == ("tanh", "cross-entropy", "normal(1)")
        assert (config.optimizer.name, config.optimizer.lr) == ("sgd", 0.01)
        assert set(differences(configs["BP"], config)) <= {"rule", "reduction"}
        assert config.reduction == ("mean" if variant.endswith("mean") else "sum")


def test_rules_start_from_the_same_weights():
    def first(variant):
        config = slides.SLIDES_200_80.configs("smoke")[variant]
        net = Network((784, *config.hidden, 10), config.activation)
        net.initialise(config.init, [3])
        return net.state()

    bp, fa = first("BP"), first("FA")
    assert bp and all(tensor.equal(fa[name]) for name, tensor in bp.items())


def test_networks_are_the_slides():
    hidden = {name: {config.hidden for config in EXPERIMENTS[name].variants.values()} for name in NAMES}
    assert hidden == {"slides-200-80": {(200, 80)}, "slides-1000": {(1000,)}, "slides-dfa": {(200, 200, 100)}}
    assert all(EXPERIMENTS[name].profile("laptop").seeds >= 5 for name in NAMES)


# --- over-fitting ----------------------------------------------------------------------------------------------------------


def made(losses, test=None, train=None, every=30):
    n = len(losses)
    return record("slides-200-80", "FA", 0, test or [5.0] * n, train or [3.0] * (n - 1), losses, every)


@pytest.mark.parametrize(
    "losses, rise",
    [([9, 6, 3, 0, 0, 0, 3, 6, 9], 6), ([9, 8, 7, 6, 5, 4], 0), ([9, 1, 1, 1, 1, 1], 0), ([9, 3, 3, 0, 3, 3, 3], 1)],
    ids=["valley", "falling", "flat", "one lucky epoch of three"],
)
def test_loss_rise_is_from_the_lowest_three_epochs_to_the_last_three(losses, rise):
    assert slides.loss_rise(made(losses)) == pytest.approx(rise)


def test_loss_rise_of_a_short_run_is_unknown():
    assert slides.loss_rise(made([3, 2, 1])) is None


def test_errors_are_matched_in_the_middle_of_a_stretch_and_the_first_is_left_out():
    run = made([1, 1, 1, 1], test=[90, 8, 6, 4], train=[20, 7, 1])  # the training errors belong to steps 15, 45 and 75
    assert slides.matched_errors(run) == [(7, 7), (1, 5)]
    assert slides.matched_errors(dataclasses.replace(run, config={"evaluate_every": None})) == [(7, 7), (1, 5)]


@pytest.mark.parametrize("level, test", [(7.5, None), (6.9999, 7.0), (5.0, 7 - 2 * 2 / 6), (1.0, 5.0), (0.9, None)])
def test_equal_training_error_lies_between_two_evaluations(level, test):
    run = made([1, 1, 1, 1], test=[90, 8, 6, 4], train=[20, 7, 1])
    assert slides.equal_training_error(level)(run) == (None if test is None else pytest.approx(test, abs=1e-3))
    assert f"{level:g} %" in verdicts.describe(slides.equal_training_error(level))


def test_error_gap_is_of_the_whole_training_set():
    assert slides.error_gap(made([1, 1], test=[90, 5.5], train=[4.0])) == 1.5


# --- claims ----------------------------------------------------------------------------------------------------------------


def evidence(*found):
    return verdicts.Evidence("laptop", _read={r.experiment.name: {"laptop": r} for r in found})


def test_every_claim_on_mnist_is_answered_by_complete_records():
    found = evidence(*(results(name) for name in NAMES))
    claims = [claim for claim in slides.CLAIMS if claim.id[:2] in ("S1", "S2", "S3", "S6")]
    table = figures.claims(claims, found)
    assert list(table.index) == [claim.id for claim in claims]
    assert len({claim.id for claim in slides.CLAIMS}) == len(slides.CLAIMS)
    assert {name.split("/")[0] for name in table.index} == {"S1", "S2", "S3", "S6"}
    assert table["rests on"].str.contains("n = 3").all() and verdicts.NOT_RUN not in set(table["verdict"])
    assert table.loc["S2/1000/W2", "verdict"] == verdicts.REPRODUCED and table.loc["S3", "verdict"] == verdicts.CONTRADICTED
    assert table.loc["S6", "verdict"] == verdicts.REPRODUCED  # 4.00 to 4.04 against 4.31
    assert table.loc["S1/gap", "verdict"] == verdicts.PARTLY  # the same numbers under both rules


def test_overfitting_less_has_the_right_sign():
    def runs(rule, test, train, losses):
        return [record("slides-200-80", f"{rule}{mean}", s, [*test, test[-1] + s / 10], train, [*losses, losses[-1] + s / 100])
                for mean in ("", " mean") for s in range(3)]  # fmt: skip

    bp = runs("BP", [90, 8, 6, 5], [20, 7, 4, 0], [9, 2, 1, 6])
    fa = runs("FA", [90, 8, 5, 4], [20, 7, 4, 0.5], [9, 2, 1, 1])
    found = evidence(sweep.Results(slides.SLIDES_200_80, "laptop", (*bp, *fa)))
    table = figures.claims([claim for claim in slides.CLAIMS if claim.id.startswith("S1")], found)
    assert set(table["verdict"]) == {verdicts.REPRODUCED}


def test_claims_without_records_are_not_run(tmp_path):
    table = figures.claims(slides.CLAIMS, verdicts.Evidence(directory=tmp_path))
    assert set(table["verdict"]) == {verdicts.NOT_RUN}


# --- student and teacher ----------------------------------------------------------------------------------------------------


def student(variant, seed, errors, v, F, cosine=0.0):
    """A made-up run, evaluated at alpha = 0, 1, 10, 100, ..."""
    alphas = [0.0, *(10.0**k for k in range(len(errors) - 1))]
    rows = [{"alpha": a, "step": int(500 * a), "error": e, "v": v} for a, e in zip(alphas, errors, strict=True)]
    final = {"error": errors[-1], "overlap": 0.0, "cosine": cosine, "F": F}
    return Record("slides-student-teacher", variant, "laptop", seed, "0" * 16, {}, "finished", rows[-1]["step"], rows, final, 1.0,
                  0.02, 1, "CPU", 1, {"torch": "2.9"}, {}, {})  # fmt: skip


def test_student_has_the_signs_of_its_feedback_in_every_unit():
    assert slides.same_signs(student("FA", 0, [1, 0], [0.1, -2.0], [3.0, -0.2])) == 1
    assert slides.same_signs(student("FA", 0, [1, 0], [0.1, 2.0], [3.0, -0.2])) == 0.5


def test_time_to_an_error_is_read_between_two_evaluations_and_is_the_end_where_it_is_not_reached():
    found = slides.log_time(student("FA", 0, [1, 1e-1, 1e-2, 1e-4], [1.0], [1.0]))
    assert 10**found == pytest.approx(55)  # half-way, in the error's logarithm, between 10 and 100
    assert slides.log_time(student("FA", 0, [1, 1e-1, 1e-2], [1.0], [1.0])) == 1


@pytest.mark.parametrize(("slow", "signs"), [(True, True), (False, True), (True, False)])
def test_student_teacher_verdicts_follow_the_records(slow, signs):
    made = []
    for variant in slides.STUDENT_TEACHER.variants:
        fa = variant.startswith("FA")
        errors = [1.0, 0.5, 0.2, 1e-4] if fa is slow else [1.0, 0.5, 1e-4, 1e-4]
        v = [1.0, -1.0 if fa and signs else 1.0]
        made += [student(variant, seed, [e * (1 + seed / 100) for e in errors], v, [2.0, -0.5], cosine=0.9 * fa) for seed in range(5)]
    found = evidence(sweep.Results(slides.STUDENT_TEACHER, "laptop", tuple(made)))
    outcomes = {claim.id: verdicts.verdict(claim, found).outcome for claim in slides.CLAIMS if claim.id[:2] in ("S4", "S5")}
    right = {True: verdicts.REPRODUCED, False: verdicts.CONTRADICTED}
    assert {outcomes[name] for name in outcomes if name.startswith("S4/signs")} == {right[signs]}
    assert {outcomes[name] for name in outcomes if name.startswith("S5/later")} == {right[slow]}
    assert {outcomes[name] for name in outcomes if name.startswith("S5/reaches")} == {verdicts.REPRODUCED}
    assert outcomes["S4/cosine"] == verdicts.REPRODUCED


# --- figures and tables ------------------------------------------------------------------------------------------------------


def test_learning_curves_show_test_and_training_of_both_rules():
    figure = figures_slides.learning_curves(results("slides-200-80"), {"one": ["BP", "FA"], "other": ["BP mean", "FA mean"]})
    axes = figure.axes
    assert len(axes) == 4 and [ax.get_title() for ax in axes[:2]] == ["one", "other"]
    curves = [line for line in axes[0].lines if len(line.get_xdata())]
    assert [line.get_linestyle() for line in curves] == ["-", ":"] * 2
    assert np.allclose(curves[0].get_ydata(), [8, 6, 5, 4.02]) and np.allclose(curves[1].get_ydata(), [20, 7, 4, 0.5])
    assert figure.get_supxlabel().startswith("MNIST")


def test_matched_curves_set_test_against_training_error():
    figure = figures_slides.matched_curves(results("slides-200-80"), {"one": ["BP", "FA"]})
    curve = figure.axes[0].lines[0]
    assert list(curve.get_xdata()) == [7, 4, 0.5] and np.allclose(curve.get_ydata(), [7, 5.5, 4.51])
    assert figure.axes[0].xaxis_inverted()


def test_unit_angle_fan_holds_the_quantiles():
    found = results("slides-1000")
    epochs, values = figures_slides.unit_angles(found, "FA")
    assert list(epochs) == [0, 1, 2, 3, 4] and values.shape == (3, 5, 9)
    figure = figures_slides.unit_angle_fans(found, {"a": "FA", "b": "FA mean"})
    median = next(line for line in figure.axes[0].lines if line.get_label() == "median unit")
    assert np.allclose(median.get_ydata(), [50, 49, 48, 47, 46]) and len(figure.axes[0].collections) == 4
    table = figures_slides.unit_angle_table(found, ["FA"])
    assert table.loc["FA, epoch 0", "90% of units below"] == 90 and table.loc["FA, epoch 4", "10% of units below"] == 6


def test_weight_angles_by_layer_and_provenance_of_each_experiment():
    panels = {"200-80-10": (results("slides-200-80"), "FA"), "1000-10": (results("slides-1000"), "FA")}
    figure = figures_slides.weight_angle_curves(panels)
    assert figure.get_supxlabel().count("MNIST") == 2
    assert figures_slides.weight_angles(panels["200-80-10"][0], "FA", 2).tolist() == [[70.0] * 5, [69.0] * 5, [68.0] * 5]


def test_error_curves_and_table_carry_the_slides_number():
    found = results("slides-dfa")
    figure = figures_slides.error_curves(found, {"a": ["BP", "DFA"], "b": ["DFA mean"]})
    assert [text.get_text() for ax in figure.axes for text in ax.texts] == ["slides: 4.31 %"]
    table = figures_slides.reached_table(found, ["BP", "DFA"])
    assert table.loc["DFA", "reaches the slides'"] == "epoch 4 to 4" and table.loc["DFA", "seeds that reach it"] == "3 of 3"
    assert table.loc["BP", "slides, test %"] == "" and table.loc["DFA", "here, test %"] == "4.02 ± 0.02"
    assert table.loc["DFA", "minus BP [95 %]"].startswith("+0.00 [") and table.loc["BP", "minus BP [95 %]"] == ""
    assert figures_slides.reached_table(results("slides-1000"), ["FA mean"]).loc["FA mean", "minus BP [95 %]"] == ""
    assert set(figures_slides.reached_table(results("slides-1000"), ["FA"])["reaches the slides'"]) == {"never"}


def test_overfitting_table_has_a_row_a_variant():
    table = figures_slides.overfitting_table(results("slides-200-80"))
    assert list(table.index) == ["BP", "FA", "BP mean", "FA mean"]
    assert table.loc["FA", "gap"] == "3.520" and table.loc["FA", "saturated units %"] == "50, 50"
    assert table.loc["FA mean", "minus BP [95 %]"].startswith("+0.00 [") and table.loc["BP mean", "minus BP [95 %]"] == ""


def test_smallest_profile_draws_every_figure(tmp_path):
    runs = [dataclasses.replace(run, config=dataclasses.replace(run.config, epochs=1)) for run in slides.SLIDES_200_80.runs("smoke")]
    sweep.run(runs, directory=tmp_path)
    made = tuple(records.read_all("slides-200-80", tmp_path))
    found = sweep.Results(slides.SLIDES_200_80, "smoke", made)
    figures_slides.learning_curves(found, {"one": ["BP", "FA"]}).canvas.draw()
    figures_slides.weight_angle_curves({"one": (found, "FA")}).canvas.draw()
    figures_slides.unit_angle_fans(found, {"one": "FA"}).canvas.draw()
    assert figures_slides.overfitting_table(found).loc["FA", "equal"] == "-"
    assert len(made) == 4
