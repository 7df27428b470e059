"""The chapters' sources are clean, complete, and run from the first cell to the last."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
CHECKED = "nbval-check-output"
NAMES = [path.name for path in CHAPTERS]

spec = importlib.util.spec_from_file_location("book", ROOT / "tools" / "book.py")
book = importlib.util.module_from_spec(spec)
spec.loader.exec_module(book)


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


@pytest.fixture(params=CHAPTERS, ids=NAMES)
def notebook(request):
    found = nbformat.read(request.param, as_version=4)
    nbformat.validate(found)
    return found


@pytest.fixture
def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_table_of_contents_and_folder_agree():
    assert book.chapters() == CHAPTERS, "_toc.yml lists every chapter, in the order of their numbers"
    missing = [name for name in book.toc_entries()
               if not any((ROOT / f"{name}{suffix}").exists() for suffix in (".md", ".ipynb"))]
    assert not missing, f"_toc.yml names files that are not there: {missing}"


def test_kernel_is_python3(notebook):
    assert notebook.metadata.kernelspec.name == "python3"


def test_parameters_come_first(code):
    assert {"parameters", "hide-input"} <= set(tags(code[0])), "the first code cell is tagged parameters, hide-input"
    assert re.search(r'^profile = "recorded"', code[0].source, re.MULTILINE)
    assert not any("parameters" in tags(cell) for cell in code[1:])


def test_only_checked_cells_hold_output(code):
    for number, cell in enumerate(code):
        if CHECKED not in tags(cell):
            assert not cell.outputs, f"code cell {number} has stored output: run make freeze"
            assert cell.execution_count is None, f"code cell {number} has an execution count: run make freeze"


def test_checks_compare_text(code):
    checked = [cell for cell in code if CHECKED in tags(cell)]
    assert checked, f"a chapter has at least one cell tagged {CHECKED}"
    for cell in checked:
        assert cell.outputs, f"{cell.source!r} has no stored output: run make freeze"
        assert cell.execution_count == 1, "run make freeze: nbval takes a cell without count for one never run"
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr"
            kinds = set(output.get("data", {}))
            assert kinds <= {"text/plain", "text/html"}, f"nbval compares no pictures: {kinds}"


def test_a_download_works_elsewhere(notebook):
    for cell in notebook.cells:
        assert not re.search(r"\bglue\b", cell.source), "glue does not show in a downloaded notebook"
        text = cell.source + str(cell.get("outputs", ""))
        absolute = re.search(r"""(?:^|[\s"'(=])(?:/\w+/\w|[A-Z]:\\Users)\S*""", text)
        assert not absolute, f"an absolute path: {absolute[0]}"


HALVES = {"odd": CHAPTERS[::2], "even": CHAPTERS[1::2]}  # for two workers


@pytest.mark.parametrize("chapters", [pytest.param(half, id=name, marks=pytest.mark.xdist_group(name)) for name, half in HALVES.items()])
def test_every_chapter_runs_and_its_checks_print_the_same(chapters):
    environment = os.environ | book.kernel_environment()  # as when the book is built
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "120",
               "-p", "no:cacheprovider", "-p", "no:xdist", "-v", "--color=no", *(f"chapters/{path.name}" for path in chapters)]
    run = subprocess.run(command, cwd=ROOT, env=environment, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if run.returncode:
        pytest.fail(run.stdout[max(0, run.stdout.find("= FAILURES")):], pytrace=False)
    ran = set(re.findall(r"^chapters/(\S+)::ipynb::Cell \d+ PASSED", run.stdout, re.MULTILINE))
    assert ran == {path.stem for path in chapters}, run.stdout
