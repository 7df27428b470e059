"""The command line: what it prints, one line for each mistake, and Ctrl-C. Most of it in this process, by `main`."""

import ast
import io
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

import dfa_lib
from dfa_lib import cli, data, experiments, sweep
from dfa_lib.config import Config
from dfa_lib.errors import DfaLibError
from dfa_lib.experiments import EXPERIMENTS, Experiment, Profile
from dfa_lib.graph import dfa
from dfa_lib.records import read_all

BASE = Config(data="digits-5k", hidden=(16,), steps=1500, evaluate_every=500)
TINY = Experiment(
    "tiny", "A tiny [bold] experiment whose title is long, so that eighty columns would not hold it", "nokland2016, Table 1",
    {"BP": BASE, "DFA": replace(BASE, rule=dfa())},
    {"smoke": Profile(2, {"steps": 20, "evaluate_every": 10}), "laptop": Profile(2)},
)  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """Its own results and data; nothing of the checkout is seen or touched."""
    monkeypatch.setenv("DFA_LIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("DFA_LIB_DATA", str(tmp_path / "data"))
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):  # would make a terminal of a pipe
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(EXPERIMENTS, "tiny", TINY)
    return tmp_path / "results"


@pytest.fixture
def call(monkeypatch, capsys):
    """call("run", "tiny") -> exit code, standard output, standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dfa-lib", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capsys.readouterr()

    return call


def on_disk(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.parent.rglob("*")}


def plain(text: str) -> list[str]:
    """The lines, none of which has what only a terminal draws."""
    assert not re.search("[\x1b\r\u2500-\u259f]", text), "colours, boxes or bars"
    return [line.rstrip() for line in text.splitlines()]


def row(lines: list[str], first: str) -> list[str]:
    """The cells of the one line that starts with `first`."""
    (line,) = [line for line in lines if re.match(rf"{re.escape(first)}(  |$)", line)]
    return re.split(" {2,}", line)


@pytest.fixture
def alone(monkeypatch) -> None:
    """No experiment but the tiny one: `status` asks of every run of every experiment whether it is recorded."""
    for name in set(EXPERIMENTS) - {"tiny"}:
        monkeypatch.delitem(EXPERIMENTS, name)


# --- what it prints -------------------------------------------------------------------------------------------------


def test_list_has_a_line_for_each_experiment(call):
    code, out, err = call("list")
    lines = plain(out)
    assert (code, err, len(lines)) == (0, "", 1 + len(EXPERIMENTS))
    for name, experiment in EXPERIMENTS.items():
        cells = [name, experiment.title, experiment.source, str(len(experiment.variants)), ", ".join(experiment.profiles)]
        assert row(lines, name) == cells


def test_show_prints_one_variant_in_full_and_the_others_as_differences(call):
    code, out, err = call("show", "tiny")
    lines = plain(out)
    assert (code, err) == (0, "")
    assert lines[:2] == [TINY.title, "nokland2016, Table 1; profile 'laptop', 2 seeds"]
    for name, value in BASE.as_dict().items():
        assert row(lines, name) == [name, str(value)]
    assert lines[-2:] == ["BP: as above", "DFA: rule: {'name': 'dfa', 'options': {}}"]
    assert "20" in row(plain(call("show", "tiny", "--profile", "smoke")[1]), "steps")


def test_every_experiment_can_be_shown(call):
    for name, experiment in EXPERIMENTS.items():
        for profile in experiment.profiles:
            code, out, _ = call("show", name, "--profile", profile)
            assert code == 0
            assert all(f"{variant}: " in out for variant in experiment.configs(profile))


def test_status_counts_what_is_recorded_and_what_is_stale(call, alone, monkeypatch):
    sweep.run(TINY.runs("smoke", seeds=1))
    code, out, err = call("status")
    assert (code, err) == (0, "")
    assert [line.split() for line in plain(out) if line.startswith("tiny")] == [
        ["tiny", "smoke", "2", "of", "4", "0"], ["tiny", "laptop", "0", "of", "4", "0"],
    ]  # fmt: skip
    moved = replace(TINY, variants={"BP": BASE, "DFA": replace(BASE, rule=dfa(), batch=32)})
    monkeypatch.setitem(EXPERIMENTS, "tiny", moved)
    assert ["tiny", "smoke", "1", "of", "4", "1"] in [line.split() for line in plain(call("status")[1])]


def test_data_says_what_is_here_and_how_to_get_the_rest(call, folder):
    code, out, err = call("data")
    lines = plain(out)
    assert (code, err, len(lines)) == (0, "", 1 + len(data.DATASETS))
    assert row(lines, "digits-5k")[1] == "yes"
    assert row(lines, "mnist") == ["mnist", "no", "dfa-lib data --download mnist"]
    assert "DFA_LIB_DATA" in row(lines, "cifar10-jpeg")[2]
    assert not folder.parent.joinpath("data").exists()


def test_download_says_what_was_read(call):
    code, out, err = call("data", "--download", "digits-5k")
    assert (code, err) == (0, "")
    assert plain(out) == [f"digits-5k: 4000 + 1000 examples, {data.load('digits-5k').split}"]


def test_run_trains_prints_a_line_a_run_and_a_table_and_then_skips(call, folder):
    code, out, err = call("run", "tiny", "--jobs", "1")
    lines = plain(out)
    assert (code, err) == (0, "")
    assert lines[0] == f"{TINY.title}: 4 runs, 0 recorded"
    assert re.fullmatch(r"4 to make: about \d+ s with 1 worker\(s\), evaluation not counted", lines[1])
    assert lines[2:6] == ["1 of 4: BP, seed 0", "2 of 4: DFA, seed 0", "3 of 4: BP, seed 1", "4 of 4: DFA, seed 1"]
    assert lines[6] == sweep.load(TINY).provenance()
    assert lines[7].split("  ")[0] == "variant"
    summary = sweep.load(TINY).summary().set_index("variant")
    for variant in TINY.variants:
        cells = row(lines, variant)
        assert cells[1:3] == ["2", f"{summary.loc[variant, 'test error %']:.2f}"]
        assert cells[-1] == "finished"
    assert len(lines) == 10

    before = on_disk(folder)
    code, out, err = call("run", "tiny")
    assert (code, err) == (0, "")
    first, nothing, *table = plain(out)
    assert first == f"{TINY.title}: 4 runs, 4 recorded" and "nothing to train" in nothing and "DFA_LIB_RESULTS" in nothing
    assert table == lines[6:]
    assert on_disk(folder) == before

    code, out, _ = call("run", "tiny", "--seeds", "3", "--jobs", "1")
    assert plain(out)[0].endswith(": 6 runs, 4 recorded")
    assert plain(out)[2:4] == ["1 of 2: BP, seed 2", "2 of 2: DFA, seed 2"]
    assert row(plain(out), "BP")[1] == "3"


def test_run_says_what_it_will_cost_before_it_starts(call, monkeypatch, capsys):
    said = []

    def run(todo, jobs, device, **_):
        said.append((capsys.readouterr().out, len(todo), jobs, device))
        raise DfaLibError("enough")

    monkeypatch.setattr(sweep, "run", run)
    monkeypatch.setattr(sweep, "estimate", lambda todo, device: dict.fromkeys((run.hash for run in todo), 3600.0))
    assert call("run", "tiny", "--profile", "laptop", "--jobs", "2") == (1, "", "dfa-lib: enough\n")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    call("run", "tiny", "--profile", "laptop", "--seeds", "3")
    (first, *rest), (second, *more) = said
    assert first.endswith("\n4 to make: about 2.0 h with 2 worker(s), evaluation not counted\n")
    assert second.endswith("\n6 to make: about 60 min with 6 worker(s), evaluation not counted\n"), "no more workers than runs"
    assert (rest, more) == ([4, 2, "cpu"], [6, 6, "cpu"])


def test_a_table_of_the_paper_is_printed_with_the_papers_numbers(call, monkeypatch):
    table = EXPERIMENTS["nokland-table1"]
    monkeypatch.setitem(EXPERIMENTS, "nokland-table1", replace(table, variants={"1x800 BP": replace(BASE, steps=20, evaluate_every=10)},
                                                               profiles={"smoke": Profile(1)}, shares=()))  # fmt: skip
    code, out, _ = call("run", "nokland-table1", "--profile", "smoke", "--jobs", "1")
    assert code == 0
    (ours,) = [re.split(" {2,}", line) for line in plain(out) if line.startswith("1x800 BP") and "1.59" in line]
    assert ours[1] == "1.59 ± 0.04" and ours[3] == "1 x 0, smoke" and ours[4].strip() == "not run here"  # one seed
    assert row(plain(out), "2x800 ReLU FA")[1:3] == ["1.74 ± 0.10", "not run here"]
    assert set(cli.TABLES) <= set(EXPERIMENTS)


def test_unless_told_otherwise_run_makes_the_opening_experiment_at_smoke(call, monkeypatch):
    def run(todo, *_, **__):
        assert {(item.experiment, item.profile) for item in todo} == {("bp-fa-dfa", "smoke")}
        raise DfaLibError("enough")

    monkeypatch.setattr(sweep, "run", run)
    monkeypatch.setattr(sweep, "estimate", lambda todo, device: dict.fromkeys((run.hash for run in todo), 1.0))
    assert call("run")[2] == "dfa-lib: enough\n"


def test_on_a_terminal_there_are_a_bar_and_boxes(call, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(cli, "console", Console(file=screen, force_terminal=True, width=100, markup=False, highlight=False))
    code, out, err = call("run", "tiny", "--jobs", "1", "--seeds", "1")
    assert (code, out, err) == (0, "", "")
    text = re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "2 of 2 runs" in text and "100 %" in text
    assert "┃" in text
    assert "1 of 2: BP" not in text, "the bar says it"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99.0, "99 s"), (150.0, "2 min"), (5999.0, "100 min"), (9000.0, "2.5 h")]
)
def test_duration_is_said_in_a_fitting_unit(seconds, text):
    assert cli._duration(seconds) == text


def test_nothing_imports_the_command_line():
    for path in Path(dfa_lib.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert "cli" not in [*(node.module or "").split("."), *(alias.name for alias in node.names)], path
            elif isinstance(node, ast.Import):
                assert not any(alias.name.endswith(".cli") for alias in node.names), path


# --- mistakes -------------------------------------------------------------------------------------------------------

MISTAKES = [
    ((), "Missing command"),
    (("lst",), "list"),
    (("frobnicate",), "frobnicate"),
    (("show",), "Missing argument"),
    (("show", "tinny"), "unknown experiment 'tinny'; did you mean 'tiny'?"),
    (("show", "tiny", "--profile", "smok"), "unknown profile of tiny 'smok'; did you mean 'smoke'?"),
    (("show", "tiny", "--profile", "paper"), "unknown profile of tiny 'paper'"),
    (("run", "bp-fa-df"), "did you mean 'bp-fa-dfa'?"),
    (("run", "zzz"), "unknown experiment 'zzz' (known: "),
    (("run", "tiny", "--profile", "lap-top"), "did you mean 'laptop'?"),
    (("run", "tiny", "--seeds", "0"), "--seeds"),
    (("run", "tiny", "--seeds", "-3"), "--seeds"),
    (("run", "tiny", "--seeds", "two"), "--seeds"),
    (("run", "tiny", "--seeds", "1.5"), "--seeds"),
    (("run", "tiny", "--seeds"), "--seeds"),
    (("run", "tiny", "--jobs", "0"), "--jobs"),
    (("run", "tiny", "--jobs", "many"), "--jobs"),
    (("run", "tiny", "--device", "cdua"), "unknown device 'cdua'; did you mean 'cuda'?"),
    (("run", "tiny", "--device", "tpu"), "unknown device 'tpu'; did you mean 'cpu'?"),
    (("run", "tiny", "--seed", "1"), "--seed"),
    (("run", "tiny", "extra"), "extra"),
    (("list", "tiny"), "tiny"),
    (("status", "--all"), "--all"),
    (("data", "--download"), "--download"),
    (("data", "--download", "mnits"), "unknown data set 'mnits'; did you mean 'mnist'?"),
    (("data", "--download", "cifar10-jpeg"), "set DFA_LIB_DATA to a folder that holds"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=[" ".join(a) or "nothing" for a, _ in MISTAKES])
def test_mistake_is_one_line_on_standard_error(call, folder, arguments, words):
    before = on_disk(folder)
    code, out, err = call(*arguments)
    assert code in (1, 2)
    assert out == ""
    assert err.startswith("dfa-lib: ") and err.endswith("\n") and err.count("\n") == 1
    assert words in err
    assert on_disk(folder) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_device_that_is_not_there_is_an_error_before_anything_is_done(call, folder, device):
    code, _, err = call("run", "tiny", "--device", device)
    assert (code, err) == (1, f"dfa-lib: device {device!r} cannot be had here; this machine has: cpu\n")
    assert not folder.exists()


def test_device_is_checked_though_nothing_is_to_be_run(call):
    sweep.run(TINY.runs("smoke"))
    message = "dfa-lib: unknown device 'gpu'; did you mean 'cpu'? (known: cpu, cuda)\n"
    assert call("run", "tiny", "--device", "gpu") == (1, "", message)


@pytest.mark.parametrize("command", [("run", "tiny"), ("status",)])
def test_record_that_cannot_be_read_is_named(call, alone, folder, command):
    (folder / "tiny").mkdir(parents=True)
    (folder / "tiny" / "x.json").write_text("{")
    code, _, err = call(*command)
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith(f"dfa-lib: {folder / 'tiny' / 'x.json'}: not a whole record")


def test_folder_that_cannot_be_written_is_one_line(call, folder):
    folder.write_text("a file")
    code, _, err = call("run", "tiny", "--jobs", "1")
    assert (code, err.count("\n")) == (1, 1)
    assert "no record can be written there" in err


def test_data_set_that_is_missing_is_one_line(call, folder, monkeypatch):
    lacking = replace(TINY, variants={"BP": replace(BASE, data="notmnist-10k")})
    monkeypatch.setitem(EXPERIMENTS, "tiny", lacking)
    code, _, err = call("run", "tiny")
    assert (code, err.count("\n")) == (1, 1)
    assert "is missing: set DFA_LIB_DATA" in err
    assert not folder.exists()


def test_misspelt_data_set_in_an_experiment_names_the_nearest(call, monkeypatch):
    monkeypatch.setattr(sweep, "estimate", lambda todo, device: dict.fromkeys((run.hash for run in todo), 1.0))
    monkeypatch.setitem(EXPERIMENTS, "tiny", replace(TINY, variants={"BP": replace(BASE, data="digits5k")}))
    code, _, err = call("run", "tiny")
    assert (code, err.count("\n")) == (1, 1)
    assert "unknown data set 'digits5k'; did you mean 'digits-5k'?" in err


def test_installed_command_gives_one_line_too():
    command = Path(sys.executable).with_name("dfa-lib")
    if not command.exists():
        pytest.skip("the package is not installed beside this python")
    done = subprocess.run([command, "show", "bp-fa"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("dfa-lib: unknown experiment 'bp-fa'; did you mean 'bp-fa-dfa'?")
    assert done.stderr.count("\n") == 1


# --- Ctrl-C ---------------------------------------------------------------------------------------------------------


def test_ctrl_c_says_what_is_recorded_and_the_next_call_goes_on(call, folder, monkeypatch):
    real = sweep.run

    def interrupted(todo, jobs, device, report):
        real(todo[:1], jobs, device, report=report)
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "run", interrupted)
    code, out, err = call("run", "tiny", "--jobs", "1")
    assert (code, err) == (130, "")
    assert plain(out)[-1] == "stopped: 1 of 4 runs are recorded; the same command goes on from there"
    monkeypatch.setattr(sweep, "run", real)
    code, out, err = call("run", "tiny", "--jobs", "1")
    assert (code, err) == (0, "")
    assert "4 runs, 1 recorded" in out
    assert len(read_all("tiny")) == 4


def test_ctrl_c_before_training_is_one_line(call, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "estimate", interrupted)
    code, _, err = call("run", "tiny")
    assert (code, err.strip()) == (130, "dfa-lib: stopped")


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def deaf(pid: int) -> bool:
    """Whether a process ignores SIGINT, as it does while it starts its workers; where the system does not say, it does not."""
    status = Path(f"/proc/{pid}/status")
    ignored = re.search(r"^SigIgn:\s*(\w+)$", status.read_text(), re.MULTILINE) if status.exists() else None
    return bool(ignored and int(ignored[1], 16) >> (signal.SIGINT - 1) & 1)


def test_ctrl_c_at_the_keyboard_stops_the_workers_and_the_next_call_finishes(call, folder):
    """A terminal sends SIGINT to the whole group: this process, its workers, its helpers. Sixteen runs are enough that the
    signal cannot come after the last of them."""
    hears = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # a job in the background is started deaf
    script = f"{hears}; from test_cli import TINY, cli, experiments; experiments.EXPERIMENTS['tiny'] = TINY; cli.main()"
    command = [sys.executable, "-c", script, "run", "tiny", "--profile", "laptop", "--jobs", "2", "--seeds", "8"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        while process.poll() is None and (deaf(process.pid) or not list(folder.glob("tiny/*.json"))):
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
        give_up = time.monotonic() + 10
        while alive(process.pid) and time.monotonic() < give_up:
            time.sleep(0.05)
        assert not alive(process.pid), "a worker lives on"
    finally:
        if alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, err) == (130, "")
    recorded = len(read_all("tiny"))
    assert 1 <= recorded < 16
    assert plain(out)[-1] == f"stopped: {recorded} of 16 runs are recorded; the same command goes on from there"
    assert [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json"] == []

    code, out, err = call("run", "tiny", "--profile", "laptop", "--jobs", "1", "--seeds", "8")
    assert (code, err) == (0, "")
    assert f"16 runs, {recorded} recorded" in out
    assert len(read_all("tiny")) == 16
    assert list(folder.glob(".checkpoints/*")) == []
