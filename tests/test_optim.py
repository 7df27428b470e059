"""Update rules against torch.optim on whole networks, and the layers that must not move."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from dfa_lib import optim
from dfa_lib.config import Optimizer
from dfa_lib.errors import DfaLibError
from dfa_lib.feedback import LOSSES, Feedback
from dfa_lib.graph import bp, dfa
from dfa_lib.network import Network, Workspace
from dfa_lib.optim import Updater

WIDTHS = (7, 6, 6, 6, 5, 4)  # stacks of one and of two weight matrices
BATCHES = (5, 5, 3, 5, 5, 3, 5, 5, 3, 5)  # two workspaces in turn share moments and count
EACH = {
    "sgd": (Optimizer("sgd", lr=0.3), lambda p: torch.optim.SGD(p, lr=0.3)),
    "momentum": (Optimizer("momentum", lr=0.1, momentum=0.8), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8)),
    "rmsprop": (
        Optimizer("rmsprop", lr=0.01, decay=0.95, eps=1e-5),
        lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.95, eps=1e-5),
    ),
    "adam": (
        Optimizer("adam", lr=0.02, momentum=0.8, decay=0.98, eps=1e-5),
        lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.8, 0.98), eps=1e-5),
    ),
}


DECAYED = {
    name: (replace(ours, weight_decay=0.3), lambda p, make=make: make([{"params": [q for q in p if q.dim() == 2], "weight_decay": 0.3},
                                                                       {"params": [q for q in p if q.dim() == 1]}]))
    for name, (ours, make) in EACH.items()
}  # fmt: skip


class Run:
    """Some replicas of one network, trained on the same batches by an `Updater`."""

    def __init__(self, optimizer, rule=bp(), learning=range(1, 6), seeds=(0, 1), dtype=torch.float64, lrs=None):
        self.network = Network(WIDTHS, "tanh", len(seeds), dtype)
        self.network.initialise("normal(0.5)", seeds)
        self.updater = Updater(optimizer, self.network, set(learning), lrs)
        feedback, self.steps = Feedback(rule.graph(WIDTHS), self.network, "normal(0.5)", seeds), {}
        for batch in set(BATCHES):
            work = Workspace(self.network, batch)
            self.steps[batch] = (work, feedback.bind(work), self.updater.bind(work))

    def step(self, x, y):
        work, feedback, update = self.steps[len(x)]
        work.x.copy_(x.expand_as(work.x)), work.y.copy_(y.expand_as(work.y))
        work.forward()
        LOSSES["cross-entropy"](work.output, work.y, work.e)
        work.e.mul_(work.error_scale)
        feedback()
        update()

    def parameters(self, replica):
        layers = range(1, len(WIDTHS))
        weights = {("w", i): self.network.weights[i][replica] for i in layers}
        return weights | {("b", i): self.network.biases[i][replica, 0] for i in layers}

    def train(self):
        for x, y in batches():
            self.step(x, y)
        return self


def batches():
    g = torch.Generator().manual_seed(3)
    for n in BATCHES:
        x = torch.randn(n, WIDTHS[0], dtype=torch.float64, generator=g)
        yield x, torch.eye(WIDTHS[-1], dtype=torch.float64)[torch.randint(WIDTHS[-1], (n,), generator=g)]


def with_torch_optim(make, parameters):
    """The same ten steps by autograd and torch.optim, from the same start."""
    parameters = {name: p.clone().requires_grad_() for name, p in parameters.items()}
    optimizer = make(list(parameters.values()))
    for x, y in batches():
        h = x
        for i in range(1, len(WIDTHS)):
            h = functional.linear(torch.tanh(h) if i > 1 else h, parameters["w", i], parameters["b", i])
        optimizer.zero_grad()
        functional.cross_entropy(h, y).backward()
        optimizer.step()
    return {name: p.detach() for name, p in parameters.items()}


@pytest.mark.parametrize("chunk", [1, 20, 100, 10**6], ids="chunk={}".format)  # a matrix holds 30 or 36 numbers
@pytest.mark.parametrize("large", [20, 10**6], ids="large={}".format)  # from 20 numbers on RMSprop goes through the fused kernel
@pytest.mark.parametrize("decayed", [False, True], ids=["", "weight decay"])
@pytest.mark.parametrize("name", EACH)
def test_optimizer_equals_that_of_torch(name, decayed, large, chunk, monkeypatch):
    """Weight decay is torch's, for the weights alone."""
    monkeypatch.setattr(optim, "CHUNK", chunk)
    monkeypatch.setattr(optim, "LARGE", large)
    ours, theirs = (DECAYED if decayed else EACH)[name]
    run = Run(ours)
    start = [{key: p.clone() for key, p in run.parameters(replica).items()} for replica in range(2)]
    run.train()
    for replica in range(2):
        expected = with_torch_optim(theirs, start[replica])
        for key, p in run.parameters(replica).items():
            assert (p - expected[key]).abs().max() <= 1e-12, key
            assert (p - start[replica][key]).abs().max() > 1e-3, key  # they have moved at all


@pytest.mark.parametrize("name", EACH)
def test_default_hyperparameters_are_those_of_torch_but_for_the_decay(name):
    ours = Optimizer(name, lr=0.01)
    theirs = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.01),
        "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
        "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
        "adam": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.9, 0.99)),
    }[name]
    run = Run(ours, seeds=(0,))
    start = {key: p.clone() for key, p in run.parameters(0).items()}
    run.train()
    for key, expected in with_torch_optim(theirs, start).items():
        assert (run.parameters(0)[key] - expected).abs().max() <= 1e-10, key  # eps 1e-8 beside small gradients magnifies rounding


@pytest.mark.parametrize("name", EACH)
def test_chunks_of_float32_weights_do_not_change_the_result(name, monkeypatch):
    results = []
    for chunk in (20, 10**6):
        monkeypatch.setattr(optim, "CHUNK", chunk)
        results.append(Run(EACH[name][0], dfa(), dtype=torch.float32).train().network.state())
    for key, one in results[0].items():
        assert torch.allclose(one, results[1][key], rtol=1e-4, atol=1e-6), key


@pytest.mark.parametrize("learning", [{5}, {1, 3, 5}, {2}, {3}, {2, 3, 4}, set()], ids=str)
@pytest.mark.parametrize("name", EACH)
def test_layers_that_do_not_learn_stay_to_the_bit(name, learning):
    run = Run(EACH[name][0], learning=learning)
    before = [{key: p.clone() for key, p in run.parameters(replica).items()} for replica in range(2)]
    run.train()
    for replica in range(2):
        moved = {key for key, p in run.parameters(replica).items() if not p.equal(before[replica][key])}
        assert moved == {(kind, i) for kind in "wb" for i in learning}


@pytest.mark.parametrize("name", EACH)
def test_replicas_do_not_mix(name):
    both = Run(EACH[name][0], dfa(), seeds=(0, 1)).train()
    for replica in range(2):
        alone = Run(EACH[name][0], dfa(), seeds=(replica,)).train().parameters(0)
        for key, p in both.parameters(replica).items():
            assert (p - alone[key]).abs().max() <= 1e-12, key


@pytest.mark.parametrize("name, moments", [("sgd", 0), ("momentum", 1), ("rmsprop", 1), ("adam", 2)])
def test_state_holds_a_moment_for_every_parameter(name, moments):
    run = Run(EACH[name][0])
    parameters = sum(p.numel() for p in run.network.state().values())
    state = run.updater.state()
    assert sum(p.numel() for key, p in state.items() if key.startswith("moment")) == moments * parameters
    run.train()
    assert all(p.ne(0).any() for p in run.updater.state().values())


@pytest.mark.parametrize("name", EACH)
def test_state_carries_an_optimizer_over_to_another(name):
    one, other = Run(EACH[name][0]), Run(EACH[name][0], seeds=(5, 6))
    made = list(batches())
    for x, y in made[:4]:
        one.step(x, y)
    for source, into in ((one.network, other.network), (one.updater, other.updater)):
        for key, tensor in source.state().items():
            into.state()[key].copy_(tensor)
    for x, y in made[4:]:
        one.step(x, y), other.step(x, y)
    for key, tensor in one.network.state().items():
        assert tensor.equal(other.network.state()[key]), key


@pytest.mark.parametrize("each", [EACH, DECAYED], ids=["", "weight decay"])
@pytest.mark.parametrize("name", EACH)
def test_each_replica_can_have_a_learning_rate_of_its_own(name, each):
    optimizer, rates = each[name][0], (0.003, 0.02)
    both = Run(optimizer, dfa(), seeds=(0, 1), lrs=rates).train()
    for replica, lr in enumerate(rates):
        alone = Run(replace(optimizer, lr=lr), dfa(), seeds=(replica,)).train().parameters(0)
        for key, p in both.parameters(replica).items():
            assert (p - alone[key]).abs().max() <= 1e-12, key


def test_weight_decay_without_an_error_shrinks_the_weights_alone():
    run = Run(Optimizer("sgd", lr=0.1, weight_decay=0.5), learning={1, 2, 3, 5})
    before = {key: p.clone() for key, p in run.parameters(1).items()}
    work, _, update = run.steps[5]
    for tensor in (work.e, *work.delta.tensors):
        tensor.zero_()
    update()
    for (kind, i), p in run.parameters(1).items():
        factor = 0.95 if kind == "w" and i != 4 else 1.0
        assert torch.allclose(p, factor * before[kind, i], rtol=1e-14), (kind, i)


def test_learning_rates_must_be_as_many_as_replicas():
    with pytest.raises(DfaLibError, match="2 replicas need as many learning rates; got 3"):
        Run(EACH["sgd"][0], dfa(), seeds=(0, 1), lrs=(0.1, 0.2, 0.3))
