"""Networks: stacks of layers, initial values, activations and their gates, the forward pass and dropout."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dfa_lib.errors import DfaLibError
from dfa_lib.features import layers
from dfa_lib.network import DISTRIBUTIONS, UNITS, Network, Workspace, distribution, generator, width_runs

ODD = (4, 6, 6, 5, 5, 5, 2)
PLAIN = {
    "tanh": np.tanh,
    "logistic": lambda a: 1 / (1 + np.exp(-a)),
    "relu": lambda a: np.maximum(a, 0),
    "leaky-relu": lambda a: np.where(a > 0, a, 0.01 * a),
    "erf": np.vectorize(lambda a: math.erf(a / math.sqrt(2))),
    "linear": lambda a: a,
    "sign": np.sign,
    "threshold": lambda a: (a > 0).astype(float),
}
PLAIN |= {f"{name}-ste": PLAIN[name] for name in ("sign", "threshold")}


def network(widths=ODD, activation="tanh", seeds=(0, 1), init="normal(0.7)", dtype=torch.float64, **options):
    made = Network(widths, activation, len(seeds), dtype, **options)
    made.initialise(init, seeds)
    for bias in made.biases.tensors:
        bias.normal_(generator=torch.Generator().manual_seed(9))
    return made


def inputs(n, width, seed=5):
    return torch.randn(n, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def plain_outputs(net, replica, x):
    """Hidden activations and output of one replica in numpy: h_i = f(W_i h_{i-1} + b_i)."""
    h, hidden = x.numpy(), []
    for i in range(1, net.depth + 2):
        a = h @ net.weights[i][replica].double().numpy().T + net.biases[i][replica].double().numpy()
        h = PLAIN[net.unit.name](a) if i <= net.depth else a
        hidden.append(h)
    return hidden


def draw(spec, shape=(300, 200), n_from=200, n_to=300, seed=0):
    return distribution(spec)(shape, n_from, n_to, generator(seed, "test"))


# --- stacks --------------------------------------------------------------------------------------------------------------


def test_runs_of_equal_width():
    assert width_runs(ODD) == [range(1, 3), range(3, 6)]
    assert width_runs((5, 5, 5, 5)) == [range(1, 3)]  # input and output are no hidden layers
    assert width_runs((3, 2)) == []


@given(st.lists(st.sampled_from([2, 3]), max_size=6))
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
def test_every_layer_has_its_weights_and_bias(hidden):
    widths = (3, *hidden, 2)
    net = Network(widths, replicas=2)
    for i in range(1, len(widths)):
        assert net.weights[i].shape == (2, widths[i], widths[i - 1])
        assert net.biases[i].shape == (2, 1, widths[i])


def test_a_layer_is_a_view_of_its_stack():
    net = Network(ODD, replicas=2)
    net.weights[5].fill_(3.0)
    assert net.weights.span(range(4, 6))[1].eq(3).all() and net.weights.span(range(4, 6))[0].eq(0).all()
    assert sum(int(t.sum()) for t in net.weights.tensors) == 3 * 2 * 5 * 5


@pytest.mark.parametrize("layers", [range(2, 4), range(1, 3), range(6, 8)], ids=str)
def test_span_over_two_stacks_is_refused(layers):
    with pytest.raises(KeyError):  # W_1 is 6 x 4 and W_2 is 6 x 6; W_3 is 5 x 6
        Network(ODD).weights.span(layers)


def test_cut_gives_the_longest_spans_that_stand_in_one_stack():
    stacks = Network(ODD).weights  # stacks: 1 | 2 | 3 | 4 5 | 6
    assert stacks.cut({1, 2, 3, 4, 5, 6}) == [range(1, 2), range(2, 3), range(3, 4), range(4, 6), range(6, 7)]
    assert stacks.cut({5, 6}) == [range(5, 6), range(6, 7)]
    assert Network((4, 3, 3, 3, 3, 3, 2)).weights.cut({2, 3, 5}) == [range(2, 4), range(5, 6)]
    assert stacks.cut(set()) == []


def test_state_names_every_parameter_once():
    net = network()
    assert sum(t.numel() for t in net.state().values()) == 2 * (sum(a * b for a, b in zip(ODD, ODD[1:])) + sum(ODD[1:]))
    next(iter(net.state().values())).zero_()
    assert net.weights[1].eq(0).all()


def test_unknown_activation_is_refused():
    with pytest.raises(DfaLibError, match=r"unknown activation 'than'; did you mean 'tanh'"):
        Network(ODD, "than")


# --- initial values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec, low, high, deviation",
    [
        ("uniform-from", -1 / math.sqrt(200), 1 / math.sqrt(200), 1 / math.sqrt(600)),
        ("uniform-to", -1 / math.sqrt(300), 1 / math.sqrt(300), 1 / math.sqrt(900)),
        ("uniform(0.5)", -0.5, 0.5, 0.5 / math.sqrt(3)),
        ("uniform01", 0.0, 1.0, 1 / math.sqrt(12)),
        ("xavier-uniform", -math.sqrt(6 / 500), math.sqrt(6 / 500), math.sqrt(2 / 500)),
    ],
)
def test_uniform_distributions(spec, low, high, deviation):
    numbers = draw(spec)
    assert low <= numbers.min() < low + 0.01 * (high - low) and high - 0.01 * (high - low) < numbers.max() <= high
    assert numbers.std().item() == pytest.approx(deviation, rel=0.01)
    assert numbers.mean().item() == pytest.approx((low + high) / 2, abs=5 * deviation / math.sqrt(60000))


@pytest.mark.parametrize(
    "spec, deviation",
    [("normal(0.1)", 0.1), ("normal-from", 1 / math.sqrt(200)), ("normal-to", 1 / math.sqrt(300)),
     ("normal-from-to", 1 / math.sqrt(60000)), ("xavier-normal", math.sqrt(2 / 500)), ("he-normal", math.sqrt(2 / 200))],
)  # fmt: skip
def test_normal_distributions(spec, deviation):
    numbers = draw(spec) / deviation
    assert numbers.std().item() == pytest.approx(1, rel=0.015)  # 60,000 numbers: 5 standard errors
    assert numbers.mean().item() == pytest.approx(0, abs=5 / math.sqrt(60000))
    assert numbers.pow(4).mean().item() == pytest.approx(3, abs=0.2)


def test_truncated_normal_ends_at_two_deviations():
    numbers = draw("truncated-normal(0.1)")
    assert 0.199 < numbers.abs().max() <= 0.2
    assert numbers.std().item() == pytest.approx(0.08796, rel=0.015)  # a normal's deviation cut at two


def test_orthogonal_has_orthonormal_columns_times_its_gain():
    numbers = draw("orthogonal(2)")
    assert torch.allclose(numbers.T @ numbers, 4 * torch.eye(200, dtype=torch.float64), atol=1e-10)
    assert torch.allclose(draw("orthogonal") * 2, numbers)


def test_zeros():
    assert draw("zeros").eq(0).all()


def test_every_distribution_can_be_drawn():
    given_arguments = {"uniform": "(0.5)", "normal": "(1e-1)", "truncated-normal": "(0.1)"}
    for name in DISTRIBUTIONS:
        drawn = draw(name + given_arguments.get(name, ""), shape=(3, 2))
        assert drawn.shape == (3, 2) and drawn.dtype == torch.float64 and drawn.isfinite().all()


@pytest.mark.parametrize(
    "spec, words",
    [
        ("unifrom-from", ["distribution 'unifrom-from'", "did you mean 'uniform-from'"]),
        ("normal", ["normal", "takes 1 number", "normal(0.1)"]),
        ("normal(0.1, 0.2)", ["normal(0.1, 0.2)", "takes 1 number"]),
        ("uniform-from(0.1)", ["'uniform-from' takes no number", "uniform-from(0.1)"]),
        ("normal(1-2)", ["normal(1-2)", "number"]),
        ("normal(0.1,)", ["normal(0.1,)", "number"]),
        ("normal(", ["unknown distribution 'normal('", "did you mean 'normal'"]),
    ],
)
def test_impossible_distribution_is_refused(spec, words):
    with pytest.raises(DfaLibError) as caught:
        distribution(spec)
    assert all(word in str(caught.value) for word in words), caught.value


def test_initial_weights_depend_on_their_seed_alone():
    both, first, second = network(seeds=(3, 8)), network(seeds=(3,)), network(seeds=(8,))
    for i in range(1, both.depth + 2):
        assert both.weights[i][0].equal(first.weights[i][0]) and both.weights[i][1].equal(second.weights[i][0])
        assert not both.weights[i][0].equal(both.weights[i][1])


def test_float32_weights_are_the_rounded_float64_ones():
    for one, other in zip(network().weights.tensors, network(dtype=torch.float32).weights.tensors, strict=True):
        assert one.float().equal(other)


@pytest.mark.parametrize("init, drawn", [("uniform-from", True), ("normal-from", False), ("uniform(0.3)", False)])
def test_biases_are_drawn_for_uniform_from_alone(init, drawn):
    net = Network((400, 300, 2), replicas=1)
    net.initialise(init, [0])
    assert bool(net.biases[1].ne(0).all()) is drawn
    assert net.biases[1].abs().max() <= 1 / math.sqrt(400) and net.weights[1].abs().max() > 0.04


def test_initialising_again_forgets_the_old_values():
    net = network()
    net.initialise("zeros", [0, 1])
    assert all(t.eq(0).all() for t in net.state().values())


def test_zeros_above_keeps_the_first_layer_alone():
    net, plain = (Network(ODD, replicas=1) for _ in range(2))
    net.initialise("uniform-from, zeros above", [4])
    plain.initialise("uniform-from", [4])
    assert net.weights[1].equal(plain.weights[1]) and net.biases[1].equal(plain.biases[1]) and net.weights[1].ne(0).any()
    assert all(net.weights[i].eq(0).all() and net.biases[i].eq(0).all() for i in range(2, net.depth + 2))


def test_unknown_addition_to_an_initialisation_is_refused():
    with pytest.raises(DfaLibError, match="'zero above'.*'zeros above'"):
        Network(ODD).initialise("uniform-from, zero above", [0])


def test_streams_of_one_seed_are_independent():
    names = ("init", "feedback", "dropout", "order/0", "order/1")
    first = {name: torch.rand(3, generator=generator(0, name)).tolist() for name in names}
    assert len({tuple(v) for v in first.values()}) == 5
    assert torch.rand(3, generator=generator(0, "init")).tolist() == first["init"]
    assert torch.rand(3, generator=generator(1, "init")).tolist() != first["init"]


# --- activations ---------------------------------------------------------------------------------------------------------


def test_every_activation_has_a_plain_twin():
    assert set(PLAIN) == set(UNITS)


@pytest.mark.parametrize("name", UNITS)
def test_activation_and_its_gate(name):
    unit = UNITS[name]
    a = torch.linspace(-4, 4, 81, dtype=torch.float64).add(0.013)  # no kink among them
    h = a.clone()
    unit.apply(h)
    assert np.allclose(h.numpy(), PLAIN[name](a.numpy()), rtol=1e-14, atol=1e-15)
    delta = torch.full_like(a, 3.0)
    unit.gate(delta, h, a if unit.keeps_a else None)
    of = (lambda a: np.clip(a, -1, 1)) if name.endswith("-ste") else PLAIN[name]  # the hard tanh stands for the step
    numeric = (of((a + 1e-5).numpy()) - of((a - 1e-5).numpy())) / 2e-5
    assert np.allclose(delta.numpy(), 3 * numeric, rtol=1e-7, atol=1e-8)


def test_relu_gate_is_closed_at_zero():
    delta = torch.ones(2)
    UNITS["relu"].gate(delta, torch.tensor([0.0, 0.1]), None)
    assert delta.tolist() == [0.0, 1.0]
    UNITS["leaky-relu"].gate(leaking := torch.ones(2), torch.tensor([0.0, 0.1]), None)
    assert leaking.tolist() == pytest.approx([0.01, 1.0])


@pytest.mark.parametrize("name", ["sign-ste", "threshold-ste"])
def test_straight_through_gate_is_open_up_to_one(name):
    delta, a = torch.ones(4), torch.tensor([-1.0, 1.0, 1.0001, -1.0001])
    UNITS[name].gate(delta, a.sign(), a)
    assert delta.tolist() == [1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "name, h, expected",
    [
        ("tanh", [-0.995, -0.985, 0.0, 0.995], [True, False, False, True]),
        ("erf", [-0.995, 0.0, 0.985], [True, False, False]),
        ("logistic", [0.005, 0.015, 0.5, 0.985, 0.995], [True, False, False, False, True]),
        ("relu", [0.0, 0.001, 5.0], [True, False, False]),
    ],
)
def test_saturated_units(name, h, expected):
    assert UNITS[name].saturated(torch.tensor(h)).tolist() == expected


# --- the forward pass ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", UNITS)
@pytest.mark.parametrize("widths", [ODD, (4, 2), (4, 3, 3, 3, 2)], ids=str)
def test_forward_and_prediction_equal_the_equations(widths, activation):
    net, x = network(widths, activation), inputs(7, widths[0])
    work = Workspace(net, 7)
    work.x.copy_(x.expand_as(work.x))
    work.forward()
    predicted = net.predict(x, chunk=3)
    for replica in range(2):
        *hidden, output = plain_outputs(net, replica, x)
        assert np.allclose(work.output[replica].numpy(), output, rtol=1e-12, atol=1e-13)
        assert np.allclose(predicted[replica].numpy(), output, rtol=1e-12, atol=1e-13)
        for i, h in enumerate(hidden, start=1):
            assert np.allclose(work.h[i][replica].numpy(), h, rtol=1e-12, atol=1e-13)


def test_replicas_may_see_different_inputs():
    net, work = network(), Workspace(network(), 3)
    work.x.copy_(inputs(6, 4).view(2, 3, 4))
    work.forward()
    for replica in range(2):
        alone = plain_outputs(net, replica, work.x[replica])[-1]
        assert np.allclose(work.output[replica].numpy(), alone, rtol=1e-12, atol=1e-13)


def test_prediction_leaves_its_inputs_alone():
    net, x = network(activation="relu"), inputs(5, 4)
    before = x.clone()
    net.predict(x)
    assert x.equal(before)


def test_reduction_scales_the_error():
    assert Workspace(network(), 8, "mean").error_scale == 1 / 8
    assert Workspace(network(), 8, "sum").error_scale == 1.0


# --- batch normalisation -------------------------------------------------------------------------------------------------


def modules(net, replica):
    """The replica's batch normalisations as torch's own modules, in training mode."""
    made = {}
    for i in range(1, net.depth + 1):
        module = made[i] = torch.nn.BatchNorm1d(net.widths[i], dtype=torch.float64)
        values = {"weight": "scales", "bias": "shifts", "running_mean": "means", "running_var": "variances"}
        kinds = net.norm.parameters | net.norm.running
        module.load_state_dict({name: kinds[kind][i][replica, 0].clone() for name, kind in values.items()}, strict=False)
    return made


@torch.no_grad()
def with_modules(net, replica, made, x):
    """Hidden activations and output of one replica, its normalisations by torch."""
    h, hidden = x, []
    for i in range(1, net.depth + 2):
        a = h @ net.weights[i][replica].T + net.biases[i][replica]
        h = torch.from_numpy(PLAIN[net.unit.name](made[i](a).numpy())) if i <= net.depth else a
        hidden.append(h)
    return hidden


@pytest.mark.parametrize("activation", ["tanh", "erf", "relu"])
@pytest.mark.parametrize("widths", [ODD, (4, 3, 3, 2)], ids=str)
def test_batch_normalisation_is_that_of_torch_in_both_modes(widths, activation):
    net = network(widths, activation, batch_norm=True)
    for kind in ("scales", "shifts"):
        for tensor in net.norm.parameters[kind].tensors:
            tensor.normal_(generator=torch.Generator().manual_seed(2))
    made, work = [modules(net, replica) for replica in range(2)], Workspace(net, 6)
    for seed in range(3):  # running statistics move with every batch
        x = inputs(12, widths[0], seed).view(2, 6, -1)
        work.x.copy_(x)
        work.forward()
        for replica in range(2):
            *hidden, output = with_modules(net, replica, made[replica], x[replica])
            assert torch.allclose(work.output[replica], output, rtol=1e-11, atol=1e-12)
            for i, h in enumerate(hidden, start=1):
                assert torch.allclose(work.h[i][replica], h, rtol=1e-11, atol=1e-12)
    state = {name: tensor.clone() for name, tensor in net.state().items()}
    x, still = inputs(7, widths[0]), Workspace(net, 7, training=False)
    still.x.copy_(x.expand_as(still.x))
    still.forward()
    for replica in range(2):
        for i, module in made[replica].items():
            assert torch.allclose(net.norm.running["means"][i][replica, 0], module.running_mean, rtol=1e-12)
            assert torch.allclose(net.norm.running["variances"][i][replica, 0], module.running_var, rtol=1e-12)
            module.eval()
        *hidden, output = with_modules(net, replica, made[replica], x)
        for got in (still.output[replica], net.predict(x, chunk=3)[replica]):
            assert torch.allclose(got, output, rtol=1e-11, atol=1e-12)
        for i, (h, feature) in enumerate(zip(hidden, layers(net, replica, x)[1:], strict=True), start=1):
            assert torch.allclose(still.h[i][replica], h, rtol=1e-11, atol=1e-12)
            assert torch.allclose(feature, h, rtol=1e-11, atol=1e-12)
    assert all(tensor.equal(state[name]) for name, tensor in net.state().items()), "evaluation changes nothing"


def test_batch_normalisation_starts_as_that_of_torch():
    net = network(batch_norm=True)
    for tensor in net.state().values():
        tensor.fill_(7.0)
    net.initialise("normal(0.7)", [0, 1])
    for i, module in modules(net, 1).items():
        fresh = torch.nn.BatchNorm1d(net.widths[i], dtype=torch.float64)
        assert all(tensor.equal(fresh.state_dict()[name]) for name, tensor in module.state_dict().items())


def test_batch_normalisation_belongs_to_the_state():
    plain, with_norm = network().state(), network(batch_norm=True).state()
    assert plain.keys() < with_norm.keys()
    assert {name.rstrip("0123456789") for name in with_norm.keys() - plain.keys()} == {"scales", "shifts", "means", "variances"}
    assert sum(with_norm[name].numel() for name in with_norm.keys() - plain.keys()) == 4 * 2 * sum(ODD[1:-1])


# --- dropout -------------------------------------------------------------------------------------------------------------


def dropped(rate_input=0.25, rate=0.5, widths=(200, 300, 300, 2), batch=50, seeds=(0, 1)):
    net = network(widths, seeds=seeds, init="normal-from")
    work = Workspace(net, batch, "mean", rate_input, rate)
    work.draw_masks([generator(seed, "dropout") for seed in seeds])
    return net, work


def test_masks_are_zero_at_the_dropout_rate_and_keep_the_expectation():
    _, work = dropped()
    for mask, rate in ((work.mask_x, 0.25), (work.mask[1], 0.5), (work.mask[2], 0.5)):
        assert set(mask.unique().tolist()) == {0.0, 1 / (1 - rate)}
        error = math.sqrt(rate * (1 - rate) / mask.numel())
        assert mask.eq(0).double().mean().item() == pytest.approx(rate, abs=5 * error)
    assert not work.mask[1].equal(work.mask[2]) and not work.mask[1][0].equal(work.mask[1][1])


def test_average_over_many_masks_is_the_activation_without_dropout():
    net, work = dropped(widths=(20, 30, 4), batch=5, rate_input=0.0)
    work.x.copy_(inputs(5, 20).expand_as(work.x))
    generators, total = [generator(seed, "dropout") for seed in (0, 1)], torch.zeros_like(work.z[1])
    for _ in range(2000):
        work.draw_masks(generators)
        work.forward()
        total += work.z[1]
    error = work.h[1].abs() / math.sqrt(2000)  # of the mean: z is 0 or 2 h, so its deviation is |h|
    assert ((total / 2000 - work.h[1]).abs() <= 5.5 * error).all()


def test_next_layer_sees_the_masked_activations():
    net, work = dropped(widths=(4, 6, 6, 5, 2), batch=3, rate_input=0.0)
    work.x.copy_(inputs(3, 4).expand_as(work.x))
    work.forward()
    for i in (1, 2, 3):
        assert work.z[i].equal(work.h[i] * work.mask[i])
        assert work.z[i].data_ptr() != work.h[i].data_ptr()
    assert torch.allclose(work.output, work.z[3] @ net.weights[4].transpose(1, 2) + net.biases[4], rtol=1e-12)
    assert torch.allclose(work.h[2], torch.tanh(work.z[1] @ net.weights[2].transpose(1, 2) + net.biases[2]), rtol=1e-12)


@pytest.mark.parametrize("rate_input, rate", [(0.2, 0.5), (0.0, 0.5), (0.2, 0.0)])
def test_masks_of_a_seed_do_not_depend_on_the_other_replicas(rate_input, rate):
    (_, both), (_, alone) = dropped(rate_input, rate, seeds=(0, 1)), dropped(rate_input, rate, seeds=(1,))
    if rate_input:
        assert both.mask_x[1].equal(alone.mask_x[0])
    if rate:
        assert both.mask[1][1].equal(alone.mask[1][0]) and both.mask[2][1].equal(alone.mask[2][0])


def test_without_dropout_the_next_layer_reads_the_activations_themselves():
    work = Workspace(network(), 3)
    assert work.mask is None and work.mask_x is None and work.z is work.h
