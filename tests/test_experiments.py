"""Experiments as data: every registered one can be run and drawn; and the committed records are those of today's code."""

import functools
import math
import re
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from dfa_lib import network, sweep
from dfa_lib.config import Config, content_hash
from dfa_lib.data import DATASETS
from dfa_lib.errors import DfaLibError
from dfa_lib.experiments import EXPERIMENTS, PROFILES, Experiment, Profile, get
from dfa_lib.graph import Rule, bp, dfa
from dfa_lib.records import read, read_all
from dfa_lib.theory import StudentTeacher

ROOT = Path(__file__).resolve().parents[1]
CASES = [(name, profile) for name, experiment in EXPERIMENTS.items() for profile in experiment.profiles]
#: `results/bench/` holds measurements of time, which are no runs of an experiment (tests/test_bench.py reads them).
RECORDS = sorted(path for path in (ROOT / "results").glob("*/*.json") if path.parent.name not in (".checkpoints", "bench"))
BASE = Config(data="digits-5k", hidden=(16,), steps=40)
TINY = Experiment(
    "tiny", "A tiny one", "nokland2016, Table 1", {"BP": BASE, "DFA": replace(BASE, rule=dfa())},
    {"smoke": Profile(2), "laptop": Profile(3, {"steps": 60}, only=("DFA",))},
)  # fmt: skip

each_profile = pytest.mark.parametrize(("name", "profile"), CASES)
each_experiment = pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)


@functools.cache
def check_graph(rule: Rule, widths: tuple[int, ...]) -> None:
    """Once for each network: learning rates and initialisations change nothing in it."""
    graph = rule.graph(widths)
    assert graph.widths == widths
    assert graph.cost(64).sequential_steps == graph.sequential_steps() <= len(widths) - 2


def steps(config: Config | StudentTeacher) -> int:
    return config.steps or config.epochs * math.ceil((DATASETS[config.data].n_train - config.validation) / config.batch)


def narrow(config: Config | StudentTeacher) -> Config | StudentTeacher:
    if isinstance(config, StudentTeacher):
        return config
    mask = config.bottleneck and (config.bottleneck[0], 1)
    hidden = tuple(width if k < len(config.convolutions) else min(width, 20) for k, width in enumerate(config.hidden))
    return replace(config, hidden=hidden, bottleneck=mask, after=config.after and narrow(config.after))


# --- every registered experiment ------------------------------------------------------------------------------------


@each_profile
def test_every_configuration_can_be_built_and_fits_its_data(name, profile):
    configs = EXPERIMENTS[name].configs(profile)
    assert configs
    for variant, config in configs.items():
        assert type(config).from_dict(config.as_dict()) == config, variant
        if isinstance(config, StudentTeacher):
            continue
        info = DATASETS[config.data]
        check_graph(config.rule, (math.prod(info.shape), *config.hidden, info.classes))
        for spec in (config.init.partition(", ")[0], config.feedback):
            assert spec == "initial-weights" or callable(network.distribution(spec)), variant
        assert config.validation < info.n_train
        assert max(config.batch, config.alignment) <= info.n_train - config.validation, variant


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_variant_takes_a_step(name):
    """On noise of the data set's shape, so that no data are needed; in layers of at most 20 units, so that it is quick."""
    runs = [replace(run, config=narrow(run.config)) for run in EXPERIMENTS[name].runs("smoke", seeds=1)]
    seconds = sweep.estimate(runs, steps=1)
    assert set(seconds) == {run.hash for run in runs}
    assert min(seconds.values()) > 0


@each_profile
def test_no_two_runs_are_the_same(name, profile):
    runs = EXPERIMENTS[name].runs(profile)
    assert len(runs) == len(EXPERIMENTS[name].configs(profile)) * EXPERIMENTS[name].profile(profile).seeds > 0
    by_hash = {}
    for run in runs:
        by_hash.setdefault(run.hash, []).append(f"{run.variant}, seed {run.seed}")
    assert not [twins for twins in by_hash.values() if len(twins) > 1]


@each_experiment
def test_name_is_the_key_and_can_be_a_folder(experiment):
    assert EXPERIMENTS[experiment.name] is experiment is get(experiment.name)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", experiment.name)
    assert experiment.title and "\n" not in experiment.title


@each_experiment
def test_source_is_in_the_bibliography_and_names_a_place(experiment):
    keys = set(re.findall(r"^@\w+\{\s*([^,\s]+)\s*,", (ROOT / "references.bib").read_text(encoding="utf-8"), re.MULTILINE))
    key, _, place = experiment.source.partition(", ")
    assert key in keys
    assert place, "which table or figure"


@each_experiment
def test_profiles_are_the_three_budgets_and_grow(experiment):
    assert list(experiment.profiles) == [name for name in PROFILES if name in experiment.profiles]
    assert "smoke" in experiment.profiles
    totals = [sum(steps(run.config) for run in experiment.runs(name)) for name in experiment.profiles]
    assert totals == sorted(totals) and len(set(totals)) == len(totals)


@each_experiment
def test_smoke_is_seconds_a_run_on_the_embedded_digits(experiment):
    for variant, config in experiment.configs("smoke").items():
        if isinstance(config, StudentTeacher):
            assert config.steps * config.N * (config.K + config.M) < 1e9, variant
            continue
        assert config.data == "digits-5k", variant
        cost = config.graph(784, 10).cost(config.batch)
        macs = steps(config) * (cost.forward_macs + cost.feedback_macs + cost.gradient_macs)
        assert macs < 5e11, f"{variant}: about {macs / 1e10:.0f} s at 10^10 multiply-adds a second"


# --- what an experiment is ------------------------------------------------------------------------------------------


def test_profile_changes_fields_of_every_variant_and_may_leave_some_out():
    assert TINY.configs("smoke") == {"BP": BASE, "DFA": replace(BASE, rule=dfa())}
    assert TINY.configs("laptop") == {"DFA": replace(BASE, rule=dfa(), steps=60)}


def test_runs_go_seed_by_seed():
    assert [(run.variant, run.seed) for run in TINY.runs("smoke")] == [("BP", 0), ("DFA", 0), ("BP", 1), ("DFA", 1)]
    assert [(run.variant, run.seed) for run in TINY.runs("smoke", 1)] == [("BP", 0), ("DFA", 0)]
    assert [run.seed for run in TINY.runs("laptop")] == [0, 1, 2]
    assert set(TINY.runs("smoke", 2)) < set(TINY.runs("smoke", 3)), "more seeds are the same ones and some more"
    later = replace(TINY, profiles={"smoke": Profile(2, first=10)})
    assert [run.seed for run in later.runs("smoke")] == [10, 10, 11, 11] and [run.seed for run in later.runs("smoke", 1)] == [10, 10]
    run = TINY.runs("smoke")[3]
    assert (run.experiment, run.profile, run.hash) == ("tiny", "smoke", content_hash(TINY.variants["DFA"], 1))


def test_experiment_cannot_be_changed_after_the_fact():
    variants = {"BP": BASE}
    experiment = replace(TINY, variants=variants, profiles={"smoke": Profile(1)})
    variants["more"] = BASE
    assert set(experiment.variants) == {"BP"}
    with pytest.raises(TypeError):
        experiment.variants["more"] = BASE
    with pytest.raises(TypeError):
        experiment.profiles["smoke"] = Profile(9)
    with pytest.raises(FrozenInstanceError):
        experiment.name = "another"
    with pytest.raises(FrozenInstanceError):
        experiment.runs("smoke")[0].seed = 1


def test_unknown_names_give_the_nearest():
    with pytest.raises(DfaLibError, match="unknown experiment 'bp-fadfa'; did you mean 'bp-fa-dfa'"):
        get("bp-fadfa")
    for ask in (TINY.profile, TINY.configs, TINY.runs):
        with pytest.raises(DfaLibError, match="unknown profile of tiny 'smokey'; did you mean 'smoke'"):
            ask("smokey")
    with pytest.raises(DfaLibError, match=r"unknown profile of tiny 'paper' \(known: laptop, smoke\)"):
        TINY.runs("paper")
    with pytest.raises(DfaLibError, match="unknown profile 'laptops'; did you mean 'laptop'"):
        replace(TINY, profiles={"laptops": Profile(1)})
    with pytest.raises(DfaLibError, match="unknown variant of tiny 'DFAs'; did you mean 'DFA'"):
        replace(TINY, profiles={"smoke": Profile(1, only=("BP", "DFAs"))})


def test_opening_experiment_is_the_papers():
    """Nøkland (2016), section 4: what no budget changes."""
    experiment = get("bp-fa-dfa")
    assert set(experiment.variants) == {f"{network} {rule}" for network in ("7x240", "2x800") for rule in ("BP", "FA", "DFA")}
    for profile, data, epochs, seeds in (("smoke", "digits-5k", 15, 1), ("laptop", "mnist", 30, 5), ("paper", "mnist", 300, 10)):
        assert experiment.profile(profile).seeds == seeds
        for variant, config in experiment.configs(profile).items():
            assert (config.data, config.epochs) == (data, epochs)
            assert (config.activation, config.loss, config.reduction, config.batch) == ("tanh", "binary-cross-entropy", "sum", 64)
            assert config.optimizer.name == "rmsprop"
            assert config.hidden == ((240,) * 7 if variant.startswith("7x240") else (800,) * 2)
            assert config.rule.name == variant.split()[1].lower()
            assert config.init == ("uniform-from" if config.rule == bp() else "zeros")


# --- the committed records ------------------------------------------------------------------------------------------

def kind(experiment: str) -> type[Config] | type[StudentTeacher]:
    return type(next(iter(EXPERIMENTS[experiment].variants.values())))


def test_every_folder_of_records_is_an_experiments():
    assert RECORDS and {path.parent.name for path in RECORDS} <= set(EXPERIMENTS)


@pytest.mark.parametrize("folder", sorted({path.parent for path in RECORDS}), ids=lambda folder: folder.name)
def test_committed_records_are_whole_and_small_and_say_what_they_should(folder):
    for path in RECORDS:
        if path.parent == folder:
            check_record(path)


def check_record(path: Path) -> None:
    record = read(path)
    assert path.stat().st_size < 40_000
    assert (record.experiment, record.hash) == (path.parent.name, path.stem)
    assert record.status in ("finished", "diverged")
    config = kind(record.experiment).from_dict(record.config)
    assert content_hash(config, record.seed) == record.hash
    assert re.fullmatch("[0-9a-f]{40}", record.git["revision"])
    assert record.evaluations[0]["step"] == 0
    assert record.evaluations[-1]["step"] == record.step
    assert record.wall_s > 0 and record.step_ms > 0
    if isinstance(config, StudentTeacher):
        assert record.step == steps(config) and record.final["error"] >= 0 and -1 <= record.final["cosine"] <= 1
        return
    assert record.data["name"] == config.data
    assert re.fullmatch("[0-9a-f]{64}", record.data["fingerprint"])
    if record.status == "finished" and config.stop_train_error is None:
        assert record.step == steps(config)
    assert 0 <= record.final["test_error_pct"] <= 100


def test_no_committed_record_is_stale():
    folders = {path.parent.name for path in RECORDS} & set(EXPERIMENTS)
    old = [r for name in folders for r in sweep.stale(EXPERIMENTS[name], read_all(name, ROOT / "results"))]
    named = "\n".join(f"results/{r.experiment}/{r.hash}.json: {r.variant}, {r.profile}, seed {r.seed}" for r in old)
    assert not old, f"stale: these match no configuration of today's code; remove them and run them again:\n{named}"


def test_records_of_one_data_set_saw_the_same_data():
    seen = {}
    for path in RECORDS:
        record = read(path)
        seen.setdefault((record.data["name"], record.config.get("validation")), set()).add(record.data["fingerprint"])
    assert all(len(fingerprints) == 1 for fingerprints in seen.values()), seen
