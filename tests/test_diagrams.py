"""What a diagram shows is what the graph says: every edge, once, from its source to its target, legibly."""

import io
from itertools import combinations, product

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from matplotlib.path import Path

from dfa_lib import style
from dfa_lib.diagrams import FROZEN, MOST_HIDDEN, draw, draw_grid, label, name_of
from dfa_lib.errors import DfaLibError
from dfa_lib.graph import RULES, Carrier, Edge, FeedbackGraph, bdfa, bp, brsf, dfa, drtp, fa, fp, frsf, ifa, shallow, switching, usf


def widths(depth):
    return (784, *[200] * depth, 10)


def skip(depth, carrier=Carrier.RANDOM):
    return FeedbackGraph(widths(depth), tuple(Edge(i, i + 2 if i + 2 <= depth else "error", carrier) for i in range(1, depth + 1)), "skip")


RULES_DRAWN = [
    bp(), fa(), dfa(), ifa(), fp(k=0), fp(k=2), fp(k=2, lower="error"), bdfa(block=1), bdfa(block=2), bdfa(block=2, boundary="W^T"),
    bdfa(block=3), usf(), frsf(), brsf(), drtp(), shallow(), dfa(redrawn=True), dfa(gate=False), bdfa(block=2, keep_norm=True),
    dfa(shared=True), switching(0.25),
]  # fmt: skip
GRAPHS = [rule.graph(widths(depth)) for rule in RULES_DRAWN for depth in (2, 5, MOST_HIDDEN)] + [
    skip(5),
    FeedbackGraph(widths(5), (Edge(2, "error", Carrier.RANDOM), Edge(4, 2, Carrier.RANDOM)), "two layers learn"),
    FeedbackGraph(widths(5), tuple(Edge(i, 3, Carrier.RANDOM) for i in (1, 2, 4, 5)) + (Edge(3, "error", Carrier.RANDOM),), "from the middle"),
]


@pytest.fixture(autouse=True)
def book_style():
    with mpl.rc_context():
        style.use()
        yield
    plt.close("all")


def parts(ax, kind):
    """The artists whose name begins with `kind`, by the rest of their name."""
    found = [a for a in [*ax.patches, *ax.texts] if (a.get_gid() or "").startswith(kind + " ")]
    assert len({a.get_gid() for a in found}) == len(found), "nothing is drawn twice"
    return {a.get_gid()[len(kind) + 1 :]: a for a in found}


@pytest.fixture(scope="module", params=GRAPHS, ids=[f"{graph.name}-{graph.depth}" for graph in GRAPHS])
def drawn(request):
    with mpl.rc_context():
        style.use()
        ax = draw(request.param)
        ax.figure.canvas.draw()
        yield request.param, ax


def test_every_edge_is_drawn_and_labelled(drawn):
    graph, ax = drawn
    edges = {name_of(edge): edge for edge in graph.edges}
    assert parts(ax, "feedback").keys() == parts(ax, "label").keys() == edges.keys()
    for name, text in parts(ax, "label").items():
        assert text.get_text() == label(edges[name])
    assert parts(ax, "forward").keys() == parts(ax, "W").keys() == {str(i) for i in range(1, graph.depth + 2)}


def test_arrows_reach_from_source_to_target(drawn):
    graph, ax = drawn
    layers = parts(ax, "layer")
    badges = {"error": parts(ax, "name")["$e$"]} | {"target": t for name, t in parts(ax, "name").items() if name == "$-y$"}
    for edge in graph.edges:
        arrow = parts(ax, "feedback")[name_of(edge)].get_window_extent()
        for end in (badges[edge.source] if isinstance(edge.source, str) else layers[str(edge.source)], layers[str(edge.target)]):
            box = end.get_window_extent()
            assert box.x0 - 5 < arrow.x1 and arrow.x0 < box.x1 + 5
            assert arrow.y1 > box.y1 or arrow.y0 < box.y0, "the arrow leaves the row of layers"


def test_nothing_overlaps_or_is_clipped(drawn):
    _, ax = drawn
    texts = {text.get_gid(): text.get_window_extent() for text in ax.texts if text.get_text()}
    for (one, a), (other, b) in combinations(texts.items(), 2):
        assert not a.overlaps(b), f"{one} overlaps {other}"
    boxes = [layer.get_window_extent() for layer in parts(ax, "layer").values()]
    for name, text in texts.items():
        if name.startswith(("label ", "W ")):
            assert not any(text.overlaps(box) for box in boxes), f"{name} lies on a layer"
    for (name, text), (other, arrow) in product(texts.items(), parts(ax, "feedback").items()):
        lines = ax.transData.transform_path(arrow.get_path()).to_polygons(closed_only=False)
        assert not any(Path(line).intersects_bbox(text, filled=False) for line in lines), f"the arrow {other} runs through {name}"
    frame = ax.figure.bbox
    for artist in [*ax.patches, *ax.texts]:
        box = artist.get_window_extent()
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1, artist.get_gid()


def test_fits_the_text_column(drawn):
    _, ax = drawn
    assert ax.figure.get_figwidth() <= style.TEXT_WIDTH + 1e-9
    assert min(text.get_fontsize() for text in ax.texts) >= 9


def test_layers_that_do_not_learn_are_grey():
    graph = FeedbackGraph(widths(3), (Edge(2, "error", Carrier.RANDOM),))
    ax = draw(graph)
    grey = {name for name, layer in parts(ax, "layer").items() if layer.get_facecolor() == mpl.colors.to_rgba(FROZEN)}
    assert grey == {"1", "3"}
    assert [parts(ax, "step")[str(i)].get_text() for i in (1, 2, 3)] == ["–", "1", "–"]


def test_steps_are_the_graphs_levels():
    ax = draw(fp(k=3).graph(widths(5)))
    assert [parts(ax, "step")[str(i)].get_text() for i in range(1, 6)] == ["4", "4", "3", "2", "1"]
    assert not parts(draw(bp().graph(widths(2)), steps=False), "step")


def test_crossing_lines_go_to_both_sides():
    ax = draw(skip(5))
    ax.figure.canvas.draw()
    middle = parts(ax, "layer")["1"].get_window_extent()
    above = {name for name, arrow in parts(ax, "feedback").items() if arrow.get_window_extent().y1 > middle.y1}
    assert above == {"3->1", "5->3"}


def test_the_gate_shows_in_the_arrowhead():
    for gate in (True, False):
        arrow = parts(draw(dfa(gate=gate).graph(widths(1))), "feedback")["error->1"]
        assert (arrow.get_facecolor() == arrow.get_edgecolor()) is gate


def test_a_kept_norm_shows_as_a_hat():
    labels = parts(draw(bdfa(block=1, keep_norm=True).graph(widths(2))), "label")
    assert {name: text.get_text() for name, text in labels.items()} == {"error->2": "$B_2$", "2->1": r"$\hat B_1$"}


def test_edges_to_draw_from_say_their_probability():
    labels = parts(draw(switching(0.25).graph(widths(1))), "label")
    assert {name: text.get_text() for name, text in labels.items()} == {
        "error->1 B": "$B_1$\n0.25", "error->1 W^T": r"$W_2^\top$" + "\n0.75",
    }  # fmt: skip


def test_given_axes_are_drawn_on():
    _, ax = plt.subplots()
    assert draw(bp().graph(widths(2)), ax, title="BP") is ax
    assert "BP" in {text.get_text() for text in ax.texts}


def test_a_network_without_hidden_layers():
    assert parts(draw(bp().graph((784, 10))), "layer").keys() == {"0", "1"}


def test_a_deep_graph_says_what_to_draw_instead():
    with pytest.raises(DfaLibError, match="room for 7 hidden layers, and this graph has 100.*shallower"):
        draw(dfa().graph(widths(100)))


def test_panel():
    graphs = [rule.graph(widths(2)) for rule in (bp(), fa(), dfa(), ifa(), shallow())]
    figure = draw_grid(graphs)
    assert [next(iter(t for t in ax.texts if t.get_gid() == "title")).get_text() for ax in figure.axes] == [g.name for g in graphs]
    assert figure.get_figwidth() <= style.TEXT_WIDTH + 1e-9
    figure.canvas.draw()
    heights = [parts(ax, "layer")["0"].get_window_extent().y0 for ax in figure.axes]
    assert heights[0] == pytest.approx(heights[1]) and heights[2] == pytest.approx(heights[3])
    assert heights[0] > heights[2] > heights[4]
    for wrong in ([], graphs[:1]):
        with pytest.raises(DfaLibError, match="a title for each"):
            draw_grid(wrong, ["a", "b"])


def test_the_same_graph_is_the_same_file():
    def svg():
        file = io.BytesIO()
        draw(bdfa(block=3).graph(widths(5))).figure.savefig(file, format="svg", metadata={"Date": None})
        return file.getvalue()

    assert svg() == svg()
    assert b"<text" not in svg(), "glyphs are drawn as paths"


def test_every_rule_has_a_style_of_its_own():
    assert style.METHODS.keys() >= RULES.keys()
    looks = {(s.color, s.marker) for s in style.METHODS.values()}
    assert len(looks) == len(style.METHODS) == len({s.marker for s in style.METHODS.values()}) == len({s.label for s in style.METHODS.values()})
    assert style.method("bdfa(block=25)") is style.METHODS["bdfa"]
    with pytest.raises(DfaLibError, match="did you mean 'dfa'"):
        style.method("dfaa")
