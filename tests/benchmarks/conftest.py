"""benchmarks/ is no package: its files find each other beside the one that is started."""

import sys
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def beside_the_benchmarks(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "benchmarks"), *sys.path])
