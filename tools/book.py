"""Run the book's chapters and build its pages.

    python tools/book.py build                     run every chapter, then build _build/html
    python tools/book.py rerun --profile smoke     run every chapter anew, training live, into _build/rerun-smoke
    python tools/book.py freeze                    store in the sources the outputs that nbval compares

The sources in chapters/ are never run in place: executed notebooks are build products under _build/.
"""

import argparse
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "chapters"
BUILD = ROOT / "_build"
HTML = BUILD / "html"

CHECKED = "nbval-check-output"  # cells with this tag keep their stored output in the sources
PAGE_SOURCES = ["_config.yml", "_toc.yml", "intro.md", "references.md", "references.bib", "_static"]
JOBS = 2


def toc_entries() -> list[str]:
    """Every file that _toc.yml names, without suffix, in reading order."""
    def files(node):
        if isinstance(node, dict):
            if "file" in node:
                yield node["file"]
            node = list(node.values())
        if isinstance(node, list):
            for child in node:
                yield from files(child)

    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *files(toc)]


def chapters() -> list[Path]:
    """The chapters' source notebooks, in the table of contents' order."""
    return [ROOT / f"{name}.ipynb" for name in toc_entries() if name.startswith("chapters/")]


# ---- running notebooks ---------------------------------------------------------------------------------------------

def kernel_environment() -> dict[str, str]:
    """What every kernel inherits: one thread, and none of the reader's own startup files."""
    profile = BUILD / "ipython" / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    # Every kernel warns on the terminal of its TCP ports and of its interruption at the end; a cell's errors do not
    # come that way.
    (profile / "ipython_kernel_config.py").write_text('get_config().IPKernelApp.log_level = "CRITICAL"\n')
    (BUILD / "matplotlib").mkdir(exist_ok=True)
    return {
        "OMP_NUM_THREADS": "1",  # several kernels share the cores, and the bits depend on the thread count
        "IPYTHONDIR": str(BUILD / "ipython"),
        "MPLCONFIGDIR": str(BUILD / "matplotlib"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # debugpy's warning about frozen modules
    }


def run_chapter(source: Path, target: Path, parameters: dict) -> tuple[float, str | None]:
    """Execute one notebook into `target`; the seconds that it took, and the error's text if it failed."""
    import papermill  # slow to import: only the workers need it

    start, error = time.perf_counter(), None
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # The kernel's folder is the source's own, as it is in Jupyter and under nbval.
        papermill.execute_notebook(source, target, parameters, cwd=source.parent, progress_bar=False)
    except papermill.PapermillExecutionError as failure:
        error = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(failure.traceback)) or str(failure)
    except Exception as failure:  # the kernel died or the file is no notebook: report it beside the others
        error = f"{type(failure).__name__}: {failure}"
    if error is None:
        tidy(target)
    return time.perf_counter() - start, error


def tidy(path: Path) -> None:
    """Take papermill's traces out of an executed notebook: its metadata holds this machine's paths and times."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags.append("remove-input")
    nbformat.write(notebook, path)


def run_all(target: Path, parameters: dict, failed: Path) -> bool:
    """Execute all chapters into `target`, some at a time, and go on after a failure; whether all succeeded."""
    os.environ.update(kernel_environment())
    shutil.rmtree(failed, ignore_errors=True)
    sources, errors = chapters(), {}
    print(f"running {len(sources)} chapters, {JOBS} at a time", flush=True)
    with ProcessPoolExecutor(JOBS) as pool:
        jobs = {pool.submit(run_chapter, s, target / s.name, parameters): s for s in sources}
        for job in as_completed(jobs):
            name, (seconds, error) = jobs[job].name, job.result()
            print(f"  {name:<32} {seconds:6.1f} s  {'FAILED' if error else 'ok'}", flush=True)
            if error:
                errors[name] = error
    for name in sorted(errors):
        print(f"\n{name} failed:", file=sys.stderr)
        print("\n".join("    " + line for line in errors[name].splitlines()[-15:]), file=sys.stderr)
        if (target / name).exists():  # kept to be read, but where no build picks it up
            failed.mkdir(parents=True, exist_ok=True)
            (target / name).rename(failed / name)
    if errors:
        print(f"\n{len(errors)} of {len(sources)} chapters failed: see {failed.relative_to(ROOT)}", file=sys.stderr)
    return not errors


# ---- the three commands --------------------------------------------------------------------------------------------

def build(profile: str) -> int:
    """Assemble the sources, run the chapters, build the pages; a stale page never survives a failure."""
    src, out = BUILD / "src", BUILD / "pages"
    for folder in (src, out, HTML):
        shutil.rmtree(folder, ignore_errors=True)
    src.mkdir(parents=True)
    for name in PAGE_SOURCES:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, src / name)
    copy_mathjax(src / "_vendor" / "mathjax")

    if not run_all(src / "chapters", {"profile": profile}, BUILD / "failed"):
        return 1

    tool = Path(sys.executable).parent / "jupyter-book"
    pages = subprocess.run([tool, "build", src, "--path-output", out, "-W", "-n", "--keep-going", "-q"],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if pages.returncode:
        print(pages.stdout + "the pages were not built: see the warnings above", file=sys.stderr)
        return 1
    made = out / "_build" / "html"
    missing = [name for name in toc_entries() if not (made / f"{name}.html").exists()]
    if missing or not (made / "index.html").exists():
        print(f"pages missing from the build: {', '.join(missing) or 'index.html'}", file=sys.stderr)
        return 1
    # A redirecting page without an icon makes the browser ask for /favicon.ico, and complain.
    index = made / "index.html"
    redirect = index.read_text(encoding="utf-8")
    index.write_text(f'<link rel="icon" href="_static/favicon.svg">\n{redirect}', encoding="utf-8")
    made.rename(HTML)
    print(f"the book: {(HTML / 'index.html').relative_to(ROOT)}")
    return 0


def copy_mathjax(target: Path) -> None:
    """Copy MathJax and its licence from the package that carries it, so that math renders offline."""
    wanted = {"mathjax/es5/tex-svg-full.js", "mathjax/LICENSE"}  # 'full': it never fetches a TeX extension later
    target.mkdir(parents=True)
    for file in importlib.metadata.files("django-static-mathjax"):
        if any(file.as_posix().endswith(name) for name in wanted) and "dist-info" not in file.as_posix():
            shutil.copy(file.locate(), target / file.name)
    if len(list(target.iterdir())) != len(wanted):
        raise SystemExit("the package django-static-mathjax does not hold what is needed: " + ", ".join(wanted))


def rerun(profile: str) -> int:
    """Train and run every chapter with records of its own: the committed ones are neither read nor changed."""
    folder = BUILD / f"rerun-{profile}"
    results = folder / "results"
    shutil.rmtree(folder / "chapters", ignore_errors=True)
    if profile == "smoke":  # it shows that training works, so it starts from nothing; the long ones resume
        shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True, exist_ok=True)
    os.environ["DFA_LIB_RESULTS"] = str(results)
    if not run_all(folder / "chapters", {"profile": profile}, folder / "failed"):
        return 1
    print(f"the executed chapters: {(folder / 'chapters').relative_to(ROOT)}")
    return 0


def freeze() -> int:
    """Execute the sources as they are and keep only the outputs of the checked cells, with ids unchanged."""
    scratch = BUILD / "freeze"
    shutil.rmtree(scratch, ignore_errors=True)
    done = run_all(scratch, {}, scratch / "failed")
    for source in chapters():
        if not (scratch / source.name).exists():  # it failed: its source stays as it is
            continue
        executed = {cell.id: cell for cell in nbformat.read(scratch / source.name, as_version=4).cells}
        notebook = nbformat.read(source, as_version=4)
        for cell in notebook.cells:
            cell.metadata = {k: v for k, v in cell.metadata.items() if k in ("tags", "mystnb")}
            if cell.cell_type == "code":
                checked = CHECKED in cell.metadata.get("tags", [])
                cell.outputs = executed[cell.id].outputs if checked else []
                cell.execution_count = 1 if cell.outputs else None  # nbval takes a cell without count for never run
                for output in cell.outputs:
                    if output.output_type == "execute_result":
                        output.execution_count = None
        notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                             "language_info": {"name": "python"}}
        nbformat.write(notebook, source)
    return 0 if done else 1


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the book's chapters and build its pages.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="run every chapter and build the pages").add_argument(
        "--profile", default="recorded", choices=["recorded", "smoke", "laptop", "paper"])
    commands.add_parser("rerun", help="train and run every chapter anew").add_argument(
        "--profile", default="smoke", choices=["smoke", "laptop", "paper"])
    commands.add_parser("freeze", help="store the outputs that the chapters' checks compare with")
    options = vars(parser.parse_args())
    return {"build": build, "rerun": rerun, "freeze": freeze}[options.pop("command")](**options)


if __name__ == "__main__":
    sys.exit(main())
