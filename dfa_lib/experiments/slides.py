"""The slides on feedback alignment: their MNIST networks, under BP, FA and DFA.

The slides give widths, tanh, softmax, feedback N(0, 1) and a learning rate of 0.01, and nothing else. Assumed: cross-entropy, plain
SGD, inputs in [0, 1], weights and biases uniform in +-1/sqrt(fan-in), and that 0.01 is the step of one example, as in online learning.
Ten examples go together, their steps summed: nearly the same run at a fifth of the time. The other reading, 0.01 on the mean of
those ten, is the variant 'mean' beside it. On 10,000 held-out training examples, one seed: with weights N(0, 0.1) the per-example
reading looked the same, N(0, 1) learnt worse under BP and FA, and 64 examples summed made FA worse. The epochs are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..config import Config
from ..graph import bp, dfa, fa
from ..records import Record
from ..theory import StudentTeacher
from ..verdicts import ABOVE_ZERO, Claim, Share, gap, value
from .base import Experiment, Profile

BASE = Config(
    data="mnist",
    activation="tanh",
    loss="cross-entropy",
    reduction="sum",
    init="uniform-from",
    feedback="normal(1)",
    batch=10,
    epochs=30,
    alignment=200,
)
MEAN = {"reduction": "mean"}

SMOKE = {"data": "digits-5k", "epochs": 6, "evaluate_every": None}

SLIDES_200_80 = Experiment(
    name="slides-200-80",
    title="BP and FA on MNIST, 200-80-10 tanh",
    source="fa_slides, MNIST results (200-80-10)",
    variants={
        name: replace(BASE, hidden=(200, 80), evaluate_every=3000, **changes)  # twice an epoch: equal training errors are looked up
        for name, changes in {
            "BP": {"rule": bp()},
            "FA": {"rule": fa()},
            "BP mean": {"rule": bp(), **MEAN},
            "FA mean": {"rule": fa(), **MEAN},
        }.items()
    },
    profiles={"smoke": Profile(1, SMOKE), "laptop": Profile(5)},
)

SLIDES_1000 = Experiment(
    name="slides-1000",
    title="BP and FA on MNIST, 1000-10 tanh, and the alignment of each unit",
    source="fa_slides, MNIST results (1000-10)",
    variants={
        name: replace(BASE, hidden=(1000,), **changes)
        for name, changes in {"BP": {"rule": bp()}, "FA": {"rule": fa()}, "FA mean": {"rule": fa(), **MEAN}}.items()
    },
    profiles={"smoke": Profile(1, SMOKE), "laptop": Profile(5, {"epochs": 10})},
)

SLIDES_DFA = Experiment(
    name="slides-dfa",
    title="BP and DFA on MNIST, 200-200-100-10 tanh",
    source="fa_slides, MNIST results (200-200-100-10)",
    variants={
        name: replace(BASE, hidden=(200, 200, 100), **changes)
        for name, changes in {"BP": {"rule": bp()}, "DFA": {"rule": dfa()}, "DFA mean": {"rule": dfa(), **MEAN}}.items()
    },
    profiles={"smoke": Profile(1, SMOKE), "laptop": Profile(5, {"epochs": 15})},
)

#: The slides' start: no overlap with the teacher at all. What else is assumed, `theory.StudentTeacher`'s defaults say.
_SLIDES = StudentTeacher(steps=2_000_000, spacing="log")  # alpha = 4000: a small feedback weight takes its time
#: Random first layers, so that nothing is exactly symmetric.
_DRAWN = replace(_SLIDES, R=None)

STUDENT_TEACHER = Experiment(
    name="slides-student-teacher",
    title="A student of five units and its teacher under BP and FA, from the slides' start and from random ones",
    source="fa_slides, student-teacher",
    variants={
        "BP": _SLIDES,
        "FA": replace(_SLIDES, rule="fa"),
        "BP, random start": _DRAWN,
        "FA, random start": replace(_DRAWN, rule="fa"),
        "FA, random start, signs": replace(_DRAWN, rule="fa", feedback="signs"),
        "BP, large v": replace(_DRAWN, v=1.0),
        "FA, large v, signs": replace(_DRAWN, rule="fa", v=1.0, feedback="signs"),
    },
    profiles={"smoke": Profile(1, {"N": 100, "steps": 100_000}), "laptop": Profile(16)},
)

EXPERIMENTS: tuple[Experiment, ...] = (SLIDES_200_80, SLIDES_1000, SLIDES_DFA, STUDENT_TEACHER)


# --- claims ----------------------------------------------------------------------------------------------------------
# Written before the recorded runs and after the short trials named above. Over-fitting is measured in three ways, because a
# rule can look good on the first two by learning less; the third compares the rules where they have learnt equally much.

SMOOTHED_EPOCHS = 3
PAPER_ERROR_PCT = {"slides-1000": 3.23, "slides-dfa": 4.31}


def loss_rise(record: Record) -> float | None:
    """Rise of the test loss from its lowest to the end (nats per example)."""
    # Both are means over three epochs: one lucky evaluation is no minimum.
    rows = record.evaluations
    smooth = [
        _mean([row["test_loss"] for row in rows if end["epoch"] - SMOOTHED_EPOCHS < row["epoch"] <= end["epoch"]])
        for end in rows
        if end["epoch"] >= SMOOTHED_EPOCHS
    ]
    return smooth[-1] - min(smooth) if smooth else None


def error_gap(record: Record) -> float:
    """Test error minus training error, both at the end (points)."""
    return record.final["test_error_pct"] - record.final["train_error_pct"]


def equal_training_error(level: float) -> Callable[[Record], float | None]:
    """Test error where the training error falls through `level` percent, as a metric."""

    def metric(record: Record) -> float | None:
        pairs = matched_errors(record)
        for (high, test_before), (low, test_after) in zip(pairs, pairs[1:], strict=False):
            if low <= level < high:
                return test_before + (high - level) / (high - low) * (test_after - test_before)
        return None

    metric.__doc__ = f"Test error where the training error falls through {level:g} % (%)."
    return metric


def matched_errors(record: Record) -> list[tuple[float, float]]:
    """Training error and test error (percent) of the same moment, evaluation by evaluation.

    A training error is that of the steps since the evaluation before, so the test error is read in their middle, on the straight
    line between two evaluations. The first stretch, which begins at chance and is no straight line, is left out.
    """
    rows = record.evaluations
    steps, tests = [row["step"] for row in rows], [row["test_error_pct"] for row in rows]
    stretch = record.config["evaluate_every"] or rows[-1]["step"] / rows[-1]["epoch"]
    return [(row["train_error_pct"], float(np.interp(row["step"] - stretch / 2, steps, tests))) for row in rows[2:]]


def weight_angle(layer: int) -> Callable[[Record], float | None]:
    """The angle of W_{layer+1} with B_layer^T at the end of a run, as a metric."""

    def metric(record: Record) -> float | None:
        return record.evaluations[-1]["alignment"]["weight_angle"][str(layer)]

    metric.__doc__ = f"Angle of W_{layer + 1} with B_{layer} at the end (degrees)"
    return metric


def most_units_angle(record: Record) -> float | None:
    """Angle that nine in ten units keep below between outgoing and feedback weights, at the end (degrees)."""
    (quantiles,) = record.evaluations[-1]["alignment"]["unit_angle"].values()
    return quantiles[-1]


#: The generalisation error that counts as reached: the plateau lies a hundred times higher.
REACHED = 1e-3


def same_signs(record: Record) -> float:
    """Share of the second-layer weights that end with the sign of their feedback weight."""
    return float((np.sign(record.evaluations[-1]["v"]) == np.sign(record.final["F"])).mean())


def log_time(record: Record) -> float:
    """log10 of alpha at an error of 0.001 (of the end where it is not reached)"""
    rows = record.evaluations
    errors, alphas = (np.array([row[name] for row in rows]) for name in ("error", "alpha"))
    if not (errors < REACHED).any():
        return float(np.log10(alphas[-1]))
    after = max(int((errors < REACHED).argmax()), 1)
    pair = slice(after - 1, after + 1)
    return float(np.log10(np.interp(-np.log(REACHED), -np.log(errors[pair]), alphas[pair])))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


#: Suffix of a variant -> of its claims' ids, and in words.
READINGS = {"": ("", "0.01 per example"), " mean": ("/mean", "0.01 on the mean of ten")}
#: The training error, in percent, at which the rules are compared: 5 was meant for both readings, the least that FA reaches at
#: 0.01 per example. The first seed showed that FA under the other falls through 5 in its first stretch; there it is 1.
EQUAL_PCT = {"": 5.0, " mean": 1.0}


def reading(variant: str) -> str:
    """The reading of the learning rate that a variant belongs to, a key of `READINGS`."""
    return " mean" if variant.endswith(" mean") else ""


def overfitting(reading: str) -> dict[str, tuple[Callable[[Record], float | None], str]]:
    """The three measures of over-fitting under a reading: metric, and what S1 says of it."""
    level = EQUAL_PCT[reading]
    return {
        "rise": (loss_rise, "FA's test loss rises less from its lowest value"),
        "gap": (error_gap, "FA ends with less distance between training and test error"),
        "equal": (equal_training_error(level), f"FA has the lower test error at {level:g} % training error"),
    }


_MNIST = "fa_slides, MNIST results"
_ST, _STUDENT = STUDENT_TEACHER.name, "fa_slides, student-teacher"

CLAIMS: tuple[Claim, ...] = (
    *(
        Claim(f"S1/{name}{path}", f"{says} ({words})", f"{_MNIST} (200-80-10)",
              gap("slides-200-80", metric, f"BP{suffix}", f"FA{suffix}", low=ABOVE_ZERO))
        for suffix, (path, words) in READINGS.items()
        for name, (metric, says) in overfitting(suffix).items()
    ),
    *(
        Claim(f"S2/200-80/W{layer + 1}{path}", f"W{layer + 1} of 200-80-10 turns towards its feedback weights ({words})",
              f"{_MNIST} (200-80-10)", value("slides-200-80", weight_angle(layer), f"FA{suffix}", high=90.0))
        for suffix, (path, words) in READINGS.items()
        for layer in (1, 2)
    ),
    *(
        Claim(f"S2/1000/{name}{path}", f"{says} ({words})", f"{_MNIST} (1000-10)",
              value("slides-1000", metric, f"FA{suffix}", high=90.0))
        for suffix, (path, words) in READINGS.items()
        for name, metric, says in (
            ("W2", weight_angle(1), "W2 of 1000-10 turns towards its feedback weights"),
            ("units", most_units_angle, "so do the outgoing weights of nine units in ten"),
        )
    ),
    *(
        Claim(f"S3{path}", f"FA on 1000-10 comes down to 3.23 % test error ({words})", f"{_MNIST} (1000-10)",
              value("slides-1000", "test_error_pct", f"FA{suffix}", high=PAPER_ERROR_PCT["slides-1000"]))
        for suffix, (path, words) in READINGS.items()
    ),
    *(
        Claim(f"S6{path}", f"DFA on 200-200-100-10 comes down to 4.31 % test error ({words})", f"{_MNIST} (200-200-100-10)",
              value("slides-dfa", "test_error_pct", f"DFA{suffix}", high=PAPER_ERROR_PCT["slides-dfa"]))
        for suffix, (path, words) in READINGS.items()
    ),
    *(
        Claim(f"S4/signs/{name}", f"the second layer takes the signs of the feedback vector ({words})", _STUDENT,
              Share(_ST, variant, same_signs, low=1.0, least=0.5))
        for name, variant, words in (("slides", "FA", "the slides' start"), ("random", "FA, random start", "random starts"))
    ),
    Claim("S4/cosine", "the second layer ends closer to the feedback vector than under BP (random starts)", _STUDENT,
          gap(_ST, "cosine", "FA, random start", "BP, random start", low=ABOVE_ZERO)),
    *(
        claim
        for name, fa_, bp_, words in (
            ("slides", "FA", "BP", "the slides' start"),
            ("random", "FA, random start", "BP, random start", "random starts"),
            ("signs", "FA, random start, signs", "BP, random start", "random starts, feedback of +1 and -1"),
            ("large", "FA, large v, signs", "BP, large v", "the same from a large second layer"),
        )
        for claim in (
            Claim(f"S5/reaches/{name}", f"FA reaches an error of {REACHED:g} ({words})", _STUDENT,
                  Share(_ST, fa_, "error", high=REACHED, least=0.5)),
            Claim(f"S5/later/{name}", f"and later than BP ({words})", _STUDENT, gap(_ST, log_time, fa_, bp_, low=ABOVE_ZERO)),
        )
    ),
)  # fmt: skip
