"""pyproject.toml, constraints.txt and environment.yml say the same."""

import importlib.metadata
import os
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
DIRECT = [Requirement(line) for line in [*PROJECT["dependencies"], *EXTRAS["book"], *EXTRAS["test"]]]


def read_constraints() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    exact = [re.fullmatch(r"([\w.-]+)==([^\s;]+)", line) for line in lines if line and not line.startswith("#")]
    assert all(exact), "constraints.txt holds exact versions, name==version, and comments"
    return {canonicalize_name(match[1]): Version(match[2]) for match in exact}


CONSTRAINTS = read_constraints()


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda requirement: requirement.name)
def test_constraint_lies_in_the_range_that_pyproject_states(requirement):
    version = CONSTRAINTS.get(canonicalize_name(requirement.name))
    assert version is not None, f"{requirement.name} has no line in constraints.txt"
    assert requirement.specifier.contains(version, prereleases=True)


def test_constraints_leave_torch_its_own_cuda_packages():
    assert not [name for name in CONSTRAINTS if name.startswith(("nvidia-", "cuda-")) or name == "triton"]


@pytest.mark.skipif("CI" not in os.environ, reason="only CI installs by constraints.txt")
def test_ci_runs_what_constraints_state():
    installed = {canonicalize_name(d.metadata["Name"]): Version(Version(d.version).public)
                 for d in importlib.metadata.distributions()}
    ours = {name: version for name, version in installed.items()
            if name not in ("pip", "dfa-lib", "triton") and not name.startswith(("nvidia-", "cuda-"))}
    differing = {name: version for name, version in ours.items() if CONSTRAINTS.get(name) != version}
    assert not differing, f"installed otherwise than constraints.txt says: {differing}"


def test_environment_yml_installs_what_pyproject_says():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == PROJECT["name"]
    python, pip, block = environment["dependencies"]
    assert python == f"python{PROJECT['requires-python']}"
    assert pip == "pip"
    assert block == {"pip": ["-e .[book,test]"]}
