"""The experiments of the book, one file a paper: what was run, as data."""

from __future__ import annotations

from ..errors import unknown
from . import bdfa, bottleneck, breloff, launay, mixing, nokland, slides
from .base import PROFILES, Experiment, Profile, Run
from .overview import BP_FA_DFA

__all__ = ["EXPERIMENTS", "PROFILES", "Experiment", "Profile", "Run", "get"]

PAPERS = (nokland, bdfa, breloff, launay, bottleneck, slides, mixing)
EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (BP_FA_DFA, *(one for paper in PAPERS for one in paper.EXPERIMENTS))
}


def get(name: str) -> Experiment:
    """The experiment of this name. Raises `DfaLibError`, with the nearest name, for one that does not exist."""
    if name not in EXPERIMENTS:
        raise unknown("experiment", name, EXPERIMENTS)
    return EXPERIMENTS[name]
