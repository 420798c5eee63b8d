"""The benchmarks still run: each in its smallest form, as a command. No figure is looked at."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["aggregation.py", "--quick"],
        ["asynchronous.py", "--quick", "--out", "out.md", "--work", "work"],
        ["federation_scale.py", "--clients", "2", "--repeats", "1", "--large", "0", "--patience", "0"],
    ],
    ids=lambda command: command[0],
)
def test_a_benchmark_runs(command, tmp_path):
    script, *options = command
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / script, *options],
        cwd=tmp_path,
        env=os.environ | {"FEDCMP_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()
