"""Breloff, Learning without backprop, part 2: direct feedback into the input of the activation, so that units whose derivative is
zero can learn; and what is lost when the derivative is left out of the update of smooth units (Espinosa Zarlenga and Niklasson's
first open question, F1).

The post gives no numbers. Ours: 240 units a layer, softmax and cross-entropy, RMSprop on the batch's sum, each method at its own best
rate on held-out data, searched at one depth and used at all. RMSprop divides every weight's step by the recent size of its own gradient,
so a derivative that is left out changes the direction of a step and hardly its length. Chapter 13_zero_derivative reads this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..config import Config, Optimizer
from ..graph import bp, dfa, fa
from ..verdicts import Claim, Test, every, gap, value
from .base import Experiment, Profile

if TYPE_CHECKING:
    from ..records import Record
    from ..sweep import Results

SOURCE, OPEN = "breloff2016", "zarlenga_bdfa, section 7"
WIDTH = 240
BASE = Config(
    data="mnist",
    hidden=(WIDTH,) * 2,
    loss="cross-entropy",
    optimizer=Optimizer("rmsprop", lr=1e-4),
    batch=64,
    reduction="sum",
    epochs=20,
)
#: With few steps, a large rate.
SMOKE = {"data": "digits-5k", "epochs": 4, "optimizer": Optimizer("rmsprop", lr=1e-3)}
SMOKE_SEARCH = {"data": "digits-5k", "epochs": 1, "validation": 1000}


def _search(methods: Mapping[str, Config], rates: Sequence[float]) -> dict[str, Config]:
    """Each method at each rate, judged on held-out training examples."""
    return {f"{name}, {rate:g}": replace(_at(config, rate), validation=10_000) for name, config in methods.items() for rate in rates}


def _by_depth(methods: Mapping[str, Config], rates: Mapping[str, float], depths: Sequence[int]) -> dict[str, Config]:
    """Each method at its own rate, on networks of several depths."""
    return {f"{name}, {n}": replace(_at(config, rates[name]), hidden=(WIDTH,) * n) for name, config in methods.items() for n in depths}


def _at(config: Config, rate: float) -> Config:
    return replace(config, optimizer=replace(config.optimizer, lr=rate))


def best_rates(results: Results) -> dict[str, float]:
    """Of each method, the rate with the lowest held-out error, a mean over seeds, in the records of a search."""
    errors: dict[str, dict[float, float]] = {}
    for variant, config in results.experiment.variants.items():
        found = results.final(variant, TEST)
        errors.setdefault(variant.rpartition(", ")[0], {})[config.optimizer.lr] = sum(found) / len(found)
    return {name: min(tried, key=tried.get) for name, tried in errors.items()}


# --- T1 and T2: units whose derivative is zero -------------------------------------------------------------------------------

UNITS, DEPTHS = ("sign", "threshold"), (1, 2, 3, 4)

#: The straight-through estimator is what a practitioner would use for such units; tanh is smooth. DFA has its feedback at the unit's
#: input, so it never asks for a derivative, and trains a unit and its straight-through twin to the same bits: with the twin, alignment
#: is measured with what the straight-through estimator would do, for BP's own signal is zero. Straight-through DFA has that estimator's
#: derivative as a gate: between it and DFA lies the gate alone, between it and straight-through BP the feedback alone.
METHODS: Mapping[str, Config] = {
    **{f"DFA, {unit}": replace(BASE, activation=f"{unit}-ste", rule=dfa(gate=False)) for unit in UNITS},
    **{f"straight-through BP, {unit}": replace(BASE, activation=f"{unit}-ste", rule=bp()) for unit in UNITS},
    **{f"straight-through DFA, {unit}": replace(BASE, activation=f"{unit}-ste", rule=dfa()) for unit in UNITS},
    **{f"BP, {unit}": replace(BASE, activation=unit, rule=bp()) for unit in UNITS},
    "DFA, tanh": replace(BASE, rule=dfa()),
    "BP, tanh": replace(BASE, rule=bp()),
}
RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)

RATE_SEARCH = Experiment(
    name="breloff-rates",
    title="Sign, threshold and tanh units, 2x240: five learning rates for each method, on 10,000 held-out training examples",
    source=f"{SOURCE}, MNIST with modified DFA",
    variants=_search(METHODS, RATES),
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE_SEARCH),
        "laptop": Profile(seeds=2, changes={"epochs": 5}),
        "paper": Profile(seeds=3),
    },
)

#: Each method's best rate in that search under 'laptop'; a test compares with `best_rates`.
OWN_RATES: Mapping[str, float] = {
    "DFA, sign": 1e-4, "DFA, threshold": 3e-4, "straight-through BP, sign": 1e-3, "straight-through BP, threshold": 1e-3,
    "straight-through DFA, sign": 3e-3, "straight-through DFA, threshold": 1e-3, "BP, sign": 1e-3, "BP, threshold": 3e-3,
    "DFA, tanh": 1e-3, "BP, tanh": 1e-3,
}  # fmt: skip

ZERO_DERIVATIVE = Experiment(
    name="breloff-zero-derivative",
    title="Sign, threshold and tanh units, one to four hidden layers of 240: DFA into the unit's input, BP, straight-through",
    source=f"{SOURCE}, MNIST with modified DFA",
    variants={name: replace(config, alignment=500) for name, config in _by_depth(METHODS, OWN_RATES, DEPTHS).items()},
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE | {"alignment": 200}),
        "laptop": Profile(seeds=3, changes={"epochs": 10}),
        "paper": Profile(seeds=10, changes={"epochs": 100}),
    },
)

# --- F1: smooth units without their derivative -------------------------------------------------------------------------------

RULES, SMOOTH, F1_DEPTHS = {"BP": bp, "FA": fa, "DFA": dfa}, ("tanh", "logistic", "relu"), (1, 2, 4, 8)
DROPPED = ", no derivative"

F1_METHODS: Mapping[str, Config] = {
    f"{name}, {unit}{'' if gate else DROPPED}": replace(BASE, activation=unit, rule=make(gate=gate))
    for unit in SMOOTH for name, make in RULES.items() for gate in (True, False)
}  # fmt: skip
F1_RATES, SEARCHED_DEPTH = (1e-4, 3e-4, 1e-3), 4

F1_SEARCH = Experiment(
    name="breloff-no-derivative-rates",
    title="tanh, logistic and ReLU, 4x240, with and without the derivative: three learning rates for each, on held-out examples",
    source=OPEN,
    variants={name: replace(c, hidden=(WIDTH,) * SEARCHED_DEPTH) for name, c in _search(F1_METHODS, F1_RATES).items()},
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE_SEARCH),
        "laptop": Profile(seeds=1, changes={"epochs": 5}),
        "paper": Profile(seeds=3),
    },
)

#: As `OWN_RATES`, of that search.
F1_OWN_RATES: Mapping[str, float] = {
    "BP, tanh": 1e-3, "BP, tanh, no derivative": 3e-4, "FA, tanh": 3e-4, "FA, tanh, no derivative": 3e-4, "DFA, tanh": 1e-3,
    "DFA, tanh, no derivative": 3e-4, "BP, logistic": 1e-3, "BP, logistic, no derivative": 3e-4, "FA, logistic": 1e-3,
    "FA, logistic, no derivative": 1e-3, "DFA, logistic": 1e-3, "DFA, logistic, no derivative": 1e-3, "BP, relu": 1e-3,
    "BP, relu, no derivative": 3e-4, "FA, relu": 3e-4, "FA, relu, no derivative": 3e-4, "DFA, relu": 3e-4,
    "DFA, relu, no derivative": 3e-4,
}  # fmt: skip

NO_DERIVATIVE = Experiment(
    name="breloff-no-derivative",
    title="tanh, logistic and ReLU, one to eight hidden layers of 240: the update with and without the derivative",
    source=OPEN,
    variants=_by_depth(F1_METHODS, F1_OWN_RATES, F1_DEPTHS),
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE | {"epochs": 1}),
        "laptop": Profile(seeds=3, changes={"epochs": 5}),
        "paper": Profile(seeds=5, changes={"epochs": 100}),
    },
)

EXPERIMENTS = (RATE_SEARCH, ZERO_DERIVATIVE, F1_SEARCH, NO_DERIVATIVE)

# --- claims ------------------------------------------------------------------------------------------------------------------

TEST = "test_error_pct"
#: A linear classifier errs on 7 to 8 % of MNIST's test set: below that, hidden layers have done something.
LEARNED = 7.0
#: 'As well as': within 0.3 points, as for Nøkland's 'very similar'.
CLOSE = 0.3
#: 'Nothing lost': half a point. After five epochs the seeds of one network differ by some tenths.
LOST = 0.5


def no_delta(record: Record) -> float:
    """Share of training images on which a hidden layer's delta is zero, the least of any layer at any time (%)."""
    counts = [count for row in record.evaluations if "alignment" in row for count in row["alignment"]["undefined"]]
    return 100 * min(counts) / record.config["alignment"]


def _beside(method: str, other: str, depths: Sequence[int], experiment: Experiment = ZERO_DERIVATIVE, **bounds: float) -> Test:
    """A method's test error minus another's, at every depth."""
    return every(*(gap(experiment.name, TEST, f"{method}, {n}", f"{other}, {n}", **bounds) for n in depths))


_INTRODUCTION, _FLAT, _MNIST = (f"{SOURCE}, {place}" for place in (
    "introduction", "learning through flat activations", "MNIST with modified DFA"))  # fmt: skip

CLAIMS: tuple[Claim, ...] = (
    *(
        claim for unit in UNITS for claim in (
            Claim(f"T1/BP/{unit}", f"BP cannot train {unit} units: no image gives any hidden layer a delta, at any depth", _INTRODUCTION,
                  every(*(value(ZERO_DERIVATIVE.name, no_delta, f"BP, {unit}, {n}", low=100.0) for n in DEPTHS))),
            Claim(f"T1/DFA/{unit}", f"direct feedback into the unit's input can: a lower error than BP's, at every depth ({unit})", _FLAT,
                  _beside(f"DFA, {unit}", f"BP, {unit}", DEPTHS, high=-CLOSE)),
            Claim(f"T1/straight-through/{unit}", f"so can BP with a straight-through derivative ({unit}; our control)", _FLAT,
                  _beside(f"straight-through BP, {unit}", f"BP, {unit}", DEPTHS, high=-CLOSE)),
        )
    ),
    *(
        claim for unit in UNITS for claim in (
            Claim(f"T2/DFA/{unit}", f"direct feedback learns MNIST: better than a linear classifier, at every depth ({unit})", _MNIST,
                  every(*(value(ZERO_DERIVATIVE.name, TEST, f"DFA, {unit}, {n}", high=LEARNED) for n in DEPTHS))),
            Claim(f"T2/gate/{unit}", f"with the straight-through derivative as a gate so does direct feedback, at every depth ({unit}; our control)",
                  _MNIST, every(*(value(ZERO_DERIVATIVE.name, TEST, f"straight-through DFA, {unit}, {n}", high=LEARNED) for n in DEPTHS))),
            Claim(f"T2/as-straight-through/{unit}", f"as well as the straight-through estimator, at every depth ({unit}; our question)",
                  _MNIST, _beside(f"DFA, {unit}", f"straight-through BP, {unit}", DEPTHS, high=CLOSE)),
            Claim(f"T2/as-smooth/{unit}", f"as well as DFA with tanh units, at every depth ({unit}; our question)", _MNIST,
                  _beside(f"DFA, {unit}", "DFA, tanh", DEPTHS, high=CLOSE)),
        )
    ),
    *(
        Claim(f"F1/{name}/{unit}", f"{name} with {unit} units loses nothing when the derivative is left out, at any depth", OPEN,
              _beside(f"{name}, {unit}{DROPPED}", f"{name}, {unit}", F1_DEPTHS, NO_DERIVATIVE, high=LOST))
        for unit in SMOOTH for name in RULES
    ),
)  # fmt: skip
