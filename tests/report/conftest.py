"""Fixtures of the report's tests: runs on disk as the program leaves them. The shared folders are read only."""

from pathlib import Path

import pytest

from fedcmp.report import load_runs
from fedcmp.report.comparison import Comparison
from fedcmp.report.page import render_page

from .fakes import FINALS, write_run


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison as `make demo` leaves it: four methods, five clients, ten rounds, one seed."""
    folder = tmp_path_factory.mktemp("runs") / "demo"
    for method in FINALS:
        write_run(folder / method, method)
    return folder


@pytest.fixture(scope="session")
def demo_comparison(demo: Path) -> Comparison:
    return Comparison.of(load_runs(demo))


@pytest.fixture(scope="session")
def demo_page(demo_comparison: Comparison) -> str:
    return render_page(demo_comparison, title="demo")


@pytest.fixture(scope="session")
def study_comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Three methods with three seeds each, four rounds."""
    folder = tmp_path_factory.mktemp("runs") / "study"
    for method in ("fedavg", "shared-basis", "centralized"):
        for seed in range(3):
            write_run(folder / f"{method}-{seed}", method, seed=seed, rounds=4)
    return Comparison.of(load_runs(folder))
