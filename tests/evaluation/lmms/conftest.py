"""An environment that stands for lmms-eval's, and data of all seven benchmarks."""

from pathlib import Path

import pytest

from .fake_lmms import FakeLmms
from .real_formats import write_datasets


@pytest.fixture
def fake(tmp_path: Path) -> FakeLmms:
    return FakeLmms(tmp_path / "fake")


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_datasets(tmp_path_factory.mktemp("datasets"))
