"""What every test shares: shapes checked on every call, no windows, one thread; and which of them one worker takes together."""

from pathlib import Path

import matplotlib
import pytest
import torch
from jaxtyping import install_import_hook

# Before anything imports dfa_lib: in a module that names shapes, every annotated function is then checked, arguments and result.
LIBRARY = Path(__file__).resolve().parent.parent / "dfa_lib"
install_import_hook([f"dfa_lib.{path.stem}" for path in LIBRARY.glob("*.py") if "from jaxtyping" in path.read_text()], "beartype.beartype")

matplotlib.use("Agg")
torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)  # before xdist's own, which reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file is one worker's, for what its tests share; but not the chapters, which take the longest."""
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.name))


@pytest.fixture(scope="session")
def searched():
    """The records of a search by hyper-parameter, all that its laptop budget asks for: the best of some of them is not the best."""
    from dfa_lib import sweep

    def find(search):
        found = sweep.recorded(search).get("laptop")
        have, wanted = len(found.records) if found else 0, len(search.runs("laptop"))
        assert have == wanted, f"{have} of {wanted} runs of {search.name} are recorded"
        return found

    return find
