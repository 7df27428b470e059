"""Espinosa Zarlenga and Niklasson, Blocked DFA: what the paper ran, what it left out, its numbers and its claims.

The paper names depths, widths and block sizes and little else. `NOTEBOOK` is the setting of the public notebook that it was
probably built on (an inference): plain SGD at 0.005 on the mean of a batch, weights uniform in +-0.05, feedback uniform in +-0.5,
biases zero, tanh, softmax and cross-entropy. `SIMPLE` is the scaling by fan that other papers use. '15 layers' and '100 layers' are read as
hidden layers, so that blocks of 50 and 25 divide them. Chapters 09_feedback_propagation and 10_blocked_dfa read this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..config import Config, Optimizer
from ..graph import Rule, bdfa, bp, dfa, fa, fp, shallow
from ..verdicts import ABOVE_ZERO, Claim, every, gap, near, order, value
from .base import Experiment, Profile

if TYPE_CHECKING:
    from ..records import Record

SOURCE = "zarlenga_bdfa"
DEEP, LAYERS_15 = (200,) * 100, (720,) * 15

NOTEBOOK = Config(
    data="mnist",
    hidden=DEEP,
    activation="tanh",
    loss="cross-entropy",
    init="uniform(0.05)",
    feedback="uniform(0.5)",
    optimizer=Optimizer("sgd", lr=0.005),
    batch=128,
    reduction="mean",
    steps=20_000,
    evaluate_every=500,
    alignment=200,
)
#: On 100 layers, seconds: the rules differ in the feedback only, so a few steps show that all of them run.
SMOKE = {"data": "digits-5k", "steps": 100, "evaluate_every": 25, "alignment": 50}

# --- Figures 8 and 9, Tables 1 and 2 -----------------------------------------------------------------------------------------

BLOCKS: Mapping[str, Rule] = {"BP": bp(), "DFA": dfa(), "block 50": bdfa(50), "block 25": bdfa(25)}
SMALLER: Mapping[str, Rule] = {"block 10": bdfa(10), "block 5": bdfa(5)}

FIGURE8, FIGURE9 = (
    Experiment(
        name=f"bdfa-figure{number}",
        title=f"100 layers of {width}: BP, DFA and blocks of 50 and 25",
        source=f"{SOURCE}, Figure {number} and Table {number - 7}",
        variants={name: replace(NOTEBOOK, hidden=(width,) * 100, rule=rule) for name, rule in BLOCKS.items()},
        profiles={
            "smoke": Profile(seeds=1, changes=SMOKE),
            "laptop": Profile(seeds=5),
            "paper": Profile(seeds=10, changes={"steps": 50_000, "evaluate_every": 1000}),
        },
    )
    for number, width in ((8, 200), (9, 300))
)

SMALL_BLOCKS = Experiment(
    name="bdfa-small-blocks",
    title="100 layers of 200: blocks smaller than the paper's, 10 and 5",
    source=f"{SOURCE}, section 6.2.3",
    variants={name: replace(NOTEBOOK, rule=rule) for name, rule in SMALLER.items()},
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE),
        "laptop": Profile(seeds=3, changes={"steps": 10_000}),
        "paper": Profile(seeds=10, changes={"steps": 50_000, "evaluate_every": 1000}),
    },
)

#: Test accuracy in percent: Tables 1 and 2.
TABLES: Mapping[str, Mapping[str, float]] = {
    FIGURE8.name: {"DFA": 89.2, "block 50": 90.8, "block 25": 93.2},
    FIGURE9.name: {"DFA": 89.0, "block 50": 90.0, "block 25": 93.1},
}

# --- is the block effect a step size? ----------------------------------------------------------------------------------------

RATES = (0.0015, 0.005, 0.015, 0.05)
TUNED = {name: rule for name, rule in (BLOCKS | SMALLER).items() if name != "BP"}

RATE_SEARCH = Experiment(
    name="bdfa-rates",
    title="100 layers of 200: four learning rates for each block size, on 10,000 held-out training examples",
    source=f"{SOURCE}, section 6.2.3",
    variants={
        f"{name}, {rate:g}": replace(NOTEBOOK, rule=rule, optimizer=Optimizer("sgd", lr=rate), validation=10_000, alignment=0)
        for name, rule in TUNED.items() for rate in RATES
    },
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE | {"steps": 50, "alignment": 0, "validation": 1000},
                         only=tuple(f"{name}, {rate:g}" for name in TUNED for rate in RATES[1:2])),
        "laptop": Profile(seeds=2, changes={"steps": 5000}),
        "paper": Profile(seeds=3),
    },
)  # fmt: skip

# --- BP at 100 layers --------------------------------------------------------------------------------------------------------

#: The paper's 'BP does not converge' under four initialisations: by fan-in, the notebook's, the tutorials' of the time, two proper ones.
INITS = {
    "fan-in": "uniform-from", "notebook": "uniform(0.05)", "truncated normal 0.1": "truncated-normal(0.1)",
    "Xavier": "xavier-uniform", "orthogonal": "orthogonal",
}  # fmt: skip
#: Tried for every cell, so that no rule is judged at another's rate.
BP_RATES = (0.005, 0.05)

BP_DEPTH = Experiment(
    name="bdfa-bp-init",
    title="100 layers of 200 under BP and DFA, from five initialisations",
    source=f"{SOURCE}, section 6.2.1",
    variants={
        f"{name}, {init}, {rate:g}": replace(NOTEBOOK, rule=rule, init=spec, optimizer=Optimizer("sgd", lr=rate), batch=64, alignment=0)
        for name, rule in (("BP", bp()), ("DFA", dfa())) for init, spec in INITS.items() for rate in BP_RATES
    },
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE | {"steps": 50, "alignment": 0}),
        "laptop": Profile(seeds=3, changes={"steps": 3000, "evaluate_every": 250}),
        "paper": Profile(seeds=5),
    },
)  # fmt: skip

# --- fixed or redrawn feedback -----------------------------------------------------------------------------------------------

REDRAWN = Experiment(
    name="bdfa-redrawn",
    title="100 layers of 200: feedback fixed, redrawn at every step, and none (only the output layer learns)",
    source=f"{SOURCE}, section 6.1",
    variants={
        "DFA": replace(NOTEBOOK, rule=dfa()),
        "DFA, redrawn": replace(NOTEBOOK, rule=dfa(redrawn=True)),
        "block 25": replace(NOTEBOOK, rule=bdfa(25)),
        "block 25, redrawn": replace(NOTEBOOK, rule=bdfa(25, redrawn=True)),
        "output layer only": replace(NOTEBOOK, rule=shallow(), alignment=0),
    },
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE),
        "laptop": Profile(seeds=3, changes={"steps": 10_000}),
        "paper": Profile(seeds=5),
    },
)

# --- Figure 7: feedback propagation ------------------------------------------------------------------------------------------

DEPTHS = range(6)
#: To be set from `SEARCH`, the setting whose k = 0 and k = 5 both come closest to the paper's 94.6 %.
FP_BASE = replace(NOTEBOOK, hidden=LAYERS_15, batch=64, steps=10_000, evaluate_every=250)


def _depths(base: Config, rule: Callable[[int], Rule] = fp, **changes: object) -> dict[str, Config]:
    return {f"k = {k}": replace(base, rule=rule(k), **changes) for k in DEPTHS}


FP_SETTINGS: Mapping[str, dict[str, object]] = {
    "notebook": {},
    "fan": {"init": "uniform-from", "feedback": "uniform-to"},
}
FP_RATES = (0.0015, 0.005, 0.015, 0.05)

FP_SEARCH = Experiment(
    name="bdfa-figure7-rates",
    title="15 layers of 720 under FP: initialisation and learning rate, on 10,000 held-out training examples",
    source=f"{SOURCE}, section 6.2.2",
    variants={
        f"k = {k}, {name}, {rate:g}": replace(
            FP_BASE, rule=fp(k), optimizer=Optimizer("sgd", lr=rate), validation=10_000, alignment=0, **changes
        )
        for k in (0, 2, 5) for name, changes in FP_SETTINGS.items() for rate in FP_RATES
    },
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE | {"steps": 50, "alignment": 0, "validation": 1000}),
        "laptop": Profile(seeds=1, changes={"steps": 5000}),
        "paper": Profile(seeds=2),
    },
)  # fmt: skip

FIGURE7 = Experiment(
    name="bdfa-figure7",
    title="15 layers of 720 under FP(k), k = 0 to 5",
    source=f"{SOURCE}, Figure 7",
    variants=_depths(FP_BASE),
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE),
        "laptop": Profile(seeds=3),
        "paper": Profile(seeds=10),
    },
)

AS_PAPER = "as in Figure 7"
WHY: Mapping[str, dict[str, Config]] = {
    AS_PAPER: _depths(FP_BASE),
    "redrawn feedback": _depths(FP_BASE, lambda k: fp(k, redrawn=True)),
    "lower layers fed by e": {f"k = {k}": replace(FP_BASE, rule=fp(k, lower="error")) for k in DEPTHS[1:]},  # k = 0 is as it was
    "feedback as small as the weights": _depths(FP_BASE, feedback="uniform(0.05)"),
    "Adam": _depths(FP_BASE, optimizer=Optimizer("adam", lr=1e-4)),
}

FIGURE7_WHY = Experiment(
    name="bdfa-figure7-why",
    title="15 layers of 720 under FP(k): feedback redrawn, fed by the output error, as small as the weights; Adam",
    source=f"{SOURCE}, section 6.2.2",
    variants={f"{why}, {k}": config for why, configs in WHY.items() for k, config in configs.items()},
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE | {"steps": 50}),
        "laptop": Profile(seeds=3, changes={"steps": 4000}),
        "paper": Profile(seeds=5),
    },
)

# --- 15 layers on MNIST and notMNIST -----------------------------------------------------------------------------------------

FIFTEEN = Experiment(
    name="bdfa-15-layers",
    title="15 layers of 240 on MNIST and notMNIST under BP, FA and DFA",
    source=f"{SOURCE}, section 6.2.1",
    variants={
        f"{name} {title}": replace(NOTEBOOK, hidden=(240,) * 15, rule=rule, data=data, init="uniform-from", feedback="uniform-to",
                                   optimizer=Optimizer("rmsprop", lr=1e-4), reduction="sum", batch=64, evaluate_every=500)
        for data, title in (("mnist", "MNIST"), ("notmnist-10k", "notMNIST"))
        for name, rule in (("BP", bp()), ("FA", fa()), ("DFA", dfa()))
    },
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE, only=("BP MNIST", "FA MNIST", "DFA MNIST")),
        "laptop": Profile(seeds=5, changes={"steps": 10_000}),
        "paper": Profile(seeds=10, changes={"steps": 50_000, "evaluate_every": 1000}),
    },
)  # fmt: skip

EXPERIMENTS = (FIGURE8, FIGURE9, SMALL_BLOCKS, RATE_SEARCH, BP_DEPTH, REDRAWN, FP_SEARCH, FIGURE7, FIGURE7_WHY, FIFTEEN)

# --- metrics and claims ------------------------------------------------------------------------------------------------------

TEST = "test_error_pct"
#: A network that errs on half of its test set has not been trained; one that errs on a fifth has.
TRAINED, UNTRAINED = 20.0, 50.0


def log_steps(level: float) -> Callable[[Record], float]:
    """How long a run takes to a test error, as a metric."""

    def metric(record: Record) -> float:
        below = [row["step"] for row in record.evaluations if row["test_error_pct"] <= level]
        return float(np.log10(below[0] if below else record.step))

    metric.__doc__ = f"log10 of the steps to {level:g} % test error, or of all steps where it is not reached"
    return metric


_FASTER = log_steps(TRAINED)


def _number(experiment: Experiment, variant: str, within: float) -> Claim:
    accuracy = TABLES[experiment.name][variant]
    which = "B2" if experiment is FIGURE8 else "B3"
    return Claim(f"{which}/{variant.replace(' ', '-')}", f"{variant}: {accuracy} % test accuracy", experiment.source,
                 near(experiment.name, TEST, variant, 100 - accuracy, within))  # fmt: skip


CLAIMS: tuple[Claim, ...] = (
    Claim("B1/BP", "BP does not converge on 100 layers of 200", FIGURE8.source, value(FIGURE8.name, TEST, "BP", low=UNTRAINED)),
    Claim("B1/DFA", "DFA does", FIGURE8.source, value(FIGURE8.name, TEST, "DFA", high=TRAINED)),
    *(
        Claim(f"B1/BP/{init.replace(' ', '-')}", f"BP does not converge from this initialisation, at either rate: {init}",
              BP_DEPTH.source, every(*(value(BP_DEPTH.name, TEST, f"BP, {init}, {rate:g}", low=UNTRAINED) for rate in BP_RATES)))
        for init in INITS
    ),
    *(_number(experiment, variant, 1.0) for experiment in (FIGURE8, FIGURE9) for variant in TABLES[experiment.name]),
    *(
        Claim(f"{which}/order", f"smaller blocks end at a lower test error ({width} units)", experiment.source,
              order(experiment.name, TEST, ("block 25", "block 50", "DFA")))
        for which, width, experiment in (("B2", 200, FIGURE8), ("B3", 300, FIGURE9))
    ),
    *(
        Claim(f"B4/{width}", f"smaller blocks converge faster ({width} units)", experiment.source,
              order(experiment.name, _FASTER, ("block 25", "block 50", "DFA")))
        for width, experiment in ((200, FIGURE8), (300, FIGURE9))
    ),
    *(
        Claim(f"B5/{name.replace(' ', '-')}", f"still smaller blocks fail to converge: {name}", f"{SOURCE}, section 6.2.3",
              value(SMALL_BLOCKS.name, TEST, name, low=UNTRAINED))
        for name in SMALLER
    ),
    Claim("B6", "DFA (k = 0) converges fastest, and each BP layer slows it", FIGURE7.source,
          order(FIGURE7.name, _FASTER, [f"k = {k}" for k in DEPTHS])),
    *(Claim(f"B7/{k}", f"k = {k} ends at 94.6 % test accuracy", FIGURE7.source, near(FIGURE7.name, TEST, f"k = {k}", 5.4, 0.5))
      for k in DEPTHS),
    *(
        Claim(f"B8/{title}", f"15 layers: DFA does as well as BP on {title} (within 0.3 points)", FIFTEEN.source,
              gap(FIFTEEN.name, TEST, f"DFA {title}", f"BP {title}", high=0.3))
        for title in ("MNIST", "notMNIST")
    ),
    *(
        Claim(f"redrawn/{name.replace(' ', '-')}", f"{name}: feedback redrawn at every step trains no more than the output layer alone",
              REDRAWN.source, gap(REDRAWN.name, TEST, f"{name}, redrawn", "output layer only", low=-1.0))
        for name in ("DFA", "block 25")
    ),
    *(
        Claim(f"F5/k={k}", f"k = {k}: with the lower layers fed by the output error learning is faster", f"{SOURCE}, section 6.2.2",
              gap(FIGURE7_WHY.name, _FASTER, f"{AS_PAPER}, k = {k}", f"lower layers fed by e, k = {k}", low=ABOVE_ZERO))
        for k in DEPTHS[1:]
    ),
)  # fmt: skip
