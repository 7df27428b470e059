"""Claims as data, and what the records say of them: reproduced, partly, contradicted, or not run here.

A `Claim` holds what a paper says, where, and a test that says what is compared. It stands beside the experiment that it is
about and is declared before the run. `verdict(claim, Evidence())` comes from records alone:

    reproduced    the whole 95 % interval over seeds lies where the claim puts it
    contradicted  the whole interval lies outside; of a claim in parts, that of one part, and no other part holds
    partly        neither; or only some parts of the claim hold; or runs that are all alike, and leave nothing to compare
    not run here  no records, too few seeds (a test names the smallest number), or a value that is not finite

Of a `Correlation` the interval is over variants: they are the sample, and seeds only make each variant's mean firmer.

A metric is the name of a final figure of a record ("test_error_pct") or a function from a record to a number, whose docstring
says what it is.
"""

from __future__ import annotations

import itertools
import math
import os
import statistics
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .config import seed_count
from .errors import DfaLibError

if TYPE_CHECKING:
    from .records import Record
    from .sweep import Results

REPRODUCED, PARTLY, CONTRADICTED, NOT_RUN = "reproduced", "partly", "contradicted", "not run here"
#: Below this an interval over seeds says next to nothing: with two, Student's factor is 12.7. A test may ask for more.
MIN_SEEDS = 3
#: Below this the interval of a rank correlation of zero reaches beyond 0.7 on both sides.
MIN_VARIANTS = 8
#: The smallest positive number: the bound of 'more than zero'.
ABOVE_ZERO = math.nextafter(0.0, 1.0)

Metric = str | Callable[["Record"], float | None]


# --- intervals -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % confidence interval, and the size of the sample: seeds on its smallest side, or variants correlated."""

    mean: float
    low: float
    high: float
    n: int

    def __format__(self, spec: str) -> str:
        return f"{self.mean:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def combination(samples: Sequence[Sequence[float]], weights: Sequence[float]) -> Interval:
    """sum of weight * mean(sample) over independent samples, with Welch's 95 % interval.

    Raises `DfaLibError` for fewer than two seeds in a sample.
    """
    from scipy import stats

    if min(map(len, samples)) < 2:
        raise DfaLibError(f"an interval needs at least two seeds on each side; got {' and '.join(str(len(s)) for s in samples)}")
    means = [statistics.mean(sample) for sample in samples]  # exact: equal values have no spread
    squares = [sum((v - m) ** 2 for v in s) for s, m in zip(samples, means, strict=True)]
    parts = [w * w * q / (len(s) - 1) / len(s) for s, q, w in zip(samples, squares, weights, strict=True)]
    mean, variance = sum(w * m for w, m in zip(weights, means, strict=True)), sum(parts)
    if variance == 0:
        return Interval(mean, mean, mean, min(map(len, samples)))
    freedom = 1 / sum((p / variance) ** 2 / (len(s) - 1) for p, s in zip(parts, samples, strict=True))
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(variance)
    return Interval(mean, mean - half, mean + half, min(map(len, samples)))


def difference(a: Sequence[float], b: Sequence[float]) -> Interval:
    """mean(a) - mean(b) over seeds, with Welch's 95 % interval. Raises `DfaLibError` for fewer than two seeds on a side."""
    return combination([a, b], [1.0, -1.0])


def share(count: int, n: int) -> Interval:
    """count of n, with Wilson's 95 % interval."""
    from scipy import stats

    interval = stats.binomtest(count, n).proportion_ci(0.95, method="wilson")
    return Interval(count / n, float(interval.low), float(interval.high), n)


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> Interval:
    """Spearman's rank correlation of pairs, with the 95 % interval of Bonett and Wright (2000): Fisher's, with ranks' variance.

    Raises `DfaLibError` for fewer than four pairs, and where all x or all y are equal.
    """
    from scipy import stats

    if len(x) < 4 or min(len(set(x)), len(set(y))) < 2:
        raise DfaLibError(f"a rank correlation needs four pairs, and values that differ; got {len(x)} pairs, {len(set(x))} and "
                          f"{len(set(y))} different values")  # fmt: skip
    found = max(-1.0, min(1.0, float(stats.spearmanr(x, y).statistic)))
    if abs(found) == 1:
        return Interval(found, found, found, len(x))
    z, half = math.atanh(found), float(stats.norm.ppf(0.975)) * math.sqrt((1 + found**2 / 2) / (len(x) - 3))
    return Interval(found, math.tanh(z - half), math.tanh(z + half), len(x))


# --- what a claim compares -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contrast:
    """The sum over variants of weight * mean(metric) lies between `low` and `high`, both included."""

    experiment: str
    metric: Metric
    weights: Mapping[str, float]
    low: float = -math.inf
    high: float = math.inf
    seeds: int = MIN_SEEDS


@dataclass(frozen=True)
class Share:
    """Of a variant's seeds, a share between `least` and `most` has a metric between `low` and `high`, all included."""

    experiment: str
    variant: str
    metric: Metric
    low: float = -math.inf
    high: float = math.inf
    least: float = 0.0
    most: float = 1.0
    seeds: int = MIN_SEEDS + 1  #: of three that all agree, Wilson's interval still holds one half


@dataclass(frozen=True)
class Correlation:
    """The rank correlation, over variants, of mean(x) with mean(y) lies between `low` and `high`, both included.

    The sample is the variants, of which there are at least `MIN_VARIANTS`, and not the seeds. With `controls`, one a variant, the
    control's mean(y) is subtracted from the variant's. Raises `DfaLibError` for too few variants, or another number of controls.
    """

    experiment: str
    x: Metric
    y: Metric
    variants: tuple[str, ...]
    controls: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    seeds: int = MIN_SEEDS  #: of each variant and of each control

    def __post_init__(self) -> None:
        if len(self.variants) < MIN_VARIANTS or len(self.controls) not in (0, len(self.variants)):
            raise DfaLibError(f"a correlation needs at least {MIN_VARIANTS} variants, and a control of each or none; got "
                              f"{len(self.variants)} variants and {len(self.controls)} controls")  # fmt: skip

    def points(self, results: Results) -> list[tuple[list, list, list]]:
        """For each variant x of each seed, y of each seed, and y of each of its control's seeds ([] where it has no control)."""
        x, y, controls = (
            [[measure(record, metric) for record in results.of(variant)] for variant in variants]
            for metric, variants in ((self.x, self.variants), (self.y, self.variants), (self.y, self.controls))
        )
        return list(zip(x, y, controls or [[] for _ in y], strict=True))


@dataclass(frozen=True)
class Parts:
    """All parts hold."""

    parts: tuple[Test, ...]


Test = Contrast | Share | Correlation | Parts


def value(experiment: str, metric: Metric, variant: str, low: float = -math.inf, high: float = math.inf) -> Contrast:
    """A variant's metric lies between two bounds."""
    return Contrast(experiment, metric, {variant: 1.0}, low, high)


def near(experiment: str, metric: Metric, variant: str, number: float, within: float) -> Contrast:
    """A variant's metric lies within a tolerance of the paper's number."""
    return value(experiment, metric, variant, round(number - within, 9), round(number + within, 9))


def gap(experiment: str, metric: Metric, variant: str, base: str, low: float = -math.inf, high: float = math.inf) -> Contrast:
    """A variant's metric minus another's lies between two bounds."""
    return Contrast(experiment, metric, {variant: 1.0, base: -1.0}, low, high)


def order(experiment: str, metric: Metric, variants: Sequence[str]) -> Parts:
    """The metric rises from each variant to the next."""
    pairs = zip(variants[1:], variants, strict=False)
    return every(*(gap(experiment, metric, above, below, low=ABOVE_ZERO) for above, below in pairs))


def every(*parts: Test) -> Parts:
    """All parts hold."""
    return Parts(parts)


@dataclass(frozen=True)
class Claim:
    """What a paper says, where, and what would show it. `id` is unique in the book: "N1/7x240/FA"."""

    id: str
    text: str
    source: str  #: bibliography key and place, as in an experiment
    test: Test


# --- verdicts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """The outcome, the effect with its interval (none for a claim in parts), the sample's size as in `Interval` (seeds where there is
    no effect), the budget, and what it rests on."""

    outcome: str
    basis: str
    effect: Interval | None = None
    n: int = 0
    budget: str = ""
    parts: tuple[Verdict, ...] = ()
    claim: Claim | None = None
    shown: str = ""  #: runs, effect and seeds,
    aim: tuple[str, str] | None = None  #: and what is measured, and what was claimed of it


@dataclass
class Evidence:
    """Records for many claims, read once. With profile "recorded", each question gets the largest budget that has the seeds."""

    profile: str = "recorded"
    directory: str | Path | None = None
    _read: dict[str, dict[str, Results]] = field(default_factory=dict, repr=False)

    def find(self, experiment: str, variants: Collection[str], seeds: int = 1) -> Results | None:
        """The records of these variants alone; under "recorded" the largest budget that has `seeds` of each, else the largest
        that has any of each. None where some variant has none."""
        from . import sweep

        if experiment not in self._read:
            self._read[experiment] = sweep.recorded(experiment, self.directory, self.profile)
        best = None
        for profile, results in self._read[experiment].items():
            records = tuple(r for r in results.records if r.variant in variants)
            fewest = min(sum(r.variant == variant for r in records) for variant in variants)
            if fewest and self.profile in ("recorded", profile):
                found = replace(results, records=records)
                if fewest >= seeds:
                    return found
                best = best or found
        return best


def verdict(claim: Claim, evidence: Evidence) -> Verdict:
    """What the records say of a claim."""
    return replace(_judge(claim.test, evidence), claim=claim)


def _judge(test: Test, evidence: Evidence) -> Verdict:
    if isinstance(test, Parts):
        return _compose([_judge(part, evidence) for part in test.parts])
    read = _reads(test)
    variants = list(dict.fromkeys(variant for _, names in read for variant in names))
    results = evidence.find(test.experiment, variants, test.seeds)
    who = " and ".join(variants) if len(variants) < MIN_VARIANTS else f"{len(variants)} variants"
    if results is None:
        return Verdict(NOT_RUN, f"no records of {who} in {test.experiment}")
    what, n, budget = _what(test), min(len(results.of(variant)) for variant in variants), results.provenance()
    if n < test.seeds:
        return Verdict(NOT_RUN, f"{what} of {who}: {seed_count(n)}, and a verdict needs {test.seeds}", None, n, budget)
    values = [(record, measure(record, metric)) for metric, names in read for variant in names for record in results.of(variant)]
    if lost := len({(record.variant, record.seed) for record, v in values if v is None or not math.isfinite(v)}):
        return Verdict(NOT_RUN, f"{what} of {who} is not finite in {lost} run(s)", None, n, budget)
    low, high, claimed = test.low, test.high, _range(test.low, test.high)
    if isinstance(test, Share):
        effect = share(sum(test.low <= v <= test.high for _, v in values), n)
        low, high = test.least, test.most
        claimed = _range(low or -math.inf, math.inf if high == 1 else high)
        what = f"{what} {_range(test.low, test.high)} in a share of seeds"
        said = f"{test.variant}: {effect:.2f}"
    elif isinstance(test, Correlation):
        x, y, controls = ([statistics.mean(sample or [0.0]) for sample in part] for part in zip(*test.points(results), strict=True))
        y = [own - control for own, control in zip(y, controls, strict=True)]
        if min(len(set(x)), len(set(y))) < 2:
            return Verdict(NOT_RUN, f"{what} of {who}: one value in all of them, and so no ranks", None, n, budget)
        effect = rank_correlation(x, y)
        said = f"variants, each a mean of at least {n} seeds: {effect:.2f}"
    else:
        samples = [[v for record, v in values if record.variant == variant] for variant in variants]
        effect = combination(samples, list(test.weights.values()))
        said = f"{_sum(test.weights)}: {effect:.3g}"
    inside, outside = low <= effect.low and effect.high <= high, effect.low > high or effect.high < low
    if not inside and len(read[0][1]) > 1 and len({v for _, v in values}) == 1:  # a difference of nothing
        said, outside = f"{said}, all runs alike", False
    outcome = REPRODUCED if inside else CONTRADICTED if outside else PARTLY
    shown, aim = f"{said}, n = {effect.n}", (what, claimed)
    return Verdict(outcome, f"{what} of {shown}; claimed {claimed}", effect, effect.n, budget, shown=shown, aim=aim)


def _reads(test: Contrast | Share | Correlation) -> list[tuple[Metric, Collection[str]]]:
    """The metrics that a test reads, each with the variants of which it is read."""
    if isinstance(test, Correlation):
        return [(test.x, test.variants), (test.y, test.variants + test.controls)]
    return [(test.metric, (test.variant,) if isinstance(test, Share) else test.weights)]


def _what(test: Contrast | Share | Correlation) -> str:
    """What is measured, in words."""
    if isinstance(test, Correlation):
        return f"rank correlation: {describe(test.x)}, with {describe(test.y)}" + (" minus the control's" if test.controls else "")
    return describe(test.metric)


def _compose(parts: list[Verdict]) -> Verdict:
    outcomes = {part.outcome for part in parts}
    if NOT_RUN in outcomes:
        outcome = NOT_RUN
    elif CONTRADICTED in outcomes and REPRODUCED not in outcomes:
        outcome = CONTRADICTED
    else:
        outcome = outcomes.pop() if len(outcomes) == 1 else PARTLY
    budgets = list(dict.fromkeys(part.budget for part in parts if part.budget))
    said = list(_together(parts))
    basis = "; ".join(f"({k}) {one}" for k, one in enumerate(said, 1)) if len(said) > 1 else said[0]
    return Verdict(outcome, basis, None, min(part.n for part in parts), "; ".join(budgets), tuple(parts))


def _together(parts: list[Verdict]) -> Iterator[str]:
    """What parts rest on; those in a row that ask the same of different runs, in one sentence."""
    for aim, group in itertools.groupby(parts, lambda part: part.aim):
        alike = list(group)
        if aim and len(alike) > 1:
            yield f"{aim[0]}, claimed {aim[1]}: " + "; ".join(f"{part.shown}, {part.outcome}" for part in alike)
        else:
            yield from (f"{part.outcome}: {part.basis}" for part in alike)


def measure(record: Record, metric: Metric) -> float | None:
    """A metric of one record. Raises `DfaLibError` when the record has no final figure of that name."""
    if callable(metric):
        return metric(record)
    if metric not in record.final:
        raise DfaLibError(f"{record.experiment}/{record.hash}: no final figure {metric!r} (has: {', '.join(sorted(record.final))})")
    return record.final[metric]


def describe(metric: Metric) -> str:
    """What a metric is, in words: the first line of its docstring, or its name."""
    if callable(metric):
        return (metric.__doc__ or metric.__name__).strip().splitlines()[0].rstrip(".")
    return metric.replace("_pct", " (%)").replace("_", " ")


def _sum(weights: Mapping[str, float]) -> str:
    """A sum of variants in words; what all names begin with, up to a comma, is said once, unless bare numbers were left."""
    if len(weights) == 1:
        return next(iter(weights))
    shared = os.path.commonprefix(list(weights))
    shared = shared[: shared.rfind(", ") + 2] if ", " in shared else ""
    if not all(name.removeprefix(shared)[0].isalpha() for name in weights):
        shared = ""
    signs = [("minus " if w < 0 else "plus ") + ("" if abs(w) == 1 else f"{abs(w):.3g} times ") for w in weights.values()]
    names = [name.removeprefix(shared) for name in weights]
    terms = [sign + (f"'{name}'" if ", " in name else name) for sign, name in zip(signs, names, strict=True)]
    return " ".join(terms).removeprefix("plus ") + (f" ({shared.removesuffix(', ')})" if shared else "")


def _range(low: float, high: float) -> str:
    if math.isinf(low):
        return "below 0" if high == -ABOVE_ZERO else f"at most {high:g}"
    if low == ABOVE_ZERO:
        return "above 0"
    return f"at least {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"
