"""Angles: of known vectors, of rules against back-propagation, and of what has no direction."""

import math

import pytest
import torch
from torch.nn import functional

from dfa_lib.alignment import MOST_LAYERS, UNIT_QUANTILES, Probe, angle, cosine, thin, unit_angles, weight_angles
from dfa_lib.feedback import LOSSES, Feedback
from dfa_lib.graph import bdfa, bp, dfa, drtp, fa, fp, frsf, shallow, switching
from dfa_lib.network import Network, generator

WIDTHS = (6, 5, 5, 4, 3)
KINDS = ("means", "variances", "scales", "shifts")
QUANTITIES = ("delta_angle", "delta_angle_sd", "delta_cos", "signal_angle", "mean_angle")


def vector(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def data(n, n_in, n_out, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, n_in, dtype=torch.float64, generator=g)
    return x, torch.eye(n_out, dtype=torch.float64)[torch.randint(n_out, (n,), generator=g)]


def network(widths=WIDTHS, seeds=(0,), activation="tanh", init="normal(0.6)", dtype=torch.float64, batch_norm=False):
    made = Network(widths, activation, len(seeds), dtype, batch_norm=batch_norm)
    made.initialise(init, seeds)
    return made


def measure(net, rule, x, y, spec="normal(0.5)", loss="cross-entropy", seeds=(0,)):
    return Probe(net, Feedback(rule.graph(net.widths), net, spec, seeds), LOSSES[loss], x, y)()


def same(one, other, tolerance=1e-9):
    for name in QUANTITIES:
        assert one[name] == pytest.approx(other[name], abs=tolerance, nan_ok=True), name


# --- vectors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "u, v, degrees",
    [((1, 0), (0, 2), 90), ((3, 0), (1, 1), 45), ((1, 2), (-2, -4), 180), ((1, 2), (3, 6), 0),
     ((1, 0, 0), (1, math.sqrt(3), 0), 60), ((0, 1), (-1, -1), 135)],
)  # fmt: skip
def test_angle_of_known_vectors(u, v, degrees):
    assert angle(vector(*u), vector(*v)).item() == pytest.approx(degrees, abs=2e-6)  # acos near 1 gives half of float64's digits
    assert cosine(vector(*u), vector(*v)).item() == pytest.approx(math.cos(math.radians(degrees)), abs=1e-15)


@pytest.mark.parametrize("scale", [1e-200, 1e-305, 1e200])
@pytest.mark.parametrize("other_scale", [1.0, 1e-200, 1e200])
def test_angle_of_tiny_and_huge_vectors(scale, other_scale):
    assert angle(vector(3, 0) * scale, vector(1, 1) * other_scale).item() == pytest.approx(45, abs=1e-12)


def test_zero_vector_has_no_angle():
    u, zero = vector(1, 2), vector(0, 0)
    assert all(math.isnan(f(a, b)) for f in (angle, cosine) for a, b in ((u, zero), (zero, u), (zero, zero)))


def test_angles_are_taken_along_the_last_dimension():
    u, v = torch.randn(2, 4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = functional.cosine_similarity(u, v, dim=-1)
    assert cosine(u, v).shape == (4, 3) and torch.allclose(cosine(u, v), expected, atol=1e-14)


# --- the probe -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["tanh", "relu", "erf"])
def test_back_propagation_is_aligned_with_itself(activation):
    # biases keep every example's relu units from being all off
    (result,) = measure(network(activation=activation, init="uniform-from", widths=(6, 30, 30, 20, 3)), bp(), *data(20, 6, 3))
    assert result["layers"] == [1, 2, 3] and result["undefined"] == [0, 0, 0]
    for name in ("delta_angle", "delta_angle_sd", "signal_angle", "mean_angle"):
        assert max(result[name]) < 3e-6, name  # acos near 1 gives half of float64's digits
    assert result["delta_cos"] == pytest.approx([1, 1, 1], abs=1e-14)


def test_bp_layers_of_feedback_propagation_are_aligned_and_the_others_are_not():
    (result,) = measure(network(), fp(2), *data(20, 6, 3))
    assert max(result["delta_angle"][1:]) < 3e-6 and result["delta_angle"][0] > 10


def test_switching_is_measured_by_its_expected_signal():
    """At the last layer the mean of DFA's and BP's signals, whatever has just been drawn."""
    net, (x, y) = network(), data(10, 6, 3)
    feedback = Feedback(switching(0.3).graph(WIDTHS), net, "normal(0.5)", [0])
    probe = Probe(net, feedback, LOSSES["cross-entropy"], x, y)
    first = probe()
    feedback.switch()
    assert repr(probe()) == repr(first) and first[0]["layers"] == [1, 2, 3]
    e = torch.softmax(net.predict(x)[0], dim=1) - y
    exact, direct = e @ net.weights[4][0], e @ feedback.matrix(3)[0]
    assert first[0]["signal_angle"][2] == pytest.approx(angle(0.3 * direct + 0.7 * exact, exact).mean().item(), abs=1e-9)


@pytest.mark.parametrize("by", ["step", "layer"])
def test_expected_delta_is_the_mean_of_many_draws_at_every_layer(by):
    """One coin for all layers, or each its own: below the last layer that is not the same mean."""
    net, (x, y) = network(), data(4, 6, 3)
    feedback = Feedback(switching(0.3, by).graph(WIDTHS), net, "normal(0.5)", [0])
    probe = Probe(net, feedback, LOSSES["cross-entropy"], x, y)
    probe()
    expected, run, total = probe._run(probe.rule)[0], probe.rule.bind(probe.work), 0
    for _ in range(4000):
        feedback.switch()
        for product, taken in feedback.taken.items():
            probe.rule.taken[product].copy_(taken)
        run()
        total = total + probe.work.delta[1]
    assert (total / 4000 - expected[1]).norm() < 0.08 * expected[1].norm()


@pytest.mark.parametrize("sign, degrees", [(1.0, 0.0), (-1.0, 180.0)])
def test_feedback_alignment_through_the_weights_themselves(sign, degrees):
    net = network(widths=(6, 5, 4, 3))
    feedback = Feedback(fa().graph(net.widths), net, "initial-weights", [0])
    feedback.matrix(2).mul_(sign)
    (result,) = Probe(net, feedback, LOSSES["cross-entropy"], *data(20, 6, 3))()
    assert result["delta_angle"] == pytest.approx([degrees, degrees], abs=3e-6)
    assert weight_angles(net, feedback) == [pytest.approx({1: 0.0, 2: degrees}, abs=3e-6)]


@pytest.mark.parametrize("batch_norm", [False, True])
def test_quantities_equal_those_from_autograd(batch_norm):
    """With batch normalisation in evaluation mode, where each example has a delta of its own."""
    net, (x, y) = network(batch_norm=batch_norm), data(15, 6, 3)
    if batch_norm:
        for stacks in (net.norm.parameters | net.norm.running).values():
            for tensor in stacks.tensors:
                tensor.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))
    feedback = Feedback(dfa().graph(WIDTHS), net, "normal(0.5)", [0])
    (result,) = Probe(net, feedback, LOSSES["cross-entropy"], x, y)()
    h, a, kept, norm = x, {}, {}, net.norm.running | net.norm.parameters if batch_norm else {}
    for i in range(1, 5):
        a[i] = functional.linear(h, net.weights[i][0], net.biases[i][0, 0]).requires_grad_()
        a[i].retain_grad()
        u = functional.batch_norm(a[i], *(norm[kind][i][0, 0] for kind in KINDS)) if batch_norm and i < 4 else a[i]
        h = kept[i] = torch.tanh(u)
        h.retain_grad()
    functional.cross_entropy(a[4], y).backward()
    for position, i in enumerate((1, 2, 3)):
        signal = (torch.softmax(a[4], dim=1) - y) @ feedback.matrix(i)[0]
        slope = norm["scales"][i][0] / (norm["variances"][i][0] + 1e-5).sqrt() if batch_norm else 1.0
        delta = (signal * (1 - kept[i] ** 2) * slope).detach()
        cos = functional.cosine_similarity(delta, a[i].grad, dim=1, eps=0)
        degrees = torch.rad2deg(torch.acos(cos))
        mean_cos = functional.cosine_similarity(delta.mean(dim=0), a[i].grad.mean(dim=0), dim=0, eps=0)
        signal_cos = functional.cosine_similarity(signal.detach(), kept[i].grad, dim=1, eps=0)
        expected = {
            "delta_angle": degrees.mean(),
            "delta_angle_sd": degrees.std(correction=0),
            "delta_cos": cos.mean(),
            "signal_angle": torch.rad2deg(torch.acos(signal_cos)).mean(),
            "mean_angle": torch.rad2deg(torch.acos(mean_cos)),
        }
        for name, value in expected.items():
            assert result[name][position] == pytest.approx(value.item(), abs=1e-9), (name, i)
    assert result["undefined"] == [0, 0, 0]


def test_each_replica_is_measured_as_if_it_were_alone():
    x, y = data(10, 6, 3)
    both = measure(network(seeds=(3, 8)), dfa(), x, y, seeds=(3, 8))
    assert both[0]["delta_angle"] != pytest.approx(both[1]["delta_angle"], abs=1)
    for result, seed in zip(both, (3, 8), strict=True):
        same(result, measure(network(seeds=(seed,)), dfa(), x, y, seeds=(seed,))[0])


def test_later_calls_follow_the_weights_and_the_feedback():
    net = network()
    feedback = Feedback(dfa().graph(WIDTHS), net, "normal(0.5)", [0])
    probe = Probe(net, feedback, LOSSES["cross-entropy"], *data(10, 6, 3))
    first = probe()[0]["delta_angle"]
    net.weights[4].mul_(-1)
    second = probe()[0]["delta_angle"]
    feedback.matrix(3).mul_(-1)
    third = probe()[0]["delta_angle"]
    assert first != pytest.approx(second, abs=1)
    assert third[:2] == second[:2] and third[2] == pytest.approx(180 - second[2], abs=1e-9)


@pytest.mark.parametrize("rule", [dfa(redrawn=True), bdfa(2), frsf(), drtp()], ids=str)
def test_probe_changes_nothing_of_the_run(rule):
    net = network(dtype=torch.float32, seeds=(0, 1))
    feedback = Feedback(rule.graph(WIDTHS), net, "normal(0.5)", [0, 1])
    x, y = (part.float() for part in data(10, 6, 3))
    kept = {name: t.clone() for name, t in (net.state() | feedback.state()).items()}
    generators, x_before = [g.get_state() for g in feedback.generators], x.clone()
    probe = Probe(net, feedback, LOSSES["cross-entropy"], x, y)
    assert repr(probe()) == repr(probe())
    assert all(t.equal(kept[name]) for name, t in (net.state() | feedback.state()).items()) and x.equal(x_before)
    assert all(g.get_state().equal(before) for g, before in zip(feedback.generators, generators, strict=True))


def test_float32_runs_are_measured_in_float64():
    net = network(activation="linear", init="normal(1e-25)", dtype=torch.float32)
    (result,) = measure(net, fa(), *data(5, 6, 3), spec="initial-weights")  # deltas near 1e-75, which float32 has not
    assert result["undefined"] == [0, 0, 0] and max(result["delta_angle"]) < 3e-6


def test_deep_network_is_measured_in_few_layers():
    (result,) = measure(network((6, *[5] * 100, 3)), dfa(), *data(5, 6, 3))
    assert result["layers"][0] == 1 and result["layers"][-1] == 100 and len(result["layers"]) == MOST_LAYERS == 12
    assert all(len(result[name]) == 12 for name in QUANTITIES)
    gaps = [b - a for a, b in zip(result["layers"], result["layers"][1:])]
    assert set(gaps) == {9}


@pytest.mark.parametrize("count", [1, 2, 11, 12, 13, 50, 1000])
def test_thinned_layers_keep_both_ends_and_repeat_none(count):
    thinned = thin(list(range(5, 5 + count)))
    assert (thinned[0], thinned[-1]) == (5, 4 + count)
    assert len(thinned) == min(count, 12) and sorted(set(thinned)) == thinned


def test_rule_without_hidden_learning_has_nothing_to_measure():
    assert measure(network(), shallow(), *data(5, 6, 3)) == [{"layers": []}]
    assert thin([]) == []


def signal_undefined(result):
    return result.get("signal_undefined", result["undefined"])


# --- what has no direction -----------------------------------------------------------------------------------------------


def test_examples_without_an_error_are_counted_and_left_out():
    net, (x, y) = network(), data(12, 6, 3)
    fitted = torch.zeros(12, dtype=torch.bool)
    fitted[[1, 4, 5, 9]] = True
    y[fitted] = net.predict(x)[0][fitted]
    y[4] += 1e-14  # an error of rounding size is no error
    (result,) = measure(net, dfa(), x, y, loss="squared-error")
    (rest,) = measure(net, dfa(), x[~fitted], y[~fitted], loss="squared-error")
    assert result["undefined"] == [4, 4, 4] and rest["undefined"] == [0, 0, 0]
    same(result, rest)


def test_small_errors_keep_their_direction():
    net, (x, y) = network(), data(12, 6, 3)
    for scale, tolerance in ((1e-3, 1e-6), (1e-9, 1e-2)):  # y - output rounds at 1e-16
        near = net.predict(x)[0] + scale * (y - 0.5)
        (result,) = measure(net, dfa(), x, near, loss="squared-error")
        (far,) = measure(net, dfa(), x, net.predict(x)[0] + (y - 0.5), loss="squared-error")
        assert result["undefined"] == [0, 0, 0]
        assert result["delta_angle"] == pytest.approx(far["delta_angle"], abs=tolerance)


def test_deltas_that_underflow_are_counted_and_not_averaged():
    net = network(activation="linear", init="normal(1e-130)")
    (result,) = measure(net, dfa(), *data(7, 6, 3))  # BP's deltas: 1e-130, 1e-260 and, at the first layer, 0
    assert result["layers"] == [1, 2, 3] and result["undefined"] == [7, 0, 0]
    for name in QUANTITIES:
        assert math.isnan(result[name][0]) and all(math.isfinite(v) for v in result[name][1:]), name


def test_some_underflowing_examples_are_left_out_and_the_others_kept():
    net, (x, y) = network(activation="relu", init="uniform-from"), data(12, 6, 3)
    net.biases[1].fill_(-1e-3)
    x[[0, 3]] = 0.0  # every unit of the first layer is off: no delta there
    (result,) = measure(net, dfa(), x, y)
    (off,) = measure(net, dfa(), x[[0, 3]], y[[0, 3]])
    (rest,) = measure(net, dfa(), x[[1, 2, *range(4, 12)]], y[[1, 2, *range(4, 12)]])
    assert off["undefined"][0] == 2 and result["undefined"][0] == 2 + rest["undefined"][0] < 12
    for name in ("delta_angle", "delta_angle_sd", "delta_cos"):
        assert result[name][0] == pytest.approx(rest[name][0], abs=1e-9), name
    # the signal arrives there all the same, and is counted by itself
    of_all, of_rest, of_off = (n - signal_undefined(r)[0] for n, r in ((12, result), (10, rest), (2, off)))
    assert of_all == of_rest + of_off and of_off > 0
    mean = (of_rest * rest["signal_angle"][0] + of_off * off["signal_angle"][0]) / (of_rest + of_off)
    assert result["signal_angle"][0] == pytest.approx(mean, abs=1e-9)


@pytest.mark.parametrize("activation", ["sign", "threshold"])
def test_units_without_a_derivative_have_a_signal_of_bp_at_the_last_layer_alone(activation):
    net, (x, y) = network(activation=activation, seeds=(0, 1)), data(9, 6, 3)
    feedback = Feedback(dfa(gate=False).graph(WIDTHS), net, "normal(0.5)", [0, 1])
    for replica, result in enumerate(Probe(net, feedback, LOSSES["cross-entropy"], x, y)()):
        assert result["undefined"] == [9, 9, 9] and result["signal_undefined"] == [9, 9, 0]
        for name in ("delta_angle", "delta_angle_sd", "delta_cos", "mean_angle"):
            assert all(math.isnan(v) for v in result[name]), name
        e = torch.softmax(net.predict(x)[replica], dim=1) - y
        expected = angle(e @ feedback.matrix(3)[replica], e @ net.weights[4][replica]).mean().item()
        assert result["signal_angle"] == pytest.approx([math.nan, math.nan, expected], abs=1e-9, nan_ok=True)


def test_straight_through_units_are_measured_against_the_surrogate_gradient():
    net = network((6, 30, 30, 3), activation="sign-ste")
    (result,) = measure(net, bp(), *data(9, 6, 3))
    assert result["undefined"] == [0, 0] and max(result["delta_angle"]) < 3e-6


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("fitted", [0, 4])
def test_a_hundred_layers_are_measured_as_far_as_the_deltas_have_digits(fitted, flushed):
    """BP's deltas shrink by a factor of about 4,000 a layer; their true directions come from a recursion rescaled at every layer."""
    widths, n = (6, *[5] * 100, 3), 11
    net, (x, y) = network(widths, activation="linear", init="normal(1e-4)"), data(n, 6, 3)
    y[:fitted] = net.predict(x)[0][:fitted]
    feedback = Feedback(dfa().graph(widths), net, "normal(0.5)", [0])
    torch.set_flush_denormal(flushed)
    try:
        (result,) = Probe(net, feedback, LOSSES["squared-error"], x, y)()
    finally:
        torch.set_flush_denormal(False)
    e = (net.predict(x)[0] - y)[fitted:]
    direction, digits, expected = e, torch.zeros(len(e), dtype=torch.float64), {}
    for i in range(100, 0, -1):
        direction = direction @ net.weights[i + 1][0]
        size = direction.abs().amax(dim=1, keepdim=True)
        direction, digits = direction / size, digits + size.log10().squeeze(1)
        expected[i] = digits.clone(), angle(e @ feedback.matrix(i)[0], direction)
    seen = set()
    for position, i in enumerate(result["layers"]):
        digits, degrees = expected[i]
        defined = digits > math.log10(torch.finfo(torch.float64).tiny)
        seen.add(bool(defined.all()))
        for count in (result["undefined"], signal_undefined(result)):
            assert count[position] == fitted + int((~defined).sum()), i
        for name in ("delta_angle", "signal_angle"):
            assert result[name][position] == pytest.approx(degrees[defined].mean().item(), abs=1e-5, nan_ok=True), i
    assert seen == {True, False}


def test_vectors_that_have_lost_their_digits_have_no_angle():
    u = vector(3, 4, 5)
    for scale, defined in ((1e-300, True), (1e-307, True), (1e-310, False), (1e-322, False)):
        assert math.isfinite(angle(u * scale, u)) is defined


def test_nothing_is_measured_where_every_example_is_fitted():
    net, (x, _) = network(), data(6, 6, 3)
    (result,) = measure(net, dfa(), x, net.predict(x)[0] + 1e-14, loss="squared-error")
    assert result["undefined"] == [6, 6, 6]
    assert all(math.isnan(v) for name in QUANTITIES for v in result[name])


# --- weights -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule, layers",
    [(fa(), {1, 2, 3}), (dfa(), {3}), (bp(), set()), (fp(1), {2}), (bdfa(2), {1, 3}), (bdfa(2, boundary="W^T"), {3}),
     (frsf(), set()), (drtp(), set())],
    ids=str,
)  # fmt: skip
def test_weight_angles_where_a_matrix_stands_for_the_layer_above(rule, layers):
    net = network(seeds=(0, 1))
    feedback = Feedback(rule.graph(WIDTHS), net, "normal(0.5)", [0, 1])
    angles = weight_angles(net, feedback)
    assert [set(of_replica) for of_replica in angles] == [layers, layers]
    for replica, of_replica in enumerate(angles):
        for i, degrees in of_replica.items():
            b, w = feedback.matrix(i)[replica].flatten(), net.weights[i + 1][replica].flatten()
            assert degrees == pytest.approx(math.degrees(math.acos(b @ w / (b.norm() * w.norm()))), abs=1e-9)


def test_unused_generators_of_the_probe_do_not_draw_from_the_run():
    net = network()
    feedback = Feedback(dfa(redrawn=True).graph(WIDTHS), net, "normal(0.5)", [0])
    Probe(net, feedback, LOSSES["cross-entropy"], *data(5, 6, 3))()
    feedback.redraw()
    g, expected = generator(0, "feedback"), []
    for _ in range(2 * 3):  # three matrices at the start, three redrawn
        shape = feedback.matrix(len(expected) % 3 + 1).shape[1:]
        expected.append(torch.empty(shape, dtype=torch.float64).normal_(0.0, 0.5, generator=g))
    assert all(feedback.matrix(i)[0].equal(expected[2 + i]) for i in (1, 2, 3))


# --- units ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule, measured",
    [(fa(), True), (dfa(), True), (bdfa(2), True), (switching(0.5), True),
     (bp(), False), (fp(1), False), (frsf(), False), (drtp(), False), (shallow(), False)],
    ids=str,
)  # fmt: skip
def test_unit_angles_where_the_last_hidden_layer_reads_the_error_through_a_matrix(rule, measured):
    net = network((6, 5, 5, 40, 3), seeds=(0, 1))
    feedback = Feedback(rule.graph(net.widths), net, "normal(0.5)", [0, 1])
    results = unit_angles(net, feedback)
    assert [set(of_replica) for of_replica in results] == [{3} if measured else set()] * 2
    for replica, of_replica in enumerate(results if measured else []):
        b, w = feedback.matrix(3)[replica], net.weights[4][replica]
        degrees = [math.degrees(math.acos(b[:, j] @ w[:, j] / (b[:, j].norm() * w[:, j].norm()))) for j in range(40)]
        assert of_replica[3] == pytest.approx([torch.tensor(degrees).quantile(q).item() for q in UNIT_QUANTILES], abs=1e-4)


def test_units_aligned_by_hand():
    net = network((6, 5, 4, 3))
    feedback = Feedback(fa().graph(net.widths), net, "initial-weights", [0])
    assert unit_angles(net, feedback) == [{2: pytest.approx([0.0] * 9, abs=3e-6)}]
    feedback.matrix(2)[:, :, 3].neg_()
    (result,) = unit_angles(net, feedback)
    assert result[2][4] == pytest.approx(0, abs=3e-6) and result[2][-1] > 90  # one unit of four points away


def test_units_without_weights_are_left_out_and_a_layer_of_them_is_undefined():
    net = network((6, 5, 4, 3))
    feedback = Feedback(fa().graph(net.widths), net, "initial-weights", [0])
    net.weights[3][:, :, 0] = 0.0
    assert unit_angles(net, feedback) == [{2: pytest.approx([0.0] * 9, abs=3e-6)}]
    net.weights[3].zero_()
    assert all(math.isnan(v) for v in unit_angles(net, feedback)[0][2])


def test_probe_reports_unit_angles_beside_the_others():
    net = network((6, 5, 4, 3), seeds=(0, 1))
    feedback = Feedback(dfa().graph(net.widths), net, "normal(0.5)", [0, 1])
    results = Probe(net, feedback, LOSSES["cross-entropy"], *data(5, 6, 3))()
    assert [result["unit_angle"] for result in results] == unit_angles(net, feedback)
    assert "unit_angle" not in measure(net, bp(), *data(5, 6, 3), seeds=(0, 1))[0]
