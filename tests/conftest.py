"""What every test shares: shapes checked on every call, no windows, one thread; and which of them one worker takes together."""

import matplotlib
import pytest
import torch
from jaxtyping import install_import_hook

# Before anything imports dfa_lib: every annotated function is then checked, arguments and result.
install_import_hook("dfa_lib", "beartype.beartype")

matplotlib.use("Agg")
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file is one worker's, for what its tests share; but not the chapters, which take the longest."""
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.name))
