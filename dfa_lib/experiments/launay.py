"""Launay, Poli and Krzakala, Principled training of neural networks with direct feedback alignment: alignment as a guide to practice.
The text at hand is the abstract; settings that it lacks are from the authors' public code. `bottleneck` has what prevents alignment.

The code runs CIFAR-10 on three layers of 800 tanh units with plain SGD; here the same networks meet MNIST, each variant at its own best of
four learning rates on held-out data. Chapter 11_alignment_and_practice reads this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..config import Config, Optimizer
from ..graph import Rule, bdfa, bp, dfa, fa, fp, ifa
from .base import Experiment, Profile

SOURCE = "launay2019"
BASE = Config(
    data="mnist",
    hidden=(400,) * 4,
    activation="tanh",
    loss="cross-entropy",
    rule=dfa(),
    init="uniform-from",
    feedback="normal-from-to",
    optimizer=Optimizer("sgd", lr=0.1),
    batch=128,
    reduction="mean",
    epochs=20,
    alignment=500,
)
SMOKE = {"data": "digits-5k", "epochs": 3, "alignment": 200}

# --- alignment in training ---------------------------------------------------------------------------------------------------

#: The rules side by side on one network, long enough for the training error to reach zero.
FOLLOWED: Mapping[str, Rule] = {"FA": fa(), "DFA": dfa(), "BDFA(2)": bdfa(2), "FP(2)": fp(2), "IFA": ifa()}

ALIGNMENT = Experiment(
    name="launay-alignment",
    title="6x200 tanh: three measures of alignment, layer by layer, under five rules",
    source=f"{SOURCE}, abstract",
    variants={
        name: replace(BASE, hidden=(200,) * 6, rule=rule, feedback="uniform-to", optimizer=Optimizer("rmsprop", lr=3e-4), batch=64,
                      reduction="sum", epochs=60)
        for name, rule in FOLLOWED.items()
    },
    profiles={"smoke": Profile(seeds=1, changes=SMOKE), "laptop": Profile(seeds=3), "paper": Profile(seeds=10, changes={"epochs": 300})},
)  # fmt: skip

# --- practices ---------------------------------------------------------------------------------------------------------------

SGD_RATES, MOMENTUM_RATES, ADAM_RATES = (0.01, 0.03, 0.1, 0.3), (1e-3, 3e-3, 0.01, 0.03), (1e-4, 3e-4, 1e-3, 3e-3)

#: What a practice changes in BASE. Those that only concern the feedback have no BP control.
PRACTICES: Mapping[str, dict[str, object]] = {
    "base": {},
    "raw feedback": {"feedback": "normal(1)"},
    "shared feedback": {"rule": dfa(shared=True)},
    "ReLU": {"activation": "relu"},
    "leaky ReLU": {"activation": "leaky-relu"},
    "erf": {"activation": "erf"},
    "batch normalisation": {"batch_norm": True},
    "dropout": {"dropout": 0.2},
    "momentum": {"optimizer": Optimizer("momentum")},
    "Adam": {"optimizer": Optimizer("adam")},
    "100 units": {"hidden": (100,) * 4},
    "800 units": {"hidden": (800,) * 4},
    "together": {"batch_norm": True, "dropout": 0.2, "optimizer": Optimizer("momentum"), "rule": dfa(shared=True)},
}
FEEDBACK_ONLY = ("raw feedback", "shared feedback")


def rates(practice: str) -> tuple[float, ...]:
    """The four learning rates that a practice is tried with: those of its optimizer."""
    optimizer = PRACTICES[practice].get("optimizer", BASE.optimizer)
    return {"sgd": SGD_RATES, "momentum": MOMENTUM_RATES, "adam": ADAM_RATES}[optimizer.name]


def _config(method: str, practice: str, rate: float, **changes: object) -> Config:
    config = replace(BASE, **PRACTICES[practice], **changes)
    rule = {"rule": bp()} if method == "BP" else {}
    return replace(config, optimizer=replace(config.optimizer, lr=rate), **rule)


TUNED = tuple((method, practice) for practice in PRACTICES for method in ("DFA", "BP") if method == "DFA" or practice not in FEEDBACK_ONLY)

RATE_SEARCH = Experiment(
    name="launay-rates",
    title="4x400: four learning rates for each practice, under DFA and BP, on 10,000 held-out training examples",
    source=f"{SOURCE}, abstract",
    variants={
        f"{method}, {practice}, {rate:g}": _config(method, practice, rate, validation=10_000, alignment=0)
        for method, practice in TUNED for rate in rates(practice)
    },
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE | {"epochs": 1, "alignment": 0, "validation": 1000}),
        "laptop": Profile(seeds=1, changes={"epochs": 6}),
        "paper": Profile(seeds=3),
    },
)  # fmt: skip

#: The best rate in that search under 'laptop' (lowest mean error); a test compares.
OWN_RATES: Mapping[tuple[str, str], float] = {(method, practice): rates(practice)[2] for method, practice in TUNED}

PRACTICE = Experiment(
    name="launay-practices",
    title="4x400: practices one at a time and together, under DFA and BP, each at its own best learning rate",
    source=f"{SOURCE}, abstract",
    variants={f"{method}, {practice}": _config(method, practice, rate) for (method, practice), rate in OWN_RATES.items()},
    profiles={"smoke": Profile(seeds=1, changes=SMOKE | {"epochs": 2}), "laptop": Profile(seeds=3),
              "paper": Profile(seeds=10, changes={"epochs": 100})},
)  # fmt: skip

EXPERIMENTS = (ALIGNMENT, RATE_SEARCH, PRACTICE)
