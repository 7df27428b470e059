"""Configurations: what is refused, what is written down and read back, and the identity of a run."""

import dataclasses
import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfa_lib.config import ACTIVATIONS, LOSSES, OPTIMIZERS, Config, Optimizer, content_hash, differences
from dfa_lib.errors import DfaLibError
from dfa_lib.graph import bdfa, bp, dfa, drtp, fp, shallow
from dfa_lib.theory import StudentTeacher

BASE = Config(epochs=3)
FULL = Config(
    data="digits-5k", classes=5, hidden=(20, 20, 10), convolutions=((3, 9, 4), (2, 2, 1)), tied=False,
    activation="relu", batch_norm=True, loss="squared-error", rule=bdfa(2, boundary="W^T", gate=False), init="normal(0.1)",
    feedback="uniform(0.5)",
    optimizer=Optimizer("rmsprop", lr=1e-4, decay=0.9, weight_decay=0.01), batch=32, reduction="sum",
    steps=700, evaluate_every=50, stop_train_error=0.5, validation=500, dropout_input=0.1, dropout=0.5, adversarial=0.08,
    frozen=(1, 4), bottleneck=(3, 4), alignment=100, theorem=True, features=300, tsne=50, dtype="float64",
    after=Config(data="digits-5k", classes=5, validation=500, hidden=(20, 20, 10), convolutions=((3, 9, 4), (2, 2, 1)), tied=False, batch_norm=True,
                 rule=fp(1), optimizer=Optimizer("adam", lr=0.1), frozen=(1,), epochs=2),
)  # fmt: skip

# Built in the test, not by st.builds: the type checker of conftest.py draws random items, which hypothesis forbids in a strategy.
fields_of_a_run = st.fixed_dictionaries(dict(
    data=st.sampled_from(["mnist", "digits-5k"]),
    hidden=st.lists(st.integers(1, 900), max_size=4).map(tuple),
    activation=st.sampled_from(ACTIVATIONS),
    loss=st.sampled_from(LOSSES),
    rule=st.sampled_from([bp(), dfa(), dfa(gate=False), fp(2), fp(3, lower="error"), bdfa(2), drtp(), shallow()]),
    optimizer=st.fixed_dictionaries(dict(name=st.sampled_from(OPTIMIZERS), lr=st.floats(1e-6, 1.0))),
    batch=st.integers(1, 300),
    reduction=st.sampled_from(["mean", "sum"]),
    epochs=st.integers(1, 300),
    stop_train_error=st.none() | st.floats(0, 100),
    dropout=st.floats(0, 0.9),
))  # fmt: skip


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(fields_of_a_run)
def test_configuration_comes_back_from_json(fields):
    config = Config(**fields | {"optimizer": Optimizer(**fields["optimizer"])})
    for written in (config.as_dict(), config.changed()):
        assert Config.from_dict(json.loads(json.dumps(written))) == config


def test_full_configuration_comes_back_from_json():
    assert Config.from_dict(json.loads(json.dumps(FULL.as_dict()))) == FULL
    assert Config.from_dict(json.loads(json.dumps(FULL.changed()))) == FULL
    assert set(FULL.changed()) == {f.name for f in dataclasses.fields(Config)} - {"epochs"}


def test_only_what_differs_from_the_defaults_is_written_down():
    assert BASE.changed() == {"epochs": 3}
    assert Config(steps=5, rule=bp(), dropout=0.0).changed() == {"steps": 5}
    assert dataclasses.replace(BASE, rule=fp(2)).changed() == {"epochs": 3, "rule": {"name": "fp", "options": {"k": 2}}}


def test_only_what_differs_in_the_optimizer_is_written_down():
    """Else a new field of `Optimizer` would change the identity of every older record."""
    changed = dataclasses.replace(BASE, optimizer=Optimizer("adam", lr=0.001)).changed()
    assert changed == {"epochs": 3, "optimizer": {"name": "adam", "lr": 0.001}}


def test_identity_is_the_hash_of_what_was_chosen_and_the_seed():
    text = '{"config": {"epochs": 3}, "seed": 7}'
    assert content_hash(BASE, 7) == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_every_field_changes_the_identity():
    default, seen = Config(epochs=1), set()
    for field in dataclasses.fields(Config):
        value = getattr(FULL, field.name)
        as_before = {name: getattr(FULL, name) for name in ("data", "classes", "validation", "hidden", "convolutions", "tied", "batch_norm")}
        needs = {"steps": {"epochs": None}, "epochs": {"epochs": 9}, "theorem": {"alignment": 9}, "after": as_before}
        changes = {field.name: value} | needs.get(field.name, {})
        seen.add(content_hash(dataclasses.replace(default, **changes), 0))
    assert len(seen) == len(dataclasses.fields(Config))
    assert content_hash(default, 0) not in seen
    assert content_hash(default, 0) != content_hash(default, 1)


def test_equal_configurations_have_equal_identities():
    assert content_hash(dataclasses.replace(FULL), 1) == content_hash(FULL, 1)
    one, other = (dataclasses.replace(BASE, rule=rule) for rule in (dfa(gate=True), dfa()))
    assert content_hash(one, 1) == content_hash(other, 1)
    whole, real = (Config(epochs=2, optimizer=Optimizer(lr=one), adversarial=one, stop_train_error=one) for one in (1, 1.0))
    assert content_hash(whole, 1) == content_hash(real, 1)
    assert content_hash(StudentTeacher(lr_w=1), 1) == content_hash(StudentTeacher(lr_w=1.0), 1)


def test_differences_between_two_configurations():
    other = dataclasses.replace(BASE, rule=dfa(), batch=10)
    rules = ({"name": "bp", "options": {}}, {"name": "dfa", "options": {}})
    assert differences(BASE, other) == {"rule": rules, "batch": (64, 10)}
    assert differences(BASE, BASE) == {}


def test_graph_has_the_widths_of_data_and_hidden_layers():
    made = dataclasses.replace(BASE, hidden=(6, 5), rule=dfa()).graph(n_in=9, n_out=4)
    assert made.widths == (9, 6, 5, 4) and made == dfa().graph((9, 6, 5, 4))


def test_configuration_is_a_value():
    with pytest.raises(dataclasses.FrozenInstanceError):
        BASE.batch = 5
    assert len({BASE, dataclasses.replace(BASE), FULL}) == 2


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"activation": "tan"}, ["activation 'tan'", "did you mean 'tanh'", "relu"]),
        ({"loss": "cross_entropy"}, ["loss", "did you mean 'cross-entropy'"]),
        ({"reduction": "average"}, ["reduction 'average'", "mean, sum"]),
        ({"dtype": "float16"}, ["dtype 'float16'", "float32"]),
        ({"epochs": None}, ["budget", "epochs=None", "steps=None"]),
        ({"steps": 10}, ["budget", "not both", "epochs=3", "steps=10"]),
        ({"epochs": 0}, ["epochs", "at least 1", "0"]),
        ({"epochs": None, "steps": -2}, ["steps", "at least 1", "-2"]),
        ({"batch": 0}, ["batch", "at least 1"]),
        ({"evaluate_every": 0}, ["evaluate_every", "at least 1"]),
        ({"alignment": -1}, ["alignment", "at least 0", "-1"]),
        ({"validation": -1}, ["validation", "at least 0", "-1"]),
        ({"adversarial": -0.1}, ["adversarial", "at least 0", "-0.1"]),
        ({"dropout": 1.0}, ["dropout", "probability below 1", "1.0"]),
        ({"dropout": float("nan")}, ["dropout", "probability below 1", "nan"]),
        ({"dropout_input": -0.1}, ["dropout_input", "-0.1"]),
        ({"frozen": (0,)}, ["frozen", "1..8", "(0,)"]),
        ({"frozen": (9,)}, ["frozen", "1..8", "(9,)"]),
        ({"features": -1}, ["features", "at least 0", "-1"]),
        ({"bottleneck": (8, 5)}, ["bottleneck", "1..7", "(8, 5)"]),
        ({"bottleneck": (0, 5)}, ["bottleneck", "1..7", "(0, 5)"]),
        ({"bottleneck": (7, 241)}, ["bottleneck", "(7, 241)", "240"]),
        ({"bottleneck": (7, 0)}, ["bottleneck", "at least 1", "(7, 0)"]),
        ({"classes": 1}, ["classes", "at least 2", "1"]),
        ({"hidden": (9,), "convolutions": ((1, 2, 1),) * 2}, ["convolution", "first of 1", "((1, 2, 1), (1, 2, 1))"]),
        ({"convolutions": ((8, 5, 0),)}, ["(channels, kernel, stride)", "at least 1", "((8, 5, 0),)"]),
        ({"convolutions": ((8, 5),)}, ["(channels, kernel, stride)", "((8, 5),)"]),
        ({"theorem": True}, ["theorem", "alignment=500"]),
        ({"after": Config(hidden=(8,), epochs=1)}, ["stage before", "(8,)", "240"]),
        ({"after": Config(batch_norm=True, epochs=1)}, ["stage before", "batch_norm=True", "False"]),
        ({"after": Config(convolutions=((1, 2, 1),), epochs=1)}, ["stage before", "((1, 2, 1),)", "this one ()"]),
        ({"after": Config(tied=False, epochs=1)}, ["stage before", "tied=False"]),
        ({"after": Config(data="cifar10", epochs=1)}, ["stage before", "data='cifar10'", "mnist"]),
        ({"after": Config(classes=5, epochs=1)}, ["stage before", "classes=5"]),
        ({"after": Config(validation=10, epochs=1)}, ["stage before", "validation=10"]),
        ({"epochs": 1.5}, ["epochs", "whole number", "1.5"]),
        ({"epochs": True}, ["epochs", "whole number", "True"]),
        ({"batch": 2.5}, ["batch", "whole number", "2.5"]),
        ({"hidden": (240, 0)}, ["hidden", "(240, 0)"]),
        ({"stop_train_error": -1.0}, ["stop_train_error", "at least 0", "-1.0"]),
    ],
    ids=str,
)
def test_value_that_cannot_be_run_is_refused(fields, words):
    with pytest.raises(DfaLibError) as caught:
        dataclasses.replace(BASE, **fields)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"name": "sdg"}, ["optimizer 'sdg'", "did you mean 'sgd'"]),
        ({"lr": 0.0}, ["learning rate", "positive", "0.0"]),
        ({"lr": -1.0}, ["learning rate", "-1.0"]),
        ({"lr": float("nan")}, ["learning rate", "nan"]),
        ({"momentum": 1.0}, ["momentum", "below 1", "1.0"]),
        ({"decay": -0.5}, ["decay", "below 1", "-0.5"]),
        ({"eps": -1e-8}, ["eps", "-1e-08"]),
        ({"weight_decay": -0.1}, ["weight_decay", "at least 0", "-0.1"]),
    ],
    ids=str,
)
def test_optimizer_that_cannot_be_run_is_refused(fields, words):
    with pytest.raises(DfaLibError) as caught:
        Optimizer(**fields)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    "values, words",
    [
        ({"epochs": 1, "bach": 5}, ["configuration field 'bach'", "did you mean 'batch'"]),
        ({"epochs": 1, "optimizer": {"name": "sgd", "learning_rate": 0.1}}, ["optimizer field 'learning_rate'", "lr"]),
        ({"epochs": 1, "rule": {"name": "dfaa", "options": {}}}, ["unknown rule 'dfaa'", "did you mean 'dfa'"]),
        ({"epochs": 1, "rule": {"name": "fp", "options": {"k": -1}}}, ["k of fp"]),
    ],
    ids=str,
)
def test_record_that_cannot_be_read_is_refused(values, words):
    with pytest.raises(DfaLibError) as caught:
        Config.from_dict(values)
    assert all(word in str(caught.value) for word in words), caught.value


def test_budget_says_what_may_end_a_run_sooner():
    config = dataclasses.replace(BASE, epochs=300, steps=None)
    assert config.budget == "300 epochs" and dataclasses.replace(config, epochs=None, steps=1500).budget == "1,500 steps"
    assert dataclasses.replace(config, stop_train_error=0.01).budget == "300 epochs or 0.01 % training error"
