"""Path diagrams of learning rules, drawn from the `FeedbackGraph` itself: picture and run cannot disagree.

Layers stand as columns from the input to the output. Dashed grey arrows are the forward pass; solid arrows are the edges of
the graph, from the source of each hidden layer's error signal to that layer, coloured and labelled by their carrier; a hat on the
label says that the edge keeps the norm of what it carries, and a number under it is the probability with which the layer takes
this edge at a step. Edges
of one source and carrier leave it as one line that branches. A layer that does not learn is grey, and a hollow arrowhead
says that the derivative f' is left out. Chapter 01_feedback_graphs shows every rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from .errors import DfaLibError
from .graph import Carrier, Edge, FeedbackGraph, Source
from .style import BLACK, BLUE, GREEN, GREY, PURPLE, TEXT_WIDTH

#: A carrier has the colour of the method that is made of it alone: W^T is BP's black, B is DFA's blue, W is IFA's purple.
COLORS = {
    Carrier.TRANSPOSED: BLACK,
    Carrier.RANDOM: BLUE,
    Carrier.SHARED: BLUE,
    Carrier.REDRAWN: BLUE,
    Carrier.FORWARD: PURPLE,
    Carrier.SIGN: GREEN,
    Carrier.SIGN_FIXED: GREEN,
    Carrier.SIGN_REDRAWN: GREEN,
}
MOST_HIDDEN = 7  #: more columns than this cannot be labelled legibly in a text column

# Lengths in inches, which are also the data units of the axes.
PITCH, BOX_WIDTH, BOX_HEIGHT, BADGE, TRACK, PORT, CORNER, MARGIN, TITLE = 0.86, 0.36, 0.98, 0.155, 0.42, 0.095, 0.1, 0.06, 0.3
PAPER, INK, FAINT, FROZEN = "white", "#333333", "#6F6F6F", "#D5D5D5"


def draw(graph: FeedbackGraph, ax: Axes | None = None, title: str | None = None, steps: bool = True) -> Axes:
    """Draw a rule's path diagram; on a new figure of the right size if no axes are given.

    With `steps`, the number under a hidden layer says in which sequential step of the feedback phase its delta is ready.
    Raises `DfaLibError` for more than `MOST_HIDDEN` hidden layers.
    """
    plan = _Plan(graph, title, steps)
    if ax is None:
        ax = plt.figure(figsize=plan.size, layout="none").add_axes((0, 0, 1, 1))
    return _paint(ax, plan)


def draw_grid(graphs: Sequence[FeedbackGraph], titles: Sequence[str] | None = None, columns: int = 2, steps: bool = True) -> Figure:
    """Draw several diagrams as one panel, at one scale, row by row. `titles` defaults to the graphs' names."""
    titles = [graph.name for graph in graphs] if titles is None else titles
    if not graphs or len(titles) != len(graphs):
        raise DfaLibError(f"a panel needs at least one graph, and a title for each; got {len(graphs)} graphs, {len(titles)} titles")
    gap = 0.15
    widest = (TEXT_WIDTH - gap * (columns - 1)) / columns
    plans = [_Plan(graph, title, steps, widest) for graph, title in zip(graphs, titles, strict=True)]
    rows = [plans[k : k + columns] for k in range(0, len(plans), columns)]
    for row in rows:  # the layers of a row stand at one height
        bottom, top = min(plan.bottom for plan in row), max(plan.top for plan in row)
        for plan in row:
            plan.bottom, plan.top = bottom, top
    heights = [max(plan.size[1] for plan in row) for row in rows]
    widths = [max(plan.size[0] for plan in plans[column::columns]) for column in range(min(columns, len(plans)))]
    width, height = sum(widths) + gap * (len(widths) - 1), sum(heights) + gap * (len(rows) - 1)
    figure = plt.figure(figsize=(width, height), layout="none")
    for number, plan in enumerate(plans):
        row, column = divmod(number, columns)
        x, y = sum(widths[:column]) + gap * column, height - sum(heights[: row + 1]) - gap * row
        box = (x / width, y / height, widths[column] / width, heights[row] / height)
        _paint(figure.add_axes(box), plan)
    return figure


# --- where everything stands -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Net:
    """Edges with one source, carrier and gate: one line that branches to its targets. `low` and `high` are its end columns."""

    source: Source
    edges: tuple[Edge, ...]
    low: int
    high: int

    @property
    def targets(self) -> list[int]:
        return [edge.target for edge in self.edges]

    def crosses(self, other: _Net) -> bool:
        """Whether the two lines would cross, or end in one point, if drawn on the same side of the network."""
        inner, outer = sorted((self, other), key=lambda net: net.high - net.low)
        interleaved = outer.low < inner.low < outer.high < inner.high or inner.low < outer.low < inner.high < outer.high
        meet = not set(self.targets).isdisjoint(other.targets)
        return interleaved or meet or any(inner.low < target < inner.high for target in outer.targets)

    def overlaps(self, other: _Net) -> bool:
        return self.low < other.high and other.low < self.high


class _Plan:
    """Columns, tracks and extent of a diagram: where `draw` puts what."""

    def __init__(self, graph: FeedbackGraph, title: str | None, steps: bool, widest: float = TEXT_WIDTH) -> None:
        if graph.depth > MOST_HIDDEN:
            raise DfaLibError(
                f"a path diagram has room for {MOST_HIDDEN} hidden layers, and this graph has {graph.depth}: "
                "draw the same rule on a shallower network, as in draw(dfa().graph((784, 200, 200, 200, 10)))"
            )
        self.graph, self.title, self.steps = graph, title, steps
        two_lines = any("\n" in label(edge) for edge in graph.edges)
        self.first_track = 0.56 if two_lines else TRACK
        outputs = graph.depth + 1
        badges = 2 if any(edge.source == "target" for edge in graph.edges) else 1
        fixed = BOX_WIDTH / 2 + BADGE + 2 * MARGIN + 0.62 + 0.48 * (badges - 1)
        self.pitch = min(PITCH, (widest - fixed) / outputs)
        self.badges: dict[Source, float] = {"error": outputs * self.pitch + 0.62, "target": outputs * self.pitch + 1.1}
        self.up, self.down = self._tracks(self._nets())
        self.top = BOX_HEIGHT / 2 + self._room(self.up)
        self.bottom = -BOX_HEIGHT / 2 - self._room(self.down)
        self.right = self.badges["target" if badges == 2 else "error"] + BADGE + MARGIN

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top."""
        below, above = MARGIN + 0.22 * self.steps, MARGIN + TITLE * bool(self.title)
        return -BOX_WIDTH / 2 - MARGIN, self.right, self.bottom - below, self.top + above

    @property
    def size(self) -> tuple[float, float]:
        left, right, bottom, top = self.extent
        return right - left, top - bottom

    def x(self, place: Source) -> float:
        """The middle of a layer (0 is the input), of e or of y."""
        return place * self.pitch if isinstance(place, int) else self.badges[place]

    def column(self, place: Source) -> int:
        return place if isinstance(place, int) else self.graph.depth + (2 if place == "error" else 3)

    def _nets(self) -> list[_Net]:
        def key(edge: Edge) -> tuple:
            return self.column(edge.source), edge.carrier.value, edge.gate, edge.keep_norm, edge.probability

        nets = []
        for _, run in groupby(sorted(self.graph.edges, key=key), key):
            edges = tuple(run)
            ends = [self.column(edges[0].source), *(edge.target for edge in edges)]
            nets.append(_Net(edges[0].source, edges, min(ends), max(ends)))
        return sorted(nets, key=lambda net: (net.high - net.low, net.low))

    def _tracks(self, nets: list[_Net]) -> tuple[dict[_Net, int], dict[_Net, int]]:
        """The nets above and below the layers, each with its track, counted outwards from 1. A line goes above if its signal
        travels from the output towards the input, unless it would cross another there and not below."""
        up: dict[_Net, int] = {}
        down: dict[_Net, int] = {}
        for net in sorted(nets, key=lambda net: (net.low, net.high)):
            forward = self.column(net.source) == net.low
            first, second = (down, up) if forward else (up, down)
            crowded = any(net.crosses(other) for other in first)
            (second if crowded and not any(net.crosses(other) for other in second) else first)[net] = 0
        for side in (up, down):
            for net in sorted(side, key=lambda net: net.high - net.low):
                side[net] = 1 + max((side[other] for other in side if other is not net and net.overlaps(other)), default=0)
        return up, down

    def _room(self, side: dict[_Net, int]) -> float:
        return self.level(max(side.values())) + 0.04 if side else 0.0

    def level(self, track: int) -> float:
        """How far a track is from the boxes. The first leaves room for the labels."""
        return self.first_track + 0.17 * (track - 1)

    def route(self, edge: Edge) -> tuple[list[tuple[float, float]], int]:
        """The corners of an edge's line from its source to its target, and the side: 1 above, -1 below."""
        side, sign = (self.up, 1) if any(edge in net.edges for net in self.up) else (self.down, -1)
        net = next(net for net in side if edge in net.edges)
        leftwards = self.column(edge.source) > edge.target
        shift = PORT if leftwards else -PORT
        start = self.x(edge.source) - (0.0 if isinstance(edge.source, str) else shift)
        # Several lines out of one badge: the outermost track leaves on the far side, so that they do not cross.
        siblings = sorted((other for other in side if other.source == net.source), key=lambda other: side[other])
        if len(siblings) > 1:
            spread = 0.075 if isinstance(edge.source, str) else 0.05
            start += spread * (2 * siblings.index(net) / (len(siblings) - 1) - 1) * (1 if leftwards else -1)
        end, half = self.x(edge.target) + shift, sign * BOX_HEIGHT / 2
        track = half + sign * self.level(side[net])
        first = sign * 0.8 * BADGE if isinstance(edge.source, str) else half
        return [(start, first), (start, track), (end, track), (end, half)], sign


# --- drawing ---------------------------------------------------------------------------------------------------------------


def _paint(ax: Axes, plan: _Plan) -> Axes:
    left, right, bottom, top = plan.extent
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    ax.axis("off")
    if plan.title:
        ax.text((left + right) / 2, top - MARGIN, plan.title, ha="center", va="top", fontsize=10.5, gid="title")
    _forward(ax, plan)
    for edge in plan.graph.edges:
        _feedback(ax, plan, edge)
    return ax


def _forward(ax: Axes, plan: _Plan) -> None:
    """The layers, the forward pass, the output error, and the step in which each delta is ready."""
    graph, outputs = plan.graph, plan.graph.depth + 1
    ready = {edge.target: step for step, level in enumerate(graph.levels(), 1) for edge in level}
    for layer in range(outputs + 1):
        x, frozen = plan.x(layer), 0 < layer < outputs and layer not in ready
        name = "$x$" if layer == 0 else r"$\hat y$" if layer == outputs else f"$h_{layer}$"
        _layer(ax, x, name, layer, frozen)
        if layer:
            start, end = plan.x(layer - 1) + BOX_WIDTH / 2, x - BOX_WIDTH / 2
            _arrow(ax, Path([(start, 0), (end, 0)]), GREY, f"forward {layer}", linestyle=(0, (3.2, 2)), linewidth=1.2, head=8)
            ax.text((start + end) / 2, 0.05, f"$W_{layer}$", ha="center", va="bottom", fontsize=10, color=FAINT, gid=f"W {layer}")
        if plan.steps and 0 < layer < outputs:
            ax.text(x, plan.bottom - 0.04, str(ready.get(layer, "–")), ha="center", va="top", fontsize=9, color=FAINT, gid=f"step {layer}")
    if plan.steps:
        ax.text(plan.x(0), plan.bottom - 0.04, "step", ha="center", va="top", fontsize=9, color=FAINT, gid="step")
    start, end = plan.x(outputs) + BOX_WIDTH / 2, plan.x("error") - BADGE
    _arrow(ax, Path([(start, 0), (end, 0)]), GREY, "error", linewidth=1.2, head=8)
    _badge(ax, plan.x("error"), "$e$")
    if any(edge.source == "target" for edge in graph.edges):
        _badge(ax, plan.x("target"), "$-y$")


def _layer(ax: Axes, x: float, name: str, layer: int, frozen: bool) -> None:
    width, height, pad = BOX_WIDTH, BOX_HEIGHT, 0.07
    face, ink = (FROZEN, FAINT) if frozen else (PAPER, INK)
    shape = f"round,pad=0,rounding_size={pad}"
    ax.add_patch(FancyBboxPatch((x - width / 2, -height / 2), width, height, shape, fc=face, ec=ink, lw=1.1, zorder=2, gid=f"layer {layer}"))
    for k in range(3):
        ax.add_patch(Circle((x, height / 2 - 0.145 - 0.205 * k), 0.075, fc="#F3F3F3" if not frozen else FROZEN, ec=ink, lw=0.9, zorder=3))
    ax.text(x, -height / 2 + 0.19, name, ha="center", va="center", fontsize=11, color=ink, zorder=3, gid=f"name {layer}")


def _badge(ax: Axes, x: float, name: str) -> None:
    ax.add_patch(Circle((x, 0), BADGE, fc=PAPER, ec=INK, lw=1.1, zorder=4))
    ax.text(x, -0.005, name, ha="center", va="center", fontsize=11, color=INK, zorder=5, gid=f"name {name}")


def _feedback(ax: Axes, plan: _Plan, edge: Edge) -> None:
    corners, sign = plan.route(edge)
    color, name = COLORS[edge.carrier], name_of(edge)
    style = (0, (6, 1.5, 1.5, 1.5)) if edge.carrier.redrawn else "solid"
    _arrow(ax, _rounded(corners), color, f"feedback {name}", linestyle=style, linewidth=1.6, head=11, hollow=not edge.gate)
    x, y = corners[-1]
    inwards = 1 if plan.column(edge.source) > edge.target else -1
    side = "left" if inwards > 0 else "right"
    text, ink = label(edge), tuple(0.8 * part for part in to_rgb(color))  # a thin letter needs more ink than a line
    middle, size = 0.3 if "\n" in text else 0.2, 9 if edge.carrier.signed or edge.draw is not None else 10.5
    ax.text(x + inwards * 0.055, y + sign * middle, text, ha=side, va="center", fontsize=size, linespacing=1.15,
            color=ink, zorder=6, gid=f"label {name}")  # fmt: skip


def name_of(edge: Edge) -> str:
    """How an edge's artists are called; with its matrix where others connect the same two."""
    return f"{edge.source}->{edge.target}" + (f" {edge.carrier.value}" if edge.draw is not None else "")


def label(edge: Edge) -> str:
    """The matrix of an edge, in the book's symbols (mathtext)."""
    i, above = edge.target, edge.target + 1
    b, w = (r"\hat B", r"\hat W") if edge.keep_norm else ("B", "W")
    chance = "" if edge.draw is None else f"\n{edge.probability:.3g}"
    return {
        Carrier.TRANSPOSED: rf"${w}_{above}^\top$",
        Carrier.RANDOM: f"${b}_{i}$",
        Carrier.SHARED: f"${b}$",
        Carrier.REDRAWN: f"${b}_{i}^t$",
        Carrier.FORWARD: f"${w}_{i}$",
        Carrier.SIGN: rf"sgn$\,{w}_{above}^\top$",
        Carrier.SIGN_FIXED: rf"$|B_{i}|\odot$" + "\n" + rf"sgn$\,{w}_{above}^\top$",
        Carrier.SIGN_REDRAWN: rf"$|B_{i}^t|\odot$" + "\n" + rf"sgn$\,{w}_{above}^\top$",
    }[edge.carrier] + chance


def _rounded(corners: Sequence[tuple[float, float]]) -> Path:
    """A line through the corners, each but the ends rounded off."""
    points, codes = [corners[0]], [Path.MOVETO]
    for before, here, after in zip(corners, corners[1:], corners[2:], strict=False):
        points += [_towards(here, before), here, _towards(here, after)]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path([*points, corners[-1]], [*codes, Path.LINETO])


def _towards(here: tuple[float, float], there: tuple[float, float]) -> tuple[float, float]:
    length = abs(there[0] - here[0]) + abs(there[1] - here[1])  # the segments are level or upright
    part = min(CORNER / length, 0.5) if length else 0.0
    return here[0] + part * (there[0] - here[0]), here[1] + part * (there[1] - here[1])


def _arrow(ax: Axes, path: Path, color: str, name: str, head: int, linewidth: float, linestyle: object = "solid", hollow: bool = False) -> None:
    ax.add_patch(FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=head, lw=linewidth, linestyle=linestyle, ec=color,
                                 fc=PAPER if hollow else color, capstyle="butt", joinstyle="miter", zorder=3.5, gid=name))  # fmt: skip
