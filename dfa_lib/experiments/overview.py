"""The book's opening question: BP, FA and DFA on MNIST, in the setting of Nøkland (2016)."""

from __future__ import annotations

from dataclasses import replace

from ..config import Config, Optimizer
from ..graph import bp, dfa, fa
from .base import Experiment, Profile

#: Section 4 of the paper: logistic outputs and binary cross-entropy, RMSprop, batches of 64, inputs in [0, 1]. The learning rate
#: and e as the batch's sum are those of the author's code; the text gives neither.
BASE = Config(
    data="mnist",
    activation="tanh",
    loss="binary-cross-entropy",
    reduction="sum",
    optimizer=Optimizer("rmsprop", lr=1e-4),
    batch=64,
    feedback="uniform-to",
    epochs=300,
    alignment=500,
)

#: BP starts from uniform +-1/sqrt(fan-in), FA and DFA from zero weights and biases.
METHODS = {
    "BP": {"rule": bp(), "init": "uniform-from"},
    "FA": {"rule": fa(), "init": "zeros"},
    "DFA": {"rule": dfa(), "init": "zeros"},
}

NETWORKS = {"7x240": (240,) * 7, "2x800": (800,) * 2}

BP_FA_DFA = Experiment(
    name="bp-fa-dfa",
    title="BP, FA and DFA on MNIST, 7x240 and 2x800 tanh",
    source="nokland2016, Table 1 and Figure 2 (right)",
    variants={
        f"{network} {method}": replace(BASE, hidden=hidden, **changes)
        for network, hidden in NETWORKS.items()
        for method, changes in METHODS.items()
    },
    profiles={
        "smoke": Profile(seeds=1, changes={"data": "digits-5k", "epochs": 15, "alignment": 200}),
        "laptop": Profile(seeds=5, changes={"epochs": 30}),
        "paper": Profile(seeds=10),
    },
)
