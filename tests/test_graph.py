"""Feedback graphs: the rules' edges against the papers, the identities between rules, levels, costs and every refusal."""

import dataclasses
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfa_lib import graph as rules
from dfa_lib.errors import DfaLibError
from dfa_lib.graph import (
    RULES, Carrier, Edge, FeedbackGraph, Product, bdfa, bp, brsf, dfa, drtp, fa, fp, frsf, ifa, make_rule, shallow, switching, usf,
)  # fmt: skip

B, B2, WT, W = Carrier.RANDOM, Carrier.REDRAWN, Carrier.TRANSPOSED, Carrier.FORWARD
FIVE = (7, 5, 5, 5, 5, 5, 3)  # five hidden layers of equal width
ODD = (4, 6, 6, 5, 5, 5, 2)
VARIANTS = [
    bp(), bp(gate=False), fa(), fa(redrawn=True), dfa(), dfa(gate=False, redrawn=True), ifa(), ifa(gate=False),
    fp(0), fp(2), fp(5), fp(2, lower="error"), fp(3, gate=False, redrawn=True), bdfa(1), bdfa(2), bdfa(5), bdfa(9),
    bdfa(2, boundary="W^T"), bdfa(2, redrawn=True, gate=False), bdfa(2, boundary="W^T", keep_norm=True),
    fp(2, keep_norm=True), dfa(shared=True), switching(0.3), switching(0.5, by="layer", gate=False),
    usf(), frsf(gate=False), brsf(), drtp(), shallow(),
]  # fmt: skip


def edges(rule, widths=FIVE):
    return [(edge.target, edge.source, edge.carrier) for edge in rule.graph(widths).edges]


def graph(*edges, widths=(4, 3, 3, 3, 2)):
    return FeedbackGraph(widths, tuple(Edge(*edge) for edge in edges))


def refusal(call):
    with pytest.raises(DfaLibError) as caught:
        call()
    return str(caught.value)


# --- the rules -----------------------------------------------------------------------------------------------------------


def chain(carrier):
    return [(1, 2, carrier), (2, 3, carrier), (3, 4, carrier), (4, 5, carrier), (5, "error", carrier)]


@pytest.mark.parametrize(
    "rule, expected",
    [
        (bp(), chain(WT)),
        (fa(), chain(B)),
        (fa(redrawn=True), chain(B2)),
        (dfa(), [(i, "error", B) for i in (1, 2, 3, 4, 5)]),
        (dfa(redrawn=True), [(i, "error", B2) for i in (1, 2, 3, 4, 5)]),
        (dfa(shared=True), [(i, "error", Carrier.SHARED) for i in (1, 2, 3, 4, 5)]),
        (ifa(), [(1, "error", B), (2, 1, W), (3, 2, W), (4, 3, W), (5, 4, W)]),
        (fp(2), [(1, 4, B), (2, 4, B), (3, 4, B), (4, 5, WT), (5, "error", WT)]),
        (fp(2, redrawn=True), [(1, 4, B2), (2, 4, B2), (3, 4, B2), (4, 5, WT), (5, "error", WT)]),
        (fp(2, lower="error"), [(1, "error", B), (2, "error", B), (3, "error", B), (4, 5, WT), (5, "error", WT)]),
        (bdfa(2), [(1, 2, B), (2, 4, B), (3, 4, B), (4, "error", B), (5, "error", B)]),
        (bdfa(3), [(1, 3, B), (2, 3, B), (3, "error", B), (4, "error", B), (5, "error", B)]),
        (bdfa(2, boundary="W^T"), [(1, 2, WT), (2, 4, B), (3, 4, WT), (4, "error", B), (5, "error", B)]),
        (switching(0.3), [edge for bp_edge in chain(WT) for edge in ((bp_edge[0], "error", B), bp_edge)]),
        (usf(), chain(Carrier.SIGN)),
        (frsf(), chain(Carrier.SIGN_FIXED)),
        (brsf(), chain(Carrier.SIGN_REDRAWN)),
        (drtp(), [(i, "target", B) for i in (1, 2, 3, 4, 5)]),
        (shallow(), []),
    ],
    ids=str,
)
def test_edges_on_five_hidden_layers(rule, expected):
    assert edges(rule) == expected


def test_every_rule_is_among_the_variants_tested():
    assert {rule.name for rule in VARIANTS} == set(RULES)


@pytest.mark.parametrize("rule", VARIANTS, ids=str)
def test_gate_option_reaches_every_edge(rule):
    gate = dict(rule.options).get("gate", True)
    assert all(edge.gate is gate for edge in rule.graph(FIVE).edges)


@pytest.mark.parametrize(
    "rule, layers",
    [(fa(keep_norm=True), {1, 2, 3, 4}), (fp(2, keep_norm=True), {1, 2, 3}), (fp(2, lower="error", keep_norm=True), set()),
     (fp(0, keep_norm=True), set()), (bdfa(2, keep_norm=True), {1, 2, 3}), (bdfa(2, boundary="W^T", keep_norm=True), {2}),
     (bdfa(5, keep_norm=True), set()), (bdfa(2), set())],
    ids=str,
)  # fmt: skip
def test_norms_are_kept_where_a_delta_goes_through_a_random_matrix(rule, layers):
    assert {edge.target for edge in rule.graph(FIVE).edges if edge.keep_norm} == layers


def test_layers_that_differ_in_the_kept_norm_share_no_product():
    made = FeedbackGraph((4, 3, 3, 2), (Edge(1, "error", B, keep_norm=True), Edge(2, "error", B)))
    assert [(p.targets, p.keep_norm) for p in made.products()[0]] == [(range(1, 2), True), (range(2, 3), False)]


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=9), st.booleans(), st.booleans(), st.booleans())
def test_identities_between_rules(hidden, gate, redrawn, keep_norm):
    widths, depth, plain = (5, *hidden, 3), len(hidden), {"gate": gate, "redrawn": redrawn}
    options = plain | {"keep_norm": keep_norm}
    of = {rule: rule.graph(widths).edges for rule in (bp(gate=gate), fa(**options), dfa(**plain))}
    assert fp(0, **options).graph(widths).edges == of[dfa(**plain)]
    assert fp(0, lower="error", **options).graph(widths).edges == of[dfa(**plain)]
    assert fp(depth, **options).graph(widths).edges == of[bp(gate=gate)]
    assert bdfa(depth, **options).graph(widths).edges == of[dfa(**plain)]
    assert bdfa(depth + 3, **options).graph(widths).edges == of[dfa(**plain)]
    assert bdfa(1, **options).graph(widths).edges == of[fa(**options)]
    below_top = bdfa(1, boundary="W^T", **options).graph(widths).edges[:-1]
    assert below_top == of[bp(gate=gate)][:-1]
    assert bdfa(1, boundary="W^T", **options).graph(widths).edges[-1] == of[fa(**options)][-1]


@pytest.mark.parametrize("by, draws", [("step", 1), ("layer", 5)])
def test_switching_says_with_which_probability_and_draw_each_edge_is_taken(by, draws):
    made = switching(0.25, by=by).graph(FIVE)
    assert {(edge.carrier, edge.probability) for edge in made.edges} == {(B, 0.25), (WT, 0.75)}
    assert len({edge.draw for edge in made.edges}) == draws
    assert made.sequential_steps() == bp().graph(FIVE).sequential_steps()
    assert [(p.targets, p.carrier) for p in made.products()[0]] == [(range(1, 6), B), (range(5, 6), WT)]
    both, of_bp, of_dfa = (rule.graph(FIVE).cost(2) for rule in (switching(0.25, by=by), bp(), dfa()))
    assert both.feedback_macs == of_bp.feedback_macs + of_dfa.feedback_macs
    assert both.critical_macs == of_bp.critical_macs and both.feedback_numbers == of_dfa.feedback_numbers


@pytest.mark.parametrize("rule", [bp(), fa(), dfa(), fp(0), bdfa(2), switching(0.5), usf(), drtp(), shallow()], ids=str)
def test_network_without_hidden_layers_has_no_edges(rule):
    made = rule.graph((4, 3))
    assert made.edges == () and made.depth == 0 and made.sequential_steps() == 0 and made.products() == ()


# --- rules as values -----------------------------------------------------------------------------------------------------


def test_rules_with_the_same_meaning_are_equal():
    assert fp(2) == fp(k=2) == fp(2, lower="delta") == fp(2, "delta", True)
    assert dfa() == dfa(gate=True) == dfa(redrawn=False)
    assert hash(fp(2)) == hash(fp(k=2, gate=True))
    assert len({fp(2), fp(3), fp(2, lower="error"), dfa(), dfa(gate=False), drtp(), bdfa(2), bdfa(2, boundary="W^T")}) == 8


def test_probability_is_one_value_however_it_is_written():
    assert repr(switching(1)) == repr(switching(1.0)) and str(switching(0)) == "switching(p=0.0)"


def test_order_of_the_options_does_not_matter():
    assert dfa(redrawn=True, gate=False) == dfa(gate=False, redrawn=True)


def test_rule_prints_the_options_that_differ_from_its_defaults():
    assert str(fp(3)) == "fp(k=3)"
    assert str(dfa(gate=True)) == "dfa"
    assert str(bdfa(block=2, boundary="W^T")) == "bdfa(block=2, boundary=W^T)"
    assert bdfa(2).graph(FIVE).name == "bdfa(block=2)"


@pytest.mark.parametrize("rule", VARIANTS, ids=str)
def test_rule_comes_back_from_its_name_and_options(rule):
    again = make_rule(rule.name, dict(rule.options))
    assert again == rule and again.graph(FIVE) == rule.graph(FIVE)


def test_rule_of_a_users_own():
    @rules.rule
    def skipping(depth, every=2):
        return [Edge(i, "error", Carrier.RANDOM) for i in range(1, depth + 1, every)]

    try:
        mine = skipping(every=3)
        assert [edge.target for edge in mine.graph(FIVE).edges] == [1, 4]
        assert make_rule("skipping", {"every": 3}) == mine
        with pytest.raises(DfaLibError, match="every of skipping must be a whole number of at least 0; got 'x'"):
            skipping(every="x")
    finally:
        del rules.RULES["skipping"]


def test_rule_and_graph_cannot_be_changed():
    for value, name in ((dfa(), "name"), (dfa().graph(FIVE), "edges"), (dfa().graph(FIVE).edges[0], "source")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, None)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: fp(), ["fp", "missing", "'k'"]),
        (lambda: fp(-1), ["k of fp", "at least 0", "-1"]),
        (lambda: fp(1.5), ["k of fp", "whole number", "1.5"]),
        (lambda: fp(True), ["k of fp", "whole number", "True"]),
        (lambda: fp("2"), ["k of fp", "whole number", "'2'"]),
        (lambda: bdfa(0), ["block of bdfa", "at least 1", "0"]),
        (lambda: bdfa(2, boundary="W^t"), ["boundary of bdfa", "'W^t'", "did you mean 'W^T'"]),
        (lambda: fp(2, lower="eror"), ["lower of fp", "did you mean 'error'", "delta"]),
        (lambda: dfa(gate="yes"), ["gate of dfa", "'yes'", "False, True"]),
        (lambda: dfa(gate=0), ["gate of dfa", "0", "False, True"]),
        (lambda: fa(redrawn=None), ["redrawn of fa", "None"]),
        (lambda: dfa(gat=False), ["dfa", "'gat'", "gate"]),
        (lambda: bp(redrawn=True), ["bp", "'redrawn'"]),
        (lambda: bp(True, False), ["bp", "too many"]),
        (lambda: dfa(shared=True, redrawn=True).graph(FIVE), ["shared or redrawn", "not both"]),
        (lambda: switching(), ["switching", "'p'"]),
        (lambda: switching(1.5), ["p of switching", "probability", "1.5"]),
        (lambda: switching(float("nan")), ["p of switching", "nan"]),
        (lambda: switching("0.5"), ["p of switching", "'0.5'"]),
        (lambda: switching(True), ["p of switching", "True"]),
        (lambda: switching(0.5, by="steps"), ["by of switching", "did you mean 'step'"]),
        (lambda: fp(6).graph(FIVE), ["fp(k=6)", "at least 6", "has 5"]),
        (lambda: make_rule("dfaa", {}), ["unknown rule 'dfaa'", "did you mean 'dfa'", "shallow"]),
        (lambda: make_rule("make_rule", {}), ["unknown rule 'make_rule'"]),
        (lambda: make_rule("dfa", {"block": 2}), ["dfa", "'block'"]),
    ],
)
def test_impossible_rule_is_refused(call, words):
    message = refusal(call)
    assert all(word in message for word in words), message


# --- graphs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: FeedbackGraph((5,), ()), ["widths", "input and an output", "(5,)"]),
        (lambda: FeedbackGraph((5, 0, 3), ()), ["widths", "positive", "(5, 0, 3)"]),
        (lambda: graph((4, "error", B)), ["error->h4", "hidden layers 1..3"]),
        (lambda: graph((0, "error", B)), ["error->h0", "hidden layers 1..3"]),
        (lambda: graph((1, 4, B)), ["4->h1", "1..3", "'error' or 'target'"]),
        (lambda: graph((1, 0, B)), ["0->h1", "1..3"]),
        (lambda: graph((2, 2, B)), ["2->h2", "another hidden layer"]),
        (lambda: graph((1, "error", "random")), ["carrier 'random'", "Carrier.RANDOM"]),
        (lambda: graph((1, 3, WT), (3, "error", B)), ["3->h1", "W^T", "layer above (2)"]),
        (lambda: graph((1, "error", WT)), ["error->h1", "W^T", "layer above (2)"]),
        (lambda: graph((3, "target", WT)), ["target->h3", "W^T", "layer above (error)"]),
        (lambda: graph((3, "error", WT), (1, 3, Carrier.SIGN)), ["3->h1", "sgn(W^T)", "layer above (2)"]),
        (lambda: graph((1, "error", Carrier.SIGN_FIXED)), ["error->h1", "|B| sgn(W^T)", "layer above (2)"]),
        (lambda: graph((1, "error", Carrier.SIGN_REDRAWN)), ["error->h1", "|B redrawn| sgn(W^T)"]),
        (lambda: graph((1, "error", B), (3, 1, W)), ["1->h3", "W carries a delta forward from h2"]),
        (lambda: graph((1, "error", W)), ["error->h1", "W carries a delta forward"]),
        (lambda: graph((1, "error", B), (1, 2, B), (2, "error", B)), ["hidden layer 1 has 2 feedback edges"]),
        (lambda: graph((1, 2, WT, True, False, 0.5, 0), (1, "error", B), (2, "error", B)), ["hidden layer 1 has 2 feedback edges", "draw"]),
        (lambda: graph((1, 2, WT, True, False, 0.5, 0), (1, "error", B, True, False, 0.4, 0)), ["into h1", "add up to 1", "0.5, 0.4"]),
        (lambda: graph((1, 2, WT, True, False, 1.5, 0), (1, "error", B, True, False, -0.5, 0)), ["into h1", "1.5, -0.5"]),
        (lambda: graph((1, "error", B, True, False, 0.5)), ["into h1", "add up to 1", "0.5"]),
        (lambda: graph((1, 2, WT, True, False, 0.5, 0), (1, "error", B, True, False, 0.5, 1)), ["into h1", "one draw"]),
        (lambda: graph((1, 2, WT, True, False, 0.5, 0), (1, "error", B, False, False, 0.5, 0)), ["into h1", "one gate"]),
        (lambda: graph((1, 2, B, True, False, 0.5, 0), (1, "error", B, True, False, 0.5, 0)), ["layer 1", "matrix of their own"]),
        (lambda: graph((1, 2, B), (2, 1, B), (3, "error", B)), ["cycle", "h1 <- 2", "h2 <- 1"]),
        (lambda: graph((1, 2, B), (3, "error", B)), ["does not learn", "h1 <- 2"]),
    ],
)
def test_impossible_graph_is_refused(call, words):
    message = refusal(call)
    assert all(word in message for word in words), message


def test_misspelt_source_is_refused():
    edge = Edge(1, "error", B)
    object.__setattr__(edge, "source", "eror")  # past the type checker that conftest.py installs, as in a user's program
    message = refusal(lambda: FeedbackGraph((4, 3, 2), (edge,)))
    assert "source of a feedback edge 'eror'" in message and "did you mean 'error'" in message


def test_error_message_names_only_the_layers_that_no_signal_reaches():
    assert "h3" not in refusal(lambda: graph((1, 2, B), (2, 1, B), (3, "error", B)))


def test_order_of_the_edges_does_not_matter():
    assert graph((3, "error", B), (1, 3, B), (2, 3, B)) == graph((1, 3, B), (2, 3, B), (3, "error", B))


def test_edge_of_a_layer():
    made = graph((3, "error", B), (1, 3, B))
    assert made.edge(1) == Edge(1, 3, B) and made.edge(2) is None and made.edge(3).source == "error"


def test_width_of_a_source():
    made = bp().graph(ODD)
    assert [made.width(source) for source in ("error", "target", 1, 3)] == [2, 2, 6, 5]


# --- levels, products, cost ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", VARIANTS, ids=str)
@pytest.mark.parametrize("widths", [FIVE, ODD], ids=str)
def test_every_edge_is_computed_once_and_after_its_source(rule, widths):
    made, ready, done = rule.graph(widths), {"error", "target"}, []
    for level in made.levels():
        assert {edge.source for edge in level} <= ready
        done += level
        ready |= {edge.target for edge in level if {e for e in made.edges if e.target == edge.target} <= set(done)}
    assert sorted(edge.target for level in made.levels() for edge in level) == [edge.target for edge in made.edges]
    covered = [layer for level in made.products() for product in level for layer in product.targets]
    assert sorted(covered) == [edge.target for edge in made.edges]


@pytest.mark.parametrize("rule", VARIANTS, ids=str)
@pytest.mark.parametrize("widths", [FIVE, ODD], ids=str)
def test_products_say_what_their_edges_say(rule, widths):
    made = rule.graph(widths)
    for product in (product for level in made.products() for product in level):
        for layer in product.targets:
            (edge,) = (e for e in made.edges if (e.target, e.source, e.carrier) == (layer, product.source, product.carrier))
            assert (edge.gate, edge.keep_norm, edge.draw is not None) == (product.gate, product.keep_norm, product.drawn)
        assert len({widths[layer] for layer in product.targets}) == 1


@pytest.mark.parametrize(
    "rule, steps",
    [(bp(), 5), (fa(), 5), (dfa(), 1), (ifa(), 5), (fp(0), 1), (fp(1), 2), (fp(2), 3), (fp(4), 5), (fp(5), 5),
     (fp(2, lower="error"), 2), (bdfa(1), 5), (bdfa(2), 3), (bdfa(3), 2), (bdfa(5), 1), (usf(), 5), (drtp(), 1), (shallow(), 0)],
    ids=str,
)  # fmt: skip
def test_sequential_steps(rule, steps):
    assert rule.graph(FIVE).sequential_steps() == steps
    assert rule.graph(ODD).sequential_steps() == steps  # the widths do not change what waits for what


@pytest.mark.parametrize("depth", [1, 2, 17, 100])
def test_dfa_is_one_product_at_any_depth(depth):
    products = dfa().graph((7, *[5] * depth, 3)).products()
    assert products == ((Product("error", B, True, range(1, depth + 1)),),)


def test_dfa_is_one_product_for_each_run_of_equal_widths():
    assert [p.targets for p in dfa().graph(ODD).products()[0]] == [range(1, 3), range(3, 6)]
    assert [p.targets for p in dfa().graph((4, 5, 6, 5, 2)).products()[0]] == [range(1, 2), range(2, 3), range(3, 4)]


@pytest.mark.parametrize("depth, block, blocks", [(5, 1, 5), (5, 2, 3), (6, 3, 2), (100, 25, 4), (100, 30, 4), (7, 7, 1)])
def test_bdfa_is_one_product_for_each_block(depth, block, blocks):
    products = bdfa(block).graph((7, *[5] * depth, 3)).products()
    assert [len(level) for level in products] == [1] * blocks


def test_layers_that_differ_in_carrier_or_gate_share_no_product():
    made = FeedbackGraph((4, 3, 3, 3, 3, 2), (Edge(1, "error", B), Edge(2, "error", B2), Edge(3, "error", B, False),
                                              Edge(4, "error", WT)))  # fmt: skip
    assert [p.targets for p in made.products()[0]] == [range(i, i + 1) for i in (1, 2, 3, 4)]


def test_layers_with_a_gap_between_them_share_no_product():
    made = FeedbackGraph((4, 3, 3, 3, 2), (Edge(1, "error", B), Edge(3, "error", B)))
    assert [p.targets for p in made.products()[0]] == [range(1, 2), range(3, 4)]


def test_cost_of_bp_counted_by_hand():
    cost = bp().graph((4, 3, 5, 2)).cost(batch=10)  # weights 12 + 15 + 10 = 37
    assert (cost.sequential_steps, cost.products) == (2, 2)
    assert cost.forward_macs == 370
    assert cost.feedback_macs == 250  # W_3^T: 2 x 5, W_2^T: 5 x 3
    assert cost.gradient_macs == 370
    assert cost.macs == 990
    assert cost.parameters == 37 + 3 + 5 + 2
    assert cost.feedback_numbers == 0
    assert cost.activations == 80


def test_cost_of_dfa_counted_by_hand():
    cost = dfa().graph((4, 3, 5, 2)).cost(batch=10)
    assert (cost.sequential_steps, cost.products) == (1, 2)
    assert cost.feedback_macs == 160  # B_1: 2 x 3, B_2: 2 x 5
    assert cost.feedback_numbers == 16
    assert cost.macs == 370 + 160 + 370


@pytest.mark.parametrize(
    "rule, feedback_macs, feedback_numbers, gradient_macs",
    [
        (fa(), 10 + 15, 10 + 15, 37),
        (ifa(), 6 + 15, 6, 37),
        (fp(1), 15 + 10, 15, 37),  # h1 <- h2 through B_1 (5 x 3), h2 <- e through W_3^T
        (fp(1, lower="error"), 6 + 10, 6, 37),
        (bdfa(1, boundary="W^T"), 15 + 10, 10, 37),
        (frsf(), 25, 25, 37),
        (dfa(shared=True), 6 + 10, 10, 37),  # the narrow layer's matrix is a slice of the wide one's
        (drtp(), 6 + 10, 16, 37),
        (shallow(), 0, 0, 10),
    ],
    ids=str,
)
def test_cost_of_one_example_counted_by_hand(rule, feedback_macs, feedback_numbers, gradient_macs):
    cost = rule.graph((4, 3, 5, 2)).cost(batch=1)
    assert (cost.feedback_macs, cost.feedback_numbers, cost.gradient_macs) == (feedback_macs, feedback_numbers, gradient_macs)
    assert cost.forward_macs == 37 and cost.parameters == 47


def test_cost_of_shared_feedback_does_not_grow_with_depth():
    costs = [dfa(shared=True).graph((4, *[5] * depth, 3)).cost(batch=2) for depth in (1, 100)]
    assert [(cost.feedback_macs, cost.feedback_numbers, cost.products) for cost in costs] == [(2 * 15, 15, 1)] * 2


def test_cost_scales_with_the_batch_and_storage_does_not():
    one, ten = (bdfa(2).graph(ODD).cost(batch) for batch in (1, 10))
    for name in ("forward_macs", "feedback_macs", "gradient_macs", "macs", "activations"):
        assert getattr(ten, name) == 10 * getattr(one, name)
    for name in ("sequential_steps", "products", "parameters", "feedback_numbers"):
        assert getattr(ten, name) == getattr(one, name)


def test_graphs_and_configurations_need_no_torch():
    script = (
        "import sys; from dfa_lib.graph import bdfa; from dfa_lib.config import Config, content_hash; "
        "bdfa(2).graph((9, 5, 5, 3)).cost(4); content_hash(Config(epochs=1), 0); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    "rule, chain",
    [
        (bp(), 10 + 15),  # h2 <- e through W_3^T (2 x 5), then h1 <- h2 through W_2^T (5 x 3)
        (fa(), 10 + 15),
        (dfa(), 10),  # B_1 (2 x 3) and B_2 (2 x 5) at once
        (ifa(), 6 + 15),  # h1 <- e through B_1, then h2 <- h1 through W_2
        (fp(1), 10 + 15),
        (fp(1, lower="error"), 10),
        (bdfa(2), 10),
    ],
    ids=str,
)
def test_longest_chain_counted_by_hand(rule, chain):
    """Forward 12 + 15 + 10, the feedback's levels, and the largest of the three gradients, 5 x 3."""
    assert rule.graph((4, 3, 5, 2)).cost(batch=1).critical_macs == 37 + chain + 15


def test_longest_chain_without_hidden_layers_that_learn():
    assert shallow().graph((4, 3, 5, 2)).cost(batch=10).critical_macs == 10 * (37 + 10)
    assert dfa().graph((4, 3)).cost(batch=1).critical_macs == 12 + 12


def test_longest_chain_is_never_longer_than_the_whole_step():
    for rule in VARIANTS:
        cost = rule.graph(ODD).cost(batch=3)
        assert cost.forward_macs < cost.critical_macs <= cost.macs


def test_direct_feedback_with_unlimited_workers_is_at_most_twice_as_fast_as_bp():
    """Equal widths: both pass forward layer by layer, and only BP comes back so. Amdahl's bound, from the graph alone."""
    ratios = []
    for depth in (2, 10, 100, 1000):
        of_bp, of_dfa = (rule.graph((5, *[5] * depth, 5)).cost(1).critical_macs for rule in (bp(), dfa()))
        ratios.append(of_bp / of_dfa)
    assert ratios == sorted(ratios) and 1.99 < ratios[-1] < 2
