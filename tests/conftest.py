"""What every test shares: shapes checked on every call, no windows, one thread."""

import matplotlib
import torch
from jaxtyping import install_import_hook

# Before anything imports dfa_lib: every annotated function is then checked, arguments and result.
install_import_hook("dfa_lib", "beartype.beartype")

matplotlib.use("Agg")
torch.set_num_threads(1)
