"""Convolutions as dense layers with zeros and ties: forward and gradient against torch's own, and ties that hold to the bit."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from dfa_lib.config import Config, Optimizer
from dfa_lib.convolution import make_ties, spread
from dfa_lib.data import Dataset
from dfa_lib.errors import DfaLibError
from dfa_lib.feedback import LOSSES, Feedback
from dfa_lib.graph import bp, dfa, fa
from dfa_lib.network import Network, Workspace
from dfa_lib.optim import Updater
from dfa_lib.training import Trainer, train

IMAGE, LAYERS = (2, 9, 8), ((3, 3, 2), (4, 2, 1))  # 3 x 4 x 3 units, then 4 x 3 x 2
WIDTHS = (144, 36, 24, 7, 5)
OPTIMIZERS = {
    "sgd": Optimizer("sgd", lr=0.3, weight_decay=0.1),
    "momentum": Optimizer("momentum", lr=0.1),
    "rmsprop": Optimizer("rmsprop", lr=0.01, weight_decay=0.1),
    "adam": Optimizer("adam", lr=0.01),
}
TORCH = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.3),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.99),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.9, 0.99)),
}


def ties(tied=True):
    return make_ties(IMAGE, LAYERS, WIDTHS[1:], tied)


def network(tied=True, seeds=(0,), dtype=torch.float64, init="uniform-from"):
    made = Network(WIDTHS, "tanh", len(seeds), dtype, ties=ties(tied))
    made.initialise(init, seeds)
    return made


def kernels(made, layer, replica=0):
    """Kernel (out, in, row, column) and bias of a convolution, as torch has them."""
    tie, (channels, kernel, _) = made.ties[layer], LAYERS[layer - 1]
    weight = made.weights[layer][replica].flatten()[tie.weights[:, 0]].view(channels, -1, kernel, kernel)
    return weight, made.biases[layer][replica].flatten()[tie.biases[:, 0]]


def batch(n=5, replicas=1):
    g = torch.Generator().manual_seed(3)
    x = torch.rand(n, WIDTHS[0], generator=g, dtype=torch.float64)
    y = functional.one_hot(torch.randint(WIDTHS[-1], (n,), generator=g), WIDTHS[-1]).double()
    return x, y


def torch_output(x, parameters):
    h = x.view(-1, *IMAGE)
    for k, (_, _, stride) in enumerate(LAYERS):
        h = torch.tanh(functional.conv2d(h, parameters[2 * k], parameters[2 * k + 1], stride))
    h = torch.tanh(functional.linear(h.flatten(1), parameters[4], parameters[5]))
    return functional.linear(h, parameters[6], parameters[7])


def torch_parameters(made, replica=0):
    """Leaves for autograd with the values of a replica, in the order of `torch_output`."""
    conv = [part for layer in (1, 2) for part in kernels(made, layer, replica)]
    dense = [part for layer in (3, 4) for part in (made.weights[layer][replica], made.biases[layer][replica, 0])]
    return [part.clone().requires_grad_() for part in conv + dense]


class Steps:
    """Updates of one network on one batch."""

    def __init__(self, made, optimizer, rule=bp(), seeds=(0,), lrs=None, learning=(1, 2, 3, 4)):
        self.work = Workspace(made, 5)
        feedback = Feedback(rule.graph(WIDTHS), made, "normal(0.3)", seeds)
        self.updater = Updater(optimizer, made, set(learning), lrs)
        self.phases = feedback.bind(self.work), self.updater.bind(self.work)

    def run(self, count):
        x, y = batch()
        for _ in range(count):
            self.work.x.copy_(x.expand_as(self.work.x)), self.work.y.copy_(y.expand_as(self.work.y))
            self.work.forward()
            LOSSES["cross-entropy"](self.work.output, self.work.y, self.work.e)
            self.work.e.mul_(self.work.error_scale)
            for phase in self.phases:
                phase()
        return self


# --- against torch -----------------------------------------------------------------------------------------------------------


def test_forward_pass_is_torchs_convolution():
    made, (x, _) = network(), batch()
    assert (made.predict(x)[0] - torch_output(x, torch_parameters(made))).abs().max() < 1e-12


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_by_bp_is_autograds_through_conv2d(name):
    """With weight decay the kernel decays once, not once for each of its places."""
    made, (x, y) = network(), batch()
    parameters = torch_parameters(made)
    optimizer, decay = TORCH[name](parameters), OPTIMIZERS[name].weight_decay
    Steps(made, OPTIMIZERS[name]).run(4)
    for _ in range(4):
        optimizer.zero_grad()
        weights = sum(p.square().sum() for p in parameters if p.dim() > 1)
        (functional.cross_entropy(torch_output(x, parameters), y) + decay / 2 * weights).backward()
        optimizer.step()
    for ours, theirs in zip(torch_parameters(made), parameters, strict=True):
        assert (ours - theirs).abs().max() < 1e-10


def test_locally_connected_gradient_is_the_dense_one_inside_the_windows():
    made, dense, (x, y) = network(tied=False), Network(WIDTHS, "tanh", 1, torch.float64), batch()
    for name, tensor in made.state().items():
        dense.state()[name].copy_(tensor)
    inside = [made.weights[layer] != 0 for layer in (1, 2)]
    assert [part.sum().item() for part in inside] == [36 * 2 * 9, 24 * 3 * 4]
    for one in (made, dense):
        Steps(one, Optimizer("sgd", lr=0.1)).run(1)
    for layer, part in zip((1, 2), inside, strict=True):
        assert torch.allclose(made.weights[layer][part], dense.weights[layer][part], rtol=0, atol=1e-14)
        assert made.weights[layer][~part].eq(0).all() and dense.weights[layer][~part].ne(0).any()
        assert torch.allclose(made.biases[layer], dense.biases[layer], rtol=0, atol=1e-14)


# --- ties --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [dfa(), fa(), bp()], ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ties_hold_to_the_bit(name, rule):
    made = network(seeds=(0, 1), dtype=torch.float32)
    before = {layer: made.weights[layer].clone() for layer in (1, 2)}
    run = Steps(made, OPTIMIZERS[name], rule, (0, 1)).run(6)
    tensors = {layer: [made.weights[layer], made.biases[layer]] for layer in (1, 2)}
    for k in range(len(run.updater.moments)):
        for layer, found in tensors.items():
            found += [run.updater._moment(k, kind, range(layer, layer + 1))[0] for kind in ("weights", "biases")]
    for layer, found in tensors.items():
        tie = made.ties[layer]
        assert made.weights[layer].ne(before[layer]).sum() == 2 * tie.weights.numel()
        for tensor, places in zip(found, (tie.weights, tie.biases) * 3, strict=False):
            numbers = tensor.flatten(1)
            assert numbers[:, places].eq(numbers[:, places[:, :1]]).all() and numbers[:, places].ne(0).all()
            numbers[:, places] = 0
            assert numbers.eq(0).all(), "outside the kernels nothing moves"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_two_replicas_equal_two_single_runs(name):
    rates = (0.02, 0.05)
    together = network(seeds=(3, 4))
    Steps(together, OPTIMIZERS[name], dfa(), (3, 4), rates).run(3)
    for replica, (seed, rate) in enumerate(zip((3, 4), rates, strict=True)):
        alone = network(seeds=(seed,))
        Steps(alone, OPTIMIZERS[name], dfa(), (seed,), (rate,)).run(3)
        for layer in range(1, 5):
            assert (together.weights[layer][replica] - alone.weights[layer][0]).abs().max() < 1e-12
            assert (together.biases[layer][replica] - alone.biases[layer][0]).abs().max() < 1e-12


def test_frozen_convolution_stays():
    made = network()
    before = [made.weights[layer].clone() for layer in (1, 2)]
    Steps(made, OPTIMIZERS["adam"], learning=(2, 3, 4)).run(2)
    assert made.weights[1].equal(before[0]) and made.weights[2].ne(before[1]).any()


def test_kernels_are_drawn_with_a_fan_in_of_their_own():
    made = network(init="uniform-from")
    for layer, fan_in in ((1, 18), (2, 12)):
        weight, bias = kernels(made, layer)
        for numbers in (weight, bias):
            assert 0.7 / math.sqrt(fan_in) < numbers.abs().max() < 1 / math.sqrt(fan_in)
        assert weight.unique().numel() == weight.numel() and bias.unique().numel() == bias.numel()
    assert (ties()[1].fan_in, ties()[1].fan_out, ties()[2].fan_in, ties()[2].fan_out) == (18, 27, 12, 16)
    other = network(init="normal(0.1), zeros above")
    assert other.weights[1].ne(0).sum() == 3 * 18 * 12 and other.weights[2].eq(0).all() and other.biases[1].eq(0).all()


def test_numbers_are_spread_to_their_places():
    into = torch.zeros(2, 4)
    spread(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0, 3], [2, 1]]), into)
    assert into.tolist() == [[1, 2, 2, 1], [3, 4, 4, 3]]


# --- runs --------------------------------------------------------------------------------------------------------------------


def toy(n=22):
    g = torch.Generator().manual_seed(5)
    y = torch.arange(n) % 4
    x = (torch.rand(4, 48, generator=g)[y] + 0.1 * torch.randn(n, 48, generator=g)).clamp(0, 1)
    return Dataset("toy", x, y, x, y, (1, 8, 6), 4, ("a", "b", "c", "d"), "0" * 64, "made for a test")


RUN = Config(
    data="toy", hidden=(12, 6), convolutions=((2, 3, 2),), rule=dfa(), optimizer=Optimizer("adam", lr=0.02), batch=5, epochs=40,
    alignment=10, dropout=0.1, dtype="float64",
)  # fmt: skip


def test_convolution_in_a_run_learns_and_is_measured():
    (made,) = train(RUN, [0], toy())
    assert made.status == "finished" and made.final["train_error_pct"] < 10
    assert made.evaluations[-1]["alignment"]["layers"] == [1, 2]
    assert 0 < made.evaluations[-1]["alignment"]["delta_angle"][0] < 90


def test_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path):
    config, file = replace(RUN, epochs=4), tmp_path / "run.pt"

    def stop(step, total, results):
        if step == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, [0], toy(), progress=stop, checkpoint=file, checkpoint_every_s=0.0)
    assert file.exists()
    (resumed,), (whole,) = train(config, [0], toy(), checkpoint=file), train(config, [0], toy())
    assert (resumed.evaluations, resumed.final) == (whole.evaluations, whole.final)


def test_fewer_classes_are_labels_modulo_their_number():
    made = Trainer(replace(RUN, classes=3), [0], toy())
    assert made.network.widths == (48, 12, 6, 3) and made.train_y.tolist() == [k % 4 % 3 for k in range(22)]
    assert made.one_hot.argmax(dim=1).equal(made.test_y)
    whole, same = Trainer(RUN, [0], toy()), Trainer(replace(RUN, classes=4), [0], toy())
    assert whole.train_y.equal(toy().train_y) and same.one_hot.equal(whole.one_hot)


# --- what cannot be built ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"hidden": (11, 6)}, ["hidden layer 1", "2 x 3 x 2 = 12 units", "got a width of 11"]),
        ({"hidden": (12, 6), "convolutions": ((2, 3, 2), (2, 2, 1))}, ["hidden layer 2", "2 x 2 x 1 = 4 units", "6"]),
        ({"convolutions": ((2, 7, 1),)}, ["hidden layer 1", "kernel of 7 x 7", "8 x 6 pixels"]),
        ({"convolutions": ((2, 3, 2), (1, 3, 1))}, ["hidden layer 2", "kernel of 3 x 3", "3 x 2 pixels"]),
        ({"batch_norm": True}, ["batch normalisation", "by channel"]),
        ({"classes": 5}, ["toy has 4 classes", "modulo 5"]),
    ],
    ids=str,
)
def test_what_cannot_be_built_is_one_clear_error(changes, words):
    with pytest.raises(DfaLibError) as caught:
        Trainer(replace(RUN, **changes), [0], toy())
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)
