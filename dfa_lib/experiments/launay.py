"""Launay, Poli and Krzakala, Principled training of neural networks with direct feedback alignment: alignment as a guide to practice,
and the bottleneck that prevents it. The text at hand is the abstract; settings that it lacks are from the authors' public code.

The code runs CIFAR-10 on three layers of 800 tanh units with plain SGD; here the same networks meet MNIST, each variant at its own best of
four learning rates on held-out data. Chapters 11_alignment_and_practice and 12_bottleneck read this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ..config import Config, Optimizer
from ..graph import Rule, bdfa, bp, dfa, fa, fp, ifa
from ..verdicts import Claim, gap, value
from .base import Experiment, Profile

if TYPE_CHECKING:
    from ..records import Record

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

# --- the bottleneck ----------------------------------------------------------------------------------------------------------

MIDDLE, WIDTHS = 3, (1, 2, 5, 10, 20, 50, 100, 200, 400)
_WIDE = replace(BASE, hidden=(400,) * 5)


def _narrow(width: int) -> tuple[int, ...]:
    return tuple(width if layer == MIDDLE else 400 for layer in range(1, 6))


BOTTLENECK = Experiment(
    name="launay-bottleneck",
    title="5x400 with a narrow layer in the middle: truly narrow, and as a mask on its gradient",
    source=f"{SOURCE}, abstract",
    variants={f"narrow, {width}": replace(_WIDE, hidden=_narrow(width)) for width in WIDTHS}
    | {f"masked, {width}": replace(_WIDE, bottleneck=(MIDDLE, width)) for width in WIDTHS if width < 400}
    | {f"BP, narrow, {width}": replace(_WIDE, hidden=_narrow(width), rule=bp(), alignment=0) for width in WIDTHS},
    profiles={"smoke": Profile(seeds=1, changes=SMOKE | {"epochs": 1}), "laptop": Profile(seeds=3, changes={"epochs": 10}),
              "paper": Profile(seeds=5, changes={"epochs": 50})},
)  # fmt: skip

EXPERIMENTS = (ALIGNMENT, RATE_SEARCH, PRACTICE, BOTTLENECK)

# --- metrics and claims ------------------------------------------------------------------------------------------------------


def angle_at(layer: int) -> Callable[[Record], float | None]:
    """The delta angle of a hidden layer at the end of a run, as a metric."""

    def metric(record: Record) -> float | None:
        measured = [row["alignment"] for row in record.evaluations if "alignment" in row][-1]
        return measured["delta_angle"][measured["layers"].index(layer)]

    metric.__doc__ = f"Alignment angle of layer {layer} at the end (degrees)."
    return metric


CLAIMS: tuple[Claim, ...] = (
    *(
        Claim(f"L2/{how}/{where}", f"a layer of one unit prevents alignment: {words} ({how})", f"{SOURCE}, abstract", test)
        for how in ("narrow", "masked")
        for where, words, test in (
            ("itself", "its own", value(BOTTLENECK.name, angle_at(MIDDLE), f"{how}, 1", low=80.0)),
            ("below", "of the layer below, against no bottleneck",
             gap(BOTTLENECK.name, angle_at(MIDDLE - 1), f"{how}, 1", "narrow, 400", low=5.0)),
        )
    ),
)  # fmt: skip
