"""Launay, Poli and Krzakala, Principled training of neural networks with direct feedback alignment: alignment as a guide to practice.
The text at hand is the abstract; settings that it lacks are from the authors' public code.

The code runs CIFAR-10 on three layers of 800 tanh units with plain SGD, 50 epochs; here such networks meet MNIST, each practice at its own
best of seven learning rates on held-out data. Chapter 11_alignment_and_practice reads this; `bottleneck` has what prevents alignment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ..config import Config, Optimizer
from ..graph import Rule, bdfa, bp, dfa, fa, fp, ifa
from ..verdicts import ABOVE_ZERO, Claim, Contrast, Correlation, every, gap, value
from .base import Experiment, Profile

if TYPE_CHECKING:
    from ..records import Record
    from ..sweep import Results

SOURCE = "launay2019"
PLACE = f"{SOURCE}, abstract"
BASE = Config(
    data="mnist",
    hidden=(240,) * 4,
    activation="tanh",
    loss="cross-entropy",
    rule=dfa(),
    init="uniform-from",
    feedback="normal-from-to",
    optimizer=Optimizer("sgd", lr=0.1),
    batch=128,
    reduction="mean",
    epochs=50,
    alignment=500,
)
SMOKE = {"data": "digits-5k", "epochs": 3, "alignment": 200}

# --- alignment in training ---------------------------------------------------------------------------------------------------

#: The rules side by side on one network. Feedback that keeps a signal's size from hop to hop, so that FA and BDFA are not at a
#: disadvantage for hopping more often.
FOLLOWED: Mapping[str, Rule] = {"FA": fa(), "DFA": dfa(), "BDFA(2)": bdfa(2), "FP(2)": fp(2), "IFA": ifa()}
#: A rate at which the training error comes down to nearly zero within the laptop's budget. On one seed each: 0.3 % under FA after 40
#: epochs, where at 1e-3, on four layers, it stayed above 1.1 %; IFA is slower, and came to 0.2 % at 1e-3 in 48 epochs on four layers.
_FOLLOWED = replace(BASE, hidden=(240,) * 5, feedback="normal-to", optimizer=Optimizer("adam", lr=3e-4, decay=0.999))
_FASTER = {"optimizer": replace(_FOLLOWED.optimizer, lr=1e-3)}

ALIGNMENT = Experiment(
    name="launay-alignment",
    title="5x240 tanh: three measures of alignment, layer by layer, under five rules, until the training error is nearly zero",
    source=PLACE,
    variants={
        name: replace(_FOLLOWED, rule=rule, epochs=200, evaluate_every=8 * 469, **(_FASTER if name == "IFA" else {}))
        for name, rule in FOLLOWED.items()
    },
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE | {"epochs": 16, "evaluate_every": 2 * 32}),
        "laptop": Profile(seeds=3, changes={"epochs": 48, "evaluate_every": 2 * 469}),
        "paper": Profile(seeds=10),
    },
)

FIRST_STEPS = Experiment(
    name="launay-first-steps",
    title="The first two epochs of those runs, seen more closely",
    source=PLACE,
    variants={name: replace(config, epochs=None, steps=938, evaluate_every=34) for name, config in ALIGNMENT.variants.items()},
    profiles={
        "smoke": Profile(seeds=1, changes={"data": "digits-5k", "alignment": 200, "steps": 120, "evaluate_every": 8}),
        "laptop": Profile(seeds=3),
        "paper": Profile(seeds=10),
    },
)

# --- practices ---------------------------------------------------------------------------------------------------------------

#: What each practice changes in BASE, which has normalised feedback with a matrix for each layer, tanh units and plain SGD.
SINGLE: Mapping[str, dict[str, object]] = {
    "raw feedback": {"feedback": "normal(1)"},
    "shared feedback": {"rule": dfa(shared=True)},
    "ReLU": {"activation": "relu"},
    "leaky ReLU": {"activation": "leaky-relu"},
    "erf": {"activation": "erf"},
    "batch normalisation": {"batch_norm": True},
    "dropout": {"dropout": 0.2},
    "momentum": {"optimizer": Optimizer("momentum")},
    "Adam": {"optimizer": Optimizer("adam", decay=0.999)},
    "80 units": {"hidden": (80,) * 4},
    "500 units": {"hidden": (500,) * 4},
}
TOGETHER: Mapping[str, tuple[str, ...]] = {
    "raw feedback and batch normalisation": ("raw feedback", "batch normalisation"),
    "batch normalisation and ReLU": ("batch normalisation", "ReLU"),
    "batch normalisation and Adam": ("batch normalisation", "Adam"),
    "dropout and 500 units": ("dropout", "500 units"),
    "together": ("shared feedback", "batch normalisation", "dropout", "momentum"),
}
PRACTICES: Mapping[str, dict[str, object]] = {
    "base": {}, **SINGLE,
    **{name: {field: value for part in parts for field, value in SINGLE[part].items()} for name, parts in TOGETHER.items()},
}  # fmt: skip
#: Practice -> the one under BP that is its control. BP has no feedback to normalise or to share.
CONTROLS: Mapping[str, str] = {practice: practice for practice in PRACTICES} | {
    "raw feedback": "base", "shared feedback": "base", "raw feedback and batch normalisation": "batch normalisation",
}  # fmt: skip
#: Method and practice of everything that is tuned and run.
TUNED = [("DFA", practice) for practice in PRACTICES] + [("BP", practice) for practice in dict.fromkeys(CONTROLS.values())]

SGD_RATES, MOMENTUM_RATES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0), (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
ADAM_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
#: Raw feedback makes hidden deltas fifty times as large. Adam would not feel it, so the two are no pair.
RAW_RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


def rates(practice: str) -> tuple[float, ...]:
    """The seven learning rates that a practice is tried with, under DFA and under BP: those of its optimizer."""
    changes = PRACTICES[practice]
    optimizer = changes.get("optimizer", BASE.optimizer).name
    if optimizer == "sgd" and "feedback" in changes:
        return RAW_RATES
    return {"sgd": SGD_RATES, "momentum": MOMENTUM_RATES, "adam": ADAM_RATES}[optimizer]


def _config(method: str, practice: str, rate: float, **changes: object) -> Config:
    config = replace(BASE, **PRACTICES[practice])
    control = {"rule": bp(), "alignment": 0} if method == "BP" else {}
    return replace(config, **{"optimizer": replace(config.optimizer, lr=rate)} | control | changes)


RATE_SEARCH = Experiment(
    name="launay-rates",
    title="Seven learning rates for each practice, under DFA and BP, on 10,000 held-out training examples",
    source=PLACE,
    variants={
        f"{method}, {practice}, {rate:g}": _config(method, practice, rate, validation=10_000, alignment=0)
        for method, practice in TUNED for rate in rates(practice)
    },
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE | {"alignment": 0, "validation": 1000},
                         only=tuple(f"{method}, base, {rate:g}" for method in ("DFA", "BP") for rate in SGD_RATES)),
        "laptop": Profile(seeds=1, changes={"epochs": 6}),
        "paper": Profile(seeds=3, changes={"epochs": 20}),
    },
)  # fmt: skip

#: Practice -> the best rate in that search under 'laptop', as `best_rates` reads it from the records, under DFA and under BP.
_BEST: Mapping[str, tuple[float, ...]] = {
    "base": (1.0, 0.3), "raw feedback": (0.3,), "shared feedback": (1.0,), "ReLU": (0.1, 0.3), "leaky ReLU": (0.1, 0.3), "erf": (1.0, 0.3),
    "batch normalisation": (0.3, 0.1), "dropout": (3.0, 0.3), "momentum": (0.3, 0.1), "Adam": (3e-3, 3e-3), "80 units": (3.0, 0.3),
    "500 units": (10.0, 0.3), "raw feedback and batch normalisation": (0.1,), "batch normalisation and ReLU": (1.0, 0.1),
    "batch normalisation and Adam": (3e-3, 3e-4), "dropout and 500 units": (10.0, 0.3), "together": (0.1, 1.0),
}  # fmt: skip
OWN_RATES: Mapping[tuple[str, str], float] = {(method, practice): _BEST[practice][method == "BP"] for method, practice in TUNED}

PRACTICE = Experiment(
    name="launay-practices",
    title="4x240: practices one at a time and together, under DFA and BP, each at its own best learning rate",
    source=PLACE,
    variants={f"{method}, {practice}": _config(method, practice, rate) for (method, practice), rate in OWN_RATES.items()},
    profiles={
        "smoke": Profile(seeds=1, changes={"data": "digits-5k", "epochs": 2}),
        "laptop": Profile(seeds=5, changes={"epochs": 10}),
        "paper": Profile(seeds=10),
    },
)

EXPERIMENTS = (ALIGNMENT, FIRST_STEPS, RATE_SEARCH, PRACTICE)


def held_out(record: Record) -> float:
    """Held-out error, the mean over epochs (percent): it does not choose a rate at which the error jumps about."""
    errors = [row["test_error_pct"] for row in record.evaluations[1:]]
    return sum(errors) / len(errors)


def best_rates(results: Results) -> dict[tuple[str, str], float]:
    """Method and practice -> the rate with the lowest `held_out` error, a mean over seeds; a rate without records is left out."""
    errors: dict[tuple[str, str], dict[float, float]] = {}
    for method, practice in TUNED:
        for rate in rates(practice):
            if found := [held_out(r) for r in results.records if r.variant == f"{method}, {practice}, {rate:g}"]:
                errors.setdefault((method, practice), {})[rate] = sum(found) / len(found)
    return {tuned: min(found, key=found.get) for tuned, found in errors.items()}


# --- metrics -----------------------------------------------------------------------------------------------------------------

#: The three quantities that are called alignment, by their names in `alignment`.
MEASURES = {"delta_angle": "delta angle", "signal_angle": "signal angle", "mean_angle": "mean angle"}
#: A training error that counts as nearly zero, and the one from which its last stretch is counted (percent).
ZERO_PCT, LATE_PCT = 0.5, 2.0
#: The three measures differ when they are so far from one another, in degrees.
APART = 5.0


def aligned(record: Record) -> list[dict]:
    """The evaluations at which alignment was measured."""
    return [row for row in record.evaluations if "alignment" in row]


def learnt_through_b(record: Record) -> list[int]:
    """Places, among the measured layers, of those that do not learn by back-propagation itself, whose angle is zero from the start."""
    first = aligned(record)[0]["alignment"]["delta_angle"]
    return [k for k, angle in enumerate(first) if angle is None or angle > 1.0]


def layers(record: Record, row: dict, measure: str) -> list[float | None]:
    """A measure at one evaluation, by layer, of the layers that do not learn by back-propagation; None where it is undefined."""
    return [row["alignment"][measure][k] for k in learnt_through_b(record)]


def over_layers(record: Record, row: dict, measure: str) -> float | None:
    """The mean of `layers`; None where one of them is undefined: a mean of fewer layers would be another quantity."""
    values = layers(record, row, measure)
    return None if None in values or not values else sum(values) / len(values)


def cosine(record: Record) -> float | None:
    """Cosine of delta with BP's at the end, mean over hidden layers."""
    return over_layers(record, aligned(record)[-1], "delta_cos")


def angle(record: Record) -> float | None:
    """Delta angle at the end, mean over hidden layers (degrees)."""
    return over_layers(record, aligned(record)[-1], "delta_angle")


def measures_apart(record: Record) -> float | None:
    """Distance between the largest and the smallest of the three measures at the end, mean over hidden layers (degrees)."""
    found = list(zip(*(layers(record, aligned(record)[-1], measure) for measure in MEASURES), strict=True))
    return None if any(None in values for values in found) else sum(max(values) - min(values) for values in found) / len(found)


def halfway(record: Record) -> list[float] | None:
    """For each layer, from the first, the step at which its delta angle has come half of its way from the start to its lowest.

    On straight lines between evaluations. None where an angle is undefined, or never falls.
    """
    rows = aligned(record)
    found = []
    for curve in zip(*(layers(record, row, "delta_angle") for row in rows), strict=True):
        if None in curve or min(curve) == curve[0]:
            return None
        half = (curve[0] + min(curve)) / 2
        k = next(k for k, angle in enumerate(curve) if angle <= half)
        share = (curve[k - 1] - half) / (curve[k - 1] - curve[k])
        found.append(rows[k - 1]["step"] + share * (rows[k]["step"] - rows[k - 1]["step"]))
    return found


def upward(record: Record) -> float | None:
    """Rank correlation of a layer's number with the steps to half of its alignment (1: from the first layer up)."""
    from scipy import stats

    steps = halfway(record)
    if not steps or len(set(steps)) < 2:
        return None
    return float(stats.spearmanr(range(len(steps)), steps).statistic)


def falls_back(record: Record) -> float | None:
    """Rise of the delta angle from where the training error first is at most 2 % to the end, mean over hidden layers (degrees)."""
    late = [row for row in aligned(record) if row.get("train_error_pct") is not None and row["train_error_pct"] <= LATE_PCT]
    if not late:
        return None
    before, after = (over_layers(record, row, "delta_angle") for row in (late[0], late[-1]))
    return None if before is None or after is None else after - before


def most_undefined(record: Record) -> float:
    """Most examples without a direction, in any layer at any evaluation."""
    return float(max(max(row["alignment"]["undefined"]) for row in aligned(record)))


# --- claims ------------------------------------------------------------------------------------------------------------------
# Declared before the recorded runs. L1 is the paper's. That alignment grows from the first layer up is reported by Refinetti, d'Ascoli,
# Ohana and Goldt, of DFA. That one measure is not another, and that alignment falls back when the training error vanishes, are
# questions of ours, put as claims.

TEST = "test_error_pct"
BELOW_ZERO = -ABOVE_ZERO
_ALL = tuple(f"DFA, {practice}" for practice in PRACTICES)
_ALL_CONTROLS = tuple(f"BP, {CONTROLS[practice]}" for practice in PRACTICES)

L1 = {
    "error": Claim("L1/error", "the better DFA is aligned, the lower its test error, over practices", PLACE,
                   Correlation(PRACTICE.name, cosine, TEST, _ALL, high=BELOW_ZERO)),
    "excess": Claim("L1/excess", "the better DFA is aligned, the less its test error exceeds BP's, over practices", PLACE,
                    Correlation(PRACTICE.name, cosine, TEST, _ALL, _ALL_CONTROLS, high=BELOW_ZERO)),
}  # fmt: skip


def _excess_change(practice: str) -> Contrast:
    """How a practice changes the distance of DFA from BP: both with it, less both without."""
    weights = {f"DFA, {practice}": 1.0, f"BP, {CONTROLS[practice]}": -1.0, "DFA, base": -1.0, "BP, base": 1.0}
    return Contrast(PRACTICE.name, TEST, weights, high=BELOW_ZERO)


#: A practice that alignment justifies: with it DFA is better aligned than without, errs less, and is closer to BP. Where the control
#: is the same BP, the last two are one.
GOOD: Mapping[str, Claim] = {
    practice: Claim(
        f"L1/{practice}", f"{practice}: better aligned, fewer errors, closer to BP", PLACE,
        every(
            gap(PRACTICE.name, cosine, f"DFA, {practice}", "DFA, base", low=ABOVE_ZERO),
            gap(PRACTICE.name, TEST, f"DFA, {practice}", "DFA, base", high=BELOW_ZERO),
            *([_excess_change(practice)] if CONTROLS[practice] != "base" else []),
        ),
    )
    for practice in PRACTICES if practice != "base"
}  # fmt: skip

#: Of each rule: a claim's name -> what it says, experiment, metric and bounds.
_QUESTIONS: Mapping[str, tuple[str, Experiment, Callable[[Record], float | None] | str, dict[str, float]]] = {
    "measures": ("the three measures of one run are at least 5° apart", ALIGNMENT, measures_apart, {"low": APART}),
    "upward": ("alignment grows from the first layer up", FIRST_STEPS, upward, {"low": ABOVE_ZERO}),
    "zero": ("the training error comes down to 0.5 %", ALIGNMENT, "train_error_pct", {"high": ZERO_PCT}),
    "falls back": ("alignment falls back while the training error goes to zero", ALIGNMENT, falls_back, {"low": ABOVE_ZERO}),
    "stays": ("but not beyond 90°", ALIGNMENT, angle, {"high": 90.0}),
    "defined": ("every example keeps a direction to the end", ALIGNMENT, most_undefined, {"high": 0.0}),
}
FOLLOWED_CLAIMS: Mapping[str, Mapping[str, Claim]] = {
    question: {
        name: Claim(f"alignment/{question}/{name}", f"{says} ({name})", "refinetti2021, abstract" if question == "upward" else PLACE,
                    value(experiment.name, metric, name, **bounds))
        for name in FOLLOWED
    }
    for question, (says, experiment, metric, bounds) in _QUESTIONS.items()
}  # fmt: skip

CLAIMS: tuple[Claim, ...] = (*L1.values(), *GOOD.values(), *(claim for claims in FOLLOWED_CLAIMS.values() for claim in claims.values()))
