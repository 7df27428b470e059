"""Verdicts come from records alone: intervals, what lies inside and outside, parts, budgets, and the words that a reader sees."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from dfa_lib import records, sweep, verdicts
from dfa_lib.config import Config
from dfa_lib.errors import DfaLibError
from dfa_lib.experiments import EXPERIMENTS, Experiment, Profile
from dfa_lib.graph import dfa, fa
from dfa_lib.verdicts import (
    ABOVE_ZERO, CONTRADICTED, MIN_SEEDS, MIN_VARIANTS, NOT_RUN, PARTLY, REPRODUCED, Claim, Contrast, Correlation, Evidence, Share,
    combination, describe, difference, every, gap, near, order, rank_correlation, share, value, verdict,
)  # fmt: skip
from dfa_lib.records import Record

BASE = Config(data="digits-5k", hidden=(8,), epochs=1)
TINY = Experiment(
    "tiny", "A tiny one", "nokland2016, Table 1",
    {"A": BASE, "B": dataclasses.replace(BASE, rule=fa()), "C": dataclasses.replace(BASE, rule=dfa())},
    {"smoke": Profile(1), "laptop": Profile(3, {"epochs": 2}), "paper": Profile(5, {"epochs": 3})},
)  # fmt: skip
RUNS = {(profile, run.variant, run.seed): run for profile in TINY.profiles for run in TINY.runs(profile, seeds=6)}
#: Gosset's sleep data. R's `t.test(extra ~ group, data = sleep)` says -1.58, from -3.3654832 to 0.2054832.
SLEEP = ([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0], [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
#: Whole eighths, so that adding a number to each loses nothing.
SAMPLES = st.lists(st.integers(-800, 800).map(lambda k: k / 8), min_size=2, max_size=6)


def record(variant, seed, error, profile="laptop", **final):
    """A made-up run, with the hash of the run that it stands for."""
    run = RUNS[profile, variant, seed]
    final = {"test_error_pct": error if error is None else float(error), "constant_output": False} | final
    return Record("tiny", variant, profile, seed, run.hash, run.config.as_dict(), "finished", 40, [], final, 1.0, 0.5, 1, "CPU", 1,
                  {"torch": "2.9"}, {}, {})  # fmt: skip


def results(profile="laptop", **samples):
    """Made-up runs: a variant's test errors, one a seed."""
    made = tuple(record(v, seed, error, profile) for v, errors in samples.items() for seed, error in enumerate(errors))
    return sweep.Results(TINY, profile, made)


def evidence(*found, profile="recorded", **samples):
    return Evidence(profile, _read={"tiny": {r.profile: r for r in found or (results(**samples),)}})


def judged(test, found=None, **samples):
    return verdict(Claim("T", "a claim", "nokland2016, Table 1", test), found or evidence(**samples))


def outcome(test, found=None, **samples):
    return judged(test, found, **samples).outcome


def error(low=-math.inf, high=math.inf, variant="A"):
    return value("tiny", "test_error_pct", variant, float(low), float(high))


# --- intervals -----------------------------------------------------------------------------------------------------------


def test_difference_of_a_published_example():
    found = difference(*SLEEP)
    assert (found.mean, found.low, found.high) == pytest.approx((-1.58, -3.3654832, 0.2054832), abs=1e-7)
    assert found.n == 10


@settings(deadline=None, max_examples=40)
@given(SAMPLES, SAMPLES)
def test_difference_is_scipys_welch_interval(a, b):
    assume(len(set(a)) > 1 and len(set(b)) > 1)  # scipy warns of a sample without a spread
    found, theirs = difference(a, b), stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), rel=1e-6, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(SAMPLES)
def test_mean_has_students_interval(a):
    assume(len(set(a)) > 1)
    found, theirs = combination([a], [1.0]), stats.ttest_1samp(a, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), rel=1e-6, abs=1e-6)


def test_weights_count_squared_in_the_variance():
    spread = combination([[0.0, 1.0, 2.0]] * 4, [1.0, -1.0, -1.0, 1.0])  # variances of 1: four times 1/3, and 8 degrees of freedom
    assert (spread.mean, spread.high) == pytest.approx((0, 2.306 * math.sqrt(4 / 3)), rel=1e-4)
    assert combination([[0.0, 2.0]], [-3.0]).low == pytest.approx(-3 - 3 * 12.706, rel=1e-4)  # two seeds: Student's factor is 12.7


@settings(deadline=None, max_examples=40)
@given(SAMPLES, SAMPLES, st.integers(-50, 50), st.sampled_from([0.5, 2.0, 16.0]))
def test_intervals_shift_and_scale_with_the_values_and_change_sign_with_the_order(a, b, shift, scale):
    found = difference(a, b)
    moved, scaled = difference([v + shift for v in a], b), difference([scale * v for v in a], [scale * v for v in b])
    assert (moved.low, moved.high) == pytest.approx((found.low + shift, found.high + shift), abs=1e-6)
    assert (scaled.low, scaled.high) == pytest.approx((scale * found.low, scale * found.high), abs=1e-6)
    turned = difference(b, a)
    assert (turned.mean, turned.low, turned.high) == pytest.approx((-found.mean, -found.high, -found.low), abs=1e-9)
    assert found.low <= found.mean <= found.high and found.n == min(len(a), len(b))


@pytest.mark.parametrize("number", [0.1, 90.2, 1e-90, 1e-200])
def test_equal_values_have_themselves_as_their_interval(number):
    found = combination([[number] * 3], [1.0])
    assert (found.low, found.mean, found.high) == (number, number, number)
    assert difference([number] * 5, [number] * 3).n == 3
    tiny = difference([number, 2 * number, 3 * number], [number] * 3)
    assert tiny.low <= tiny.mean <= tiny.high and tiny.mean == pytest.approx(number)


def test_one_seed_has_no_interval():
    with pytest.raises(DfaLibError, match="at least two seeds on each side; got 3 and 1"):
        difference([1.0, 2.0, 3.0], [1.0])


@pytest.mark.parametrize(
    "count, n, low, high",  # Newcombe (1998), Table I, method 3; and the two that MIN_SEEDS + 1 rests on
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718), (3, 3, 0.4385, 1),
     (4, 4, 0.5101, 1)],
)  # fmt: skip
def test_share_of_a_published_example(count, n, low, high):
    found = share(count, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5) and (found.mean, found.n) == (count / n, n)


#: A textbook's: IQ and hours of television a week of ten people, rank correlation -29/165.
IQ = [106.0, 100.0, 86.0, 101.0, 99.0, 103.0, 97.0, 113.0, 112.0, 110.0]
TELEVISION = [7.0, 27.0, 2.0, 50.0, 28.0, 29.0, 20.0, 12.0, 6.0, 17.0]


def test_rank_correlation_of_a_published_example():
    found = rank_correlation(IQ, TELEVISION)
    assert found.mean == pytest.approx(-29 / 165) and found.n == 10
    assert (found.low, found.high) == pytest.approx((-0.7278, 0.5146), abs=1e-4)  # tanh(-0.17760 -+ 1.95996 sqrt(1.015445 / 7))


def test_rank_correlation_depends_on_ranks_alone():
    found = rank_correlation(IQ, TELEVISION)
    assert rank_correlation(TELEVISION, IQ).low == pytest.approx(found.low)
    stretched = rank_correlation([math.exp(v) for v in IQ], [v**3 for v in TELEVISION])
    turned = rank_correlation([-v for v in IQ], TELEVISION)
    assert (stretched.mean, stretched.low, stretched.high) == pytest.approx((found.mean, found.low, found.high))
    assert (turned.mean, turned.low, turned.high) == pytest.approx((-found.mean, -found.high, -found.low))


def test_rank_correlation_covers_the_true_one_nineteen_times_in_twenty():
    draw, true = np.random.default_rng(0), 6 / math.pi * math.asin(0.6 / 2)  # of normal pairs of correlation 0.6
    hits = 0
    for _ in range(400):
        x, noise = draw.normal(size=(2, 14))
        found = rank_correlation(x.tolist(), (0.6 * x + 0.8 * noise).tolist())
        hits += found.low <= true <= found.high
    assert 0.93 < hits / 400 < 0.98


def test_rank_correlation_without_ranks():
    rising, flat = [1.0, 2.0, 3.0, 4.0], [2.0] * 4
    assert (rank_correlation(rising, rising).low, rank_correlation(rising, rising[::-1]).high) == (1, -1)
    for x, y in ((rising[:3], rising[1:]), (flat, rising), (rising, flat)):
        with pytest.raises(DfaLibError, match="a rank correlation needs four pairs, and values that differ"):
            rank_correlation(x, y)


# --- outcomes --------------------------------------------------------------------------------------------------------------

NINES = [8.0, 9.0, 10.0, 11.0]  # mean 9.5


def test_bounds_are_part_of_what_is_claimed():
    found = combination([NINES], [1.0])
    inwards, outwards = math.nextafter(found.low, math.inf), math.nextafter(found.low, -math.inf)
    assert outcome(error(low=found.low), A=NINES) == REPRODUCED and outcome(error(low=inwards), A=NINES) == PARTLY
    assert outcome(error(high=found.low), A=NINES) == PARTLY and outcome(error(high=outwards), A=NINES) == CONTRADICTED
    assert outcome(error(high=found.high), A=NINES) == REPRODUCED
    assert outcome(error(low=math.nextafter(found.high, math.inf)), A=NINES) == CONTRADICTED
    assert outcome(error(9.4, 9.6), A=NINES) == PARTLY  # the mean lies inside, most of the interval does not


def test_more_than_zero_leaves_zero_out():
    assert outcome(error(low=ABOVE_ZERO), A=[0.0] * 3) == CONTRADICTED == outcome(error(high=-ABOVE_ZERO), A=[0.0] * 3)
    assert outcome(error(low=0.0), A=[0.0] * 3) == REPRODUCED == outcome(error(low=ABOVE_ZERO), A=[1e-9] * 3)


def test_near_is_the_papers_number_to_the_last_digit():
    test = near("tiny", "test_error_pct", "A", 1.7, within=0.3)
    assert (test.low, test.high) == (1.4, 2.0)
    assert outcome(test, A=[1.4] * 3) == outcome(test, A=[2.0] * 3) == REPRODUCED
    assert outcome(test, A=[2.01] * 3) == outcome(test, A=[1.39] * 3) == CONTRADICTED


@settings(deadline=None, max_examples=40)
@given(SAMPLES.filter(lambda s: len(s) >= MIN_SEEDS), st.integers(-100, 100), st.integers(0, 100), st.integers(0, 50))
def test_mirrored_claim_has_the_same_verdict_and_a_wider_one_is_no_worse(errors, low, width, margin):
    here = outcome(error(low, low + width), A=errors)
    assert here == outcome(error(-low - width, -low), A=[-e for e in errors])
    wider = outcome(error(low - margin, low + width + margin), A=errors)
    rank = (CONTRADICTED, PARTLY, REPRODUCED).index
    assert rank(wider) >= rank(here)
    assert (outcome(error(high=low - ABOVE_ZERO), A=errors) == REPRODUCED) <= (outcome(error(low, low + width), A=errors) == CONTRADICTED)


def test_gap_is_variant_minus_base_and_order_is_each_above_the_one_before():
    found = {"A": [1.0, 1.1, 1.2], "B": [3.0, 3.1, 3.2], "C": [5.0, 5.1, 5.2]}
    assert judged(gap("tiny", "test_error_pct", "B", "A", low=1.5), **found).effect.mean == pytest.approx(2)
    assert outcome(order("tiny", "test_error_pct", "ABC"), **found) == REPRODUCED
    assert outcome(order("tiny", "test_error_pct", "CBA"), **found) == CONTRADICTED
    assert outcome(order("tiny", "test_error_pct", "ACB"), **found) == PARTLY
    assert outcome(order("tiny", "test_error_pct", "ABC"), **found | {"B": [1.0, 1.1, 1.2]}) == PARTLY
    alike = judged(order("tiny", "test_error_pct", "AB"), A=[1.0] * 3, B=[1.0] * 3)
    assert alike.outcome == PARTLY and "0 [0, 0], all runs alike, n = 3" in alike.basis
    assert outcome(gap("tiny", "test_error_pct", "B", "A", high=0.3), A=[1.0] * 3, B=[1.0] * 3) == REPRODUCED


@pytest.mark.parametrize("low, high, hits", [(5, math.inf, 2), (-math.inf, 5, 3), (5, 5, 1), (4, 6, 4), (7, 9, 0)])
def test_share_counts_seeds_between_both_bounds(low, high, hits):
    found = judged(Share("tiny", "A", "test_error_pct", float(low), float(high)), A=[4.0, 4.0, 5.0, 6.0])
    assert found.effect == share(hits, 4)


def test_share_of_all_seeds_of_none_and_of_some():
    def of(*errors, **bounds):
        return outcome(Share("tiny", "A", "test_error_pct", high=0.05, **bounds), A=list(errors))

    assert of(0.0, 0.0, 0.05, 0.01, least=0.5) == REPRODUCED
    assert of(0.0, 0.0, 0.05, 0.06, least=0.5) == PARTLY
    assert of(1.0, 1.0, 1.0, 1.0, least=0.5) == CONTRADICTED == of(0.0, 0.0, 0.0, 0.0, most=0.5)
    assert of(1.0, 1.0, 1.0, 1.0, most=0.5) == REPRODUCED


@pytest.mark.parametrize(
    "test, fewest",
    [(error(high=9), 3), (Contrast("tiny", "test_error_pct", {"A": 1.0}, high=9.0, seeds=5), 5), (Share("tiny", "A", "test_error_pct"), 4)],
    ids=["three by default", "more where a test asks", "four for a share"],
)
def test_verdict_needs_its_number_of_seeds(test, fewest):
    few = judged(test, A=[1.0] * (fewest - 1))
    assert (few.outcome, few.n, few.effect) == (NOT_RUN, fewest - 1, None)
    assert f"{fewest - 1} seeds, and a verdict needs {fewest}" in few.basis and f"{fewest - 1} seeds" in few.budget
    assert outcome(test, A=[1.0] * fewest) == REPRODUCED


def test_the_side_with_fewer_seeds_counts():
    found = judged(gap("tiny", "test_error_pct", "A", "B", high=0.0), A=[1.0] * 5, B=[2.0] * 2)
    assert (found.outcome, found.n) == (NOT_RUN, 2)


@pytest.mark.parametrize("lost", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("test", [error(), gap("tiny", "test_error_pct", "B", "A"), Share("tiny", "A", "test_error_pct")])
def test_value_that_is_not_finite_has_no_verdict(lost, test):
    found = judged(test, A=[1.0, lost, lost, 1.0], B=[1.0] * 4)
    assert found.outcome == NOT_RUN and found.effect is None and found.n == 4
    assert found.basis.endswith("is not finite in 2 run(s)") and found.budget


def test_unknown_metric_names_the_run_and_what_it_has():
    with pytest.raises(DfaLibError, match=r"tiny/[0-9a-f]{16}: no final figure 'tset_error' \(has: constant_output, test_error_pct\)"):
        judged(value("tiny", "tset_error", "A"), A=[1.0] * 3)


# --- correlations over variants ------------------------------------------------------------------------------------------

PRACTICES, BESIDE = tuple("abcdefghijkl"), tuple("ABCDEFGHIJKL")
MANY = Experiment(
    "many", "Many variants", "nokland2016, Table 1",
    {name: dataclasses.replace(BASE, hidden=(k,)) for k, name in enumerate(PRACTICES + BESIDE, 1)},
    {"smoke": Profile(1), "laptop": Profile(3, {"epochs": 2})},
)  # fmt: skip
ALIGNED = dict(zip(PRACTICES, (0.9, 0.1, 0.5, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6, 0.0, 0.95, 0.45), strict=True))
#: Errors that fall with alignment, but for one swap; and the controls', which do not know of it.
ERRORS = {name: 5 - 3 * a for name, a in ALIGNED.items()} | {"a": 2.9, "e": 2.3}
CONTROL = dict(zip(BESIDE, (2.0, 2.1, 1.9, 2.0, 2.2, 1.8, 2.0, 2.1, 1.9, 2.0, 2.2, 1.8), strict=True))


def cos(record):
    """Cosine."""
    return record.final["cos"]


def practices(errors=ERRORS, control=CONTROL, aligned=ALIGNED, seeds=3, fewer=()):
    """Made-up runs, seeds around the mean of each variant."""
    made = []
    for name in PRACTICES + BESIDE:
        for seed in range(seeds - (name in fewer)):
            off = (seed - (seeds - 1) / 2) / 100
            both = errors | control
            final = {"test_error_pct": both[name] if both[name] is None else both[name] + off, "constant_output": False,
                     "cos": aligned.get(name, 1.0) - off}  # fmt: skip
            made.append(Record("many", name, "laptop", seed, f"{name}{seed}", {}, "finished", 40, [], final, 1.0, 0.5, 1, "CPU", 1,
                               {"torch": "2.9"}, {}, {}))  # fmt: skip
    return Evidence(_read={"many": {"laptop": sweep.Results(MANY, "laptop", tuple(made))}})


PLAIN = Correlation("many", cos, "test_error_pct", PRACTICES, high=-ABOVE_ZERO)
CONTROLLED = dataclasses.replace(PLAIN, controls=BESIDE)


def test_correlation_is_over_the_means_of_variants():
    found = judged(PLAIN, practices())
    expected = rank_correlation([ALIGNED[name] for name in PRACTICES], [ERRORS[name] for name in PRACTICES])
    assert found.outcome == REPRODUCED and found.effect.mean == pytest.approx(expected.mean) and -1 < expected.mean < -0.9
    assert (found.effect.low, found.effect.high, found.n) == (pytest.approx(expected.low), pytest.approx(expected.high), 12)
    assert "24 variants" not in found.basis and "3 seeds" in found.budget
    assert judged(PLAIN, practices(seeds=9)).effect == found.effect, "more seeds are not more variants"


def test_changed_records_change_the_correlations_verdict():
    worse = ERRORS | {"a": 6.0, "k": 7.0, "g": 5.5}  # three of the best aligned now err most
    assert outcome(PLAIN, practices(worse)) == PARTLY
    assert outcome(PLAIN, practices({name: -error for name, error in ERRORS.items()})) == CONTRADICTED
    assert outcome(PLAIN, practices(aligned={name: -a for name, a in ALIGNED.items()})) == CONTRADICTED
    assert outcome(dataclasses.replace(PLAIN, high=-0.95), practices()) == PARTLY


def test_one_failure_does_not_decide_a_rank_correlation():
    assert judged(PLAIN, practices(ERRORS | {"j": 90.0})).effect == judged(PLAIN, practices()).effect


def test_control_is_subtracted():
    follow = {upper: ERRORS[lower] - 0.3 * ALIGNED[lower] for lower, upper in zip(PRACTICES, BESIDE, strict=True)}
    found = practices(control=follow)  # the excess is 0.3 times the cosine: it rises
    assert outcome(PLAIN, found) == REPRODUCED and outcome(CONTROLLED, found) == CONTRADICTED
    assert outcome(CONTROLLED, practices()) == REPRODUCED
    base = dataclasses.replace(PLAIN, controls=("A",) * 12)  # one control for all moves every point alike
    assert judged(base, practices()).effect == judged(PLAIN, practices()).effect


@pytest.mark.parametrize("fewer", ["a", "l", "B"])
def test_every_variant_of_a_correlation_and_every_control_needs_its_seeds(fewer):
    found = judged(CONTROLLED, practices(fewer=fewer))
    assert (found.outcome, found.n, found.effect) == (NOT_RUN, 2, None) and "24 variants: 2 seeds, and a verdict needs 3" in found.basis
    assert outcome(CONTROLLED, practices(seeds=4, fewer=fewer)) == REPRODUCED
    assert outcome(CONTROLLED, practices(seeds=1)) == NOT_RUN


def test_correlation_without_a_value_or_without_ranks_has_no_verdict():
    found = judged(dataclasses.replace(PLAIN, controls=("A",) * 12), practices(control=CONTROL | {"A": None}))
    assert found.outcome == NOT_RUN and found.basis.endswith("of 13 variants is not finite in 3 run(s)")
    lost = judged(PLAIN, practices(aligned=ALIGNED | {"c": math.nan}))
    assert lost.outcome == NOT_RUN and lost.basis.endswith("of 12 variants is not finite in 3 run(s)")
    flat = judged(PLAIN, practices(dict.fromkeys(PRACTICES, 2.0)))
    assert flat.outcome == NOT_RUN and flat.basis.endswith("one value in all of them, and so no ranks")
    missing = Evidence(_read={"many": {}})
    assert judged(PLAIN, missing).basis == "no records of 12 variants in many"


def test_reader_sees_what_was_correlated_and_over_what():
    basis = judged(CONTROLLED, practices()).basis
    what = "rank correlation: Cosine, with test error (%) minus the control's"
    assert basis.startswith(f"{what} of variants, each a mean of at least 3 seeds: -0.9")
    assert basis.endswith("n = 12; claimed below 0")


def test_correlation_refuses_few_variants_and_half_the_controls():
    assert MIN_VARIANTS == 8
    with pytest.raises(DfaLibError, match="at least 8 variants, and a control of each or none; got 7 variants and 0 controls"):
        Correlation("many", cos, "test_error_pct", PRACTICES[:7])
    with pytest.raises(DfaLibError, match="got 12 variants and 1 controls"):
        dataclasses.replace(PLAIN, controls=("A",))


# --- parts -----------------------------------------------------------------------------------------------------------------

OUTCOMES = {  # of one variant of four errors, and of one that is not there
    REPRODUCED: error(high=20.0), PARTLY: error(high=9.5), CONTRADICTED: error(high=1.0), NOT_RUN: error(variant="B"),
}  # fmt: skip


@pytest.mark.parametrize("n", [1, 2, 3])
def test_parts_are_a_claim_that_all_hold(n):
    found = evidence(A=NINES)
    for which in itertools.product(OUTCOMES, repeat=n):
        tests = [OUTCOMES[name] for name in which]
        assert tuple(part.outcome for part in judged(every(*tests), found).parts) == which
        if NOT_RUN in which:
            whole = NOT_RUN
        elif CONTRADICTED in which and REPRODUCED not in which:
            whole = CONTRADICTED
        else:
            whole = REPRODUCED if set(which) == {REPRODUCED} else PARTLY
        assert outcome(every(*tests), found) == whole, which


def test_parts_are_numbered_nested_and_keep_the_smallest_n_and_each_budget_once():
    found = evidence(A=NINES, C=[1.0] * 3)
    whole = judged(every(error(high=20.0), every(error(high=15.0), error(high=2.0, variant="C")), error(high=12.0)), found)
    assert (whole.outcome, whole.n, whole.effect) == (REPRODUCED, 3, None)
    assert whole.basis.startswith("(1) reproduced: test error (%) of A: 9.5 [7.45, 11.6], n = 4; claimed at most 20; (2) reproduced: (1) reproduced: test")
    assert [budget.split("; ") for budget in (whole.parts[0].budget, whole.parts[1].budget)] == [
        ["5,000 MNIST digits, 2 epochs, 4 seeds, profile 'laptop', CPU, torch 2.9"],
        [f"5,000 MNIST digits, 2 epochs, {n} seeds, profile 'laptop', CPU, torch 2.9" for n in (4, 3)],
    ]
    assert whole.budget.count("4 seeds") == 2  # once of A alone, once within the nested part


# --- records ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "paper, laptop, seeds, chosen",
    [(5, 3, 3, "paper"), (2, 3, 3, "laptop"), (2, 1, 3, "paper"), (0, 3, 3, "laptop"), (3, 5, 4, "laptop"), (0, 0, 1, None),
     (1, 3, 1, "paper")],
)  # fmt: skip
def test_largest_budget_with_enough_seeds_else_the_largest(paper, laptop, seeds, chosen):
    found = evidence(results("paper", A=[1.0] * paper, C=[1.0] * 5), results("laptop", A=[1.0] * laptop, C=[1.0] * 5))
    best = found.find("tiny", ["A"], seeds)
    assert (best and best.profile) == chosen
    assert best is None or {r.variant for r in best.records} == {"A"}
    both = found.find("tiny", ["A", "C"], seeds)
    assert (both and both.profile) == chosen and (both is None or len(both.records) == 5 + len(best.records))


def test_named_profile_is_the_only_one_and_a_missing_variant_is_no_evidence():
    found = results("paper", A=[1.0] * 5), results("laptop", A=[1.0] * 2, B=[1.0] * 3)
    assert evidence(*found, profile="laptop").find("tiny", ["A"], 3).profile == "laptop"
    assert evidence(*found, profile="smoke").find("tiny", ["A"]) is None
    assert evidence(*found).find("tiny", ["A", "B"], 2).profile == "laptop"
    assert evidence(*found).find("tiny", ["A", "C"]) is None
    missing = judged(gap("tiny", "test_error_pct", "A", "C"), evidence(*found))
    assert (missing.outcome, missing.basis, missing.budget) == (NOT_RUN, "no records of A and C in tiny", "")


def test_one_changed_record_changes_the_verdict(tmp_path, monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, "tiny", TINY)
    claim = Claim("T", "A is at most 2 %", "nokland2016, Table 1", error(high=2.0))

    def now():
        return verdict(claim, Evidence(directory=tmp_path))

    assert now().outcome == NOT_RUN
    for seed, found in enumerate((1.0, 1.1, 1.2)):
        assert now().n == seed
        records.write(record("A", seed, found), tmp_path)
    assert (now().outcome, now().n, now().claim) == (REPRODUCED, 3, claim)
    records.write(record("A", 2, 4.2), tmp_path)
    assert now().outcome == PARTLY
    records.write(record("A", 2, math.nan), tmp_path)
    assert now().outcome == NOT_RUN and "not finite in 1 run" in now().basis
    for seed in range(5):
        records.write(record("A", seed, 5.0, "paper"), tmp_path)
    assert (now().outcome, now().n) == (CONTRADICTED, 5) and "3 epochs, 5 seeds, profile 'paper'" in now().budget
    assert verdict(claim, Evidence("laptop", tmp_path)).outcome == NOT_RUN


def test_records_are_read_once(tmp_path, monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, "tiny", TINY)
    found = Evidence(directory=tmp_path)
    assert outcome(error(), found) == NOT_RUN
    records.write(record("A", 0, 1.0), tmp_path)
    assert found.find("tiny", ["A"]) is None and Evidence(directory=tmp_path).find("tiny", ["A"])


# --- words -----------------------------------------------------------------------------------------------------------------


def turns(record):
    """Turns of something (degrees).

    And more.
    """
    return record.final["test_error_pct"] / 2


def bare(record):
    return record.final["test_error_pct"]


def test_metric_is_described_by_its_name_or_its_first_line():
    assert describe("test_error_pct") == "test error (%)" and describe("F") == "F" and describe("wall_s") == "wall s"
    assert describe(turns) == "Turns of something (degrees)" and describe(bare) == "bare"
    basis = judged(value("tiny", turns, "A", high=1.0), A=[1.0] * 3).basis
    assert basis == "Turns of something (degrees) of A: 0.5 [0.5, 0.5], n = 3; claimed at most 1"


@pytest.mark.parametrize(
    "low, high, words",
    [(-math.inf, 0.3, "at most 0.3"), (50.0, math.inf, "at least 50"), (1.4, 2.0, "1.4 to 2"), (0.0, math.inf, "at least 0"),
     (ABOVE_ZERO, math.inf, "above 0"), (-math.inf, -ABOVE_ZERO, "below 0"), (-math.inf, 0.0, "at most 0")],
)  # fmt: skip
def test_reader_sees_what_was_claimed(low, high, words):
    assert judged(error(low, high), A=[1.0] * 3).basis == f"test error (%) of A: 1 [1, 1], n = 3; claimed {words}"


def test_reader_sees_what_was_compared():
    found = evidence(A=[1.0] * 4, B=[3.0] * 4, C=[0.5] * 4)
    contrast = Contrast("tiny", "test_error_pct", {"A": -1.0, "B": 1.0, "C": -2.0}, low=0.0)
    assert judged(contrast, found).basis == "test error (%) of minus A plus B minus 2 times C: 1 [1, 1], n = 4; claimed at least 0"
    every_seed = judged(Share("tiny", "A", "test_error_pct", high=1.0, least=0.5), found)
    assert every_seed.basis == "test error (%) at most 1 in a share of seeds of A: 1.00 [0.51, 1.00], n = 4; claimed at least 0.5"
    no_seed = judged(Share("tiny", "A", "test_error_pct", low=2.0, most=0.5), found)
    assert no_seed.basis.endswith("0.00 [0.00, 0.49], n = 4; claimed at most 0.5")


@pytest.mark.parametrize("weights, words", [
    ({"k = 1": 1.0, "k = 0": -1.0}, "k = 1 minus k = 0"),
    ({"Adam, k = 1": 1.0, "Adam, k = 0": -1.0}, "k = 1 minus k = 0 (Adam)"),
    ({"narrow, 1": 1.0, "narrow, 800": -0.745356}, "'narrow, 1' minus 0.745 times 'narrow, 800'"),
    ({"DFA, sign, 1": 1.0, "DFA, tanh, 1": -1.0}, "'sign, 1' minus 'tanh, 1' (DFA)"),
    ({"BP, tanh, 8": 1.0}, "BP, tanh, 8"),
])  # fmt: skip
def test_names_of_variants_in_a_sum_can_be_told_apart(weights, words):
    assert verdicts._sum(weights) == words


def test_parts_that_ask_the_same_of_different_runs_are_said_in_one_sentence():
    parts = every(*(value("tiny", "test_error_pct", name, high=2.0) for name in "AB"), value("tiny", "test_error_pct", "A", high=3.0))
    found = judged(parts, A=[1.0] * 3, B=[4.0] * 3)
    assert found.basis == ("(1) test error (%), claimed at most 2: A: 1 [1, 1], n = 3, reproduced; B: 4 [4, 4], n = 3, contradicted; "
                           "(2) reproduced: test error (%) of A: 1 [1, 1], n = 3; claimed at most 3")  # fmt: skip
