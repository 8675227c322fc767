"""Every case ends rightly."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases.trial import Trial, load_cases

CASES = load_cases()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("name", CASES)
def test_case(name: str, models: Path, tmp_path: Path) -> None:
    CASES[name](Trial(tmp_path, models))
