"""Launay, Poli and Krzakala, Principled training of neural networks with direct feedback alignment: the bottleneck, and convolutions.
The text at hand is the abstract; settings that it lacks are from the authors' public code.

The code masks the gradient of the middle one of three layers of 800 tanh units, on CIFAR-10, with plain SGD: of its units only some learn.
Here the same networks meet MNIST and CIFAR-10 as JPEG, with that mask and with a layer that is truly narrow. The authors' errors are a
batch's sum for hidden layers and its mean for the output; here they are means for all. Chapter 12_bottleneck reads this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import sqrt
from typing import TYPE_CHECKING

from ..config import Config, Optimizer
from ..graph import bp, dfa
from ..verdicts import ABOVE_ZERO, Claim, Contrast, Parts, every, gap, order, value
from .base import Experiment, Profile

if TYPE_CHECKING:
    from ..records import Record

SOURCE = "launay2019"
ABSTRACT = f"{SOURCE}, abstract"
BASE = Config(
    data="mnist",
    hidden=(800,) * 3,
    activation="tanh",
    loss="cross-entropy",
    rule=dfa(),
    init="uniform-from",
    feedback="normal-from-to",
    optimizer=Optimizer("sgd", lr=0.3),
    batch=128,
    reduction="mean",
    epochs=50,
    alignment=500,
)
#: A quarter of the batch, so that 4,000 digits make more steps.
SMOKE = {"data": "digits-5k", "batch": 32, "epochs": 4, "alignment": 200}

# --- learning rates ----------------------------------------------------------------------------------------------------------

#: Two convolutions by 5 x 5 in steps of 2, on 28 x 28 pixels; a layer of 100 units above them. Beside it networks of the same
#: widths: one that has a kernel for each place, so the zeros of a convolution without its ties, and one fully connected.
_CONVOLUTIONAL = {"hidden": (8 * 12 * 12, 16 * 4 * 4, 100), "convolutions": ((8, 5, 2), (16, 5, 2))}
NETWORKS: Mapping[str, dict[str, object]] = {
    "3x800": {},
    "convolutional": _CONVOLUTIONAL,
    "locally connected": _CONVOLUTIONAL | {"tied": False},
    "fully connected": {"hidden": _CONVOLUTIONAL["hidden"]},
    "3x800, CIFAR-10 as JPEG": {"data": "cifar10-jpeg"},
}
RULES = {"DFA": dfa(), "BP": bp()}
#: On CIFAR-10 a rate of 1 leaves nothing to see.
RATES: Mapping[str, tuple[float, ...]] = dict.fromkeys(NETWORKS, (0.1, 0.3, 1.0, 3.0)) | {"3x800, CIFAR-10 as JPEG": (0.01, 0.03, 0.1, 0.3)}


def _config(network: str, method: str, rate: float, **changes: object) -> Config:
    return replace(BASE, **NETWORKS[network], rule=RULES[method], optimizer=Optimizer("sgd", lr=rate), **changes)


TUNED = tuple((network, method) for network in NETWORKS for method in RULES if method == "DFA" or "CIFAR" not in network)

RATE_SEARCH = Experiment(
    name="bottleneck-rates",
    title="Four learning rates for each network, under DFA and BP, on 10,000 held-out training examples",
    source=ABSTRACT,
    variants={
        f"{network}, {method}, {rate:g}": _config(network, method, rate, validation=10_000, alignment=0)
        for network, method in TUNED for rate in RATES[network]
    },
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE | {"epochs": None, "steps": 40, "alignment": 0, "validation": 1000},
                         only=tuple(f"{network}, {method}, {rate:g}" for network, method in TUNED if "CIFAR" not in network
                                    for rate in RATES[network])),
        "laptop": Profile(seeds=1, changes={"epochs": 6}),
        "paper": Profile(seeds=3, changes={"epochs": 20}),
    },
)  # fmt: skip

#: The best rate in that search under 'laptop' (lowest `launay.held_out` error); a test compares.
OWN_RATES: Mapping[tuple[str, str], float] = {
    ("3x800", "DFA"): 0.3, ("3x800", "BP"): 0.3, ("convolutional", "DFA"): 1.0, ("convolutional", "BP"): 1.0,
    ("locally connected", "DFA"): 3.0, ("locally connected", "BP"): 1.0, ("fully connected", "DFA"): 1.0, ("fully connected", "BP"): 0.3,
    ("3x800, CIFAR-10 as JPEG", "DFA"): 0.1,
}  # fmt: skip


# --- the bottleneck ----------------------------------------------------------------------------------------------------------

BELOW, MIDDLE, ABOVE = 1, 2, 3  #: the layers
_DFA, _BP = (_config("3x800", method, OWN_RATES["3x800", method]) for method in RULES)
#: The rate of the wide network is too large for BP through five units. A third of it is not, and was the second best of the wide one.
SLOWER = replace(_BP, optimizer=replace(_BP.optimizer, lr=0.1))
NARROW = (1, 2, 5, 10, 20, 50, 100, 300)
MASKED = (1, 10, 50, 100, 200, 400)
CONTROL = (1, 2, 5, 10, 100)
WIDE = 800


def narrow(config: Config, n: int) -> Config:
    """The network with n units in its middle layer."""
    below, _, above = config.hidden
    return replace(config, hidden=(below, n, above))


def masked(config: Config, n: int) -> Config:
    """The network as it is, with a gradient for n units of its middle layer."""
    return replace(config, bottleneck=(MIDDLE, n))


WIDTH = Experiment(
    name="bottleneck-width",
    title="3x800 with a bottleneck in the middle: n units, and a gradient for n units of 800",
    source=ABSTRACT,
    variants={f"narrow, {n}": narrow(_DFA, n) for n in (*NARROW, WIDE)}
    | {f"masked, {n}": masked(_DFA, n) for n in MASKED}
    | {f"BP, narrow, {n}": replace(narrow(_BP, n), alignment=0) for n in (*CONTROL, WIDE)}
    | {f"BP slower, narrow, {n}": replace(narrow(SLOWER, n), alignment=0) for n in (*CONTROL, WIDE)},
    profiles={
        "smoke": Profile(
            seeds=1,
            changes=SMOKE,
            only=(*(f"narrow, {n}" for n in (1, 10, 100, WIDE)), "masked, 10", "masked, 100", "BP, narrow, 10", f"BP, narrow, {WIDE}"),
        ),
        "laptop": Profile(seeds=3, changes={"epochs": 6}),
        "paper": Profile(seeds=10),
    },
)

# --- what the knee depends on ------------------------------------------------------------------------------------------------

#: MNIST with fewer classes: the digit modulo 2 or 5. The same images, and errors of 1, 4 and 9 dimensions.
CLASSES = (2, 5, 10)
STARTS = {"random start": "uniform-from", "zero start": "zeros"}
BY_CLASS, BY_CLASS_MASKED, BY_CLASS_WIDE = (1, 2, 5, 10, 30, 100), (10, 30, 100), 400


def _classes(number: int, **changes: object) -> Config:
    return replace(_DFA, hidden=(BY_CLASS_WIDE,) * 3, classes=number if number < 10 else None, **changes)


BY_CLASSES = Experiment(
    name="bottleneck-classes",
    title="3x400 with a bottleneck in the middle: MNIST as 10, 5 and 2 classes, from random and from zero weights",
    source=ABSTRACT,
    variants={
        f"{c} classes, {start}, {n}": narrow(_classes(c, init=init), n)
        for c in CLASSES for start, init in STARTS.items() for n in (*BY_CLASS, BY_CLASS_WIDE)
    }
    | {f"{c} classes, masked, {n}": masked(_classes(c), n) for c in (2, 10) for n in BY_CLASS_MASKED},
    profiles={
        "smoke": Profile(
            seeds=1, changes=SMOKE, only=tuple(f"{c} classes, zero start, {n}" for c in CLASSES for n in (2, 10, 30, BY_CLASS_WIDE))
        ),
        "laptop": Profile(seeds=3, changes={"epochs": 6}),
        "paper": Profile(seeds=10),
    },
)  # fmt: skip

# --- other images ------------------------------------------------------------------------------------------------------------

#: Cosines at the middle layer by units that learn, as a run of the authors' code recorded them: CIFAR-10, 50 epochs.
AUTHORS: Mapping[int, float] = {1: 0.07, 73: 0.69, 800: 0.89}
_CIFAR = _config("3x800, CIFAR-10 as JPEG", "DFA", OWN_RATES["3x800, CIFAR-10 as JPEG", "DFA"])

STAND_IN = Experiment(
    name="bottleneck-cifar10-jpeg",
    title="3x800 with a bottleneck in the middle, on CIFAR-10 as JPEG",
    source=ABSTRACT,
    variants={f"narrow, {n}": narrow(_CIFAR, n) for n in (1, 10, 100, WIDE)} | {f"masked, {n}": masked(_CIFAR, n) for n in (1, 73)},
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE, only=("narrow, 10", "narrow, 800", "masked, 73")),
        "laptop": Profile(seeds=3, changes={"epochs": 6}),
        "paper": Profile(seeds=10),
    },
)

# --- convolutions ------------------------------------------------------------------------------------------------------------

TWINS = tuple(network for network in NETWORKS if "3x800" not in network)
FROZEN: Mapping[str, tuple[int, ...]] = {"frozen-1": (1,), "frozen": (1, 2)}

CONVOLUTION = Experiment(
    name="bottleneck-convolution",
    title="A convolutional network, and locally and fully connected ones of the same widths, under DFA and BP",
    source=ABSTRACT,
    variants={
        f"{network} {method}": _config(network, method, OWN_RATES[network, method], alignment=500 if method == "DFA" else 0)
        for network in TWINS for method in RULES
    }  # and what the first layer and the first two are worth to DFA: the same with these as they were drawn
    | {f"{network} {frozen}": _config(network, "DFA", OWN_RATES[network, "DFA"], alignment=0, frozen=layers)
       for network in TWINS for frozen, layers in FROZEN.items()},
    profiles={
        "smoke": Profile(seeds=1, changes=SMOKE),
        "laptop": Profile(seeds=3, changes={"epochs": 6}),
        "paper": Profile(seeds=10),
    },
)  # fmt: skip

EXPERIMENTS = (RATE_SEARCH, WIDTH, BY_CLASSES, STAND_IN, CONVOLUTION)

# --- metrics -----------------------------------------------------------------------------------------------------------------


def _at(layer: int, name: str, what: str) -> Callable[[Record], float | None]:
    def metric(record: Record) -> float | None:
        measured = [row["alignment"] for row in record.evaluations if "alignment" in row][-1]
        return measured[name][measured["layers"].index(layer)]

    metric.__doc__ = f"{what} of layer {layer} at the end."
    return metric


ANGLE = {layer: _at(layer, "delta_angle", "Alignment angle (degrees)") for layer in (BELOW, MIDDLE, ABOVE)}
COSINE = {layer: _at(layer, "delta_cos", "Cosine of alignment") for layer in (BELOW, MIDDLE, ABOVE)}


def share(n: int | float, classes: int) -> float:
    """The cosine that a layer of n units leaves to the layer below it, of an error e in `classes` - 1 dimensions, where all else is
    aligned: with G the sum of n products b b^T of random vectors, the cosine of G e and e is sqrt(n / (n + classes - 2)) in the mean
    square. Chapter 12_bottleneck derives it."""
    return sqrt(n / (n + classes - 2))


# --- claims ------------------------------------------------------------------------------------------------------------------

#: In degrees, declared before the runs: no better than chance; a loss that is one; none to speak of.
CHANCE, LOSS, SAME = 80.0, 5.0, 10.0
#: And the cosines that the prediction must be met within.
WITHIN = 0.1


def _prevents(experiment: Experiment, suffix: str = "", place: str = "") -> tuple[Claim, ...]:
    """A bottleneck of one unit, at its own layer, below and above."""
    return tuple(
        Claim(f"L2/{how}/{which}{suffix}", f"{who} {what}{place}", ABSTRACT, test)
        for how, who in (("narrow", "a layer of one unit"), ("masked", "a layer of which one unit learns"))
        for which, what, test in (
            ("itself", "does not align", value(experiment.name, ANGLE[MIDDLE], f"{how}, 1", low=CHANCE)),
            ("below", "costs the layer below alignment", gap(experiment.name, ANGLE[BELOW], f"{how}, 1", f"narrow, {WIDE}", low=LOSS)),
            ("above", "costs the layer above alignment", gap(experiment.name, ANGLE[ABOVE], f"{how}, 1", f"narrow, {WIDE}", low=LOSS)),
        )
    )


def _predicted(experiment: Experiment, prefix: str, widths: tuple[int, ...], wide: int, classes: int) -> Parts:
    """At each width the cosine of the layer below is that of the wide network times `share`."""
    return every(*(
        Contrast(experiment.name, COSINE[BELOW], {f"{prefix}, {n}": 1.0, f"{prefix}, {wide}": -share(n, classes)}, -WITHIN, WITHIN)
        for n in widths
    ))  # fmt: skip


def _loss(classes: int, start: str, n: int, sign: float) -> dict[str, float]:
    """The loss of angle from the wide network to one of n units."""
    return {f"{classes} classes, {start}, {n}": sign, f"{classes} classes, {start}, {BY_CLASS_WIDE}": -sign}


def _grows(start: str) -> Parts:
    """With the number of classes, what ten units cost the layer below."""
    return every(*(
        Contrast(BY_CLASSES.name, ANGLE[BELOW], _loss(more, start, 10, 1.0) | _loss(fewer, start, 10, -1.0), low=ABOVE_ZERO)
        for fewer, more in zip(CLASSES, CLASSES[1:], strict=False)
    ))  # fmt: skip


def _worse(network: str, other: str, layer: int) -> Contrast:
    return gap(CONVOLUTION.name, ANGLE[layer], f"{network} DFA", f"{other} DFA", low=ABOVE_ZERO)


CLAIMS: tuple[Claim, ...] = (
    *_prevents(WIDTH),
    *_prevents(STAND_IN, "/cifar10-jpeg", ", on CIFAR-10 as JPEG"),
    Claim("L2/graded", "the narrower the layer, the worse the layer below is aligned (ours)", ABSTRACT,
          order(WIDTH.name, ANGLE[BELOW], [f"narrow, {n}" for n in (WIDE, 100, 10, 1)])),
    Claim("L2/prediction/3x800", "below n units, 10 or more, the cosine is the wide network's times sqrt(n / (n + C - 2)) (ours)", ABSTRACT,
          _predicted(WIDTH, "narrow", (10, 20, 50, 100), WIDE, 10)),
    *(
        Claim(f"L2/prediction/{start.split()[0]}/{c}", f"the same at 3x400 with {c} classes, {start} (ours)", ABSTRACT,
              _predicted(BY_CLASSES, f"{c} classes, {start}", (10, 30, 100), BY_CLASS_WIDE, c))
        for start in STARTS for c in CLASSES
    ),
    *(
        Claim(f"L2/classes/{start.split()[0]}", f"the more classes, the more ten units cost the layer below, {start} (ours)", ABSTRACT,
              _grows(start))
        for start in STARTS
    ),
    Claim("L2/classes/masked", "under the mask the number of classes makes no difference to the layer's own angle (ours)", ABSTRACT,
          every(*(gap(BY_CLASSES.name, ANGLE[MIDDLE], f"2 classes, masked, {n}", f"10 classes, masked, {n}", -SAME, SAME)
                  for n in BY_CLASS_MASKED))),
    Claim("L2/start", "the layer above ten units aligns better by more than 10 degrees when weights start at zero (ours)", ABSTRACT,
          gap(BY_CLASSES.name, ANGLE[ABOVE], "10 classes, zero start, 10", "10 classes, random start, 10", high=-SAME)),
    *(
        Claim(f"L3/layer-{layer}", f"convolution {layer} is aligned worse than the same layer of the fully connected twin", ABSTRACT,
              _worse("convolutional", "fully connected", layer))
        for layer in (1, 2)
    ),
    Claim("L3/resists", "and under DFA the convolutional network falls further behind BP than its twin does", ABSTRACT,
          Contrast(CONVOLUTION.name, "test_error_pct", {"convolutional DFA": 1.0, "convolutional BP": -1.0, "fully connected DFA": -1.0,
                                                        "fully connected BP": 1.0}, low=ABOVE_ZERO)),
    Claim("L3/zeros", "the zeros of a convolution, without its ties, already cost both layers alignment (ours)", ABSTRACT,
          every(*(_worse("locally connected", "fully connected", layer) for layer in (1, 2)))),
    Claim("L3/ties", "and its ties cost both layers more (ours)", ABSTRACT,
          every(*(_worse("convolutional", "locally connected", layer) for layer in (1, 2)))),
    Claim("L3/learns", "the convolutions learn all the same: frozen as drawn, the first or both cost test error (ours)", ABSTRACT,
          every(*(Contrast(CONVOLUTION.name, "test_error_pct", {f"convolutional {frozen}": 1.0, "convolutional DFA": -1.0}, low=ABOVE_ZERO)
                  for frozen in FROZEN))),
)  # fmt: skip
