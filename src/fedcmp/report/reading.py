"""Runs as the report reads them: fedcmp.runs.reading."""

from fedcmp.runs.reading import METRICS, Run, load_runs

__all__ = ["METRICS", "Run", "load_runs"]
