"""What an experiment is: named configurations, and for each profile what changes and which seeds. All of it data."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ..config import Config, content_hash
from ..errors import unknown
from ..theory import StudentTeacher

#: From the smallest to the largest budget.
PROFILES = ("smoke", "laptop", "paper")


@dataclass(frozen=True)
class Profile:
    """A budget: the seeds of every variant, and the configuration fields that this budget changes."""

    seeds: int
    changes: Mapping[str, object] = field(default_factory=dict)
    only: tuple[str, ...] = ()  #: the variants that this profile runs; empty: all
    first: int = 0  #: the first seed: runs that judge what a search has chosen take seeds that it has not seen


@dataclass(frozen=True)
class Run:
    """One run to be made: a configuration and a seed, and where they come from."""

    experiment: str
    variant: str
    profile: str
    config: Config | StudentTeacher
    seed: int
    also: tuple[str, ...] = ()  #: experiments whose records of the same run will do

    @property
    def hash(self) -> str:
        """The run's identity, and its record's file name."""
        return content_hash(self.config, self.seed)


@dataclass(frozen=True)
class Experiment:
    """What one figure or table of a paper ran. `variants` are at the paper's own scale; `profiles` say what a budget changes."""

    name: str
    title: str
    source: str  #: bibliography key, and which figure or table
    variants: Mapping[str, Config] | Mapping[str, StudentTeacher]  #: all of one kind
    profiles: Mapping[str, Profile]
    shares: tuple[str, ...] = ()  #: experiments whose records count as this one's too, where the configuration is the same

    def __post_init__(self) -> None:
        object.__setattr__(self, "variants", MappingProxyType(dict(self.variants)))
        object.__setattr__(self, "profiles", MappingProxyType(dict(self.profiles)))
        for name, profile in self.profiles.items():
            if name not in PROFILES:
                raise unknown("profile", name, PROFILES)
            for variant in profile.only:
                if variant not in self.variants:
                    raise unknown(f"variant of {self.name}", variant, self.variants)

    def profile(self, name: str) -> Profile:
        """The budget of this name. Raises `DfaLibError` for one that the experiment does not have."""
        if name not in self.profiles:
            raise unknown(f"profile of {self.name}", name, self.profiles)
        return self.profiles[name]

    def configs(self, profile: str, chosen: Collection[str] | None = None) -> dict[str, Config] | dict[str, StudentTeacher]:
        """Each variant's configuration under a profile, or those of the chosen ones."""
        budget = self.profile(profile)
        return {
            name: dataclasses.replace(config, **budget.changes)
            for name, config in self.variants.items()
            if (not budget.only or name in budget.only) and (chosen is None or name in chosen)
        }

    def runs(self, profile: str, seeds: int | None = None) -> list[Run]:
        """Every run of a profile, seed by seed, so that an interrupted sweep holds the same seeds for all variants."""
        configs = self.configs(profile)
        budget = self.profile(profile)
        drawn = range(budget.first, budget.first + (budget.seeds if seeds is None else seeds))
        return [Run(self.name, name, profile, config, seed, self.shares) for seed in drawn for name, config in configs.items()]
