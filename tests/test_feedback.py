"""The executor: back-propagation against torch.autograd, and every rule against its equations, one example at a time."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from dfa_lib.config import Optimizer
from dfa_lib.errors import DfaLibError
from dfa_lib.feedback import LOSSES, Feedback
from dfa_lib.graph import (
    RULES, Carrier, Edge, FeedbackGraph, bdfa, bp, brsf, dfa, drtp, fa, fp, frsf, ifa, shallow, switching, usf,
)  # fmt: skip
from dfa_lib.network import Network, Stacks, Workspace, generator
from dfa_lib.optim import Updater

ODD = (6, 5, 5, 5, 4, 4, 3)  # five hidden layers, W_{L+1} not square


def data(replicas, batch, n_in, n_out, seed=0):
    """Inputs (R, batch, n_in) and one-hot targets (R, batch, n_out), other ones for each replica."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(replicas, batch, n_in, dtype=torch.float64, generator=g)
    return x, torch.eye(n_out, dtype=torch.float64)[torch.randint(n_out, (replicas, batch), generator=g)]


class Step:
    """A network of two replicas brought up to its feedback phase on one batch."""

    def __init__(
        self, rule, widths=ODD, activation="tanh", loss="cross-entropy", batch=3, reduction="mean", dropout=0.0, seeds=(0, 1),
        spec="normal(0.7)", norm=None, bottleneck=None,
    ):  # fmt: skip
        self.network = Network(widths, activation, len(seeds), torch.float64, batch_norm=norm is not None)
        self.network.initialise("normal(0.6)", seeds)
        if norm:
            g = torch.Generator().manual_seed(8)
            for stacks in (self.network.norm.parameters | self.network.norm.running).values():
                for tensor in stacks.tensors:
                    tensor.uniform_(0.5, 1.5, generator=g)
        for bias in self.network.biases.tensors:
            bias.normal_(generator=torch.Generator().manual_seed(7)).mul_(0.3)
        graph = rule if isinstance(rule, FeedbackGraph) else rule.graph(widths)
        self.feedback = Feedback(graph, self.network, spec, seeds, bottleneck)
        self.work = Workspace(self.network, batch, reduction, dropout / 2, dropout, training=norm != "evaluation")
        x, y = data(len(seeds), batch, widths[0], widths[-1])
        self.work.x.copy_(x), self.work.y.copy_(y)
        if dropout:
            self.work.draw_masks([generator(seed, "dropout") for seed in seeds])
            self.work.x.mul_(self.work.mask_x)
        self.work.forward()
        self.losses = LOSSES[loss](self.work.output, self.work.y, self.work.e)
        self.work.e.mul_(self.work.error_scale)
        self.signals = {}
        self.feedback.bind(self.work, self.signals)()

    def gradients(self):
        """The weight and bias gradients that an update is made of, by layer: plain SGD on zeroed parameters with rate 1."""
        update = Updater(Optimizer("sgd", lr=1.0), self.network, set(range(1, self.network.depth + 2))).bind(self.work)
        for tensor in self.network.state().values():
            tensor.zero_()
        update()
        layers = range(1, self.network.depth + 2)
        return {i: -self.network.weights[i] for i in layers}, {i: -self.network.biases[i] for i in layers}


def close(got, expected, relative):
    """Equal relative to the largest number of the tensor (all but rounding of a sum's terms)."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max(initial=0.0) <= relative * np.abs(expected).max(initial=0.0)


# --- back-propagation against torch.autograd -----------------------------------------------------------------------------

AUTOGRAD = {
    "tanh": torch.tanh,
    "logistic": torch.sigmoid,
    "relu": torch.relu,
    "leaky-relu": functional.leaky_relu,
    "erf": lambda a: torch.erf(a / math.sqrt(2)),
    "linear": lambda a: a,
}
for name in ("sign", "threshold"):  # the value of the step, the gradient of the hard tanh
    step_of = torch.sign if name == "sign" else lambda a: (a > 0).double()
    AUTOGRAD[f"{name}-ste"] = lambda a, f=step_of: functional.hardtanh(a) + (f(a) - functional.hardtanh(a)).detach()
AUTOGRAD_LOSSES = {
    "cross-entropy": lambda a, y: functional.cross_entropy(a, y, reduction="none"),
    "binary-cross-entropy": lambda a, y: functional.binary_cross_entropy(torch.sigmoid(a), y, reduction="none").sum(dim=1),
    "squared-error": lambda a, y: 0.5 * functional.mse_loss(a, y, reduction="none").sum(dim=1),
}


def normalised(net, i, replica, a, training):
    """torch's own batch normalisation of a (batch, n)."""
    kinds = net.norm.running | net.norm.parameters
    mean, variance, scale, shift = (kinds[kind][i][replica, 0] for kind in ("means", "variances", "scales", "shifts"))
    return functional.batch_norm(a, *((None, None) if training else (mean, variance)), scale, shift, training)


def autograd(step, replica, activation, loss, reduction):
    """Loss of each example and the gradients at a_i, W_i and b_i of one replica, by layer."""
    net, work = step.network, step.work
    weights = {i: net.weights[i][replica].clone().requires_grad_() for i in range(1, net.depth + 2)}
    biases = {i: net.biases[i][replica].clone().requires_grad_() for i in range(1, net.depth + 2)}
    h, sums = work.x[replica].clone(), {}
    for i in range(1, net.depth + 2):
        sums[i] = functional.linear(h, weights[i], biases[i].squeeze(0))
        sums[i].retain_grad()
        if i <= net.depth:
            h = AUTOGRAD[activation](normalised(net, i, replica, sums[i], work.norm.training) if net.norm else sums[i])
            h = h * work.mask[i][replica] if work.mask else h
    losses = AUTOGRAD_LOSSES[loss](sums[net.depth + 1], work.y[replica])
    (losses.mean() if reduction == "mean" else losses.sum()).backward()
    return losses.detach(), *({i: t.grad for i, t in group.items()} for group in (sums, weights, biases))


@settings(max_examples=120, deadline=None, derandomize=True, database=None)
@given(
    hidden=st.lists(st.sampled_from([1, 3, 3, 4]), max_size=4),
    ends=st.tuples(st.integers(1, 5), st.integers(2, 4)),
    activation=st.sampled_from(sorted(AUTOGRAD)),
    loss=st.sampled_from(sorted(LOSSES)),
    reduction=st.sampled_from(["mean", "sum"]),
    batch=st.integers(1, 5),
    dropout=st.sampled_from([0.0, 0.0, 0.4]),
    seeds=st.sampled_from([(0,), (1, 2), (3, 4, 5)]),
)
def test_bp_is_the_gradient(hidden, ends, activation, loss, reduction, batch, dropout, seeds):
    step = Step(bp(), (ends[0], *hidden, ends[1]), activation, loss, batch, reduction, dropout, seeds)
    references = [autograd(step, replica, activation, loss, reduction) for replica in range(len(seeds))]
    weights, biases = step.gradients()
    for replica, (losses, at_a, at_w, at_b) in enumerate(references):
        close(step.losses[replica], losses, 1e-10)
        close(step.work.e[replica], at_a[len(hidden) + 1], 1e-10)
        for i in range(1, len(hidden) + 1):
            close(step.work.delta[i][replica], at_a[i], 1e-10)
        for i in range(1, len(hidden) + 2):
            close(weights[i][replica], at_w[i], 1e-10)
            close(biases[i][replica], at_b[i], 1e-10)


NORMALISED = [
    dict(activation="tanh"),
    dict(activation="erf", dropout=0.4, loss="binary-cross-entropy"),
    dict(activation="relu", widths=(6, 4, 3), reduction="sum", seeds=(3,)),
    dict(activation="logistic", widths=(4, 3, 5, 3), loss="squared-error", seeds=(3, 4, 5)),
]


@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize("setting", NORMALISED, ids=lambda s: s["activation"])
def test_bp_with_batch_normalisation_is_the_gradient(setting, mode):
    """Weights, biases, scales and shifts; in training through the batch's own mean and variance."""
    step = Step(bp(), batch=7, norm=mode, **setting)
    net, work, options = step.network, step.work, {"loss": "cross-entropy", "reduction": "mean"} | setting
    gradients = {kind: {i: stacks[i].clone() for i in range(1, net.depth + 1)} for kind, stacks in work.norm.gradients.items()}
    references = []
    for replica in range(net.replicas):
        for kind in gradients:
            for tensor in net.norm.parameters[kind].tensors:
                tensor.requires_grad_()
        references.append(autograd(step, replica, *(options[name] for name in ("activation", "loss", "reduction"))))
    expected = {kind: Stacks(stacks.runs, [t.grad for t in stacks.tensors]) for kind, stacks in net.norm.parameters.items()}
    for stacks in net.norm.parameters.values():
        for tensor in stacks.tensors:
            tensor.requires_grad_(False)
    weights, biases = step.gradients()
    for replica, (losses, at_a, at_w, at_b) in enumerate(references):
        close(step.losses[replica], losses, 1e-10)
        for i in range(1, net.depth + 1):
            close(work.delta[i][replica], at_a[i], 1e-10)
            for kind in gradients:
                close(gradients[kind][i][replica], expected[kind][i][replica], 1e-10)
        for i in range(1, net.depth + 2):
            close(weights[i][replica], at_w[i], 1e-10)
            # in training the gradient of a bias under a normalisation is 0 but for rounding
            assert (biases[i][replica, 0] - at_b[i]).abs().max() <= 1e-10 * at_w[i].abs().max()


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_loss_without_an_error_buffer_is_the_same(loss):
    output, y = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)), data(2, 5, 1, 3)[1].float()
    e = torch.empty_like(output)
    assert LOSSES[loss](output, y).equal(LOSSES[loss](output, y, e))
    assert not e.eq(0).any()


@pytest.mark.parametrize("loss", ["cross-entropy", "binary-cross-entropy"])
def test_loss_of_large_outputs_is_finite(loss):
    output, e = torch.tensor([[[800.0, -800.0, 0.0]]]), torch.empty(1, 1, 3)
    value = LOSSES[loss](output, torch.tensor([[[0.0, 1.0, 0.0]]]), e)
    assert value.isfinite().all() and value >= 1600 and e.isfinite().all()


# --- every rule against its equations ------------------------------------------------------------------------------------

F = {
    "tanh": (math.tanh, lambda a: 1 - math.tanh(a) ** 2),
    "logistic": (lambda a: 1 / (1 + math.exp(-a)), lambda a: math.exp(-a) / (1 + math.exp(-a)) ** 2),
    "relu": (lambda a: max(a, 0.0), lambda a: float(a > 0)),
    "leaky-relu": (lambda a: a if a > 0 else 0.01 * a, lambda a: 1.0 if a > 0 else 0.01),
    "erf": (lambda a: math.erf(a / math.sqrt(2)), lambda a: math.sqrt(2 / math.pi) * math.exp(-a * a / 2)),
    "linear": (lambda a: a, lambda a: 1.0),
    "sign": (lambda a: float(np.sign(a)), lambda a: 0.0),
    "threshold": (lambda a: float(a > 0), lambda a: 0.0),
    "sign-ste": (lambda a: float(np.sign(a)), lambda a: float(abs(a) <= 1)),
    "threshold-ste": (lambda a: float(a > 0), lambda a: float(abs(a) <= 1)),
}


def softmax(a):
    return np.exp(a) / np.exp(a).sum()


ERRORS = {
    "cross-entropy": lambda a, y: softmax(a) - y,
    "binary-cross-entropy": lambda a, y: 1 / (1 + np.exp(-a)) - y,
    "squared-error": lambda a, y: a - y,
}


class Example:
    """One example through one replica, with column vectors as in the papers: slow, and straight from the equations."""

    def __init__(self, step, replica, k, activation, loss):
        net, work, self.L = step.network, step.work, step.network.depth
        self.W = {i: net.weights[i][replica].numpy() for i in range(1, self.L + 2)}
        stored = [edge.target for edge in step.feedback.graph.edges if edge.carrier.stored]
        self.B = {i: step.feedback.matrix(i)[replica].numpy().T for i in stored}
        self.f, self.f_prime = (np.vectorize(g, otypes=[float]) for g in F[activation])
        self.mask = {i: work.mask[i][replica, k].numpy() if work.mask else 1.0 for i in range(1, self.L + 1)}
        h, self.a = work.x[replica, k].numpy(), {}
        for i in range(1, self.L + 2):
            self.a[i] = self.W[i] @ h + net.biases[i][replica, 0].numpy()
            h = self.f(self.a[i]) * self.mask[i] if i <= self.L else self.a[i]
        y = work.y[replica, k].numpy()
        self.e, self.y = work.error_scale * ERRORS[loss](h, y), work.error_scale * y

    def evaluate(self, signal, gate, **options):
        self.signal, self.gate, self.options, self.known = signal, gate, options, {}
        return self

    def delta(self, i):
        if i not in self.known:
            into_h = self.signal(self, i, **self.options)
            self.known[i] = into_h * self.mask[i] * (self.f_prime(self.a[i]) if self.gate else 1.0)
        return self.known[i]

    def above(self, i):
        """What reaches layer i from the layer above it."""
        return self.e if i == self.L else self.delta(i + 1)


def through(n, i, source, keep_norm):
    """A delta through B_i, with the norm that it had before if that is kept."""
    signal = n.B[i] @ source
    norm = np.linalg.norm(signal, axis=0)
    return signal * np.where(norm > 0, np.linalg.norm(source, axis=0) / np.where(norm > 0, norm, 1.0), 0.0) if keep_norm else signal


def fp_signal(n, i, k, lower="delta", keep_norm=False):
    if i > n.L - k:
        return n.W[i + 1].T @ n.above(i)
    return through(n, i, n.delta(n.L - k + 1), keep_norm) if k > 0 and lower == "delta" else n.B[i] @ n.e


def bdfa_signal(n, i, block, boundary="B", keep_norm=False):
    blocks_above = (n.L - i) // block
    if blocks_above == 0:
        return n.B[i] @ n.e
    lowest_above = n.L - blocks_above * block + 1
    if boundary == "W^T" and i == lowest_above - 1:
        return n.W[i + 1].T @ n.delta(i + 1)
    return through(n, i, n.delta(lowest_above), keep_norm)


def sign_concordant(n, i):
    return (np.abs(n.B[i]) * np.sign(n.W[i + 1].T)) @ n.above(i)


SIGNALS = {  # the signal at h_i, as the papers print it
    "bp": lambda n, i: n.W[i + 1].T @ n.above(i),
    "fa": lambda n, i, keep_norm=False: through(n, i, n.above(i), keep_norm and i < n.L),
    "dfa": lambda n, i, shared=False: n.B[i] @ n.e,
    # before the first draw both edges have the weight of their probability
    "switching": lambda n, i, p, by="step": p * (n.B[i] @ n.e) + (1 - p) * (n.W[i + 1].T @ n.above(i)),
    "ifa": lambda n, i: n.B[1] @ n.e if i == 1 else n.W[i] @ n.delta(i - 1),
    "fp": fp_signal,
    "bdfa": bdfa_signal,
    "usf": sign_concordant,
    "frsf": sign_concordant,
    "brsf": sign_concordant,
    "drtp": lambda n, i: n.B[i] @ -n.y,
}
CASES = [
    bp(), bp(gate=False), fa(), fa(gate=False), fa(redrawn=True), dfa(), dfa(gate=False), dfa(redrawn=True), ifa(),
    ifa(gate=False),
    fp(0), fp(2), fp(5), fp(2, lower="error"), fp(3, gate=False), fp(1, redrawn=True), bdfa(1), bdfa(2), bdfa(3), bdfa(5),
    bdfa(2, boundary="W^T"), bdfa(1, boundary="W^T"), bdfa(2, gate=False, redrawn=True), usf(), usf(gate=False), frsf(),
    frsf(gate=False), brsf(), brsf(gate=False), drtp(), drtp(gate=False), fa(keep_norm=True), fp(2, keep_norm=True),
    fp(2, lower="error", keep_norm=True), dfa(shared=True), dfa(shared=True, gate=False), switching(0.3),
    switching(0.7, by="layer", gate=False), bdfa(2, keep_norm=True), bdfa(2, boundary="W^T", keep_norm=True, redrawn=True),
]  # fmt: skip
SETTINGS = [
    dict(activation="tanh", loss="cross-entropy", reduction="mean"),
    dict(activation="relu", loss="squared-error", reduction="sum"),
    dict(activation="erf", loss="binary-cross-entropy", reduction="mean", dropout=0.4),
    dict(activation="logistic", loss="cross-entropy", reduction="sum", seeds=(4,)),
    dict(activation="linear", loss="squared-error", reduction="mean", dropout=0.4, seeds=(4, 5, 6)),
    dict(activation="leaky-relu", loss="cross-entropy", reduction="mean"),
    dict(activation="sign", loss="binary-cross-entropy", reduction="mean"),
    dict(activation="threshold", loss="cross-entropy", reduction="mean"),
    dict(activation="sign-ste", loss="squared-error", reduction="mean", dropout=0.4),
    dict(activation="threshold-ste", loss="cross-entropy", reduction="sum"),
]


def check_against_equations(step, activation, loss, signal, gate, **options):
    """Relative to the largest number of the batch: in one example, sums of equal magnitudes may cancel to nothing."""
    examples = [[Example(step, replica, k, activation, loss).evaluate(signal, gate, **options) for k in range(step.work.batch)]
                for replica in range(step.network.replicas)]  # fmt: skip

    def of_each(compute):
        return [[compute(example) for example in row] for row in examples]

    close(step.work.e, of_each(lambda n: n.e), 1e-12)
    for i in (edge.target for edge in step.feedback.graph.edges):
        close(step.work.delta[i], of_each(lambda n: n.delta(i)), 1e-12)
        close(step.signals[i], of_each(lambda n: signal(n, i, **options)), 1e-12)


def test_every_rule_with_edges_has_its_equation_and_a_case():
    assert set(SIGNALS) == {rule.name for rule in CASES} == set(RULES) - {"shallow"}
    assert {setting["activation"] for setting in SETTINGS} == set(F)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: f"{s['activation']}, {s['loss']}")
@pytest.mark.parametrize("rule", CASES, ids=str)
def test_rule_follows_its_equations(rule, setting):
    options = dict(rule.options)
    gate, _ = options.pop("gate", True), options.pop("redrawn", None)
    step = Step(rule, **setting)
    check_against_equations(step, setting["activation"], setting["loss"], SIGNALS[rule.name], gate, **options)


class Batch(Example):
    """A whole batch through one replica of a normalised network, examples as columns; the normalisation's backward pass is the
    product with its Jacobian over the batch, unit by unit."""

    def __init__(self, step, replica, activation, loss):
        net, work, self.L = step.network, step.work, step.network.depth
        self.W = {i: net.weights[i][replica].numpy() for i in range(1, self.L + 2)}
        stored = [edge.target for edge in step.feedback.graph.edges if edge.carrier.stored]
        self.B = {i: step.feedback.matrix(i)[replica].numpy().T for i in stored}
        f, self.f_prime = (np.vectorize(g, otypes=[float]) for g in F[activation])
        self.mask = {i: work.mask[i][replica].numpy().T if work.mask else 1.0 for i in range(1, self.L + 1)}
        h, self.a, self.jacobian = work.x[replica].numpy().T, {}, {}
        for i in range(1, self.L + 2):
            a = self.W[i] @ h + net.biases[i][replica].numpy().T
            if i > self.L:
                break

            def normalise(columns, i=i):
                return normalised(net, i, replica, columns.T, work.norm.training).T

            a = torch.tensor(a)
            self.a[i] = normalise(a).numpy()
            full = torch.autograd.functional.jacobian(normalise, a)  # (n, batch, n, batch), units apart
            self.jacobian[i] = [full[j, :, j].numpy() for j in range(len(a))]
            h = f(self.a[i]) * self.mask[i]
        y = work.y[replica].numpy()
        self.e = work.error_scale * np.array([ERRORS[loss](column, target) for column, target in zip(a.T, y)]).T
        self.y = work.error_scale * y.T

    def delta(self, i):
        if i not in self.known:
            at_u = self.signal(self, i, **self.options) * self.mask[i] * (self.f_prime(self.a[i]) if self.gate else 1.0)
            self.known[i] = np.array([jacobian.T @ row for jacobian, row in zip(self.jacobian[i], at_u)])
        return self.known[i]


@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize("setting", SETTINGS[:4], ids=lambda s: s["activation"])
@pytest.mark.parametrize(
    "rule", [fa(), dfa(), dfa(gate=False), ifa(), fp(2), bdfa(2), bdfa(2, boundary="W^T"), bdfa(2, keep_norm=True), frsf(), drtp()],
    ids=str,
)  # fmt: skip
def test_rule_follows_its_equations_through_batch_normalisation(rule, setting, mode):
    options = dict(rule.options)
    gate, signal = options.pop("gate", True), SIGNALS[rule.name]
    step = Step(rule, batch=5, norm=mode, **setting)
    for replica in range(step.network.replicas):
        n = Batch(step, replica, setting["activation"], setting["loss"]).evaluate(signal, gate, **options)
        close(step.work.e[replica].T, n.e, 1e-12)
        for i in range(1, 6):
            close(step.signals[i][replica].T, signal(n, i, **options), 1e-12)
            close(step.work.delta[i][replica].T, n.delta(i), 1e-12)


@pytest.mark.parametrize("widths", [(6, 4, 3), (5, 5, 5, 5, 5), (6, 3, 5, 4, 3)], ids=str)
@pytest.mark.parametrize("rule", [fa(), dfa(), ifa(), fp(1), bdfa(2), frsf(), drtp()], ids=str)
def test_rule_follows_its_equations_on_other_widths(rule, widths):
    step = Step(rule, widths, batch=2)
    check_against_equations(step, "tanh", "cross-entropy", SIGNALS[rule.name], True, **dict(rule.options))


@pytest.mark.parametrize("setting", SETTINGS[:5], ids=lambda s: s["activation"])
def test_graph_with_mixed_edges_follows_its_equations(setting):
    gates = {1: True, 2: True, 3: False, 4: True, 5: True, 6: False, 7: True}
    graph = FeedbackGraph((6, 5, 5, 5, 5, 5, 4, 4, 3), (
        Edge(1, 6, Carrier.RANDOM, gates[1]),
        Edge(2, 1, Carrier.FORWARD, gates[2]),
        Edge(3, 6, Carrier.REDRAWN, gates[3]),
        Edge(4, "target", Carrier.RANDOM, gates[4]),
        Edge(5, 6, Carrier.SIGN_FIXED, gates[5]),
        Edge(6, "error", Carrier.RANDOM, gates[6]),
        Edge(7, "error", Carrier.TRANSPOSED, gates[7]),
    ))  # fmt: skip
    step = Step(graph, graph.widths, **setting)
    for replica in range(step.network.replicas):
        for k in range(step.work.batch):
            n = Example(step, replica, k, setting["activation"], setting["loss"])
            g = {i: n.mask[i] * (n.f_prime(n.a[i]) if gates[i] else 1.0) for i in range(1, 8)}
            delta = {7: (n.W[8].T @ n.e) * g[7], 6: (n.B[6] @ n.e) * g[6], 4: (n.B[4] @ -n.y) * g[4]}
            delta[5] = ((np.abs(n.B[5]) * np.sign(n.W[6].T)) @ delta[6]) * g[5]
            delta[3], delta[1] = (n.B[3] @ delta[6]) * g[3], (n.B[1] @ delta[6]) * g[1]
            delta[2] = (n.W[2] @ delta[1]) * g[2]
            for i, expected in delta.items():
                close(step.work.delta[i][replica, k], expected, 1e-12)


def test_kept_norm_makes_the_size_of_the_feedback_matter_at_no_boundary():
    small, large = (Step(bdfa(2, keep_norm=True), spec=f"normal({size})") for size in (1e-3, 1e3))
    for i in (1, 2, 3):  # boundaries: 1 <- 2 and 2, 3 <- 4
        source = 2 if i == 1 else 4
        for step in (small, large):
            assert torch.allclose(step.signals[i].norm(dim=-1), step.work.delta[source].norm(dim=-1), rtol=1e-12)
        # both have the top block's B, which reads the error, a million times apart
        assert torch.allclose(large.signals[i], 1e6 * small.signals[i], rtol=1e-9)


def test_norm_of_nothing_is_nothing_and_that_of_tiny_deltas_is_kept():
    network = Network(ODD, "linear", 2)
    network.initialise("normal(0.6)", [0, 1])
    feedback, work, signals = Feedback(bdfa(2, keep_norm=True).graph(ODD), network, "normal(1e-8)", [0, 1]), Workspace(network, 3), {}
    work.e.fill_(1e-17)  # deltas near 1e-25, whose squares float32 has not
    work.e[0, 1] = 0.0
    feedback.bind(work, signals)()
    for i, source in ((1, 2), (2, 4), (3, 4)):
        before, after = (x.double().norm(dim=-1) for x in (work.delta[source], signals[i]))
        assert torch.allclose(before, after, rtol=1e-5, atol=0) and after[0, 1] == 0 and (after > 0).sum() == 5


@pytest.mark.parametrize("setting", [SETTINGS[0], SETTINGS[2], SETTINGS[3] | {"norm": "training"}], ids=lambda s: s["activation"])
@pytest.mark.parametrize("by", ["step", "layer"])
def test_switching_takes_one_edge_for_each_layer_and_replica(by, setting):
    seeds = (0, 1, 2)
    step = Step(switching(0.4, by=by), batch=4, **setting | {"seeds": seeds})
    phase, streams, seen = step.feedback.bind(step.work, step.signals), [generator(seed, "switch") for seed in seeds], []
    for _ in range(6):
        step.feedback.switch()
        phase()
        for replica, stream in enumerate(streams):
            u = torch.rand(1 if by == "step" else 5, dtype=torch.float64, generator=stream).expand(5)
            direct = [bool(number < 0.4) for number in u]
            for i in range(1, 6):
                above, work = (step.work.delta[i + 1] if i < 5 else step.work.e)[replica], step.work
                matrix = step.feedback.matrix(i)[replica] if direct[i - 1] else step.network.weights[i + 1][replica]
                close(step.signals[i][replica], (work.e[replica] if direct[i - 1] else above) @ matrix, 1e-13)
            seen.append(direct)
    assert any(True in direct for direct in seen) and any(False in direct for direct in seen)
    assert any(len(set(direct)) == 2 for direct in seen) == (by == "layer")


@pytest.mark.parametrize("p, rule", [(0, bp()), (1, dfa())], ids=str)
def test_switching_that_never_switches_is_bp_or_dfa(p, rule):
    plain = Step(rule)
    for by in ("step", "layer"):
        step = Step(switching(p, by=by))
        step.feedback.switch()
        step.feedback.bind(step.work, step.signals)()
        for i in range(1, 6):
            assert step.work.delta[i].equal(plain.work.delta[i]) and step.signals[i].equal(plain.signals[i])


def test_switching_takes_each_edge_with_its_probability():
    feedback = Step(switching(0.3, by="layer"), (6, *[4] * 50, 3)).feedback
    first = feedback.taken[feedback.products[0]]
    total = torch.zeros_like(first)
    for _ in range(200):
        feedback.switch()
        assert torch.stack([taken.sum(dim=0) for taken in feedback.taken.values()]).sum(dim=0).eq(50).all()  # one a layer
        total += first
    shares = total / 200
    assert shares.mean().item() == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / 20_000))
    assert (shares - 0.3).abs().max() <= 5 * math.sqrt(0.21 / 200)


def masked(signal, layer, n):
    """The rule's equation for a network whose layer `layer` passes on only the first n numbers of its delta."""

    def of(example, i, **options):
        into_h = signal(example, i, **options).copy()
        if i == layer:
            into_h[n:] = 0
        return into_h

    return of


@pytest.mark.parametrize("norm", [None, "training"])
@pytest.mark.parametrize("bottleneck", [(2, 1), (4, 3), (5, 4)], ids=str)
@pytest.mark.parametrize("rule", [bp(), fa(), dfa(), dfa(gate=False), fp(2), bdfa(2), ifa(), switching(0.4)], ids=str)
def test_bottleneck_lets_the_first_units_of_a_layer_learn(rule, bottleneck, norm):
    options = dict(rule.options)
    gate = options.pop("gate", True)
    step = Step(rule, batch=4, bottleneck=bottleneck, norm=norm)
    for replica in range(2):
        if norm:
            n = Batch(step, replica, "tanh", "cross-entropy").evaluate(masked(SIGNALS[rule.name], *bottleneck), gate, **options)
            for i in range(1, 6):
                close(step.work.delta[i][replica].T, n.delta(i), 1e-12)
            continue
        for k in range(4):
            n = Example(step, replica, k, "tanh", "cross-entropy").evaluate(masked(SIGNALS[rule.name], *bottleneck), gate, **options)
            for i in range(1, 6):
                close(step.work.delta[i][replica, k], n.delta(i), 1e-12)
    layer, n = bottleneck
    assert step.work.delta[layer][..., n:].eq(0).all() and step.work.delta[layer][..., :n].ne(0).all()


def test_updates_are_the_outer_products_of_deltas_and_inputs():
    step = Step(dfa(), dropout=0.4)
    inputs = {1: step.work.x.clone()} | {i + 1: step.work.z[i].clone() for i in range(1, 6)}
    deltas = {i: step.work.delta[i].clone() for i in range(1, 6)} | {6: step.work.e.clone()}
    weights, biases = step.gradients()
    for i in range(1, 7):
        close(weights[i], np.einsum("rbo,rbi->roi", deltas[i].numpy(), inputs[i].numpy()), 1e-12)
        close(biases[i][:, 0], deltas[i].numpy().sum(axis=1), 1e-12)


def test_feedback_reads_the_weights_and_errors_of_the_moment():
    for rule, factor in ((bp(), -6), (dfa(), 3), (usf(), -3), (frsf(), -3), (brsf(), -3)):
        step = Step(rule)
        phase = step.feedback.bind(step.work)
        before = step.work.delta[5].clone()
        step.network.weights[6].mul_(-2)
        step.work.e.mul_(3)
        phase()
        assert torch.allclose(step.work.delta[5], factor * before, rtol=1e-12), rule
    step = Step(ifa())
    phase, before = step.feedback.bind(step.work), step.work.delta[2].clone()
    step.network.weights[2].mul_(-2)
    phase()
    assert torch.allclose(step.work.delta[2], -2 * before, rtol=1e-12)


# --- the random matrices -------------------------------------------------------------------------------------------------


def matrices(rule, spec="uniform-to", seeds=(0, 1), widths=ODD):
    return Step(rule, widths, seeds=seeds, spec=spec).feedback


def test_uniform_from_and_uniform_to_name_the_source_and_the_layer_that_learns():
    widths = (5, 400, 100)
    for spec, bound in (("uniform-from", 1 / math.sqrt(100)), ("uniform-to", 1 / math.sqrt(400))):
        matrix = matrices(dfa(), spec, widths=widths).matrix(1)
        assert matrix.shape == (2, 100, 400) and 0.99 * bound < matrix.abs().max() <= bound


@pytest.mark.parametrize(
    "init, spec",
    [("uniform-from", "uniform-to"), ("normal-from", "normal-to"), ("xavier-uniform", "xavier-uniform"), ("uniform(0.05)",) * 2],
)  # fmt: skip
def test_feedback_as_large_as_the_output_weights(init, spec):
    network = Network((5, 300, 300, 20), replicas=1)
    network.initialise(init, [0])
    feedback = Feedback(dfa().graph(network.widths), network, spec, [0])
    size = network.weights[3].square().mean().sqrt().item()
    sizes = [feedback.matrix(i).square().mean().sqrt().item() for i in (1, 2)]
    assert sizes == pytest.approx([size, size], rel=0.06)  # 6,000 numbers: 4 standard errors


def test_feedback_depends_on_its_seed_alone():
    both, first, second = matrices(dfa(), seeds=(3, 8)), matrices(dfa(), seeds=(3,)), matrices(dfa(), seeds=(8,))
    for i in range(1, 6):
        assert both.matrix(i)[0].equal(first.matrix(i)[0]) and both.matrix(i)[1].equal(second.matrix(i)[0])
        assert not both.matrix(i)[0].equal(both.matrix(i)[1])
    assert not both.matrix(1).equal(both.matrix(2))


@pytest.mark.parametrize("spec, rescaled", [("normal-from-to", True), ("uniform-to", True), ("normal(1)", False)])
def test_shared_feedback_is_one_matrix_and_its_slices(spec, rescaled):
    """Launay, Poli and Krzakala: the widest layer's matrix, of N(0, 1 / (n_out n_widest)); a narrower layer of width n has its first
    columns times sqrt(n_widest / n)."""
    both, alone = (matrices(dfa(shared=True), spec, seeds, widths=(6, 4, 9, 9, 4, 3)) for seeds in ((3, 8), (8,)))
    for i in (1, 2, 3, 4):
        width = both.graph.widths[i]
        expected = both.matrix(2)[:, :, :width] * (math.sqrt(9 / width) if rescaled else 1.0)
        assert torch.allclose(both.matrix(i), expected, rtol=1e-14)
        assert both.matrix(i)[1].equal(alone.matrix(i)[0]) and not both.matrix(i)[1].equal(both.matrix(i)[0])


def test_normalised_feedback_has_norm_one_whatever_the_widths():
    for widths in ((5, 400, 10), (5, 90, 40)):
        step = Step(dfa(gate=False), widths, seeds=range(8), spec="normal-from-to")
        norms = step.feedback.matrix(1).norm(dim=(1, 2))
        assert norms.tolist() == pytest.approx([1.0] * 8, abs=0.06)  # 3,600 numbers and more: 5 standard errors
        ratio = (step.work.delta[1].norm(dim=-1) / step.work.e.norm(dim=-1)).square().mean().item()
        assert ratio == pytest.approx(1 / widths[-1], rel=0.15)  # 8 x 90 squares, each with a deviation of 1.4: 3 standard errors


def test_layers_that_share_get_the_same_signal_from_one_product():
    step = Step(dfa(shared=True), (6, *[5] * 4, 3))
    assert all(step.signals[i].equal(step.signals[1]) for i in (2, 3, 4))
    assert sum(t.numel() for t in step.feedback.state().values()) == 2 * step.feedback.graph.cost(1).feedback_numbers == 2 * 15


@pytest.mark.parametrize("rule", [bdfa(2, redrawn=True), brsf(), dfa(redrawn=True)], ids=str)
def test_redrawn_feedback_changes_with_every_redraw_and_the_deltas_follow(rule):
    step = Step(rule)
    feedback, phase = step.feedback, step.feedback.bind(step.work)
    phase()
    seen = []
    for _ in range(3):
        seen.append(([feedback.matrix(i).clone() for i in range(1, 6)], step.work.delta[1].clone()))
        feedback.redraw()
        phase()
    for (one, delta), (two, delta_2) in zip(seen, seen[1:]):
        assert all(not a.equal(b) for a, b in zip(one, two)) and not delta.equal(delta_2)


def test_redrawing_a_seed_does_not_depend_on_the_other_replicas():
    both, alone = matrices(dfa(redrawn=True), seeds=(3, 8)), matrices(dfa(redrawn=True), seeds=(8,))
    for _ in range(3):
        both.redraw(), alone.redraw()
    assert all(both.matrix(i)[1].equal(alone.matrix(i)[0]) for i in range(1, 6))


@pytest.mark.parametrize("rule", [fa(), dfa(), fp(2), usf(), frsf()], ids=str)
def test_fixed_feedback_is_never_redrawn(rule):
    feedback = matrices(rule)
    before = {name: tensor.clone() for name, tensor in feedback.state().items()}
    feedback.redraw()
    assert before and all(tensor.equal(before[name]) for name, tensor in feedback.state().items())


def test_only_the_redrawn_edges_of_a_mixed_graph_are_redrawn():
    graph = FeedbackGraph((4, 3, 3, 3, 2), (Edge(1, "error", Carrier.RANDOM), Edge(2, "error", Carrier.REDRAWN),
                                            Edge(3, "error", Carrier.SIGN)))  # fmt: skip
    feedback = matrices(graph, widths=graph.widths)
    before = {i: feedback.matrix(i).clone() for i in (1, 2, 3)}
    feedback.redraw()
    assert [feedback.matrix(i).equal(before[i]) for i in (1, 2, 3)] == [True, False, True]


def test_sign_concordant_magnitudes():
    drawn, uniform = matrices(fa(), "normal(0.3)"), matrices(usf(), "normal(0.3)")
    for i in range(1, 6):
        for replica in range(2):
            rms = drawn.matrix(i)[replica].square().mean().sqrt()
            assert torch.allclose(uniform.matrix(i)[replica], rms.expand_as(uniform.matrix(i)[replica]), rtol=1e-12)
            assert matrices(frsf(), "normal(0.3)").matrix(i)[replica].equal(drawn.matrix(i)[replica].abs())


def test_initial_weights_as_feedback_start_as_back_propagation_and_stay():
    step, exact = Step(fa(), spec="initial-weights"), Step(bp())
    for i in range(1, 6):
        close(step.work.delta[i], exact.work.delta[i], 1e-14)
    kept = step.feedback.matrix(5).clone()
    step.network.weights[6].add_(1.0)
    assert step.feedback.matrix(5).equal(kept)


def test_initial_weights_as_magnitudes_keep_the_signs_of_the_weights():
    step, exact = Step(frsf(), spec="initial-weights"), Step(bp())
    for i in range(1, 6):
        close(step.work.delta[i], exact.work.delta[i], 1e-14)


@pytest.mark.parametrize(
    "rule, widths, edge",
    [
        (dfa(), ODD, "error->h1"),
        (dfa(), (4, 3, 3, 3), "error->h1"),  # W_2 would fit by its shape
        (bdfa(2), (4, 3, 3, 3, 3, 3), "error->h3"),
        (fa(redrawn=True), ODD, "error->h5"),
        (dfa(shared=True), (4, 3, 3), "error->h1"),
    ],
    ids=str,
)
def test_initial_weights_that_do_not_belong_to_an_edge_are_refused(rule, widths, edge):
    with pytest.raises(DfaLibError, match=f"'initial-weights'.*{edge}"):
        matrices(rule, "initial-weights", widths=widths)


def test_feedback_for_another_network_is_refused():
    with pytest.raises(DfaLibError, match=r"\(4, 3, 2\).*\(4, 5, 2\)"):
        Feedback(dfa().graph((4, 3, 2)), Network((4, 5, 2)))


def test_layer_without_a_stored_matrix_has_none_to_give():
    with pytest.raises(DfaLibError, match=r"fp\(k=2\) stores no feedback matrix for hidden layer 4"):
        matrices(fp(2)).matrix(4)
    assert matrices(fp(2)).matrix(3).shape == (2, 4, 5)


def test_state_is_the_matrices_themselves():
    step = Step(bdfa(2))
    total = sum(tensor.numel() for tensor in step.feedback.state().values())
    assert total == 2 * step.feedback.graph.cost(1).feedback_numbers
    for tensor in step.feedback.state().values():
        tensor.zero_()
    step.feedback.bind(step.work)()
    assert all(step.work.delta[i].eq(0).all() for i in range(1, 6))


@pytest.mark.parametrize("rule", [bp(), shallow()], ids=str)
def test_rules_without_random_matrices_store_none(rule):
    assert matrices(rule).state() == {}


# --- the number of calls -------------------------------------------------------------------------------------------------


class Calls(TorchDispatchMode):
    """Counts every call into torch's kernels."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def calls(rule, depth, **setting):
    step = Step(rule, (6, *[4] * depth, 3), **setting)
    phase = step.feedback.bind(step.work)
    with Calls() as counter:
        phase()
    return counter.count


@pytest.mark.parametrize(
    "setting", [{}, {"seeds": (0,)}, {"activation": "erf"}, {"dropout": 0.4}, {"norm": "training"}, {"bottleneck": (2, 1)}], ids=str
)
@pytest.mark.parametrize("rule", [dfa(), dfa(gate=False), dfa(shared=True), drtp()], ids=str)
def test_calls_of_direct_feedback_do_not_grow_with_depth(rule, setting):
    assert 0 < calls(rule, 3, **setting) == calls(rule, 100, **setting)


def test_calls_of_bp_and_fa_grow_with_depth():
    """So the counter counts."""
    assert calls(bp(), 100) > 90 + calls(bp(), 3)
    assert calls(fa(), 100) > 90 + calls(fa(), 3)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_calls_of_bdfa_depend_on_the_number_of_blocks_alone(seeds):
    three, four = (calls(bdfa(2), depth, seeds=seeds) for depth in (6, 8))
    assert calls(bdfa(10), 30, seeds=seeds) == calls(bdfa(33), 99, seeds=seeds) == three
    assert calls(bdfa(25), 100, seeds=seeds) == four > three
