"""Fixtures of the study report's tests: one study on disk, read only."""

from pathlib import Path

import pytest

from fedcmp.report.study import Results, load_study

from .fakes import add_arms, write_study


@pytest.fixture(scope="session")
def study_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine methods, four scenarios, five seeds; the arms of two ablations."""
    folder = tmp_path_factory.mktemp("studies") / "study"
    write_study(folder, scenarios=("text", "image", "iid", "image-20"))
    add_arms(folder)
    return folder


@pytest.fixture(scope="session")
def results(study_folder: Path) -> Results:
    return Results.of(load_study(study_folder))
