"""Fixtures of the report's tests: runs on disk as the program leaves them."""

from pathlib import Path

import pytest

from .fakes import FINALS, write_run


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """A comparison as `make demo` leaves it: four methods, five clients, ten rounds, one seed."""
    for method in FINALS:
        write_run(tmp_path / "demo" / method, method)
    return tmp_path / "demo"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A comparison of three methods with three seeds each."""
    for method in ("fedavg", "fedcmp", "centralized"):
        for seed in range(3):
            write_run(tmp_path / "study" / f"{method}-{seed}", method, seed=seed, rounds=4)
    return tmp_path / "study"
