"""Records: whole or not at all, checked when read, small; and what they say of the machine."""

import json
import math
import random
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from dfa_lib import records
from dfa_lib.config import Config, Optimizer
from dfa_lib.errors import DfaLibError
from dfa_lib.graph import fa
from dfa_lib.records import MOST_ALIGNMENTS, MOST_EVALUATIONS, Record, read, read_all, results_dir, write
from dfa_lib.training import train

ROW = {"step": 0, "epoch": 0.0, "test_loss": 2.30259, "test_error_pct": 90.2}
RECORD = Record(
    experiment="tiny", variant="BP", profile="smoke", seed=3, hash="0123456789abcdef",
    config=Config(steps=40, hidden=(16, 8), optimizer=Optimizer(lr=1 / 3)).as_dict(), status="finished", step=40,
    evaluations=[ROW, ROW | {"step": 40, "train_loss": 1.5, "train_error_pct": 42.0}],
    final={"test_error_pct": 40.1, "test_loss": 1.4, "constant_output": False, "saturation": [0.0, 0.25]},
    wall_s=1.25, step_ms=0.3, replicas=1, device="CPU", threads=1, versions={"torch": "2.6.0"},
    git={"revision": "f" * 40, "dirty": True}, data={"name": "mnist", "fingerprint": "ab", "split": "the original"},
)  # fmt: skip


@pytest.fixture
def no_git_cache():
    records._git.cache_clear()
    yield
    records._git.cache_clear()


def test_record_comes_back_as_it_was_written(tmp_path):
    path = write(RECORD, tmp_path)
    assert path == tmp_path / "tiny" / "0123456789abcdef.json"
    assert read(path) == RECORD
    assert read(path).path == path
    assert path.stat().st_mode & 0o777 == 0o644
    assert read_all("tiny", tmp_path) == [RECORD]
    assert read_all("another", tmp_path) == []


def test_configuration_keeps_every_digit_and_measurements_six(tmp_path):
    record = replace(RECORD, wall_s=math.pi, final={"test_loss": 1e-9 / 3, "saturation": [2 / 3]})
    back = read(write(record, tmp_path))
    assert back.config["optimizer"]["lr"] == 1 / 3
    assert (back.wall_s, back.final) == (3.14159, {"test_loss": 3.33333e-10, "saturation": [0.666667]})


def test_numbers_that_are_not_finite_become_null(tmp_path):
    row = ROW | {"test_loss": math.nan, "alignment": {"layers": [1], "delta_angle": [math.nan], "weight_angle": {1: math.inf}}}
    path = write(replace(RECORD, evaluations=[row], final={"test_loss": math.inf, "saturation": [-math.inf]}), tmp_path)
    text = path.read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    back = read(path)
    assert back.final == {"test_loss": None, "saturation": [None]}
    assert back.evaluations[0]["test_loss"] is None
    assert back.evaluations[0]["alignment"] == {"layers": [1], "delta_angle": [None], "weight_angle": {"1": None}}


def test_writing_changes_nothing_in_the_record(tmp_path):
    rows = [ROW | {"step": k, "alignment": {"layers": [1], "weight_angle": {1: 89.87654}}} for k in range(200)]
    record = replace(RECORD, evaluations=rows)
    before = json.dumps(asdict(record))
    write(record, tmp_path)
    assert json.dumps(asdict(record)) == before


def test_column_has_none_where_an_evaluation_lacks_the_metric():
    assert RECORD.column("train_loss") == [None, 1.5]


# --- small ----------------------------------------------------------------------------------------------------------


def thinned(tmp_path, n: int, layers: int = 1) -> list[dict]:
    aligned = {"layers": list(range(1, layers + 1)), "weight_angle": {}}
    rows = [ROW | {"step": k, "alignment": aligned} for k in range(n)]
    return read(write(replace(RECORD, evaluations=rows), tmp_path)).evaluations


def gaps(steps: list[int]) -> set[int]:
    return {b - a for a, b in zip(steps, steps[1:], strict=False)}


@pytest.mark.parametrize(("n", "layers", "aligned"), [(301, 1, MOST_ALIGNMENTS), (301, 7, MOST_ALIGNMENTS), (301, 12, 20)])
def test_curves_are_thinned_evenly_and_keep_both_ends(tmp_path, n, layers, aligned):
    rows = thinned(tmp_path, n, layers)
    steps, with_alignment = [row["step"] for row in rows], [row["step"] for row in rows if "alignment" in row]
    for kept, most in ((steps, MOST_EVALUATIONS), (with_alignment, aligned)):
        assert len(kept) == most
        assert (kept[0], kept[-1]) == (0, n - 1)
    assert gaps(steps) <= {5, 6}
    assert max(gaps(with_alignment)) <= 2 * min(gaps(with_alignment))


def test_short_curves_are_kept_whole(tmp_path):
    rows = thinned(tmp_path, MOST_ALIGNMENTS, 7)
    assert [row["step"] for row in rows] == list(range(MOST_ALIGNMENTS))
    assert all("alignment" in row for row in rows)
    assert len(thinned(tmp_path, MOST_EVALUATIONS)) == MOST_EVALUATIONS


def test_record_of_a_hundred_layers_with_alignment_is_small(tmp_path):
    """FA has a weight angle at every layer: the largest record that there is, at 300 epochs of the paper's profile."""
    config = Config(data="digits-5k", hidden=(8,) * 100, rule=fa(), steps=1, alignment=10)
    result, digits = train(config, [0])[0], random.Random(0)

    def noise(value):  # as long as a number can be
        if isinstance(value, float):
            return digits.uniform(0.1, 99)
        if isinstance(value, dict):
            return {key: item if key == "layers" else noise(item) for key, item in value.items()}
        return [noise(item) for item in value] if isinstance(value, list) else value

    rows = [noise(result.evaluations[-1]) | {"step": 938 * k} for k in range(301)]
    assert len(rows[0]["alignment"]["weight_angle"]) == 100
    assert len(rows[0]["alignment"]["layers"]) == 12
    record = replace(RECORD, config=config.as_dict(), evaluations=rows, final=noise(result.final))
    assert write(record, tmp_path).stat().st_size < 25_000
    last = read_all("tiny", tmp_path)[0].evaluations[-1]
    assert last["alignment"]["delta_angle"] == pytest.approx(rows[-1]["alignment"]["delta_angle"], abs=0.006)
    assert set(last["alignment"]["weight_angle"]) == {str(layer) for layer in last["alignment"]["layers"]}


# --- whole or not at all --------------------------------------------------------------------------------------------

WRITER = """
import sys
from dfa_lib.records import Record, write
n = int(sys.argv[2])
for k in range(150):
    row = {"step": 0, "text": "x" * n}
    write(Record("tiny", "BP", "smoke", 0, "abc", {}, "finished", n, [row], {}, 1.0, 1.0, 1, "CPU", 1, {}, {}, {}), sys.argv[1])
"""


def test_two_processes_that_write_the_same_record_leave_one_whole_file(tmp_path):
    lengths = {10, 200_000}
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(n)]) for n in lengths]
    seen = set()
    try:
        while any(writer.poll() is None for writer in writers):
            for record in read_all("tiny", tmp_path):  # raises if what another process sees is ever not whole
                seen.add(record.step)
                assert len(record.evaluations[0]["text"]) == record.step
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert [writer.returncode for writer in writers] == [0, 0]
    assert seen and seen <= lengths
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == ["abc.json"]
    assert read(tmp_path / "tiny" / "abc.json").step in lengths


def test_two_threads_may_write_too(tmp_path):
    threads = [threading.Thread(target=write, args=(RECORD, tmp_path)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == [f"{RECORD.hash}.json"]


@pytest.mark.parametrize("call", ["os.replace", "os.chmod", "os.fdopen"])
@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk full", "Ctrl-C"])
def test_what_stops_the_writing_leaves_nothing_behind(tmp_path, monkeypatch, call, problem):
    def fail(*_, **__):
        raise problem

    with monkeypatch.context() as patched, pytest.raises(type(problem)):
        patched.setattr(call, fail)
        write(RECORD, tmp_path)
    assert list((tmp_path / "tiny").iterdir()) == []

    path = write(RECORD, tmp_path)
    with monkeypatch.context() as patched, pytest.raises(type(problem)):
        patched.setattr(call, fail)
        write(replace(RECORD, status="diverged"), tmp_path)
    assert read(path) == RECORD
    assert list((tmp_path / "tiny").iterdir()) == [path]


def test_folder_that_cannot_be_written_is_named_with_the_remedy(tmp_path):
    (tmp_path / "results").write_text("a file")
    with pytest.raises(DfaLibError, match="results/tiny: no record can be written there .*set DFA_LIB_RESULTS"):
        write(RECORD, tmp_path / "results")


# --- what cannot be read --------------------------------------------------------------------------------------------


def edited(**changes) -> bytes:
    values = asdict(RECORD) | changes
    return json.dumps({name: value for name, value in values.items() if name != "path" and value is not ...}).encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (edited()[:300], "not a whole record"),
        (b"", "not a whole record"),
        (b"\xff\xfe\x00", "not a whole record"),
        (edited(version=2), "record version 2, this library reads version 1; update dfa-lib"),
        (edited(version=...), "record version None"),
        (b"[]", "record version None"),
        (b"null", "record version None"),
        (edited(seed=...), "missing, unknown or of the wrong type: seed;"),
        (edited(final=..., git=...), "wrong type: final, git;"),
        (edited(weights=[1.0]), "wrong type: weights;"),
        (edited(path="elsewhere"), None),  # `edited` leaves it out: a record never holds its path
        (edited(seed="3"), "wrong type: seed;"),
        (edited(seed=3.0), "wrong type: seed;"),
        (edited(seed=True), "wrong type: seed;"),
        (edited(wall_s=None), "wrong type: wall_s;"),
        (edited(config=[]), "wrong type: config;"),
        (edited(evaluations={}), "wrong type: evaluations;"),
        (edited(evaluations=[1.5]), "wrong type: evaluations;"),
        (edited(status=1, step="x"), "wrong type: status, step;"),
    ],
)
def test_file_that_is_no_record_is_named_with_the_remedy(tmp_path, content, words):
    path = tmp_path / "tiny" / "broken.json"
    path.parent.mkdir()
    path.write_bytes(content)
    if words is None:
        assert read(path) == RECORD
        return
    for look in (lambda: read(path), lambda: read_all("tiny", tmp_path)):
        with pytest.raises(DfaLibError) as problem:
            look()
        message = str(problem.value)
        assert message.startswith(f"{path}: ")
        assert words in message
        assert message.endswith("remove it and run the experiment again")
        assert "\n" not in message


def test_path_in_a_file_is_an_unknown_field(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(json.loads(edited()) | {"path": "/elsewhere"}))
    with pytest.raises(DfaLibError, match="wrong type: path;"):
        read(path)


def test_file_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "tiny" / "folder.json").mkdir(parents=True)
    with pytest.raises(DfaLibError, match=r"folder\.json: cannot be read \(Is a directory\); remove it"):
        read_all("tiny", tmp_path)
    with pytest.raises(DfaLibError, match=r"gone\.json: cannot be read \(No such file or directory\)"):
        read(tmp_path / "gone.json")


def test_only_whole_records_are_looked_at(tmp_path):
    path = write(RECORD, tmp_path)
    (path.parent / f".{RECORD.hash}-x1.partial").write_text("{")
    (path.parent / "notes.txt").write_text("x")
    write(replace(RECORD, hash="00", seed=7), tmp_path)
    assert [record.seed for record in read_all("tiny", tmp_path)] == [7, 3]  # by file name


# --- where, and on what ---------------------------------------------------------------------------------------------


def test_folder_is_the_argument_then_the_variable_then_the_checkout_then_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DFA_LIB_RESULTS", str(tmp_path / "variable"))
    assert results_dir(tmp_path / "argument") == tmp_path / "argument"
    assert results_dir("argument") == Path("argument")
    assert results_dir() == tmp_path / "variable"
    monkeypatch.delenv("DFA_LIB_RESULTS")
    assert results_dir() == Path(__file__).resolve().parents[1] / "results"
    monkeypatch.setattr(records, "__file__", str(tmp_path / "site-packages" / "dfa_lib" / "records.py"))
    assert results_dir() == tmp_path / "results"
    monkeypatch.setenv("DFA_LIB_RESULTS", "")
    assert results_dir() == tmp_path / "results"


def git(folder: Path, *arguments: str) -> str:
    names = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    return subprocess.run(("git", "-C", folder, *names, *arguments), check=True, capture_output=True, text=True).stdout.strip()


def test_revision_and_whether_the_library_differs_from_it(tmp_path, monkeypatch, no_git_cache):
    library = tmp_path / "dfa_lib"
    library.mkdir()
    monkeypatch.setattr(records, "__file__", str(library / "records.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    def found() -> dict:
        records._git.cache_clear()
        return records.machine()["git"]

    unknown = {"revision": None, "dirty": None}
    assert found() == unknown
    (tmp_path / "README").write_text("another project")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "README")
    git(tmp_path, "commit", "-qm", "one")
    (library / "records.py").write_text("1")
    assert found() == unknown, "a copy that is installed inside another project's checkout has no revision"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "two")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert found() == {"revision": head, "dirty": False}
    (tmp_path / "README").write_text("a text of the book")
    assert found() == {"revision": head, "dirty": False}, "only the library decides a run"
    (library / "records.py").write_text("2")
    assert found() == {"revision": head, "dirty": True}
    git(tmp_path, "checkout", "-q", "dfa_lib")
    (library / "new.py").write_text("3")
    assert found() == {"revision": head, "dirty": True}
    monkeypatch.setenv("PATH", "")
    assert found() == unknown, "no git on this machine"


def test_machine_says_the_versions_that_matter():
    import numpy
    import torch

    facts = records.machine()
    assert set(facts) == {"versions", "git"}
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["versions"]["numpy"] == numpy.__version__
    assert set(facts["versions"]) == {"python", "torch", "numpy", "machine"}
