"""From records to numbers with an interval: what a comparison over seeds shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .errors import DfaLibError


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % confidence interval, and the number of seeds on its smaller side."""

    mean: float
    low: float
    high: float
    n: int

    def __format__(self, spec: str) -> str:
        return f"{self.mean:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def difference(a: Sequence[float], b: Sequence[float]) -> Interval:
    """mean(a) - mean(b) over seeds, with Welch's 95 % interval. Raises `DfaLibError` for fewer than two seeds on a side."""
    from scipy import stats

    if min(len(a), len(b)) < 2:
        raise DfaLibError(f"an interval needs at least two seeds on each side; got {len(a)} and {len(b)}")
    test = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    mean = sum(a) / len(a) - sum(b) / len(b)
    return Interval(mean, float(test.low), float(test.high), min(len(a), len(b)))
