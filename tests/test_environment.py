"""The lists of packages agree: pyproject.toml names them, environment.yml refers to it, constraints.txt pins them."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
CONDA = [line for line in ENVIRONMENT["dependencies"] if isinstance(line, str)]
(PIP,) = [line["pip"] for line in ENVIRONMENT["dependencies"] if isinstance(line, dict)]
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
PINNED = dict(line.split(";")[0].strip().split("==") for line in CONSTRAINTS.splitlines())
EXTRAS = {
    name: lines for name, lines in PROJECT["optional-dependencies"].items() if name != "large"
}  # which no test needs
WANTED = [Requirement(line) for extra in EXTRAS.values() for line in extra]
WANTED += [Requirement(line) for line in PROJECT["dependencies"]]
(ITSELF,) = [requirement for requirement in WANTED if requirement.name == PROJECT["name"]]
WANTED.remove(ITSELF)  # the extra for tests takes the others along


def test_environment_installs_this_project_and_names_no_package_itself():
    assert ENVIRONMENT["name"] == PROJECT["name"]
    assert [re.match(r"\w+", line)[0] for line in CONDA] == ["python", "pip"]
    assert PIP == ["-e .[test]", "-c constraints.txt"]
    assert set(re.search(r"\[(.*)\]", PIP[0])[1].split(",")) == {"test"}
    assert {"test", *ITSELF.extras} == set(EXTRAS)


def test_environment_python_is_one_the_project_takes():
    (python,) = [line.removeprefix("python=") for line in CONDA if line.startswith("python")]
    assert Version(f"{python}.0") in SpecifierSet(PROJECT["requires-python"])


def test_no_package_is_named_twice():
    names = [canonicalize_name(requirement.name) for requirement in WANTED]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("requirement", WANTED, ids=lambda requirement: requirement.name)
def test_constraints_pin_a_version_the_project_takes(requirement):
    assert Version(PINNED[canonicalize_name(requirement.name)]) in requirement.specifier


def test_constraints_name_no_host():
    assert "://" not in CONSTRAINTS and "@" not in CONSTRAINTS and "--" not in CONSTRAINTS
