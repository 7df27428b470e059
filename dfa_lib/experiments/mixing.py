"""Switching at random between BP and DFA, which Espinosa Zarlenga and Niklasson propose as future work: is it a regulariser?

The paper ran nothing of this, so its claims are questions here. A regulariser shows where a network over-fits: BASE trains on 10,000 of
MNIST's training images, fits them all, and is judged on the other 50,000, five times as many as the test set has. All regularisers
have as many trials of strength and learning rate; what these choose is judged on fresh seeds. `MNIST` repeats it on all training images
and the test set. Weights and feedback are Xavier's: DFA's signals are then as large as BP's when training begins. Later BP's grow with
the weights, so switching changes the size of a step after all, and each strength gets a learning rate of its own.
Chapter 14_mixing_bp_and_dfa reads this.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..config import Config, Optimizer
from ..graph import bp, dfa, switching
from ..verdicts import ABOVE_ZERO, Claim, Contrast, Metric, gap
from .base import Experiment, Profile
from .slides import error_gap

if TYPE_CHECKING:
    from ..records import Record
    from ..sweep import Results

SOURCE = "zarlenga_bdfa"
PLACE = f"{SOURCE}, section 7"
BASE = Config(
    data="mnist",
    validation=50_000,
    hidden=(240,) * 3,
    activation="tanh",
    loss="cross-entropy",
    init="xavier-uniform",
    feedback="xavier-uniform",
    optimizer=Optimizer("sgd", lr=0.3),
    batch=64,
    reduction="mean",
    epochs=100,
    evaluate_every=785,  # five epochs of 157 steps
)
SMOKE = {"data": "digits-5k", "validation": 1000, "epochs": 4, "evaluate_every": None}

# --- what is tried -----------------------------------------------------------------------------------------------------------

#: A first look, at one seed: of the five, 0.3 suits BP best, and with 0.5 it ends at chance.
RATES, WIDE_RATES = (0.2, 0.3, 0.4), (0.1, 0.2, 0.3, 0.4, 0.5)
PROBABILITIES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Method:
    """What a method makes of a configuration, and the strengths and learning rates that are tried."""

    change: Callable[[Config, float], Config]
    strengths: tuple[float, ...]
    rates: tuple[float, ...] = RATES
    knob: str = ""  #: what the strength is


def _switching(by: str) -> Callable[[Config, float], Config]:
    return lambda config, p: replace(config, rule=switching(p, by), alignment=200)


#: BP and DFA stand at the ends of switching: their strength is p. Inputs are dropped two fifths as often as hidden units, as where
#: dropout was introduced (Srivastava et al.: 0.2 and 0.5).
METHODS: Mapping[str, Method] = {
    "BP": Method(lambda config, _: replace(config, rule=bp()), (0.0,), WIDE_RATES),
    "by step": Method(_switching("step"), PROBABILITIES, knob="p"),
    "by layer": Method(_switching("layer"), PROBABILITIES, knob="p"),
    "DFA": Method(lambda config, _: replace(config, rule=dfa(), alignment=200), (1.0,), WIDE_RATES),
    "dropout": Method(lambda config, rate: replace(config, dropout=rate, dropout_input=round(0.4 * rate, 3)), (0.1, 0.2, 0.3, 0.4, 0.5),
                      knob="rate"),
    "weight decay": Method(lambda config, decay: replace(config, optimizer=replace(config.optimizer, weight_decay=decay)),
                           (1e-5, 3e-5, 1e-4, 3e-4, 1e-3), knob="λ"),
}  # fmt: skip


def configure(method: str, strength: float, rate: float, base: Config = BASE) -> Config:
    """BASE under a method of some strength, at a learning rate."""
    return METHODS[method].change(replace(base, optimizer=replace(base.optimizer, lr=rate)), strength)


def trial(method: str, strength: float, rate: float) -> str:
    """The name of a trial's run in `SEARCH`."""
    return f"{method}, {strength:g}, {rate:g}"


SEARCH = Experiment(
    name="mixing-search",
    title="3x240 on 10,000 images: strength and learning rate of switching, dropout and weight decay, on held-out images",
    source=PLACE,
    variants={
        trial(name, strength, rate): configure(name, strength, rate)
        for name, method in METHODS.items() for strength in method.strengths for rate in method.rates
    },
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE,
                         only=tuple(trial(name, strength, 0.2) for name, method in METHODS.items() for strength in method.strengths)),
        "laptop": Profile(seeds=1, changes={"epochs": 40}),
        "paper": Profile(seeds=3),
    },
)  # fmt: skip

# --- what was chosen, judged ---------------------------------------------------------------------------------------------------

#: Each method's best strength and learning rate in that search under 'laptop'; a test compares with `best`.
OWN: Mapping[str, tuple[float, float]] = {
    "BP": (0.0, 0.3), "by step": (0.1, 0.3), "by layer": (0.1, 0.3), "DFA": (1.0, 0.5), "dropout": (0.1, 0.3), "weight decay": (1e-5, 0.3),
}  # fmt: skip

FINAL = Experiment(
    name="mixing-final",
    title="3x240 on 10,000 images: BP, DFA, switching, dropout and weight decay, each at its own best, on fresh seeds",
    source=PLACE,
    variants={name: configure(name, *chosen) for name, chosen in OWN.items()},
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE),
        "laptop": Profile(seeds=8, first=10, changes={"epochs": 40}),
        "paper": Profile(seeds=20, first=10),
    },
)

#: Declared beforehand, not chosen: all at one learning rate at which everything is stable.
MNIST_P, MNIST_RATE, MNIST_DROPOUT = (0.1, 0.5), 0.2, 0.25
_FULL = replace(BASE, validation=0, evaluate_every=None)

MNIST = Experiment(
    name="mixing-mnist",
    title="3x240 on all of MNIST: BP, DFA, switching and dropout, on the test set",
    source=PLACE,
    variants={"BP": configure("BP", 0.0, MNIST_RATE, _FULL)}
    | {f"{name}, {p:g}": configure(name, p, MNIST_RATE, _FULL) for p in MNIST_P for name in ("by step", "by layer")}
    | {"DFA": configure("DFA", 1.0, MNIST_RATE, _FULL),
       f"dropout, {MNIST_DROPOUT:g}": configure("dropout", MNIST_DROPOUT, MNIST_RATE, _FULL)},
    profiles={
        "smoke": Profile(seeds=1, changes={"data": "digits-5k", "epochs": 4}),
        "laptop": Profile(seeds=3, changes={"epochs": 15}),
        "paper": Profile(seeds=10),
    },
)  # fmt: skip

EXPERIMENTS = (SEARCH, FINAL, MNIST)

# --- metrics -----------------------------------------------------------------------------------------------------------------


def settled_error(record: Record) -> float:
    """Test error, median of the last three evaluations (%).

    At such learning rates a single one may be a bad moment.
    """
    return statistics.median(row["test_error_pct"] for row in record.evaluations[-3:])


def loss_gap(record: Record) -> float | None:
    """Test loss minus training loss, both at the end (nats)."""
    test, train = record.final["test_loss"], record.final["train_loss"]
    return None if test is None or train is None else test - train


def weight_angle(record: Record) -> float:
    """Angle between the output weights and the last hidden layer's feedback, at the end (degrees)."""
    (angle,) = record.evaluations[-1]["alignment"]["weight_angle"].values()
    return angle


def best(results: Results, method: str, strengths: tuple[float, ...] | None = None) -> tuple[float, float]:
    """Of a method's trials that have records of `SEARCH` (of these strengths), strength and rate of the lowest error, a mean over seeds.

    Raises `ValueError` where there is none.
    """
    have = {record.variant for record in results.records}
    tried = ((s, rate) for s in strengths or METHODS[method].strengths for rate in METHODS[method].rates)

    def error(choice: tuple[float, float]) -> float:
        return statistics.mean(map(settled_error, results.of(trial(method, *choice))))

    return min((choice for choice in tried if trial(method, *choice) in have), key=error)


# --- claims ------------------------------------------------------------------------------------------------------------------

#: 'As much as' another regulariser: at most this far above its error (points).
CLOSE = 0.1
SWITCHED = {"step": "by step", "layer": "by layer"}


def _below(metric: Metric, variant: str, experiment: Experiment = FINAL) -> Contrast:
    return gap(experiment.name, metric, variant, "BP", high=-ABOVE_ZERO)


def _narrows(short: str, variant: str) -> tuple[Claim, Claim]:
    """Where nothing is left of the training error the gap is the test error; losses tell more."""
    return (
        Claim(f"F4/{short}/gap", "and narrows the gap between test and training error", PLACE, _below(error_gap, variant)),
        Claim(f"F4/{short}/loss-gap", "and the gap between test and training loss", PLACE, _below(loss_gap, variant)),
    )


CLAIMS: tuple[Claim, ...] = (
    *(
        Claim(f"F4/yardstick/{name.replace(' ', '-')}", f"a known regulariser lowers the test error against BP here: {name}", PLACE,
              _below(settled_error, name))
        for name in ("dropout", "weight decay")
    ),
    *(
        claim
        for short, name in SWITCHED.items()
        for claim in (
            Claim(f"F4/{short}", f"switching at random {name} lowers the test error against BP", PLACE, _below(settled_error, name)),
            *_narrows(short, name),
            *(
                Claim(f"F4/{short}/{other.replace(' ', '-')}", f"switching {name} does as much as {other} (within {CLOSE} points)", PLACE,
                      gap(FINAL.name, settled_error, name, other, high=CLOSE))
                for other in ("dropout", "weight decay")
            ),
        )
    ),
    Claim("F4/DFA", "DFA alone lowers the test error against BP", PLACE, _below(settled_error, "DFA")),
    *_narrows("DFA", "DFA"),
    *(
        Claim(f"F4/MNIST/{short}/{p:g}", f"on all of MNIST, too, switching {name} with p = {p:g} lowers the test error against BP", PLACE,
              _below(settled_error, f"{name}, {p:g}", MNIST))
        for short, name in SWITCHED.items() for p in MNIST_P
    ),
)  # fmt: skip
