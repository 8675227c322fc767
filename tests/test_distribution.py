"""The built package: the wheel is the package alone, the sdist has all that its tests need, and the wheel runs when
installed. Builds offline, with hatchling."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import numpy
import pytest
import yaml

import burnish

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = ("burnish", "tests", "docs", "recipes", "examples", "scripts", "benchmarks")
FILES = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "constraints.txt",
    "pyproject.toml",
    "post_training_env.yml",
)


def files_of(folder: str) -> set[str]:
    """Files in a folder of the project, without what Python leaves behind."""
    files = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in files}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the wheel and the sdist."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    build = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--target",
        "sdist",
        "--target",
        "wheel",
        "--directory",
        str(folder),
    ]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    [path] = built.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_is_the_package_alone(wheel: Path) -> None:
    """Its data files too: the built-in model, recipes in YAML, page templates, the mark of typed packages."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    own = {name for name in names if not PurePosixPath(name).parts[0].endswith(".dist-info")}
    assert own == files_of("burnish")
    assert {PurePosixPath(name).suffix for name in own} >= {".py", ".yaml", ".html", ".safetensors", ".json", ".typed"}


@pytest.mark.slow
def test_the_source_distribution_has_all_that_its_tests_need(built: Path) -> None:
    [path] = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {PurePosixPath(*PurePosixPath(name).parts[1:]).as_posix() for name in archive.getnames()}
    assert names >= {*FILES, *(name for folder in FOLDERS for name in files_of(folder))}


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of a fresh environment with the wheel. Its dependencies are those of the environment of the tests,
    whose own files of this package are not read."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    install = ["install", "--no-deps", "--no-index", "--quiet", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install], check=True)
    [packages] = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{Path(numpy.__file__).parents[1]}\n", encoding="utf-8")
    return python.parent


def ran(program: Path, *words: str, folder: Path) -> str:
    """Standard output of a program in another folder, without a path to the sources."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = {**kept, "OMP_NUM_THREADS": "1", "BURNISH_CACHE": str(folder / "cache")}
    done = subprocess.run([program, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_installed_package_is_the_wheel(installed: Path, tmp_path: Path) -> None:
    place = ran(installed / "python", "-c", "import burnish; print(burnish.__file__)", folder=tmp_path)
    assert Path(place.strip()).is_relative_to(installed.parent)


@pytest.mark.slow
@pytest.mark.parametrize("program", [("burnish",), ("python", "-m", "burnish")], ids=["command", "module"])
def test_the_installed_command_runs(installed: Path, tmp_path: Path, program: tuple[str, ...]) -> None:
    first, *words = program
    assert "Usage" in ran(installed / first, *words, "--help", folder=tmp_path)
    assert burnish.__version__ in ran(installed / first, *words, "--version", folder=tmp_path)
    recipe = yaml.safe_load(ran(installed / first, *words, "quickstart", "--print", folder=tmp_path))
    assert [list(stage) for stage in recipe["stages"]] == [["sft"], ["prefer"], ["rl"]]


@pytest.mark.slow
def test_the_installed_command_trains(installed: Path, tmp_path: Path) -> None:
    given = ["--model", "builtin:tiny", "--data", "builtin:chat", "--max-steps", "2", "--output", "run"]
    ran(installed / "burnish", "sft", *given, "chat_template=chatml", "sequences_per_step=4", folder=tmp_path)
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
    assert (tmp_path / "run" / "report.html").is_file()


def test_the_environment_file_is_about_this_project() -> None:
    """A Python that the package takes, files that exist, and extras that it has."""
    environment = yaml.safe_load((ROOT / "post_training_env.yml").read_text(encoding="utf-8"))
    assert environment["name"] == "post_training_env"
    python, pip, further = environment["dependencies"]
    assert python.removeprefix("python=") == PROJECT["project"]["requires-python"].removeprefix(">=")
    assert pip == "pip"
    constraint, editable = (line.split() for line in further["pip"])
    assert constraint[0] == "--constraint"
    assert (ROOT / constraint[1]).is_file()
    path, _, extras = editable[1].rstrip("]").partition("[")
    assert (editable[0], path) == ("--editable", ".")
    assert set(extras.split(",")) <= PROJECT["project"]["optional-dependencies"].keys()


def test_constraints_name_a_version_of_everything_that_is_installed_by_name() -> None:
    """One list holds for `make install` and for `make install-dev`."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {_plain(line.partition("==")[0]) for line in lines if "==" in line}
    project = PROJECT["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    wanted = {_plain(name) for name in named if not name.startswith("burnish[")}
    assert wanted <= pinned


def _plain(requirement: str) -> str:
    """Name of a requirement, as pip compares names."""
    name = requirement
    for mark in "[><=;! ":
        name = name.partition(mark)[0]
    return name.lower().replace("_", "-").replace(".", "-")
