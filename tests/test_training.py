"""The training loop: same seed, same bits; replicas; resume; stopping; what a step trains on; what a run reports."""

import dataclasses
import hashlib
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from dfa_lib import training
from dfa_lib.config import Config, Optimizer
from dfa_lib.data import Dataset, load
from dfa_lib.errors import DfaLibError
from dfa_lib.graph import bdfa, bp, brsf, dfa, fa, fp, frsf, shallow, switching
from dfa_lib.network import Workspace
from dfa_lib.training import Trainer, train


def toy(n_train=22, n_test=12, classes=3, features=6, noise=0.05):
    """Noisy copies of one prototype a class: easy to learn, and 22 examples in batches of 5 leave a last one of 2."""
    g = torch.Generator().manual_seed(11)
    prototypes = torch.rand(classes, features, generator=g)
    y = torch.arange(n_train + n_test) % classes
    x = (prototypes[y] + noise * torch.randn(n_train + n_test, features, generator=g)).clamp(0, 1)
    return Dataset(
        name="toy", train_x=x[:n_train], train_y=y[:n_train], test_x=x[n_train:], test_y=y[n_train:], shape=(1, 2, features // 2),
        classes=classes, class_names=("a", "b", "c"), fingerprint="0" * 64, split="made for a test",
    )  # fmt: skip


TOY = toy()
BASE = Config(
    data="toy", hidden=(8, 8, 8), rule=dfa(), optimizer=Optimizer("sgd", lr=0.1), batch=5, epochs=3, dtype="float64"
)
HARD = dataclasses.replace(  # everything that draws random numbers or keeps a state between steps
    BASE, rule=bdfa(2, redrawn=True), optimizer=Optimizer("adam", lr=0.01), dropout=0.3, dropout_input=0.1, alignment=6,
    evaluate_every=3, epochs=4, adversarial=0.02, dtype="float32",
)  # fmt: skip


def run(config=BASE, seeds=(0,), dataset=TOY, **options):
    return train(config, list(seeds), dataset, **{"batched": True} | options)


def told(results):
    """All that the runs say but their timings; equal texts mean equal bits."""
    return repr([{k: v for k, v in vars(result).items() if k not in ("wall_s", "step_ms")} for result in results])


def trainer(seeds=(0,), dataset=TOY, **changes):
    return Trainer(dataclasses.replace(BASE, **changes), list(seeds), dataset)


def parameters(made, replica=0):
    layers = range(1, made.network.depth + 2)
    stacks = {"w": made.network.weights, "b": made.network.biases}
    return {(kind, i): stack[i][replica].clone() for kind, stack in stacks.items() for i in layers}


def steps(made, count=7, batch=5):
    """`count` updates along the first epoch's order (and, past its end, from its start again)."""
    order = made.order(0)
    for k in range(count):
        made.step(order.roll(-k * batch, dims=1)[:, :batch])
    return made


def numbers(tree):
    """All numbers of nested lists and dicts, in order."""
    if isinstance(tree, dict):
        return [n for value in tree.values() for n in numbers(value)]
    return [n for value in tree for n in numbers(value)] if isinstance(tree, (list, tuple)) else [tree]


# --- same seed, same bits ------------------------------------------------------------------------------------------------


def test_same_seed_gives_the_same_bits():
    assert told(run(HARD, (0, 1))) == told(run(HARD, (0, 1)))


def test_same_seed_gives_the_same_bits_in_another_process():
    script = "import torch; torch.set_num_threads(1); import test_training as t; print(t.digest())"
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert done.stdout.strip() == digest(), done.stderr


def digest():
    return hashlib.sha256(told(run(HARD, (0, 1))).encode()).hexdigest()


def test_seeds_differ():
    one, other = run(seeds=(0, 1))
    assert one.evaluations[0]["test_loss"] != other.evaluations[0]["test_loss"]
    assert one.final["train_loss"] != other.final["train_loss"]


@pytest.mark.parametrize("rule", [fa(), dfa(), fp(1), shallow(), dfa(redrawn=True)], ids=str)
def test_rules_of_one_seed_share_initial_weights_and_order(rule):
    exact, other = trainer((4,), rule=bp()), trainer((4,), rule=rule)
    for key, p in parameters(exact).items():
        assert p.equal(parameters(other)[key]), key
    for epoch in (0, 1, 5):
        assert exact.order(epoch).equal(other.order(epoch))


def test_dropout_masks_of_a_seed_do_not_depend_on_the_rule(workspaces):
    for rule in (bp(), fa()):
        steps(trainer(rule=rule, dropout=0.5), 3)
    one, other = workspaces
    assert one.mask[2].equal(other.mask[2]) and one.mask[2].eq(0).any()


def test_order_is_a_new_permutation_for_every_epoch_and_seed():
    made = trainer((0, 1))
    orders = [made.order(epoch)[replica] for epoch in (0, 1) for replica in (0, 1)]
    assert all(sorted(order.tolist()) == list(range(22)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 4


# --- replicas ------------------------------------------------------------------------------------------------------------

REPLICAS = [
    dict(rule=bp()),
    dict(rule=dfa(), optimizer=Optimizer("momentum", lr=0.05)),
    dict(rule=fa(redrawn=True), optimizer=Optimizer("rmsprop", lr=0.01, eps=1e-4)),
    dict(rule=bdfa(2), optimizer=Optimizer("adam", lr=0.01, eps=1e-4), dropout=0.3, dropout_input=0.2),
    dict(rule=fp(1, redrawn=True), dropout=0.4, adversarial=0.05, activation="relu"),
    dict(rule=switching(0.5, by="layer"), batch_norm=True),
    dict(rule=brsf(), hidden=(8, 6, 6), loss="binary-cross-entropy", activation="erf"),
    dict(rule=bdfa(2), batch_norm=True, optimizer=Optimizer("adam", lr=0.01, eps=1e-4), frozen=(2,), dropout=0.2),
    dict(rule=frsf(), loss="squared-error", reduction="sum", optimizer=Optimizer("sgd", lr=0.01), frozen=(2,)),
]


@pytest.mark.parametrize("changes", REPLICAS, ids=lambda c: str(c["rule"]))
def test_replicas_equal_single_runs_step_by_step(changes):
    seeds = (3, 0, 8)
    together = steps(trainer(seeds, **changes))
    for replica, seed in enumerate(seeds):
        alone = parameters(steps(trainer((seed,), **changes)))
        for key, p in parameters(together, replica).items():
            assert (p - alone[key]).abs().max() <= 1e-12 * alone[key].abs().max(), key


@pytest.mark.parametrize("changes", REPLICAS, ids=lambda c: str(c["rule"]))
def test_replicas_report_what_single_runs_report(changes):
    config = dataclasses.replace(BASE, alignment=6, **changes)
    for result in run(config, (3, 8)):
        (alone,) = run(config, (result.seed,))
        assert (result.status, result.step) == (alone.status, alone.step)
        ours, theirs = ([*numbers(r.evaluations), *numbers(r.final)] for r in (result, alone))
        assert len(ours) > 100 and ours == pytest.approx(theirs, rel=1e-9, abs=1e-5, nan_ok=True)  # angles near 0: acos
        plain = [{k: v for k, v in row.items() if k != "alignment"} for row in result.evaluations]
        theirs = [{k: v for k, v in row.items() if k != "alignment"} for row in alone.evaluations]
        assert numbers(plain) == pytest.approx(numbers(theirs), rel=1e-12)


def test_replica_that_stops_early_reports_what_it_would_alone():
    config = dataclasses.replace(BASE, rule=bp(), epochs=40, optimizer=Optimizer("sgd", lr=0.3), stop_train_error=5.0)
    together = run(config, (0, 1, 2, 3))
    assert len({result.step for result in together}) > 1
    for result in together:
        (alone,) = run(config, (result.seed,))
        assert result.step == alone.step < 40 * 5 and len(result.evaluations) == len(alone.evaluations)
        assert result.final["test_loss"] == pytest.approx(alone.final["test_loss"], rel=1e-12)


def test_each_seed_can_have_a_learning_rate_of_its_own():
    rates = (0.01, 0.3)
    for result, lr in zip(run(seeds=(2, 2), lrs=rates), rates, strict=True):
        (alone,) = run(dataclasses.replace(BASE, optimizer=Optimizer("sgd", lr=lr)), (2,))
        assert numbers(result.evaluations) == pytest.approx(numbers(alone.evaluations), rel=1e-12)


# --- interruption --------------------------------------------------------------------------------------------------------


class Interrupted(Exception):
    pass


def interrupt_at(step):
    def progress(now, total, results):
        if now >= step:
            raise Interrupted

    return progress


RESUMED = {
    "everything random": HARD,
    "float64 rmsprop": dataclasses.replace(BASE, rule=fa(), optimizer=Optimizer("rmsprop", lr=0.01), evaluate_every=4),
    "momentum and fixed feedback": dataclasses.replace(BASE, optimizer=Optimizer("momentum", lr=0.05), evaluate_every=2),
    "redrawn signs": dataclasses.replace(BASE, rule=brsf(), dropout=0.5, steps=13, epochs=None, evaluate_every=1),
    "running statistics": dataclasses.replace(BASE, batch_norm=True, optimizer=Optimizer("rmsprop", lr=0.01), evaluate_every=2),
    "switching": dataclasses.replace(BASE, rule=switching(0.5, by="layer"), dropout=0.2, evaluate_every=3),
    "early stop": dataclasses.replace(BASE, rule=bp(), epochs=20, optimizer=Optimizer("sgd", lr=0.3), stop_train_error=5.0),
}


@pytest.mark.parametrize("last", [6, 10])  # an epoch has 5 steps
@pytest.mark.parametrize("name", RESUMED)
def test_resumed_run_ends_with_the_bits_of_one_never_stopped(name, last, tmp_path):
    config, file, seen = RESUMED[name], tmp_path / "new" / "run.pt", []
    with pytest.raises(Interrupted):
        run(config, (0, 1), checkpoint=file, checkpoint_every_s=0.0, progress=interrupt_at(last))
    assert file.exists()
    resumed = run(config, (0, 1), checkpoint=file, progress=lambda step, total, results: seen.append(step))
    assert told(resumed) == told(run(config, (0, 1)))
    every = config.evaluate_every or 5
    assert seen[0] == -(-last // every) * every  # it went on from the evaluation before the one that broke off
    assert list(file.parent.iterdir()) == []


def test_run_that_is_interrupted_at_every_evaluation_ends_with_the_same_bits(tmp_path):
    file, attempts = tmp_path / "run.pt", 0
    while True:
        attempts += 1
        mark = []

        def progress(step, total, results):
            mark.append(step)
            if len(mark) == 2 and step < total:  # the first evaluation of an attempt is saved, the second breaks off
                raise Interrupted

        try:
            results = run(HARD, (0, 1), checkpoint=file, checkpoint_every_s=0.0, progress=progress)
            break
        except Interrupted:
            pass
    assert attempts == 6  # 20 steps, an evaluation every 3: at 3, 6, ..., 18, 20
    assert told(results) == told(run(HARD, (0, 1)))


def test_run_goes_on_in_another_process_to_the_same_bits(tmp_path):
    file = tmp_path / "run.pt"
    script = (
        "import sys, pathlib, torch; torch.set_num_threads(1); import test_training as t; "
        "t.run(t.HARD, (0, 1), checkpoint=pathlib.Path(sys.argv[1]), checkpoint_every_s=0.0, progress=t.interrupt_at(9))"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True, env=env)
    assert "Interrupted" in done.stderr and file.exists(), done.stderr
    assert told(run(HARD, (0, 1), checkpoint=file)) == told(run(HARD, (0, 1)))


def test_checkpointing_does_not_change_the_run(tmp_path):
    assert told(run(HARD, checkpoint=tmp_path / "run.pt", checkpoint_every_s=0.0)) == told(run(HARD))


@pytest.mark.parametrize(
    "other",
    [dict(config=dataclasses.replace(HARD, batch=6)), dict(seeds=(0, 2)), dict(seeds=(1, 0)), dict(seeds=(0,)),
     dict(lrs=(0.01, 0.02)), dict(dataset=dataclasses.replace(TOY, fingerprint="1" * 64))],
    ids=["batch", "seed", "order of seeds", "fewer seeds", "rates", "data"],
)  # fmt: skip
def test_checkpoint_of_another_run_is_refused_and_kept(other, tmp_path):
    file = tmp_path / "run.pt"
    with pytest.raises(Interrupted):
        run(HARD, (0, 1), checkpoint=file, checkpoint_every_s=0.0, progress=interrupt_at(6))
    with pytest.raises(DfaLibError, match=f"{file} is the checkpoint of another run.*remove it"):
        run(**{"config": HARD, "seeds": (0, 1)} | other, checkpoint=file)
    assert file.exists()


def test_no_checkpoint_is_written_before_its_time(tmp_path):
    seen = []
    run(HARD, checkpoint=tmp_path / "run.pt", progress=lambda *_: seen.extend(tmp_path.iterdir()))
    assert seen == []


@pytest.mark.parametrize("rule", [fa(), dfa(redrawn=True), bdfa(2)], ids=str)
def test_feedback_matrices_belong_to_the_saved_state(rule):
    made = trainer((0, 1), rule=rule, optimizer=Optimizer("adam"))
    state = {t.data_ptr() for t in made.state().values()}
    assert {t.data_ptr() for t in made.feedback.matrices.values()} <= state
    assert sum(t.numel() for t in made.feedback.state().values()) == 2 * made.feedback.graph.cost(1).feedback_numbers


# --- stopping ------------------------------------------------------------------------------------------------------------


def test_early_stop_at_the_first_evaluation_that_is_good_enough():
    config = dataclasses.replace(BASE, rule=bp(), epochs=40, optimizer=Optimizer("sgd", lr=0.3), stop_train_error=5.0)
    (result,) = run(config)
    errors = [row["train_error_pct"] for row in result.evaluations[1:]]
    assert result.status == "finished" and result.step == result.evaluations[-1]["step"] < 200
    assert errors[-1] <= 5 and min(errors[:-1]) > 5


def test_training_error_of_zero_stops_at_zero_alone():
    config = dataclasses.replace(BASE, rule=bp(), epochs=60, optimizer=Optimizer("sgd", lr=0.5), stop_train_error=0.0)
    (result,) = run(config, dataset=toy(noise=0.02))
    assert result.evaluations[-1]["train_error_pct"] == 0 and result.step < 300


def test_divergence_is_recorded_with_its_step():
    config = dataclasses.replace(BASE, rule=bp(), activation="linear", loss="squared-error", optimizer=Optimizer("sgd", lr=1e6),
                                 evaluate_every=2, epochs=20)  # fmt: skip
    (result,) = run(config)
    *fine, last = result.evaluations
    assert result.status == "diverged" and result.step == last["step"] < 100
    assert not (math.isfinite(last["test_loss"]) and math.isfinite(last["train_loss"]))
    assert all(math.isfinite(row["test_loss"]) for row in fine)
    assert not math.isfinite(result.final["test_loss"])


def test_relu_network_in_float32_diverges_and_says_so():
    config = dataclasses.replace(BASE, rule=bp(), activation="relu", loss="squared-error", optimizer=Optimizer("sgd", lr=1e4),
                                 init="normal(1)", dtype="float32")  # fmt: skip
    assert [result.status for result in run(config, (0, 1))] == ["diverged", "diverged"]


def test_network_that_is_not_finite_from_the_start_is_diverged_at_step_0():
    config = dataclasses.replace(BASE, activation="linear", init="normal(1e200)")
    (result,) = run(config)
    assert (result.status, result.step, len(result.evaluations)) == ("diverged", 0, 1)
    assert set(result.final) == set(run()[0].final)


def test_constant_output_is_flagged():
    stuck = dataclasses.replace(BASE, rule=bp(), activation="relu", init="zeros")
    assert run(stuck)[0].final["constant_output"] is True
    learnt = dataclasses.replace(BASE, rule=bp(), epochs=40, optimizer=Optimizer("sgd", lr=0.3))
    assert run(learnt)[0].final["constant_output"] is False


# --- what a run reports --------------------------------------------------------------------------------------------------


def test_evaluations_come_on_schedule_and_at_the_end():
    config, seen = dataclasses.replace(BASE, epochs=None, steps=8, evaluate_every=3), []
    (result,) = run(config, progress=lambda step, total, results: seen.append((step, total)))
    assert [row["step"] for row in result.evaluations] == [0, 3, 6, 8]
    assert [row["epoch"] for row in result.evaluations] == [0, 0.6, 1.2, 1.6]
    assert seen == [(3, 8), (6, 8), (8, 8)]
    assert (result.status, result.step, result.seed) == ("finished", 8, 0)
    assert result.wall_s > 0 and result.step_ms > 0


def test_evaluation_at_the_end_of_every_epoch_by_default():
    assert [(row["step"], row["epoch"]) for row in run()[0].evaluations] == [(0, 0), (5, 1), (10, 2), (15, 3)]


def test_running_training_figures_are_those_before_the_updates():
    """With a rate of almost nothing, every epoch's running figures are those of the initial network on the training set."""
    config = dataclasses.replace(BASE, optimizer=Optimizer("sgd", lr=1e-13), epochs=2)
    start = trainer()
    loss, error, _ = start.evaluate(start.train_x, start.train_y)
    (result,) = run(config)
    assert "train_loss" not in result.evaluations[0]
    for row in result.evaluations[1:]:
        assert row["train_loss"] == pytest.approx(loss[0], rel=1e-10)
        assert row["train_error_pct"] == pytest.approx(error[0], rel=1e-12)


@pytest.mark.parametrize("loss", ["cross-entropy", "binary-cross-entropy", "squared-error"])
def test_evaluation_against_plain_torch(loss):
    made = trainer(loss=loss)
    got_loss, got_error, predicted = made.evaluate(made.test_x, made.test_y)
    output, y = made.network.predict(made.test_x)[0], made.test_y
    one_hot = functional.one_hot(y, 3).double()
    expected = {
        "cross-entropy": functional.cross_entropy(output, y),
        "binary-cross-entropy": 3 * functional.binary_cross_entropy(torch.sigmoid(output), one_hot),
        "squared-error": 1.5 * functional.mse_loss(output, one_hot),
    }[loss]
    assert got_loss[0] == pytest.approx(expected.item(), rel=1e-12)
    assert predicted[0].equal(output.argmax(dim=1))
    assert got_error[0] == pytest.approx(100 * (output.argmax(dim=1) != y).double().mean().item())


def test_final_figures_are_those_of_the_last_weights_without_dropout():
    config = dataclasses.replace(BASE, dropout=0.5, epochs=None, steps=4)
    made = steps(trainer(dropout=0.5), 4)
    (result,) = run(config)
    train_loss, train_error, _ = made.evaluate(made.train_x, made.train_y)
    assert result.final["train_loss"] == pytest.approx(train_loss[0], rel=1e-12)
    assert result.final["train_error_pct"] == train_error[0]
    assert result.final["test_loss"] == result.evaluations[-1]["test_loss"]


@pytest.mark.parametrize("rule", [bp(), dfa(), fa()], ids=str)
def test_training_with_batch_normalisation_is_that_of_torch(rule):
    """BP against modules, autograd and torch.optim, step by step; the others by what they share with it: evaluation is in
    evaluation mode, and neither the final figures nor alignment move the running statistics."""
    config = dataclasses.replace(BASE, rule=rule, batch_norm=True, optimizer=Optimizer("momentum", lr=0.05), epochs=2, alignment=6)
    made = Trainer(config, [3], TOY)
    model = torch.nn.Sequential(*(
        module for i in range(1, 5)
        for module in (torch.nn.Linear(made.network.widths[i - 1], made.network.widths[i], dtype=torch.float64),
                       *((torch.nn.BatchNorm1d(8, dtype=torch.float64), torch.nn.Tanh()) if i < 4 else ()))
    ))  # fmt: skip
    for i, linear in enumerate(model[::3], start=1):
        linear.load_state_dict({"weight": made.network.weights[i][0], "bias": made.network.biases[i][0, 0]})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for k in range(10):
        indices = made.order(k // 5)[:, 5 * (k % 5) : 5 * (k % 5) + 5]
        made.step(indices)
        if rule == bp():
            optimizer.zero_grad()
            functional.cross_entropy(model(TOY.train_x[indices[0]].double()), TOY.train_y[indices[0]]).backward()
            optimizer.step()
    state = {name: tensor.clone() for name, tensor in made.network.state().items()}
    output = made.network.predict(made.test_x)[0]
    if rule == bp():
        assert torch.allclose(output, model.eval()(TOY.test_x.double()), rtol=1e-9, atol=1e-11)
    made.saturation(), made.probe(), made.evaluate(made.train_x, made.train_y)
    assert all(tensor.equal(state[name]) for name, tensor in made.network.state().items())
    (result,) = run(config, (3,))
    assert result.final["test_loss"] == pytest.approx(functional.cross_entropy(output, TOY.test_y).item(), rel=1e-12)


@pytest.mark.parametrize("batch, left", [(7, True), (21, True), (1, True), (5, False), (22, False), (100, False)])
def test_batch_of_one_cannot_be_normalised(batch, left):
    if left:
        with pytest.raises(DfaLibError, match=rf"22 examples in batches of {batch} leave one of 1; change the batch size"):
            trainer(batch_norm=True, batch=batch)
    else:
        trainer(batch_norm=True, batch=batch)


def test_saturation_is_reported_by_layer():
    (large,) = run(dataclasses.replace(BASE, init="normal(50)", optimizer=Optimizer("sgd", lr=1e-6)))
    (small,) = run(dataclasses.replace(BASE, init="normal(0.01)", optimizer=Optimizer("sgd", lr=1e-6)))
    assert len(large.final["saturation"]) == 3 and min(large.final["saturation"]) > 0.9
    assert small.final["saturation"] == [0, 0, 0]
    assert run(dataclasses.replace(BASE, activation="linear"))[0].final["saturation"] == []


def test_alignment_is_reported_and_does_not_change_the_run():
    with_it, without = run(HARD, (0, 1)), run(dataclasses.replace(HARD, alignment=0), (0, 1))
    for one, other in zip(with_it, without, strict=True):
        assert all(row["alignment"]["layers"] == [1, 2, 3] for row in one.evaluations)
        for row in one.evaluations:
            del row["alignment"]
        assert one.evaluations == other.evaluations and one.final == other.final


def test_feedback_alignment_aligns_and_redrawn_feedback_does_not():
    config = dataclasses.replace(BASE, rule=fa(), hidden=(30,), epochs=60, optimizer=Optimizer("sgd", lr=0.3), alignment=22)
    last = [[r.evaluations[k]["alignment"]["weight_angle"][1] for k in (0, -1)] for r in run(config, range(4))]
    assert all(70 < before < 110 and after < before - 15 for before, after in last)


# --- data ----------------------------------------------------------------------------------------------------------------


def test_every_example_is_used_once_an_epoch_the_last_partial_batch_too(monkeypatch):
    batches, step = [], Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self, indices: (batches.append(indices.clone()), step(self, indices))[1])
    run(seeds=(0, 1))
    assert [b.shape for b in batches] == [(2, 5), (2, 5), (2, 5), (2, 5), (2, 2)] * 3
    for epoch in range(3):
        for replica in range(2):
            seen = torch.cat([b[replica] for b in batches[5 * epoch : 5 * epoch + 5]])
            assert sorted(seen.tolist()) == list(range(22))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_last_partial_batch_has_its_own_mean(reduction):
    made = trainer(reduction=reduction, rule=bp(), optimizer=Optimizer("sgd", lr=0.5))
    start, indices = parameters(made), torch.tensor([[4, 7]])
    made.step(made.order(0)[:, :5])  # the buffers of a full batch exist too
    for key, p in start.items():
        stack = made.network.weights if key[0] == "w" else made.network.biases
        stack[key[1]][0] = p
    made.step(indices)
    tensors = {key: p.clone().requires_grad_() for key, p in start.items()}
    h = TOY.train_x[indices[0]].double()
    for i in range(1, 5):
        h = functional.linear(torch.tanh(h) if i > 1 else h, tensors["w", i], tensors["b", i].squeeze(0))
    functional.cross_entropy(h, TOY.train_y[indices[0]], reduction=reduction).backward()
    for key, p in parameters(made).items():
        assert torch.allclose(p, start[key] - 0.5 * tensors[key].grad, rtol=0, atol=1e-14), key


def test_batch_larger_than_the_training_set_is_the_whole_of_it():
    (result,) = run(dataclasses.replace(BASE, batch=1000))
    assert result.step == 3 and [row["epoch"] for row in result.evaluations] == [0, 1, 2, 3]


@pytest.mark.parametrize("validation", [0, 500])
def test_data_is_loaded_with_the_held_out_part_that_the_configuration_names(validation, monkeypatch):
    asked = []
    monkeypatch.setattr(training, "load", lambda *args, **options: (asked.append((args, options)), TOY)[1])
    config = dataclasses.replace(BASE, data="digits-5k", validation=validation)
    assert told(train(config, [0])) == told(run(config))
    assert asked == [(("digits-5k",), {"validation": validation})]


def test_validation_figures_are_never_those_of_the_test_set():
    config = Config(data="digits-5k", hidden=(5,), epochs=None, steps=1, validation=500)
    held_out = load("digits-5k", validation=500)
    (result,) = train(config, [0])
    made = Trainer(config, [0], held_out)
    steps(made, 1, batch=64)
    assert len(held_out.test_y) == 500 and len(held_out.train_y) == 3500
    assert result.final["test_error_pct"] == made.evaluate(made.test_x, made.test_y)[1][0]


def test_loaded_data_can_be_used_with_autograd_afterwards():
    train(Config(data="digits-5k", hidden=(5,), steps=1, validation=321), [0])  # a split that nobody has loaded before
    assert not load("digits-5k", validation=321).train_x.is_inference()


def test_training_leaves_the_data_alone():
    kept = [t.clone() for t in (TOY.train_x, TOY.train_y, TOY.test_x, TOY.test_y)]
    run(dataclasses.replace(HARD, adversarial=0.5, activation="relu", evaluate_every=1))
    assert all(t.equal(k) for t, k in zip((TOY.train_x, TOY.train_y, TOY.test_x, TOY.test_y), kept, strict=True))


# --- what a step does ----------------------------------------------------------------------------------------------------


@pytest.fixture
def workspaces(monkeypatch):
    """The workspaces that trainers make, in the order of their making."""
    made = []

    class Recorded(Workspace):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr(training, "Workspace", Recorded)
    return made


@pytest.mark.parametrize("rule", [bp(), fa(), dfa(), shallow()], ids=str)
@pytest.mark.parametrize("loss", ["cross-entropy", "squared-error"])
def test_adversarial_inputs_follow_the_sign_of_the_true_input_gradient(rule, loss, workspaces):
    made = trainer((0, 1), rule=rule, loss=loss, adversarial=0.08)
    indices, expected = made.order(0)[:, :5], []
    before = [parameters(made, replica) for replica in range(2)]
    for replica in range(2):
        x = TOY.train_x[indices[replica]].double().requires_grad_()
        y = functional.one_hot(TOY.train_y[indices[replica]], 3).double()
        h = x
        for i in range(1, 5):
            h = functional.linear(torch.tanh(h) if i > 1 else h, before[replica]["w", i], before[replica]["b", i].squeeze(0))
        (functional.cross_entropy(h, y, reduction="sum") if loss == "cross-entropy" else 0.5 * (h - y).square().sum()).backward()
        expected.append((x + 0.08 * x.grad.sign()).detach())
    made.step(indices)
    assert torch.allclose(workspaces[0].x, torch.stack(expected), rtol=0, atol=1e-15)


def test_adversarial_step_trains_on_the_perturbed_batch_alone(workspaces):
    made, plain = trainer(adversarial=0.08), trainer()
    made.step(made.order(0)[:, :5])
    plain.train_x[: len(workspaces[0].x[0])] = workspaces[0].x[0]  # the same step on the perturbed inputs as data
    plain.train_y[:5] = TOY.train_y[made.order(0)[0, :5]]
    plain.one_hot[:5] = functional.one_hot(plain.train_y[:5], 3)
    plain.step(torch.arange(5).unsqueeze(0))
    for key, p in parameters(made).items():
        assert torch.allclose(p, parameters(plain)[key], rtol=1e-13, atol=1e-16), key
    assert made.running()[0] == pytest.approx(plain.running()[0], rel=1e-13)


def test_input_dropout_drops_inputs_of_the_batch(workspaces):
    made = trainer(dropout_input=0.4)
    indices = made.order(0)[:, :20]
    made.step(indices)
    (work,) = workspaces
    clean = TOY.train_x[indices].double()
    kept = work.x != 0
    assert torch.allclose(work.x[kept], clean[kept] / 0.6, rtol=1e-12)
    assert 0.2 < (work.x[clean != 0] == 0).double().mean() < 0.6


def test_dropped_units_change_from_step_to_step(workspaces):
    made = trainer(dropout=0.5)
    made.step(made.order(0)[:, :5])
    first = workspaces[0].mask[1].clone()
    made.step(made.order(0)[:, 5:10])
    assert not workspaces[0].mask[1].equal(first)


def test_redrawn_feedback_changes_from_step_to_step_and_fixed_feedback_does_not():
    for rule, changes in ((dfa(redrawn=True), True), (dfa(), False)):
        made = trainer(rule=rule)
        before = made.feedback.matrix(2).clone()
        steps(made, 2)
        assert made.feedback.matrix(2).equal(before) is not changes


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("rule", [bp(), dfa()], ids=str)
def test_bottleneck_of_a_run_moves_the_first_units_alone(rule, batch_norm):
    changes = dict(rule=rule, batch_norm=batch_norm, bottleneck=(2, 3), optimizer=Optimizer("adam", lr=0.01))
    made = trainer((0,), **changes, alignment=6)
    kinds, before = made.network.parameters, {kind: stacks[2].clone() for kind, stacks in made.network.parameters.items()}
    other = made.network.weights[1].clone()
    assert made.probe()[0]["delta_angle"] == trainer((0,), **changes | {"bottleneck": None}, alignment=6).probe()[0]["delta_angle"]
    steps(made, 5)
    for kind, stacks in kinds.items():
        stays = (stacks[2] == before[kind])[0] if kind == "weights" else (stacks[2] == before[kind])[0, 0]
        assert stays[3:].all() and (batch_norm and kind == "biases" or not stays[:3].any()), kind
    assert made.network.weights[1].ne(other).any(dim=-1).all()


def test_switching_draws_at_every_step_from_a_stream_of_its_own():
    made, direct = trainer((0, 1), rule=switching(0.5, by="layer"), dropout=0.5), trainer((0, 1), rule=dfa(), dropout=0.5)
    assert all(made.feedback.matrix(i).equal(direct.feedback.matrix(i)) for i in (1, 2, 3))
    first, seen = made.feedback.products[0], set()
    for _ in range(6):
        steps(made, 1), steps(direct, 1)
        seen.add(tuple(made.feedback.taken[first].flatten().tolist()))
    assert len(seen) > 3 and {number for drawn in seen for number in drawn} == {0.0, 1.0}
    assert all(one.get_state().equal(other.get_state()) for one, other in zip(made.dropout, direct.dropout, strict=True))


def moved(made, before):
    return {key for key, p in parameters(made).items() if not p.equal(before[key])}


def learning_after(count, **changes):
    """Which parameters have moved after each of `count` steps from weights of zero."""
    made, moves = trainer(init="zeros", **changes), []
    before = parameters(made)
    for k in range(count):
        made.step(made.order(0)[:, 5 * k : 5 * k + 5])
        moves.append(moved(made, before))
    return moves


EVERY_BIAS = {("b", i) for i in (1, 2, 3, 4)}


def test_dfa_from_zero_moves_the_first_layer_and_the_biases_then_all():
    """The activations above the inputs are zero at first; from the first update on, the biases make them otherwise."""
    first, second = learning_after(2, rule=dfa())
    assert first == EVERY_BIAS | {("w", 1)}
    assert second == EVERY_BIAS | {("w", i) for i in (1, 2, 3, 4)}


def test_dfa_from_zero_without_biases_wakes_one_layer_a_step():
    made = trainer(init="zeros", rule=dfa())
    before = parameters(made)
    for k in range(4):
        made.step(made.order(0)[:, 5 * k : 5 * k + 5])
        for bias in made.network.biases.tensors:
            bias.zero_()
        assert moved(made, before) == {("w", i) for i in range(1, k + 2)}


def test_bp_from_zero_moves_the_output_bias_alone():
    assert learning_after(3, rule=bp()) == [{("b", 4)}] * 3


def test_relu_from_zero_moves_the_output_bias_alone():
    assert learning_after(2, rule=dfa(), activation="relu") == [{("b", 4)}] * 2


def test_logistic_units_from_zero_all_learn_under_dfa():
    assert learning_after(1, rule=dfa(), activation="logistic") == [EVERY_BIAS | {("w", i) for i in (1, 2, 3, 4)}]


@pytest.mark.parametrize(
    "changes, learning",
    [(dict(rule=shallow()), {4}), (dict(rule=bp(), frozen=(1, 3)), {2, 4}), (dict(rule=dfa(), frozen=(4,)), {1, 2, 3}),
     (dict(rule=shallow(), frozen=(4,)), set()), (dict(rule=dfa()), {1, 2, 3, 4})],
    ids=str,
)  # fmt: skip
def test_only_layers_that_learn_move(changes, learning):
    made = trainer(**changes)
    before = parameters(made)
    assert moved(steps(made, 3), before) == {(kind, i) for kind in "wb" for i in learning}


@pytest.mark.parametrize("device, gpus, words", [
    ("cuda", 0, "device 'cuda' cannot be had here; this machine has: cpu$"),
    ("cuda:1", 0, "device 'cuda:1' cannot be had here; this machine has: cpu$"),
    ("cuda:1", 1, "device 'cuda:1' cannot be had here; this machine has: cpu, cuda:0$"),
    ("gpu", 0, "unknown device 'gpu'; did you mean 'cpu'"),
])  # fmt: skip
def test_device_that_is_not_there_is_refused(device, gpus, words, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(DfaLibError, match=words):
        run(device=device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
@pytest.mark.parametrize("rule", [bp(), bdfa(2), bdfa(2, keep_norm=True)], ids=str)
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adam"])
def test_gpu_trains_as_the_cpu_does(rule, optimizer):
    config = dataclasses.replace(BASE, rule=rule, optimizer=Optimizer(optimizer, lr=0.01), alignment=6)
    ends = [[result.final["train_loss"] for result in run(config, (0, 1), device=device)] for device in ("cpu", "cuda")]
    assert ends[0] == pytest.approx(ends[1], rel=1e-3)


@pytest.mark.parametrize("changes, words", [
    ({"alignment": 23}, "alignment=23, and toy has 22 examples"),
    ({"features": 23}, "features=23, and toy has 22 examples"),
    ({"tsne": 13}, "tsne=13, and toy has 12 examples"),
])  # fmt: skip
def test_more_examples_than_there_are_is_an_error(changes, words):
    with pytest.raises(DfaLibError, match=words):
        trainer(**changes)


@pytest.mark.parametrize("before", [False, True])
def test_caller_keeps_its_treatment_of_tiny_numbers(before):
    tiny = torch.tensor(1e-310, dtype=torch.float64)
    torch.set_flush_denormal(before)
    try:
        run()
        assert ((tiny * 1).item() == 0) is before
    finally:
        torch.set_flush_denormal(False)


# --- learning ------------------------------------------------------------------------------------------------------------


def test_sign_units_learn_under_bp_with_the_straight_through_estimator_alone():
    moves = []
    for activation in ("sign", "sign-ste"):
        made = trainer(activation=activation, rule=bp())
        before = parameters(made)
        moves.append({i for kind, i in moved(steps(made, 3), before) if kind == "w"})
    assert moves == [{4}, {1, 2, 3, 4}]


@pytest.mark.parametrize("rule", [bp(), fa(), dfa()], ids=str)
def test_digits_are_learnt(rule):
    config = Config(data="digits-5k", hidden=(50, 50), rule=rule, optimizer=Optimizer("sgd", lr=0.1), batch=32, epochs=4)
    for result in train(config, [0, 1]):
        assert result.status == "finished" and result.evaluations[0]["test_error_pct"] > 70
        assert result.final["test_error_pct"] < 20


def test_seeds_in_turns_are_the_same_runs_as_single_ones():
    seen = []
    turns = train(BASE, [3, 4], TOY, progress=lambda step, total, results: seen.append((step, total, len(results))))
    assert told(turns) == told(run(seeds=[3]))[:-1] + ", " + told(run(seeds=[4]))[1:]
    assert seen[-1] == (30, 30, 2) and seen == sorted(seen)
    slow, fast = train(BASE, [3, 3], TOY, lrs=[0.01, 0.1])
    assert told([fast]) == told(run(seeds=[3], lrs=[0.1])) != told([slow])

    with pytest.raises(DfaLibError, match="2 seeds need as many learning rates; got 1"):
        train(BASE, [3, 4], TOY, lrs=[0.01])
