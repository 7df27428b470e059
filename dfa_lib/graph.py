"""Feedback graphs: a learning rule as a value.

Every rule of the feedback-alignment papers answers one question: from where, and through which matrix, does
hidden layer i get its error signal? A `FeedbackGraph` holds that answer, one `Edge` per hidden layer (or several with
probabilities, one of which is drawn at every step), and nothing else. The same value is computed (`feedback.py`), drawn
(`diagrams.py`), costed (`FeedbackGraph.cost`) and checked (`tests/test_feedback.py`).

Notation: hidden layers 1..L, output layer L+1; a_i = W_i h_{i-1} + b_i, h_i = f(a_i); e = dLoss/da_{L+1};
delta_i is the update direction at a_i, and the weight update is dW_i = -delta_i h_{i-1}^T.

No torch in this module: a graph can be made, drawn and costed without it. Chapter 01_feedback_graphs explains it.
"""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from .errors import DfaLibError, unknown

Source = int | Literal["error", "target"]


class Carrier(enum.Enum):
    """The matrix that an edge multiplies its source by. The sign-concordant ones are Liao, Leibo and Poggio's."""

    TRANSPOSED = "W^T"  #: the transposed forward weights: what back-propagation uses
    RANDOM = "B"  #: a random matrix, drawn once and kept
    SHARED = "B shared"  #: one fixed random matrix for all layers that read one source; narrower ones take its first columns
    REDRAWN = "B redrawn"  #: a random matrix, drawn anew at every step: a control, to which nothing can align
    FORWARD = "W"  #: the forward weights themselves: a delta carried forward (IFA)
    SIGN = "sgn(W^T)"  #: uSF: the signs of W^T, all of one magnitude (the feedback distribution's rms)
    SIGN_FIXED = "|B| sgn(W^T)"  #: frSF: the signs of W^T with fixed random magnitudes
    SIGN_REDRAWN = "|B redrawn| sgn(W^T)"  #: brSF: the signs of W^T with magnitudes drawn anew at every step

    @property
    def stored(self) -> bool:
        """Whether the carrier needs a matrix of its own, beside the forward weights."""
        return self not in (Carrier.TRANSPOSED, Carrier.FORWARD)

    @property
    def redrawn(self) -> bool:
        """Whether the carrier's matrix is drawn anew at every step."""
        return self in (Carrier.REDRAWN, Carrier.SIGN_REDRAWN)

    @property
    def signed(self) -> bool:
        """Whether the carrier takes its signs from W^T."""
        return self in (Carrier.SIGN, Carrier.SIGN_FIXED, Carrier.SIGN_REDRAWN)


@dataclass(frozen=True, slots=True)
class Edge:
    """Hidden layer `target` gets delta_target = carrier(source), times f'(a_target) where `gate` is on.

    `source` is "error" (the output error e), "target" (minus the one-hot target: e without the network's output), or
    the number of the hidden layer whose delta is taken. With `keep_norm` the signal is rescaled, example by example, to the norm
    that its source has, before the gate: a matrix of any size then has gain 1.

    Where a layer has several edges, each has a `probability`, and at every step one is taken. `draw` numbers the draws: edges with
    the same number are decided by one draw, so layers that share it switch together.
    """

    target: int
    source: Source
    carrier: Carrier
    gate: bool = True
    keep_norm: bool = False
    probability: float = 1.0
    draw: int | None = None


@dataclass(frozen=True, slots=True)
class Product:
    """One matrix product of the feedback phase: neighbouring layers of equal width that read the same source through
    random matrices standing side by side or through one that they share, or a single layer through any carrier."""

    source: Source
    carrier: Carrier
    gate: bool
    targets: range
    keep_norm: bool = False
    drawn: bool = False  #: whether each target takes it or another at random

    @property
    def matrices(self) -> int:
        """How many matrices stand side by side."""
        return 1 if self.carrier is Carrier.SHARED else len(self.targets)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one training step asks for, counted from the graph: multiply-accumulates of matrix products (one is two floating-point
    operations). Element-wise work, such as gates and the norms that an edge keeps, is not counted. Edges between which is drawn
    count in full, as the executor computes them all: the worst case. What is taken costs, in expectation, their sum weighted by
    their probabilities."""

    sequential_steps: int  #: matrix products that must wait for one another in the feedback phase
    products: int  #: matrix products of the feedback phase
    forward_macs: int  #: per batch
    feedback_macs: int  #: per batch, deltas of the hidden layers
    gradient_macs: int  #: per batch, weight gradients of the layers that learn
    critical_macs: int  #: on the longest chain where every layer has a worker of its own (see `FeedbackGraph.cost`)
    parameters: int  #: forward weights and biases
    feedback_numbers: int  #: numbers in the feedback matrices that must be stored
    activations: int  #: hidden activations kept for the update, per batch

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole step, without the optimizer's element-wise work."""
        return self.forward_macs + self.feedback_macs + self.gradient_macs


@dataclass(frozen=True)
class FeedbackGraph:
    """A learning rule for a fully connected network: an `Edge` for each hidden layer that learns, or several to draw from.

    `widths` are the layer widths from input to output, so there are `len(widths) - 2` hidden layers. The output layer
    always learns from e. Raises `DfaLibError` when an edge is impossible or the edges form a cycle.
    """

    widths: tuple[int, ...]
    edges: tuple[Edge, ...]
    name: str = "custom"

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(int(w) for w in self.widths))
        object.__setattr__(self, "edges", tuple(sorted(self.edges, key=lambda edge: edge.target)))
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise DfaLibError(f"widths must be at least an input and an output width, all positive; got {self.widths}")
        for edge in self.edges:
            self._check(edge)
        for target, group in groupby(self.edges, lambda edge: edge.target):
            self._check_choice(target, tuple(group))
        self.levels()

    def _check(self, edge: Edge) -> None:
        here = f"feedback edge {edge.source}->h{edge.target}"
        if not 1 <= edge.target <= self.depth:
            raise DfaLibError(f"{here}: the network has hidden layers 1..{self.depth}")
        if isinstance(edge.source, str) and edge.source not in ("error", "target"):
            raise unknown("source of a feedback edge", edge.source, ("error", "target"))
        if not isinstance(edge.carrier, Carrier):
            raise unknown("carrier", edge.carrier, [f"Carrier.{carrier.name}" for carrier in Carrier])
        if isinstance(edge.source, int) and not (1 <= edge.source <= self.depth and edge.source != edge.target):
            raise DfaLibError(f"{here}: a layer's source is another hidden layer (1..{self.depth}), 'error' or 'target'")
        above: Source = edge.target + 1 if edge.target < self.depth else "error"
        if (edge.carrier is Carrier.TRANSPOSED or edge.carrier.signed) and edge.source != above:
            raise DfaLibError(f"{here}: {edge.carrier.value} connects h{edge.target} with the layer above ({above}) only")
        if edge.carrier is Carrier.FORWARD and edge.source != edge.target - 1:
            raise DfaLibError(f"{here}: W carries a delta forward from h{edge.target - 1} only")

    def _check_choice(self, target: int, edges: tuple[Edge, ...]) -> None:
        chances = [edge.probability for edge in edges]
        if len(edges) > 1 and any(edge.draw is None for edge in edges):
            raise DfaLibError(f"hidden layer {target} has {len(edges)} feedback edges; give each a probability and a draw, or leave one")
        if sum(edge.carrier.stored for edge in edges) > 1:
            raise DfaLibError(f"hidden layer {target} has two feedback edges with a matrix of their own; of several, one may have that")
        if min(chances) < 0 or abs(sum(chances) - 1) > 1e-9:
            got = ", ".join(map(str, chances))
            raise DfaLibError(f"the probabilities of the feedback edges into h{target} must add up to 1; got {got}")
        if len({edge.draw for edge in edges}) > 1 or len({edge.gate for edge in edges}) > 1:
            raise DfaLibError(f"the feedback edges into h{target} must have one draw and one gate in common")

    @property
    def depth(self) -> int:
        """The number of hidden layers, L."""
        return len(self.widths) - 2

    def width(self, source: Source) -> int:
        """The width of a source: n_out for the error and the target, else that of the hidden layer."""
        return self.widths[source] if isinstance(source, int) else self.widths[-1]

    def edge(self, layer: int) -> Edge | None:
        """The edge into hidden layer `layer` (the first of several), or None if that layer does not learn."""
        return next((edge for edge in self.edges if edge.target == layer), None)

    def levels(self) -> tuple[tuple[Edge, ...], ...]:
        """The edges grouped by when their sources are ready: all edges of a level can be computed at the same time."""
        return self._levels

    @functools.cached_property
    def _levels(self) -> tuple[tuple[Edge, ...], ...]:
        ready: set[Source] = {"error", "target"}
        waiting, levels = list(self.edges), []
        while waiting:
            level = tuple(edge for edge in waiting if edge.source in ready)
            if not level:
                stuck = ", ".join(f"h{edge.target} <- {edge.source}" for edge in waiting)
                raise DfaLibError(f"no error signal reaches these layers (a cycle, or a source that does not learn): {stuck}")
            levels.append(level)
            waiting = [edge for edge in waiting if edge.source not in ready]
            ready |= {edge.target for edge in level} - {edge.target for edge in waiting}
        return tuple(levels)

    def products(self) -> tuple[tuple[Product, ...], ...]:
        """The matrix products of each level. DFA on equal widths has one in all, whatever its depth."""
        return tuple(tuple(_merge(level, self.widths)) for level in self.levels())

    def sequential_steps(self) -> int:
        """The longest chain of products that wait for one another: L for BP and FA, 1 for DFA."""
        return len(self.levels())

    def cost(self, batch: int) -> Cost:
        """What one step on a batch of `batch` examples asks for.

        With a worker for each layer, the forward pass still goes one layer after another and the feedback one level after
        another, each level as long as its largest edge; all weight gradients are then taken at once. That is `critical_macs`.
        """
        widths, learning = self.widths, {edge.target for edge in self.edges} | {self.depth + 1}
        weights = [widths[i] * widths[i - 1] for i in range(1, len(widths))]
        products = [product for level in self.products() for product in level]
        through = [self.width(p.source) * widths[p.targets.start] * p.matrices for p in products]
        stored = [n for n, p in zip(through, products, strict=True) if p.carrier.stored and p.carrier is not Carrier.SHARED]
        shared: dict[Source, int] = {}  # the widest layer's matrix has those of the others in it
        for p in products:
            if p.carrier is Carrier.SHARED:
                shared[p.source] = max(shared.get(p.source, 0), self.width(p.source) * widths[p.targets.start])
        chain = sum(max(self.width(edge.source) * widths[edge.target] for edge in level) for level in self.levels())
        return Cost(
            sequential_steps=self.sequential_steps(),
            products=len(products),
            forward_macs=batch * sum(weights),
            feedback_macs=batch * sum(through),
            gradient_macs=batch * sum(weights[i - 1] for i in learning),
            critical_macs=batch * (sum(weights) + chain + max(weights[i - 1] for i in learning)),
            parameters=sum(weights) + sum(widths[1:]),
            feedback_numbers=sum(stored) + sum(shared.values()),
            activations=batch * sum(widths[1:-1]),
        )


def _merge(level: tuple[Edge, ...], widths: tuple[int, ...]) -> list[Product]:
    runs = ([edge for _, edge in run] for _, run in groupby(enumerate(level), lambda item: _one_product(*item, widths)))
    return [
        Product(r[0].source, r[0].carrier, r[0].gate, range(r[0].target, r[-1].target + 1), r[0].keep_norm, r[0].draw is not None)
        for r in runs
    ]


def _one_product(position: int, edge: Edge, widths: tuple[int, ...]) -> tuple:
    """Neighbours in a level are one product where this is the same."""
    alone = edge.carrier not in (Carrier.RANDOM, Carrier.REDRAWN, Carrier.SHARED)
    # A layer number minus its position in the level is constant along a run of neighbours.
    place = widths[edge.target], edge.target - position, alone and position
    return edge.source, edge.carrier, edge.gate, edge.keep_norm, edge.draw is None, *place


# --- rules -----------------------------------------------------------------------------------------------------------
# A rule is a function from widths and options to edges. `@rule` names it and makes `fp(k=3)` a small value (a `Rule`)
# that an experiment can hold, compare and write down; `fp(k=3).graph(widths)` is its graph on one network.


@dataclass(frozen=True)
class Rule:
    """A learning rule with its options, before the network is known. `graph(widths)` applies it to one."""

    name: str
    options: tuple[tuple[str, object], ...] = ()  #: only those that differ from the rule's defaults

    def graph(self, widths: Sequence[int]) -> FeedbackGraph:
        """This rule on a network with these layer widths (input, hidden layers, output)."""
        depth = len(widths) - 2
        return FeedbackGraph(tuple(widths), tuple(RULES[self.name].__wrapped__(depth, **dict(self.options))), str(self))

    def __str__(self) -> str:
        return self.name + (f"({', '.join(f'{k}={v}' for k, v in self.options)})" if self.options else "")


RULES: dict[str, Callable[..., Rule]] = {}


def rule(edges: Callable[..., list[Edge]]) -> Callable[..., Rule]:
    """Register `edges(depth, **options)` under its own name, and make it return a `Rule` when called with options."""
    name = edges.__name__
    parameters = list(inspect.signature(edges).parameters.values())[1:]
    signature = inspect.Signature(parameters)

    @functools.wraps(edges)
    def make(*args: object, **options: object) -> Rule:
        try:
            given = signature.bind(*args, **options).arguments
        except TypeError as problem:
            raise DfaLibError(f"{name}{signature}: {problem}") from None
        for option, value in list(given.items()):
            allowed = CHOICES.get(option)
            if option in PROBABILITIES:
                if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
                    raise DfaLibError(f"{option} of {name} is a probability, from 0 to 1; got {value!r}")
                given[option] = float(value)  # 1 and 1.0 are one value, and one identity
                continue
            if allowed and (value not in allowed or type(value) is not type(allowed[0])):  # 0 == False, but prints otherwise
                raise unknown(f"{option} of {name}", value, map(str, allowed))
            if not allowed and (not isinstance(value, int) or isinstance(value, bool) or value < MINIMUM.get(option, 0)):
                raise DfaLibError(f"{option} of {name} must be a whole number of at least {MINIMUM.get(option, 0)}; got {value!r}")
        kept = tuple((k, v) for k, v in given.items() if v != signature.parameters[k].default)
        return Rule(name, kept)

    make.__signature__ = signature
    RULES[name] = make
    return make


CHOICES: dict[str, tuple] = dict.fromkeys(("gate", "redrawn", "keep_norm", "shared"), (True, False))
CHOICES |= {"lower": ("delta", "error"), "boundary": ("B", "W^T"), "by": ("step", "layer")}
MINIMUM = {"k": 0, "block": 1}
PROBABILITIES = ("p",)


def make_rule(name: str, options: dict[str, object]) -> Rule:
    """The rule of this name with these options, checked: how a rule is read back from a record."""
    if name not in RULES:
        raise unknown("rule", name, RULES)
    return RULES[name](**options)


def _random(redrawn: bool) -> Carrier:
    return Carrier.REDRAWN if redrawn else Carrier.RANDOM


def _chain(layers: range, depth: int, carrier: Carrier, gate: bool, keep_norm: bool = False) -> list[Edge]:
    return [Edge(i, i + 1, carrier, gate, keep_norm) if i < depth else Edge(i, "error", carrier, gate) for i in layers]


@rule
def bp(depth: int, gate: bool = True) -> list[Edge]:
    """Back-propagation: i <- (i+1, W_{i+1}^T). The exact gradient."""
    return _chain(range(1, depth + 1), depth, Carrier.TRANSPOSED, gate)


@rule
def fa(depth: int, gate: bool = True, redrawn: bool = False, keep_norm: bool = False) -> list[Edge]:
    """Feedback alignment (Lillicrap et al.): i <- (i+1, B_i). With `keep_norm` a delta keeps its norm on its way through B_i."""
    return _chain(range(1, depth + 1), depth, _random(redrawn), gate, keep_norm)


@rule
def dfa(depth: int, gate: bool = True, redrawn: bool = False, shared: bool = False) -> list[Edge]:
    """Direct feedback alignment (Nøkland, equation 8): i <- (e, B_i).

    With `shared` all layers take their signal from one product with one matrix, narrower layers its first numbers, at the size
    that the feedback distribution has for their own width (Launay, Poli and Krzakala's code).
    """
    if shared and redrawn:
        raise DfaLibError("dfa: feedback is shared or redrawn, not both; leave out one")
    return [Edge(i, "error", Carrier.SHARED if shared else _random(redrawn), gate) for i in range(1, depth + 1)]


@rule
def ifa(depth: int, gate: bool = True) -> list[Edge]:
    """Indirect feedback alignment (Nøkland, equation 9): 1 <- (e, B_1), i <- (i-1, W_i)."""
    first = [Edge(1, "error", Carrier.RANDOM, gate)] if depth else []
    return first + [Edge(i, i - 1, Carrier.FORWARD, gate) for i in range(2, depth + 1)]


@rule
def fp(
    depth: int, k: int, lower: str = "delta", gate: bool = True, redrawn: bool = False, keep_norm: bool = False
) -> list[Edge]:
    """Feedback propagation, FP(k) (Espinosa Zarlenga and Niklasson, section 4).

    The last k hidden layers learn by BP. The others read, each through its own B_i, the delta of the lowest BP layer
    (`lower="delta"`, the paper's) or the output error (`lower="error"`, its proposed experiment). FP(0) is DFA, FP(L) is BP.
    With `keep_norm` that delta (not the error) keeps its norm on its way through B_i.
    """
    if k > depth:
        raise DfaLibError(f"fp(k={k}) needs at least {k} hidden layers; the network has {depth}")
    lowest: Source = depth - k + 1 if k and lower == "delta" else "error"
    below = [Edge(i, lowest, _random(redrawn), gate, keep_norm and lowest != "error") for i in range(1, depth - k + 1)]
    top = range(depth - k + 1, depth + 1)
    return below + _chain(top, depth, Carrier.TRANSPOSED, gate)


@rule
def bdfa(
    depth: int, block: int, boundary: str = "B", gate: bool = True, redrawn: bool = False, keep_norm: bool = False
) -> list[Edge]:
    """Blocked DFA, BDFA(b) (Espinosa Zarlenga and Niklasson, section 5): blocks of b hidden layers, counted from the output.

    The top block reads the output error; every other block reads the delta of the boundary layer, the lowest layer of the
    block above it. Each layer reads through its own B_i. With `boundary="W^T"` the layer directly below a boundary reads
    through the transposed weights instead, as BP would. BDFA(L) is DFA; BDFA(1) is FA, and with W^T it is BP below the top layer.
    With `keep_norm` (not in the paper) a delta keeps its norm where it crosses a boundary through B_i, whatever the size of B_i.
    """
    edges = []
    for i in range(1, depth + 1):
        # The lowest layer of the block above, or past the top.
        above = depth - ((depth - i) // block) * block + 1
        source: Source = above if above <= depth else "error"
        adjacent = boundary == "W^T" and source == i + 1
        carrier = Carrier.TRANSPOSED if adjacent else _random(redrawn)
        edges.append(Edge(i, source, carrier, gate, keep_norm and source != "error" and not adjacent))
    return edges


@rule
def switching(depth: int, p: float, by: str = "step", gate: bool = True) -> list[Edge]:
    """Switching at random between BP and DFA (proposed by Espinosa Zarlenga and Niklasson, section 7).

    At every step, with probability p, a layer learns from the output error, i <- (e, B_i), else from the layer above,
    i <- (i+1, W_{i+1}^T), whatever that one has taken. All layers switch together (`by="step"`: the step is DFA's or BP's), or
    each for itself (`by="layer"`). The levels are those of BP, the worst case; in expectation a step that computes only what it
    takes waits for 1 + (1 - p) (L - 1) products by="step". p = 0 is BP, p = 1 is DFA.
    """
    edges = []
    for i in range(1, depth + 1):
        chance = {"gate": gate, "draw": 0 if by == "step" else i}
        edges += [
            Edge(i, "error", Carrier.RANDOM, probability=p, **chance),
            Edge(i, i + 1 if i < depth else "error", Carrier.TRANSPOSED, probability=1 - p, **chance),
        ]
    return edges


@rule
def usf(depth: int, gate: bool = True) -> list[Edge]:
    """Uniform sign-concordant feedback (Liao, Leibo and Poggio): BP with only the signs of W^T."""
    return _chain(range(1, depth + 1), depth, Carrier.SIGN, gate)


@rule
def frsf(depth: int, gate: bool = True) -> list[Edge]:
    """Fixed random-magnitude sign-concordant feedback (Liao, Leibo and Poggio): BP with |B_i| sgn(W^T)."""
    return _chain(range(1, depth + 1), depth, Carrier.SIGN_FIXED, gate)


@rule
def brsf(depth: int, gate: bool = True) -> list[Edge]:
    """Batchwise random-magnitude sign-concordant feedback (Liao, Leibo and Poggio): magnitudes redrawn at every step."""
    return _chain(range(1, depth + 1), depth, Carrier.SIGN_REDRAWN, gate)


@rule
def drtp(depth: int, gate: bool = True) -> list[Edge]:
    """Direct random target projection (Frenkel, Lefebvre and Bol): i <- (-y, B_i), so no layer waits for the output."""
    return [Edge(i, "target", Carrier.RANDOM, gate) for i in range(1, depth + 1)]


@rule
def shallow(depth: int) -> list[Edge]:
    """Only the output layer learns: the control that a rule must beat to claim that hidden layers learn at all."""
    return []
