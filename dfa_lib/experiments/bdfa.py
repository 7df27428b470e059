"""Espinosa Zarlenga and Niklasson, Blocked DFA: what the paper ran, what it left out, its numbers and its claims.

The paper names depths, widths and block sizes and little else. `NOTEBOOK` is the setting of the public notebook that it was
probably built on (an inference): plain SGD at 0.005 on the mean of a batch, weights uniform in +-0.05, feedback uniform in +-0.5,
biases zero, tanh or ReLU (tanh here), softmax and cross-entropy. '15 layers' and '100 layers' are read as hidden layers, so that blocks
of 50 and 25 divide them. Chapters 09_feedback_propagation and 10_blocked_dfa read this.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from ..config import Config, Optimizer
from ..graph import Rule, bdfa, bp, dfa, fa, fp, shallow
from ..verdicts import ABOVE_ZERO, Claim, gap, measure, near, order, value
from . import nokland
from .base import Experiment, Profile

if TYPE_CHECKING:
    from ..records import Record
    from ..sweep import Results
    from ..verdicts import Metric

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
    batch=64,  # the notebook's 256 at four times the cost: of a mean, the batch changes the noise and not the step
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

BATCH = Experiment(
    name="bdfa-batch",
    title="100 layers of 200: DFA and blocks of 25 with the notebook's batches of 256",
    source=f"{SOURCE}, Figure 8 and Table 1",
    variants={name: replace(NOTEBOOK, rule=BLOCKS[name], batch=256) for name in ("DFA", "block 25")},
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE),
        "laptop": Profile(seeds=1, changes={"steps": 10_000}),
        "paper": Profile(seeds=5),
    },
)

#: Test accuracy in percent: Tables 1 and 2.
TABLES: Mapping[str, Mapping[str, float]] = {
    FIGURE8.name: {"DFA": 89.2, "block 50": 90.8, "block 25": 93.2},
    FIGURE9.name: {"DFA": 89.0, "block 50": 90.0, "block 25": 93.1},
}

# --- is the block effect a step size? ----------------------------------------------------------------------------------------

#: Two below the notebook's and four above: large steps suit DFA, small ones the small blocks.
RATES = (0.0005, 0.0015, 0.005, 0.015, 0.05, 0.15, 0.5)
TUNED = {name: rule for name, rule in (BLOCKS | SMALLER).items() if name != "BP"}
#: Learning begins after 1,000 to 5,000 steps, by chance and rate: a search that ends there chooses the early one. The smaller blocks,
#: which do not learn, have fewer.
SEARCH_STEPS = dict.fromkeys(TUNED, 10_000) | dict.fromkeys(SMALLER, 4000)

RATE_SEARCH = Experiment(
    name="bdfa-rates",
    title="100 layers of 200: seven learning rates for each block size, on 10,000 held-out training examples",
    source=f"{SOURCE}, section 6.2.3",
    variants={
        f"{name}, {rate:g}": replace(NOTEBOOK, rule=rule, optimizer=Optimizer("sgd", lr=rate), validation=10_000, alignment=0,
                                     steps=SEARCH_STEPS[name])
        for name, rule in TUNED.items() for rate in RATES
    },
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE | {"steps": 50, "alignment": 0, "validation": 1000},
                         only=tuple(f"{name}, {NOTEBOOK.optimizer.lr:g}" for name in TUNED)),
        "laptop": Profile(seeds=1),
        "paper": Profile(seeds=3, changes={"steps": 20_000}),
    },
)  # fmt: skip

#: The best rate in that search under 'laptop' of each block size that learns at any. A test compares with `best_rates`.
OWN_RATES: Mapping[str, float] = {"DFA": 0.15, "block 50": 0.015, "block 25": 0.005}


def late_error(record: Record) -> float:
    """Error over the later half of the evaluations, the mean (percent): on a hundred layers single ones jump by tens of points."""
    errors = [row["test_error_pct"] for row in record.evaluations]
    return statistics.mean(errors[len(errors) // 2 :])


def best_rates(results: Results) -> dict[str, float]:
    """Of each block size the rate with the lowest held-out `late_error`, a mean over seeds, in the records of `RATE_SEARCH`; those that
    learn at no rate are left out."""

    def error(name: str, rate: float) -> float:
        return _mean(results, f"{name}, {rate:g}", late_error)

    best = {name: min(RATES, key=lambda rate: error(name, rate)) for name in TUNED}
    return {name: rate for name, rate in best.items() if error(name, rate) < UNTRAINED}


def _mean(results: Results, variant: str, metric: Metric) -> float:
    """A metric's mean over a variant's seeds."""
    return statistics.mean(measure(record, metric) for record in results.of(variant))


OWN = Experiment(
    name="bdfa-own-rates",
    title="100 layers of 200: each block size at its own best learning rate",
    source=f"{SOURCE}, section 6.2.3",
    variants={name: replace(NOTEBOOK, rule=TUNED[name], optimizer=Optimizer("sgd", lr=rate)) for name, rate in OWN_RATES.items()},
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE),
        "laptop": Profile(seeds=3),
        "paper": Profile(seeds=10, changes={"steps": 50_000, "evaluate_every": 1000}),
    },
    shares=("bdfa-figure8",),
)

GAIN_ONE = Experiment(
    name="bdfa-gain-one",
    title="100 layers of 200: a delta that crosses a boundary keeps its norm",
    source=f"{SOURCE}, section 6.2.3",
    variants={"DFA": replace(NOTEBOOK, rule=dfa())}
    | {f"block {size}": replace(NOTEBOOK, rule=bdfa(size, keep_norm=True)) for size in (50, 25)},
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE),
        "laptop": Profile(seeds=3),
        "paper": Profile(seeds=10, changes={"steps": 50_000, "evaluate_every": 1000}),
    },
    shares=("bdfa-figure8",),
)

# --- BP at 100 layers --------------------------------------------------------------------------------------------------------

#: The paper's 'BP does not converge' under five initialisations: by fan-in, the notebook's, the tutorials' of the time, two proper ones.
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
        f"{name}, {init}, {rate:g}": replace(NOTEBOOK, rule=rule, init=spec, optimizer=Optimizer("sgd", lr=rate), alignment=0)
        for name, rule in (("BP", bp()), ("DFA", dfa())) for init, spec in INITS.items() for rate in BP_RATES
    },
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE | {"steps": 50, "alignment": 0}),
        "laptop": Profile(seeds=3, changes={"steps": 2000, "evaluate_every": 250}),
        "paper": Profile(seeds=5),
    },
)  # fmt: skip

# --- the map: size of the feedback, initialisation, optimizer ----------------------------------------------------------------

#: The variance of a square matrix's elements, from its width and the number in the brackets of its distribution's name.
_VARIANCES: Mapping[str, Callable[..., float]] = {
    "uniform": lambda width, bound: bound**2 / 3,
    "uniform-from": lambda width: 1 / (3 * width),
    "uniform-to": lambda width: 1 / (3 * width),
    "xavier-uniform": lambda width: 1 / width,
    "orthogonal": lambda width: 1 / width,
    "truncated-normal": lambda width, deviation: 0.7737 * deviation**2,  # cut at two deviations
}


def hop_gain(spec: str, width: int) -> float:
    """What one hop through a random matrix multiplies the norm of a signal by, before the gate f': sqrt(width * variance).

    |B delta|^2 is a sum over `width` units, each of variance Var(B_ij) |delta|^2, whatever the width that delta comes from. Blocked DFA
    makes a hop at every boundary, so a delta's size goes as the gain to the power of the number of blocks above. The same number
    of an initialisation is what a layer multiplies small activations by. Chapter 10_blocked_dfa shows both.
    """
    name, _, number = spec.rstrip(")").partition("(")
    return math.sqrt(width * _VARIANCES[name](width, *([float(number)] if number else [])))


#: Feedback of three sizes, and a boundary that keeps the norm of what crosses it (our own addition), as the distribution and options
#: of the blocks' rule.
GAINS: Mapping[str, tuple[str, dict[str, object]]] = {
    "contracting": ("uniform-to", {}),
    "neutral": (f"uniform({math.sqrt(3 / DEEP[0]):.4f})", {}),  # variance 1 / width
    "expanding": (NOTEBOOK.feedback, {}),
    "norm kept": (NOTEBOOK.feedback, {"keep_norm": True}),
}
#: Forward weights that shrink small activations from layer to layer, keep them, and enlarge them.
MAP_INITS = {name: INITS[name] for name in ("notebook", "Xavier", "truncated normal 0.1")}
#: Each with its steps. SGD has ten times the notebook's rate, which suits DFA, and that rate itself, which needs more steps (added after
#: the first runs: at the larger one no cell has the paper's order). Adam's rate is from five tried on held-out data for 600 to 1,500
#: steps, DFA with neutral feedback, one seed each: under none had it begun to learn; at this one it had after 2,000.
MAP_OPTIMIZERS = {
    "SGD": (Optimizer("sgd", lr=0.05), 1000), "slow SGD": (NOTEBOOK.optimizer, 4000), "Adam": (Optimizer("adam", lr=3e-5), 2500),
}  # fmt: skip
MAP_BLOCKS: Mapping[str, int | None] = {"DFA": None, "block 50": 50, "block 25": 25, "block 10": 10}


def map_variant(gain: str, init: str, optimizer: str, block: str) -> str:
    """The name of a cell's run. DFA has no boundary: under an option of boundaries it is the plain one with feedback of that size."""
    spec, options = GAINS[gain]
    if options and MAP_BLOCKS[block] is None:
        gain = next(name for name, plain in GAINS.items() if plain == (spec, {}))
    return f"{gain}, {init}, {optimizer}, {block}"


def _map() -> dict[str, Config]:
    found = {}
    for gain, init, optimizer, block in product(GAINS, MAP_INITS, MAP_OPTIMIZERS, MAP_BLOCKS):
        (spec, options), size, (chosen, steps) = GAINS[gain], MAP_BLOCKS[block], MAP_OPTIMIZERS[optimizer]
        if (name := map_variant(gain, init, optimizer, block)) not in found:
            found[name] = replace(NOTEBOOK, rule=bdfa(size, **options) if size else dfa(), feedback=spec, init=MAP_INITS[init],
                                  optimizer=chosen, alignment=0, steps=steps, evaluate_every=250)  # fmt: skip
    return found


MAP = Experiment(
    name="bdfa-map",
    title="100 layers of 200: DFA and blocks of 50, 25 and 10, by size of the feedback, initialisation and optimizer",
    source=f"{SOURCE}, section 6.2.3",
    variants=_map(),
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE | {"steps": 30, "evaluate_every": 30, "alignment": 0},
                         only=tuple(name for name in _map() if ", Xavier, " in name)),
        "laptop": Profile(seeds=1),
        "paper": Profile(seeds=5, changes={"steps": 10_000, "evaluate_every": 500}),
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
        "laptop": Profile(seeds=3),
        "paper": Profile(seeds=5),
    },
    shares=("bdfa-figure8",),
)

# --- Figure 7: feedback propagation ------------------------------------------------------------------------------------------

DEPTHS = range(6)
SEARCHED_DEPTHS = (0, 5)
#: Test accuracy in percent of all six depths after 10,000 steps.
FIGURE7_ACCURACY = 94.6
_FIFTEEN = replace(NOTEBOOK, hidden=LAYERS_15, steps=10_000, evaluate_every=250)

FP_SETTINGS: Mapping[str, dict[str, object]] = {
    "notebook": {},
    "fan": {"init": "uniform-from", "feedback": "uniform-to"},
}
#: Tried for as many steps as the runs take: a shorter search favours larger rates.
FP_RATES = (0.005, 0.015, 0.05, 0.15)

FP_SEARCH = Experiment(
    name="bdfa-figure7-rates",
    title="15 layers of 720 under FP: initialisation and learning rate, on 10,000 held-out training examples",
    source=f"{SOURCE}, section 6.2.2",
    variants={
        f"k = {k}, {name}, {rate:g}": replace(
            _FIFTEEN, rule=fp(k), optimizer=Optimizer("sgd", lr=rate), validation=10_000, alignment=0, **changes
        )
        for k in SEARCHED_DEPTHS for name, changes in FP_SETTINGS.items() for rate in FP_RATES
    },
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE | {"steps": 50, "evaluate_every": 50, "alignment": 0, "validation": 1000},
                         only=tuple(f"k = {k}, {name}, {FP_RATES[1]:g}" for k in SEARCHED_DEPTHS for name in FP_SETTINGS)),
        "laptop": Profile(seeds=1),
        "paper": Profile(seeds=2),
    },
)  # fmt: skip

#: The setting and rate whose depths all come nearest to the paper's accuracy in that search under 'laptop': the notebook's own. A test
#: compares with `nearest_setting`.
FP_CHOICE = ("notebook", NOTEBOOK.optimizer.lr)
FP_BASE = replace(_FIFTEEN, optimizer=Optimizer("sgd", lr=FP_CHOICE[1]), **FP_SETTINGS[FP_CHOICE[0]])


def nearest_setting(results: Results) -> tuple[str, float]:
    """Setting and rate whose depths all come nearest to the paper's error, on held-out data, in the records of `FP_SEARCH`."""

    def distance(choice: tuple[str, float]) -> float:
        name, rate = choice
        return max(abs(_mean(results, f"k = {k}, {name}, {rate:g}", TEST) - (100 - FIGURE7_ACCURACY)) for k in SEARCHED_DEPTHS)

    return min(product(FP_SETTINGS, FP_RATES), key=distance)


def _depths(depths: Sequence[int], rule: Callable[[int], Rule] = fp, **changes: object) -> dict[str, Config]:
    return {f"k = {k}": replace(FP_BASE, rule=rule(k), **changes) for k in depths}


FIGURE7 = Experiment(
    name="bdfa-figure7",
    title="15 layers of 720 under FP(k), k = 0 to 5",
    source=f"{SOURCE}, Figure 7",
    variants=_depths(DEPTHS),
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE),
        "laptop": Profile(seeds=3),
        "paper": Profile(seeds=10),
    },
)

AS_PAPER = "as in Figure 7"
#: Four of the six depths: the question is the order.
WHY_DEPTHS = (0, 1, 3, 5)
WHY: Mapping[str, dict[str, Config]] = {
    AS_PAPER: _depths(WHY_DEPTHS),
    "redrawn feedback": _depths(WHY_DEPTHS, lambda k: fp(k, redrawn=True)),
    "lower layers fed by e": _depths(WHY_DEPTHS[1:], lambda k: fp(k, lower="error")),  # k = 0 is as it was
    # A tenth of the feedback at ten times the rate: the layers below learn in steps as large as before, the BP layers in larger ones.
    "feedback as small as the weights": _depths(WHY_DEPTHS, feedback="uniform(0.05)", optimizer=Optimizer("sgd", lr=10 * FP_CHOICE[1])),
    "Adam": _depths(WHY_DEPTHS, optimizer=Optimizer("adam", lr=1e-4)),
}

FIGURE7_WHY = Experiment(
    name="bdfa-figure7-why",
    title="15 layers of 720 under FP(k): feedback redrawn, fed by the output error, as small as the weights; Adam",
    source=f"{SOURCE}, section 6.2.2",
    variants={f"{why}, {k}": config for why, configs in WHY.items() for k, config in configs.items()},
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE | {"steps": 50, "evaluate_every": 50, "alignment": 0},
                         only=tuple(f"{why}, {k}" for why, configs in WHY.items() for k in configs if k in ("k = 0", "k = 1", "k = 5"))),
        "laptop": Profile(seeds=3, changes={"steps": 2500}),
        "paper": Profile(seeds=5),
    },
)  # fmt: skip

# --- 15 layers on MNIST and notMNIST -----------------------------------------------------------------------------------------

FIFTEEN = Experiment(
    name="bdfa-15-layers",
    title="15 layers of 240 on MNIST and notMNIST under BP, FA and DFA",
    source=f"{SOURCE}, section 6.2.1",
    variants={
        f"{name} {title}": replace(NOTEBOOK, hidden=(240,) * 15, rule=rule, data=data, init="uniform-from", feedback="uniform-to",
                                   optimizer=Optimizer("rmsprop", lr=1e-4), reduction="sum", evaluate_every=500)
        for data, title in (("mnist", "MNIST"), ("notmnist-10k", "notMNIST"))
        for name, rule in (("BP", bp()), ("FA", fa()), ("DFA", dfa()))
    },
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE, only=("BP MNIST", "FA MNIST", "DFA MNIST")),
        "laptop": Profile(seeds=5, changes={"steps": 10_000}),
        "paper": Profile(seeds=10, changes={"steps": 50_000, "evaluate_every": 1000}),
    },
)  # fmt: skip

EXPERIMENTS = (
    FIGURE8, FIGURE9, SMALL_BLOCKS, BATCH, RATE_SEARCH, OWN, GAIN_ONE, BP_DEPTH, MAP, REDRAWN, FP_SEARCH, FIGURE7, FIGURE7_WHY, FIFTEEN,
)

#: Test accuracy in percent: what the paper reports of each experiment's variants.
ACCURACY: Mapping[str, Mapping[str, float]] = {**TABLES, FIGURE7.name: dict.fromkeys(FIGURE7.variants, FIGURE7_ACCURACY)}

# --- metrics and claims ------------------------------------------------------------------------------------------------------

TEST = "test_error_pct"
#: A network that errs on half of its test set has not been trained; one that errs on a fifth has.
TRAINED, UNTRAINED = 20.0, 50.0


def steps_to(record: Record, level: float) -> float | None:
    """When the test error (percent) first comes down to `level`, in steps, read between two evaluations; None if it does not."""
    before = None
    for row in record.evaluations:
        if row["test_error_pct"] <= level:
            if before is None:
                return float(row["step"])
            share = (before["test_error_pct"] - level) / (before["test_error_pct"] - row["test_error_pct"])
            return before["step"] + share * (row["step"] - before["step"])
        before = row
    return None


def log_steps(level: float) -> Callable[[Record], float]:
    """How long a run takes to a test error, as a metric."""

    def metric(record: Record) -> float:
        found = steps_to(record, level)
        budget = record.config.get("steps") or record.step  # a run that diverged was not quick
        return math.log10(max(budget if found is None else found, 1))

    metric.__doc__ = f"log10 of the steps to {level:g} % test error (of all steps, where it is not reached)"
    return metric


_FASTER = log_steps(TRAINED)


_TIGHT = {FIGURE8.name: ("B2", 1.0), FIGURE9.name: ("B3", 1.0), FIGURE7.name: ("B7", 0.5)}  # points


def _number(experiment: Experiment, variant: str) -> Claim:
    accuracy, (which, within) = ACCURACY[experiment.name][variant], _TIGHT[experiment.name]
    return Claim(f"{which}/{variant.removeprefix('k = ').replace(' ', '-')}", f"{variant}: {accuracy} % test accuracy", experiment.source,
                 near(experiment.name, TEST, variant, 100 - accuracy, within))  # fmt: skip


#: The numbers of the paper, by experiment and variant.
NUMBERS: Mapping[str, Mapping[str, Claim]] = {
    experiment.name: {variant: _number(experiment, variant) for variant in ACCURACY[experiment.name]}
    for experiment in (FIGURE8, FIGURE9, FIGURE7)
}
_BLOCK_ORDER = ("block 25", "block 50", "DFA")


def _alternative(why: str) -> Sequence[str]:
    """The runs of an alternative by depth; what it does not change is as in Figure 7."""
    return [f"{why if f'k = {k}' in WHY[why] else AS_PAPER}, k = {k}" for k in WHY_DEPTHS]


CLAIMS: tuple[Claim, ...] = (
    Claim("B1/BP", "BP does not converge on 100 layers of 200", FIGURE8.source, value(FIGURE8.name, TEST, "BP", low=UNTRAINED)),
    Claim("B1/DFA", "DFA does", FIGURE8.source, value(FIGURE8.name, TEST, "DFA", high=TRAINED)),
    *(
        Claim(f"B1/BP/{init.replace(' ', '-')}/{rate:g}", f"BP does not converge from this initialisation, at a rate of {rate:g}: {init}",
              BP_DEPTH.source, value(BP_DEPTH.name, TEST, f"BP, {init}, {rate:g}", low=UNTRAINED))
        for init in INITS for rate in BP_RATES
    ),
    *(claim for experiment in (FIGURE8, FIGURE9) for claim in NUMBERS[experiment.name].values()),
    *(
        Claim(f"{which}/order", f"smaller blocks end at a lower test error ({width} units)", experiment.source,
              order(experiment.name, TEST, _BLOCK_ORDER))
        for which, width, experiment in (("B2", 200, FIGURE8), ("B3", 300, FIGURE9))
    ),
    *(
        Claim(f"B4/{width}", f"smaller blocks converge faster ({width} units)", experiment.source,
              order(experiment.name, _FASTER, _BLOCK_ORDER))
        for width, experiment in ((200, FIGURE8), (300, FIGURE9))
    ),
    *(
        Claim(f"step-size/{which}/{measure}", f"{said}, smaller blocks {does}", experiment.source,
              order(experiment.name, metric, _BLOCK_ORDER))
        for which, said, experiment in (("equal-rate", "all at the notebook's learning rate", FIGURE8),
                                        ("own-rates", "each at its own best learning rate", OWN),
                                        ("gain-one", "with boundaries that keep a delta's norm", GAIN_ONE))
        for measure, does, metric in (("end", "end at a lower test error", TEST), ("speed", "converge faster", _FASTER))
    ),
    *(
        Claim(f"B5/{name.replace(' ', '-')}", f"still smaller blocks fail to converge: {name}", f"{SOURCE}, section 6.2.3",
              value(SMALL_BLOCKS.name, TEST, name, low=UNTRAINED))
        for name in SMALLER
    ),
    Claim("B6", "DFA (k = 0) converges fastest, and each BP layer slows it", FIGURE7.source,
          order(FIGURE7.name, _FASTER, [f"k = {k}" for k in DEPTHS])),
    Claim("B6/output-layer-counted", "the same order, if k counts the output layer: the paper's k = 1 to 5 are then our 0 to 4",
          FIGURE7.source, order(FIGURE7.name, _FASTER, [f"k = {k}" for k in DEPTHS[:-1]])),
    *(
        Claim(f"B6/{why.replace(' ', '-')}", f"the same order: {why}", FIGURE7.source, order(FIGURE7_WHY.name, _FASTER, _alternative(why)))
        for why in WHY
    ),
    *NUMBERS[FIGURE7.name].values(),
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
    Claim("redrawn/2x800", "the same of Nøkland's 2x800 under DFA, which trains well with fixed feedback", REDRAWN.source,
          gap(nokland.VARIANTS.name, TEST, "DFA, redrawn", "DFA, output layer only", low=-1.0)),
    *(
        Claim(f"F5/k={k}", f"k = {k}: with the lower layers fed by the output error learning is faster", f"{SOURCE}, section 6.2.2",
              gap(FIGURE7_WHY.name, _FASTER, f"{AS_PAPER}, k = {k}", f"lower layers fed by e, k = {k}", low=ABOVE_ZERO))
        for k in WHY_DEPTHS[1:]
    ),
)  # fmt: skip
