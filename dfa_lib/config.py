"""One run's full configuration, as a frozen value: what is trained, on what, how, and for how long.

A variant is a diff (`dataclasses.replace(BASE, rule=dfa())`), and what differs between two runs can be printed
(`differences`). The identity of a run is the hash of the fields that differ from their defaults, with the seed
(`content_hash`), so a new field with a default leaves all older records valid. No torch in this module.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .errors import DfaLibError, unknown
from .graph import FeedbackGraph, Rule, bp, make_rule

if TYPE_CHECKING:
    from .theory import StudentTeacher

ACTIVATIONS = ("tanh", "logistic", "relu", "leaky-relu", "erf", "linear", "sign", "threshold", "sign-ste", "threshold-ste")
LOSSES = ("cross-entropy", "binary-cross-entropy", "squared-error")
OPTIMIZERS = ("sgd", "momentum", "rmsprop", "adam")


def make_real(value: object) -> None:
    """Make the real numbers among a frozen dataclass's fields floats: 1 is 1.0, so that equal runs have equal hashes."""
    for f in dataclasses.fields(value):
        if "float" in str(f.type).split(" | ") and type(number := getattr(value, f.name)) is int:
            object.__setattr__(value, f.name, float(number))


@dataclass(frozen=True)
class Optimizer:
    """The update rule. `lr` is per step; with `Config.reduction` it says how far one example moves the weights.

    momentum: v <- momentum v + g, W <- W - lr v. rmsprop (Tieleman and Hinton): v <- decay v + (1 - decay) g^2,
    W <- W - lr g / (sqrt(v) + eps). adam (Kingma and Ba): first moment `momentum`, second `decay`.

    Weight decay is L2 regularisation: `weight_decay` times W is added to the gradient g of the weights, before anything else, as
    torch.optim does (not decoupled as in AdamW). Biases, and batch normalisation's scales and shifts, do not decay.
    """

    name: str = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    decay: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        make_real(self)
        if self.name not in OPTIMIZERS:
            raise unknown("optimizer", self.name, OPTIMIZERS)
        if not self.lr > 0:
            raise DfaLibError(f"the learning rate must be positive; got {self.lr}")
        for name in ("momentum", "decay"):
            if not 0 <= getattr(self, name) < 1:
                raise DfaLibError(f"{name} must be at least 0 and below 1; got {getattr(self, name)}")
        for name in ("eps", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise DfaLibError(f"{name} must be at least 0; got {getattr(self, name)}")


@dataclass(frozen=True)
class Config:
    """Everything that decides a run's result, beside its seed. Raises `DfaLibError` for values that cannot be run."""

    data: str = "mnist"
    classes: int | None = None  #: fewer classes than the data set's: a label is taken modulo this number
    hidden: tuple[int, ...] = (240,) * 7  #: widths of the hidden layers
    convolutions: tuple[tuple[int, ...], ...] = ()  #: the first hidden layers: (channels, kernel, stride) (`convolution`)
    tied: bool = True  #: whether all places of a convolution share a kernel; off, each has one of its own (locally connected)
    activation: str = "tanh"
    batch_norm: bool = False  #: batch normalisation of each hidden layer, between its affine map and its activation
    loss: str = "cross-entropy"
    rule: Rule = field(default_factory=bp)
    init: str = "uniform-from"  #: distribution of the weights (`network.DISTRIBUTIONS`)
    feedback: str = "uniform-to"  #: distribution of the feedback matrices
    optimizer: Optimizer = Optimizer()
    batch: int = 64
    reduction: str = "mean"  #: e is the gradient of the batch's mean loss or of its sum, the same for every layer
    epochs: int | None = None  #: the budget: passes over the training set,
    steps: int | None = None  #: or steps; exactly one of the two
    evaluate_every: int | None = None  #: steps between evaluations; None: at the end of each epoch
    stop_train_error: float | None = None  #: stop when the running training error (percent) since the last evaluation is at most this
    validation: int = 0  #: held-out training examples; where positive, 'test' metrics are on these, never on the test set
    dropout_input: float = 0.0  #: probability of dropping an input
    dropout: float = 0.0  #: probability of dropping a hidden unit
    adversarial: float = 0.0  #: size of the fast-sign perturbation; the step trains on the perturbed batch only
    frozen: tuple[int, ...] = ()  #: layers that keep their initial weights (L + 1 is the output layer)
    bottleneck: tuple[int, int] | None = None  #: (layer, n): of that hidden layer's units only the first n get a delta, the others 0
    alignment: int = 0  #: training examples on which alignment is measured at each evaluation; 0: not measured
    theorem: bool = False  #: with alignment: also the quantities of Nøkland's Theorem 1 (`alignment.Theorem`)
    features: int = 0  #: training examples from which each layer's features are judged at the end (`features.judge`)
    tsne: int = 0  #: test examples whose features are laid out in the plane at the end (`features.layout`)
    after: Config | None = None  #: the stage before: start from the weights with which that run, of the same seed, ends
    dtype: str = "float32"

    def __post_init__(self) -> None:
        choices = {"activation": ACTIVATIONS, "loss": LOSSES, "reduction": ("mean", "sum"), "dtype": ("float32", "float64")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        make_real(self)
        if (self.epochs is None) == (self.steps is None):
            raise DfaLibError(f"a run needs a budget in epochs or in steps, not both; got epochs={self.epochs}, steps={self.steps}")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < least):
                raise DfaLibError(f"{name} must be a whole number, at least {least}; got {value!r}")
        if any(type(width) is not int or width < 1 for width in self.hidden):
            raise DfaLibError(f"hidden layers have whole numbers of units, as in hidden=(240, 240); got {self.hidden!r}")
        for name in ("adversarial", "stop_train_error"):
            if not (getattr(self, name) or 0.0) >= 0:
                raise DfaLibError(f"{name} must be at least 0; got {getattr(self, name)}")
        for name in ("dropout_input", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise DfaLibError(f"{name} is a probability below 1; got {getattr(self, name)}")
        if len(self.convolutions) > len(self.hidden) or any(len(c) != 3 or min(c) < 1 for c in self.convolutions):
            raise DfaLibError(f"a convolution is (channels, kernel, stride), each at least 1, for one of the first of {len(self.hidden)} "
                              f"hidden layers; got {self.convolutions}")  # fmt: skip
        if any(not 1 <= layer <= len(self.hidden) + 1 for layer in self.frozen):
            raise DfaLibError(f"frozen layers are 1..{len(self.hidden) + 1}; got {self.frozen}")
        if self.bottleneck:
            layer, n = self.bottleneck if len(self.bottleneck) == 2 else (0, 0)
            if not 1 <= layer <= len(self.hidden) or not 1 <= n <= self.hidden[layer - 1]:
                raise DfaLibError(f"a bottleneck is a hidden layer, 1..{len(self.hidden)}, and how many of its units get a delta, "
                                  f"at least 1; got {self.bottleneck}, widths {self.hidden}")  # fmt: skip
        if self.theorem and not self.alignment:
            raise DfaLibError("theorem is measured with alignment; give the number of examples, as in alignment=500")
        for name in ("data", "classes", "validation", "hidden", "batch_norm", "convolutions", "tied") if self.after else ():
            before, now = getattr(self.after, name), getattr(self, name)
            if before != now:
                raise DfaLibError(f"the stage before has {name}={before!r}, this one {now!r}; a stage goes on with the same examples and "
                                  "layers: give both the same")  # fmt: skip

    def graph(self, n_in: int, n_out: int) -> FeedbackGraph:
        """The rule's feedback graph on this network."""
        return self.rule.graph((n_in, *self.hidden, n_out))

    @property
    def budget(self) -> str:
        """How long is trained, in words."""
        sooner = f" or {self.stop_train_error:g} % training error" if self.stop_train_error is not None else ""
        return (f"{self.epochs} epochs" if self.epochs else f"{self.steps:,} steps") + sooner

    def as_dict(self) -> dict[str, object]:
        """All fields as JSON values."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def changed(self) -> dict[str, object]:
        """The fields that differ from their defaults, as JSON values; of the optimizer, too, only what differs."""
        default = _defaults(Config)
        changed = {name: value for name, value in self.as_dict().items() if value != default[name]}
        if "optimizer" in changed:
            changed["optimizer"] = {k: v for k, v in changed["optimizer"].items() if v != default["optimizer"][k]}
        if self.after:
            changed["after"] = self.after.changed()
        return changed

    @classmethod
    def from_dict(cls, values: dict) -> Config:
        """The configuration that `as_dict` or `changed` wrote down. Raises `DfaLibError` for an unknown field."""
        _known(cls, "configuration field", values)
        values = {name: _frozen(value) for name, value in values.items()}
        if "rule" in values:
            values["rule"] = make_rule(values["rule"]["name"], values["rule"]["options"])
        if "optimizer" in values:
            _known(Optimizer, "optimizer field", values["optimizer"])
            values["optimizer"] = Optimizer(**values["optimizer"])
        if values.get("after"):
            values["after"] = cls.from_dict(values["after"])
        return cls(**values)


#: The fields that count something, and from where.
_LEAST = {"batch": 1, "epochs": 1, "steps": 1, "evaluate_every": 1, "classes": 2, "validation": 0, "alignment": 0, "features": 0, "tsne": 0}


@functools.cache
def _defaults(kind: type) -> dict[str, object]:
    return kind(epochs=1).as_dict() | {"epochs": None}


def _known(kind: type, what: str, values: dict) -> None:
    known = {f.name for f in dataclasses.fields(kind)}
    for name in values:
        if name not in known:
            raise unknown(what, name, known)


def _plain(value: object) -> object:
    if isinstance(value, Rule):
        return {"name": value.name, "options": dict(value.options)}
    if isinstance(value, Config):
        return value.as_dict()
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _frozen(value: object) -> object:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def seed_count(n: int) -> str:
    """A number of seeds, in words."""
    return f"{n} seed" if n == 1 else f"{n} seeds"


def content_hash(config: Config | StudentTeacher, seed: int) -> str:
    """The identity of a run: 16 hexadecimal digits of the sha256 of what was chosen and the seed."""
    kind = {} if isinstance(config, Config) else {"kind": type(config).__name__}
    text = json.dumps({"config": config.changed(), "seed": seed} | kind, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(one: Config | StudentTeacher, other: Config | StudentTeacher) -> dict[str, tuple[object, object]]:
    """The fields in which two configurations differ, with both values."""
    a, b = one.as_dict(), other.as_dict()
    return {name: (a[name], b[name]) for name in a if a[name] != b[name]}
