"""The rooms of the package: which may import from which, what stands beside them, and what the core does without its extras; and
the lists of packages: pyproject.toml names them, environment.yml refers to it, constraints.txt pins them."""

import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from xaikit.files.checks import EXTRAS

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = SETTINGS["project"]
(CONTRACT,) = SETTINGS["tool"]["importlinter"]["contracts"]
ROOMS = [layer.removeprefix("xaikit.") for layer in CONTRACT["layers"]]


def linted(checkout):
    """How the contracts of the package in this folder are kept."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True)


def test_no_room_imports_from_one_above_it():
    done = linted(ROOT)
    assert done.returncode == 0 and "Contracts: 1 kept, 0 broken." in done.stdout, done.stdout


def test_an_import_that_is_turned_round_breaks_the_contract(tmp_path):
    shutil.copytree(ROOT / "xaikit", tmp_path / "xaikit", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    upward = {"files/paths.py": "from ..explorer import state\n", "measures/maps.py": "import xaikit.clip.tape\n"}
    for file, line in upward.items():
        with open(tmp_path / "xaikit" / file, "a") as source:
            source.write(line)
    done = linted(tmp_path)
    assert done.returncode == 1
    for room, other in (("files", "explorer"), ("measures", "clip")):
        assert f"xaikit.{room} is not allowed to import xaikit.{other}:" in done.stdout, done.stdout


def test_only_the_rooms_stand_in_the_package():
    found = {path.name for path in (ROOT / "xaikit").iterdir() if path.name != "__pycache__"}
    assert found == {*ROOMS, "__init__.py", "__init__.pyi", "__main__.py"}


def test_no_modules_import_one_another_in_a_circle():
    graph = grimp.build_graph("xaikit", exclude_type_checking_imports=True, cache_dir=None)
    for module in graph.modules - {"xaikit"}:
        for imported in graph.find_modules_directly_imported_by(module):
            way_back = imported == module or graph.find_shortest_chain(imported, module)
            assert not way_back, f"{module} and {imported} import each other"


@pytest.mark.parametrize("room", ["xaikit", *(f"xaikit.{name}" for name in ROOMS)])
def test_every_name_of_a_front_door_is_there(room):
    module = importlib.import_module(room)
    stub = Path(module.__file__).with_suffix(".pyi").read_text()
    assert module.__all__ and {*module.__all__} == {*re.findall(r"\w+ as (\w+)", stub)}
    for name in module.__all__:
        assert getattr(module, name) is not None


WITHOUT = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({[*EXTRAS]!r}))
import xaikit as xk
for room in {ROOMS!r}:
    importlib.import_module("xaikit." + room)
scenes = xk.draw_scenes(2)
xk.save_store(scenes, "without", "inputs")
assert xk.open_store("without", "inputs").identical(scenes) and "mmel" in xk.methods()
for ask in ("xk.explore()", "xk.load_mllm('tiny-llava')", "xk.explain_tokens", "xk.running.sweep"):
    try:
        eval(ask)
    except ModuleNotFoundError as error:
        print(error)
from xaikit.running.command_line import main
sys.exit(main(["sweep", "--only", "00"]))
"""


def test_the_core_does_without_the_extras_and_says_which_one_a_part_needs():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    said = [f"it is installed with: pip install 'xaikit[{extra}]'" for extra in ("explorer", "mllm", "mllm", "sweep")]
    assert [line.partition(": ")[2] for line in done.stdout.splitlines()] == said, done.stdout + done.stderr
    assert done.returncode == 2 and done.stderr.endswith(f"{said[-1]}\n") and done.stderr.count("\n") == 1


def test_what_the_extras_bring_is_what_pyproject_says():
    listed = PROJECT["optional-dependencies"]
    for module, extra in EXTRAS.items():
        assert any(re.match(rf"{module}\b", line) for line in listed[extra])


ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
CONDA = [line for line in ENVIRONMENT["dependencies"] if isinstance(line, str)]
(PIP,) = [line["pip"] for line in ENVIRONMENT["dependencies"] if isinstance(line, dict)]
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
PINNED = dict(line.split(";")[0].strip().split("==") for line in CONSTRAINTS.splitlines())
INSTALLED = [extra for extra in PROJECT["optional-dependencies"] if extra != "large"]  # which no test needs
WANTED = [Requirement(line) for extra in INSTALLED for line in PROJECT["optional-dependencies"][extra]]
WANTED += [Requirement(line) for line in PROJECT["dependencies"]]
(ITSELF,) = [requirement for requirement in WANTED if requirement.name == PROJECT["name"]]
WANTED.remove(ITSELF)  # the extra for tests takes the others along


def test_environment_installs_this_project_and_names_no_package_itself():
    assert ENVIRONMENT["name"] == PROJECT["name"]
    assert [re.match(r"\w+", line)[0] for line in CONDA] == ["python", "pip"]
    assert PIP == ["-e .[test]", "-c constraints.txt"]
    assert set(re.search(r"\[(.*)\]", PIP[0])[1].split(",")) == {"test"}
    assert {"test", *ITSELF.extras} == {*INSTALLED}


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
