"""Records: one finished run is one small JSON file, validated, written atomically, found by the hash of its content.

A record says everything about its run but its weights: the full configuration and its hash, seed, metrics at each
evaluation, outcome, time, machine, versions, git revision, and the fingerprint of the data. Files live in
`results/<experiment>/<hash>.json`, so a rerun is recognised and two machines' results merge by copying.
"""

from __future__ import annotations

import functools
import json
import math
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .errors import DfaLibError

VERSION = 1
#: At most this many evaluations of a run are kept, and this many with alignment: what a figure can show.
MOST_EVALUATIONS, MOST_ALIGNMENTS = 60, 30
#: At most this many (evaluation, layer) pairs with alignment: 20 evaluations of the 12 layers that a deep network has measured.
MOST_ALIGNED_LAYERS = 240


@dataclass(frozen=True)
class Record:
    """One finished run. Percentages, seconds and milliseconds are named so; `evaluations` and `final` are the runner's."""

    experiment: str
    variant: str
    profile: str
    seed: int
    hash: str
    config: dict
    status: str
    step: int
    evaluations: list
    final: dict
    wall_s: float
    step_ms: float
    replicas: int
    device: str
    threads: int
    versions: dict
    git: dict
    data: dict
    version: int = VERSION
    path: Path | None = field(default=None, compare=False)  #: where it was read from; not part of the file

    def column(self, name: str) -> list:
        """One metric over the evaluations; None where an evaluation lacks it."""
        return [row.get(name) for row in self.evaluations]


def results_dir(directory: str | Path | None = None) -> Path:
    """The folder of records: the argument, else DFA_LIB_RESULTS, else `results/` of the source checkout or the working folder."""
    if directory or os.environ.get("DFA_LIB_RESULTS"):
        return Path(directory or os.environ["DFA_LIB_RESULTS"])
    checkout = Path(__file__).resolve().parents[1]
    return (checkout if (checkout / "pyproject.toml").exists() else Path.cwd()) / "results"


def prepare(experiment: str, directory: str | Path | None = None) -> Path:
    """Make the folder of an experiment's records. Raises `DfaLibError` when nothing can be written there."""
    folder = results_dir(directory) / experiment
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as problem:
        mend = "set DFA_LIB_RESULTS to another folder"
        raise DfaLibError(f"{folder}: no record can be written there ({problem.strerror}); {mend}") from None
    return folder


def write(record: Record, directory: str | Path | None = None) -> Path:
    """Write a record under `directory`, whole or not at all: another process sees the old file or the new one."""
    folder = prepare(record.experiment, directory)
    values = {name: value for name, value in asdict(record).items() if name != "path"}  # a deep copy
    values["evaluations"] = _thin(values["evaluations"])
    values = _finite(values) | {"config": values["config"]}  # not a digit of the configuration is lost: it is compared
    text = json.dumps(values, indent=None, separators=(",", ":"), allow_nan=False, sort_keys=True)
    return write_whole(folder / f"{record.hash}.json", text + "\n")


def write_whole(path: Path, text: str) -> Path:
    """Write a file whole or not at all: what is not finished has another name, and does not stay."""
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".partial")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    return path


def read(path: str | Path) -> Record:
    """Read one record. Raises `DfaLibError`, naming the file, when it is truncated, of another version, or not a record."""
    path = Path(path)
    mend = "remove it and run the experiment again"
    try:
        values = json.loads(path.read_text())
    except OSError as problem:
        raise DfaLibError(f"{path}: cannot be read ({problem.strerror}); {mend}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise DfaLibError(f"{path}: not a whole record ({problem}); {mend}") from None
    if not isinstance(values, dict) or values.get("version") != VERSION:
        found = values.get("version") if isinstance(values, dict) else None
        raise DfaLibError(f"{path}: record version {found!r}, this library reads version {VERSION}; update dfa-lib, or {mend}")
    wanted = {name: _TYPES[kind] for name, kind in Record.__annotations__.items() if name != "path"}
    wrong = [name for name, kind in wanted.items() if name not in values or not _is(values[name], kind)]
    wrong += [name for name in values if name not in wanted]
    if wrong:
        raise DfaLibError(f"{path}: these fields are missing, unknown or of the wrong type: {', '.join(sorted(wrong))}; {mend}")
    return Record(**values, path=path)


_TYPES = {"str": str, "int": int, "float": (int, float), "dict": dict, "list": list}


def _is(value: object, kind: type | tuple[type, ...]) -> bool:
    """Of the type, where True is no number and a list is a list of evaluations."""
    if isinstance(value, list):
        return kind is list and all(isinstance(row, dict) for row in value)
    return isinstance(value, kind) and not isinstance(value, bool)


def read_all(experiment: str, directory: str | Path | None = None) -> list[Record]:
    """All records of an experiment, by file name. Raises `DfaLibError` for the first that cannot be read."""
    return [read(path) for path in sorted((results_dir(directory) / experiment).glob("*.json"))]


def machine() -> dict:
    """The software and the revision that a run used: fields `versions` and `git` of a record."""
    import numpy
    import torch

    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__}
    return {"versions": versions | {"machine": platform.machine()}, "git": _git()}


@functools.cache
def _git() -> dict:
    """The revision of the checkout that the library is in, and whether the library's files differ from it."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        return subprocess.run(("git", "-C", str(here), *arguments), capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # an installed copy may lie inside another project's checkout
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.CalledProcessError):
        return {"revision": None, "dirty": None}


def _thin(rows: list[dict]) -> list[dict]:
    rows = _spread(rows, MOST_EVALUATIONS)
    aligned = [row for row in rows if "alignment" in row]
    layers = len(aligned[0]["alignment"]["layers"]) if aligned else 0
    kept = {id(row) for row in _spread(aligned, min(MOST_ALIGNMENTS, MOST_ALIGNED_LAYERS // max(layers, 1)))}
    for row in rows:
        alignment = row.pop("alignment", None)
        if id(row) in kept:
            row["alignment"] = _thin_layers(alignment)
    return rows


def _thin_layers(alignment: dict) -> dict:
    """Four digits, hundredths of a degree; and weight angles of the measured layers only."""
    angles = {layer: angle for layer, angle in alignment["weight_angle"].items() if layer in alignment["layers"]}
    return _finite(alignment | {"weight_angle": angles}, digits=4)


def _spread(rows: list, most: int) -> list:
    """At most `most` rows, evenly spread, the first and the last among them."""
    if len(rows) <= most:
        return rows
    return [rows[round(k * (len(rows) - 1) / (most - 1))] for k in range(most)]


def _finite(value: object, digits: int = 6) -> object:
    """JSON has no nan: numbers that are not finite become None, the others keep so many significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _finite(v, digits) for k, v in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_finite(v, digits) for v in value]
    return value
