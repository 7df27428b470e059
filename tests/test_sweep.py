"""Sweeps: what is missing, resume, worker processes, Ctrl-C; and what `load` makes of the records that there are."""

import dataclasses
import functools
import math
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dfa_lib import config as config_module
from dfa_lib import data, records, sweep
from dfa_lib.config import Config, Optimizer, content_hash
from dfa_lib.errors import DfaLibError
from dfa_lib.experiments import Experiment, Profile, Run
from dfa_lib.graph import dfa, fp
from dfa_lib.records import Record, read_all, write
from dfa_lib.theory import StudentTeacher, simulate
from dfa_lib.training import train

BASE = Config(data="digits-5k", hidden=(16,), steps=40, evaluate_every=20)
VARIANTS = {"BP": BASE, "DFA": replace(BASE, rule=dfa())}
TINY = Experiment(
    "tiny", "A tiny one", "nokland2016, Table 1", VARIANTS,
    {"smoke": Profile(2), "laptop": Profile(2, {"steps": 60}), "paper": Profile(1, {"steps": 80})},
)  # fmt: skip
RUNS = TINY.runs("smoke")
_STUDENT = StudentTeacher(N=30, steps=200, evaluations=4, spacing="log")
PAIR = Experiment("pair", "t", "s", {"BP": _STUDENT, "FA": replace(_STUDENT, rule="fa")}, {"smoke": Profile(2, {"lr_w": 0.4})})
ALL = [*RUNS, *PAIR.runs("smoke")]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DFA_LIB_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


def record(run: Run, **changes) -> Record:
    """What a run would have left behind, without the run."""
    values = {
        "experiment": run.experiment, "variant": run.variant, "profile": run.profile, "seed": run.seed, "hash": run.hash,
        "config": run.config.as_dict(), "status": "finished", "step": 40, "evaluations": [],
        "final": {"test_error_pct": 10.0, "train_error_pct": 5.0, "constant_output": False}, "wall_s": 1.0, "step_ms": 0.5,
        "replicas": 1, "device": "CPU", "threads": 1, "versions": {"torch": "2.6.0"}, "git": {}, "data": {},
    }  # fmt: skip
    return Record(**(values | changes))


def write_all(experiment: Experiment, profile: str, seeds: int | None = None) -> list[Run]:
    runs = experiment.runs(profile, seeds)
    for run in runs:
        write(record(run))
    return runs


def outcome(made: list[Record]) -> dict:
    """What must be equal to the bit, whoever ran it."""
    return {r.hash: (r.variant, r.seed, r.evaluations, r.final, r.status, r.step, r.threads, r.data) for r in made}


def test_a_student_and_its_teacher_are_a_run_like_any_other(folder):
    runs = PAIR.runs("smoke")
    assert len({run.hash for run in runs}) == 4 and min(sweep.estimate(runs).values()) > 0
    reports = []
    made = sweep.run(runs, report=lambda run, done: reports.append((run.hash, done)))
    assert sorted(reports) == sorted((run.hash, 1.0) for run in runs)
    assert sweep.missing(runs) == [] and sweep.run(runs) == [] and leftovers(folder) == []
    found = sweep.recorded(PAIR)["smoke"]
    alone = simulate(runs[1].config, [0])
    assert found.final("FA", "error")[0] == pytest.approx(float(alone.error[0, -1]), rel=1e-6)
    assert {r.step for r in made} == {200} and {r.status for r in made} == {"finished"}
    table = found.summary()
    assert list(table["variant"]) == ["BP", "FA"] and "generalisation error" in table
    assert found.provenance().startswith("student and teacher, 200 steps, 2 seeds, profile 'smoke'")
    longer = replace(PAIR, profiles={"smoke": Profile(2, {"lr_w": 0.4, "steps": 300})})
    assert len(sweep.stale(longer, read_all("pair"))) == 4


def test_a_student_that_runs_away_has_diverged():
    wild = StudentTeacher(unit="relu", N=30, R=0.05, lr_w=80.0, lr_v=80.0, steps=400, evaluations=4)
    run = Experiment("wild", "t", "s", {"BP": wild}, {"smoke": Profile(1)}).runs("smoke")
    (made,) = sweep.run(run)
    assert made.status == "diverged" and read_all("wild")[0].final["error"] is None


def test_runs_that_two_budgets_share_are_named_after_the_one_whose_seeds_they_fill():
    same = replace(TINY, profiles={"smoke": Profile(1, {"steps": 20}), "laptop": Profile(2), "paper": Profile(3)})
    write_all(same, "laptop")
    assert set(sweep.recorded(same)) == {"laptop"}
    assert sweep.load(same, "paper").profile == "paper" and "paper" in sweep.recorded(same, profile="paper")  # by name
    assert sweep.load(same).profile == "laptop"
    write_all(same, "paper")
    assert {name: len(found.records) for name, found in sweep.recorded(same).items()} == {"paper": 6, "laptop": 6}


def leftovers(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".json")


# --- running --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[int, tuple[Path, list[Record], list]]:
    """The tiny experiment and the students, made twice: one run after the other, and two at a time. Jobs -> folder, records, reports."""
    both = {}
    for jobs in (1, 2):
        folder, reports = tmp_path_factory.mktemp(f"jobs{jobs}"), []

        def report(run: Run, done: float, folder: Path = folder, reports: list = reports) -> None:
            reports.append((run, done, (folder / run.experiment / f"{run.hash}.json").exists()))

        both[jobs] = folder, sweep.run(ALL, jobs, directory=folder, report=report), reports
    return both


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_run_leaves_its_record_and_nothing_else(made, jobs):
    folder, returned, _ = made[jobs]
    assert {r.hash for r in returned} == {run.hash for run in ALL} == {r.hash for name in ("tiny", "pair") for r in read_all(name, folder)}
    assert leftovers(folder) == []
    assert sweep.missing(ALL, folder) == []
    by_hash = {run.hash: run for run in RUNS}
    for r in read_all("tiny", folder):
        run, digits = by_hash[r.hash], data.load("digits-5k")
        assert (r.experiment, r.variant, r.profile, r.seed) == (run.experiment, run.variant, run.profile, run.seed)
        assert Config.from_dict(r.config) == run.config
        assert (r.status, r.step, r.replicas, r.device, r.threads) == ("finished", 40, 1, "CPU", 1)
        assert [row["step"] for row in r.evaluations] == [0, 20, 40]
        assert r.data == {"name": "digits-5k", "fingerprint": digits.fingerprint, "split": digits.split}
        assert r.versions["torch"] == torch.__version__
        assert r.wall_s > 0 and r.step_ms > 0


def test_one_process_and_two_give_the_same_bits(made):
    assert outcome(made[1][1]) == outcome(made[2][1])
    ends = [r.final["test_loss"] if r.experiment == "tiny" else r.final["error"] for r in made[1][1]]
    assert len(set(ends)) == len(ALL), "or the comparison shows nothing"


@pytest.mark.parametrize("jobs", [1, 2])
def test_report_rises_to_one_when_the_record_is_there(made, jobs):
    reports = made[jobs][2]
    for run in ALL:
        mine = [(done, recorded) for who, done, recorded in reports if who == run]
        assert mine[0][0] == (0.5 if run in RUNS else 1.0)  # a student's seeds are done all at once
        assert mine[-1] == (1.0, True)
        assert [done for done, _ in mine].count(1.0) == 1


def test_order_of_the_runs_and_the_thread_count_of_the_caller(made):
    assert [r.hash for r in made[1][1][: len(RUNS)]] == [run.hash for run in RUNS]
    assert torch.get_num_threads() == 1
    torch.set_num_threads(2)
    try:
        (r,) = sweep.run(RUNS[:1])
        assert torch.get_num_threads() == 2
        assert r.threads == 1
    finally:
        torch.set_num_threads(1)
    assert outcome([r]) == outcome(made[1][1][:1])


def test_what_is_recorded_is_not_run_again(folder):
    sweep.run(RUNS[:2])
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    reported = []
    made = sweep.run(TINY.runs("smoke"), report=lambda run, _: reported.append(run))
    assert [r.hash for r in made] == [run.hash for run in RUNS[2:]]
    assert set(reported) == set(RUNS[2:])
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert sweep.run(RUNS, jobs=2, report=lambda *_: pytest.fail("nothing to do")) == []
    assert {run.seed for run in sweep.missing(TINY.runs("smoke", seeds=3))} == {2}


def test_run_that_ends_early_is_reported_as_done_once():
    stops = Run("tiny", "stops", "smoke", replace(BASE, steps=4000, stop_train_error=100.0), 0)
    diverges = Run("tiny", "diverges", "smoke",
                   replace(BASE, activation="linear", loss="squared-error", optimizer=Optimizer(lr=1e8)), 0)  # fmt: skip
    reports = []
    made = {r.variant: r for r in sweep.run([stops, diverges], report=lambda run, done: reports.append((run.variant, done)))}
    assert made["stops"].status == "finished" and made["stops"].step == 20
    assert reports[:2] == [("stops", 20 / 4000), ("stops", 1.0)]
    assert reports[-1] == ("diverges", 1.0)
    assert [done for _, done in reports].count(1.0) == 2
    written = {r.variant: r for r in read_all("tiny")}
    assert written["diverges"].status == "diverged"
    assert written["diverges"].final["test_loss"] is None
    assert sweep.missing([stops, diverges]) == []


def test_identical_runs_of_two_experiments_have_a_record_each():
    other = replace(RUNS[0], experiment="other")
    assert len(sweep.run([RUNS[0]])) == 1
    assert sweep.missing([RUNS[0], other]) == [other]
    (made,) = sweep.run([RUNS[0], other])
    assert made.experiment == "other"
    assert [r.hash for r in read_all("other")] == [other.hash] == [RUNS[0].hash]


def test_learning_rate_of_many_digits_is_recognised():
    run = replace(RUNS[0], config=replace(BASE, optimizer=Optimizer(lr=0.1 / 7)))
    sweep.run([run])
    assert sweep.missing([run]) == []


# --- Ctrl-C ---------------------------------------------------------------------------------------------------------


def stop_at(which: Run, fraction: float):
    def report(run: Run, done: float) -> None:
        if (run, done) == (which, fraction):
            raise KeyboardInterrupt

    return report


@pytest.mark.parametrize(("fraction", "recorded"), [(0.5, 1), (1.0, 2)])
def test_interrupted_sweep_keeps_what_is_finished_and_goes_on(made, folder, fraction, recorded):
    with pytest.raises(KeyboardInterrupt):
        sweep.run(RUNS, report=stop_at(RUNS[1], fraction))
    assert {r.hash for r in read_all("tiny")} == {run.hash for run in RUNS[:recorded]}
    assert leftovers(folder) == []
    assert sweep.missing(RUNS) == RUNS[recorded:]
    sweep.run(RUNS)
    assert outcome(read_all("tiny")) == outcome(read_all("tiny", made[1][0]))


def test_interrupted_run_goes_on_from_its_checkpoint(made, folder, monkeypatch):
    monkeypatch.setattr(sweep, "train", functools.partial(train, checkpoint_every_s=0.0))
    config = replace(BASE, steps=80)
    run = replace(RUNS[0], config=config)
    with pytest.raises(KeyboardInterrupt):
        sweep.run([run], report=stop_at(run, 0.5))
    assert leftovers(folder) == [f".checkpoints/{run.hash}-1.pt"]
    reported = []
    (resumed,) = sweep.run([run], report=lambda _, done: reported.append(done))
    assert reported == [0.5, 0.75, 1.0]
    assert list((folder / ".checkpoints").iterdir()) == []
    (whole,) = sweep.run([run], directory=folder / "another")
    assert outcome([resumed]) == outcome([whole])


def test_what_was_half_written_is_removed(folder):
    partials = [folder / ".checkpoints" / f"{RUNS[0].hash}-1.pt.99.partial", folder / "tiny" / f".{RUNS[1].hash}-ab.partial"]
    others = [folder / "tiny" / ".0123456789abcdef-ab.partial", folder / ".checkpoints" / f"{RUNS[0].hash}-1.pt"]

    def report(*_) -> None:
        for path in (*partials, *others[:1]):
            path.parent.mkdir(exist_ok=True)
            path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep.run(RUNS, report=report)
    assert not any(path.exists() for path in partials)
    assert others[0].exists(), "another sweep's"


# --- what goes wrong ------------------------------------------------------------------------------------------------


def only_one_line(problem: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(problem.value)
    return str(problem.value)


@pytest.mark.parametrize("jobs", [1, 2])
def test_data_set_that_cannot_be_had_stops_the_sweep_before_it_starts(folder, tmp_path, monkeypatch, jobs):
    monkeypatch.setenv("DFA_LIB_DATA", str(tmp_path / "nothing"))
    bad = replace(RUNS[3], config=replace(BASE, data="notmnist-10k"))
    with pytest.raises(DfaLibError, match="notmnist-10k.* is missing") as problem:
        sweep.run([*RUNS[:2], bad], jobs, report=lambda *_: pytest.fail("a run was started"))
    only_one_line(problem)
    with pytest.raises(DfaLibError, match="did you mean 'mnist'"):
        sweep.run([*RUNS[:2], replace(bad, config=replace(BASE, data="mnits"))], jobs)
    assert not folder.exists()


def test_folder_that_cannot_be_written_stops_the_sweep_before_it_starts(folder):
    folder.write_text("a file")
    with pytest.raises(DfaLibError, match="no record can be written there") as problem:
        sweep.run(RUNS, report=lambda *_: pytest.fail("a run was started"))
    assert "DFA_LIB_RESULTS" in only_one_line(problem)


def test_worker_that_fails_gives_its_own_error(folder, tmp_path, monkeypatch):
    """A data set that vanished after the sweep looked, and a worker's environment is today's, not an older pool's."""
    monkeypatch.setenv("DFA_LIB_DATA", str(tmp_path / "nothing"))
    monkeypatch.setattr(sweep.data, "load", lambda *_, **__: None)  # here, not in the workers
    bad = replace(RUNS[0], config=replace(BASE, data="notmnist-10k"))
    slow = [replace(run, config=replace(run.config, steps=10**6)) for run in RUNS[1:]]
    with pytest.raises(DfaLibError) as problem:
        sweep.run([bad, *slow], jobs=2, report=lambda *_: None)
    message = only_one_line(problem)
    assert message.startswith(f"notmnist-10k: {tmp_path / 'nothing'}")
    assert "is missing" in message
    assert leftovers(folder) == []


def test_worker_that_is_killed_gives_one_clean_error(folder):
    from joblib.externals.loky import reusable_executor

    def kill() -> None:
        while time.monotonic() < give_up:
            workers = list(getattr(reusable_executor._executor, "_processes", None) or ())
            if workers:
                os.kill(workers[0], signal.SIGKILL)
                return
            time.sleep(0.01)

    give_up = time.monotonic() + 60
    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(DfaLibError, match="a worker process was killed.*fewer than 2 jobs") as problem:
        sweep.run([replace(run, config=replace(run.config, steps=10**6)) for run in RUNS], jobs=2, report=lambda *_: None)
    killer.join()
    only_one_line(problem)
    assert leftovers(folder) == []


def test_record_that_cannot_be_read_stops_the_sweep(folder):
    path = write(record(RUNS[0]))
    path.write_text(path.read_text()[:100])
    for look in (lambda: sweep.run(RUNS), lambda: sweep.load(TINY)):
        with pytest.raises(DfaLibError, match=f"{path}: not a whole record.*remove it"):
            look()


# --- the estimate ---------------------------------------------------------------------------------------------------


def test_estimate_is_positive_for_every_run_and_grows_with_the_budget():
    epochs = Run("tiny", "epochs", "smoke", replace(BASE, steps=None, epochs=100, validation=1000, alignment=2000), 0)
    long = replace(RUNS[0], config=replace(BASE, steps=10**6))
    torch.set_num_threads(2)
    try:
        seconds = sweep.estimate([*RUNS, epochs, long])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert set(seconds) == {run.hash for run in (*RUNS, epochs, long)}
    assert all(0 < s < math.inf for s in seconds.values())
    assert seconds[RUNS[0].hash] == seconds[RUNS[2].hash]  # another seed of the same
    assert seconds[long.hash] > 100 * seconds[RUNS[0].hash]
    assert seconds[epochs.hash] > 2 * seconds[RUNS[0].hash]


def test_estimate_trains_nothing_and_reads_nothing(folder, monkeypatch):
    monkeypatch.setattr(sweep.data, "load", lambda *_, **__: pytest.fail("no data are needed"))
    sweep.estimate([replace(RUNS[0], config=replace(BASE, data="cifar100"))])
    assert not folder.exists()


def test_estimate_of_batch_normalisation_leaves_no_batch_of_one():
    run = replace(RUNS[0], config=replace(BASE, batch_norm=True, batch=100, alignment=201))
    before = torch.get_rng_state()
    assert sweep.estimate([run])[run.hash] > 0
    assert torch.equal(torch.get_rng_state(), before)


def test_estimate_refuses_a_device_that_is_not_there():
    with pytest.raises(DfaLibError, match="unknown device 'tpu'; did you mean 'cpu'"):
        sweep.estimate(RUNS, "tpu")


# --- what is missing, what is stale ---------------------------------------------------------------------------------


def changed_default(run: Run) -> Record:
    """A record from before a default changed: its hash, which leaves defaults out, is the same; its configuration is not."""
    return record(run, config=run.config.as_dict() | {"init": "zeros"})


def test_record_of_another_configuration_is_stale_and_does_not_count():
    write_all(TINY, "smoke")
    assert sweep.missing(RUNS) == []
    old = changed_default(RUNS[0])
    assert old.hash == RUNS[0].hash
    write(old)
    assert sweep.missing(RUNS) == [RUNS[0]]
    assert sweep.stale(TINY, read_all("tiny")) == (old,)
    gone = replace(RUNS[0], config=replace(BASE, batch=32))
    write(record(gone))
    results = sweep.load(TINY)
    assert {r.hash for r in results.stale} == {old.hash, gone.hash}
    assert len(results.records) == 3
    assert results.provenance().endswith("; 2 stale records left out")
    assert [r.seed for r in results.of("BP")] == [1]


def test_stale_record_is_made_anew():
    for run in RUNS:
        write(changed_default(run) if run == RUNS[0] else record(run))
    (again,) = sweep.run(RUNS)
    assert again.hash == RUNS[0].hash
    assert sweep.missing(RUNS) == []
    assert "stale" not in sweep.load(TINY).provenance()


def test_optimizer_setting_that_has_changed_makes_a_record_stale():
    config = BASE.as_dict()
    write(record(RUNS[0], config=config | {"optimizer": config["optimizer"] | {"momentum": 0.5}}))
    assert sweep.missing(RUNS[:1]) == RUNS[:1]


def newer(name: str, of: type, field: tuple) -> type:
    """The class as a later version of the library might have it: one field more, with a default."""
    return dataclasses.make_dataclass(name, [field], bases=(of,), frozen=True)


def test_new_fields_with_a_default_leave_records_and_hashes_valid(monkeypatch):
    chosen = {"data": "digits-5k", "hidden": (16,), "steps": 40}
    run = Run("tiny", "BP", "smoke", Config(**chosen, optimizer=Optimizer(lr=0.3)), 1)
    write(record(run))
    known = run.hash  # of the class as it is now
    wider = newer("Optimizer", Optimizer, ("nesterov", bool, dataclasses.field(default=False)))
    later = newer("Config", Config, ("optimizer", Optimizer, dataclasses.field(default=wider())))
    later = newer("Config", later, ("label_smoothing", float, dataclasses.field(default=0.0)))
    monkeypatch.setattr(config_module, "Config", later)
    same = replace(run, config=later(**chosen, optimizer=wider(lr=0.3)))
    assert {"label_smoothing", "nesterov"} <= same.config.as_dict().keys() | same.config.as_dict()["optimizer"].keys()
    assert same.hash == known
    assert sweep.missing([same]) == []
    assert sweep.stale(Experiment("tiny", "t", "s", {"BP": same.config}, {"smoke": Profile(1)}), read_all("tiny")) == ()
    for setting, field in ({}, {"label_smoothing": 0.1}), ({"nesterov": True}, {}):
        other = later(**chosen, optimizer=wider(lr=0.3, **setting), **field)
        assert content_hash(other, 1) != known
        assert sweep.missing([replace(run, config=other)]) != []


def test_hash_knows_every_choice_and_the_seed_and_no_order():
    config = replace(BASE, rule=fp(k=1, lower="error"), optimizer=Optimizer("adam", lr=0.3))
    backwards = Config.from_dict(dict(reversed(config.changed().items())))
    assert content_hash(config, 0) == content_hash(backwards, 0)
    assert content_hash(config, 0) == content_hash(replace(config, rule=fp(lower="error", k=1)), 0)
    others = [replace(config, **change) for change in (
        {"hidden": (17,)}, {"steps": 41}, {"rule": fp(k=1)}, {"rule": fp(k=0, lower="error")},
        {"optimizer": Optimizer("adam", lr=0.31)}, {"optimizer": Optimizer("adam", lr=0.3, decay=0.9)}, {"frozen": (1,)}, {"dropout": 0.1}, {"dtype": "float64"},
    )]  # fmt: skip
    hashes = [content_hash(config, seed) for seed in range(3)] + [content_hash(other, 0) for other in others]
    assert len(set(hashes)) == len(hashes)


def test_name_and_profile_are_no_part_of_the_identity():
    assert Run("a", "x", "smoke", BASE, 0).hash == Run("b", "y", "paper", BASE, 0).hash


def test_variant_may_be_renamed():
    """A record is found by its content, so a new name neither loses it nor runs it again."""
    write_all(TINY, "smoke")
    renamed = replace(TINY, variants={"back-propagation": BASE, "DFA": VARIANTS["DFA"]})
    assert sweep.missing(renamed.runs("smoke")) == []
    results = sweep.load(renamed)
    assert results.stale == ()
    assert [r.seed for r in results.of("back-propagation")] == [0, 1]


# --- results --------------------------------------------------------------------------------------------------------


def test_recorded_is_the_largest_complete_profile():
    with pytest.raises(DfaLibError, match="tiny has no complete records; make them with: dfa-lib run tiny --profile laptop$"):
        sweep.load(TINY)
    write_all(TINY, "smoke")
    assert sweep.load(TINY).profile == "smoke"
    laptop = TINY.runs("laptop")
    write(record(laptop[0]))
    assert sweep.load(TINY).profile == "smoke"  # DFA has none
    write(record(laptop[1]))
    assert sweep.load(TINY).profile == "laptop"  # one seed of two: complete, and provenance says how many
    write_all(TINY, "paper")
    assert sweep.load(TINY).profile == "paper"
    assert {r.hash for r in sweep.load(TINY).records} == {run.hash for run in TINY.runs("paper")}
    assert sweep.load(TINY, "smoke").profile == "smoke"
    assert sweep.load(TINY).stale == (), "other profiles' records are not stale"


def test_profile_that_has_no_records_names_the_command():
    write_all(TINY, "smoke")
    with pytest.raises(DfaLibError, match="dfa-lib run tiny --profile paper$"):
        sweep.load(TINY, "paper")
    with pytest.raises(DfaLibError, match="unknown profile of tiny 'papr'; did you mean 'paper'"):
        sweep.load(TINY, "papr")
    with pytest.raises(DfaLibError, match="unknown experiment 'bp-fa-dfaa'; did you mean 'bp-fa-dfa'"):
        sweep.load("bp-fa-dfaa")


def test_command_names_a_profile_that_there_is():
    small = replace(TINY, profiles={"smoke": Profile(1)})
    with pytest.raises(DfaLibError, match="dfa-lib run tiny --profile smoke$"):
        sweep.load(small)


def test_profile_of_some_variants_is_complete_with_those():
    partial = replace(TINY, profiles={"smoke": Profile(1, only=("DFA",))})
    write_all(partial, "smoke")
    assert set(sweep.load(partial).summary()["variant"]) == {"DFA"}


def test_folder_of_records_may_be_an_argument(tmp_path):
    for run in RUNS:
        write(record(run), tmp_path / "elsewhere")
    assert len(sweep.load(TINY, directory=tmp_path / "elsewhere").records) == 4
    with pytest.raises(DfaLibError):
        sweep.load(TINY)


def final(test: float | None, constant: bool = False) -> dict:
    return {"test_error_pct": test, "train_error_pct": None if test is None else test / 2, "constant_output": constant}


def test_table_has_mean_deviation_and_outcome_of_each_variant():
    wide = replace(TINY, variants=VARIANTS | {"flat": replace(BASE, batch=8), "mixed": replace(BASE, batch=16)})
    values = {
        ("BP", 0): {"final": final(2.0)}, ("BP", 1): {"final": final(4.0)},
        ("DFA", 0): {"final": final(8.0)},
        ("flat", 0): {"final": final(90.0, True)}, ("flat", 1): {"final": final(90.0, True)},
        ("mixed", 0): {"final": final(None), "status": "diverged"}, ("mixed", 1): {"final": final(6.0)},
    }  # fmt: skip
    for run in wide.runs("smoke"):
        if (run.variant, run.seed) in values:
            write(record(run, **values[run.variant, run.seed]))
    results = sweep.load(wide)
    table = results.summary().set_index("variant")
    assert list(table.index) == ["BP", "DFA", "flat", "mixed"]
    assert table.loc["BP", ["seeds", "test error %", "training error %"]].tolist() == [2, 3.0, 1.5]
    assert table.loc["BP", "sd"] == pytest.approx(2**0.5)
    assert table.loc["DFA", "seeds"] == 1 and math.isnan(table.loc["DFA", "sd"])
    assert table["outcome"].to_dict() == {
        "BP": "finished", "DFA": "finished", "flat": "constant output", "mixed": "1 diverged, 1 finished"
    }  # fmt: skip
    assert table.loc["mixed", "test error %"] == 6.0
    assert results.final("mixed", "test_error_pct") == [None, 6.0]
    with pytest.raises(DfaLibError, match="no record of 'IFA' in tiny"):
        results.of("IFA")


def test_line_under_a_figure_says_where_the_numbers_come_from():
    write_all(TINY, "smoke")
    assert sweep.load(TINY).provenance() == "5,000 MNIST digits, 40 steps, 2 seeds, profile 'smoke', CPU, torch 2.6.0"
    runs = TINY.runs("laptop", seeds=3)
    for run in runs[:-1]:
        write(record(run, **({"device": "NVIDIA H200", "versions": {"torch": "2.7.0"}} if run.seed else {})))
    expected = "5,000 MNIST digits, 60 steps, 2 to 3 seeds, profile 'laptop', CPU, NVIDIA H200, torch 2.6.0, 2.7.0"
    assert sweep.load(TINY).provenance() == expected
    epochs = replace(TINY, profiles={"smoke": Profile(1, {"steps": None, "epochs": 3})})
    write_all(epochs, "smoke")
    assert "5,000 MNIST digits, 3 epochs, 1 seed, profile 'smoke'" in sweep.load(epochs).provenance()
    two = replace(epochs, variants={"BP": BASE, "notMNIST": replace(BASE, data="notmnist-10k")})
    write_all(two, "smoke")
    assert sweep.load(two).provenance().startswith(f"5,000 MNIST digits or {data.DATASETS['notmnist-10k'].title}, 3 epochs")


def test_files_say_what_the_returned_records_say(made):
    folder, returned, _ = made[1]
    by_hash = {r.hash: r for name in ("tiny", "pair") for r in read_all(name, folder)}
    for r in returned:
        assert by_hash[r.hash].final == records._finite(r.final)
