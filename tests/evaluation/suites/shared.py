"""Suites for many tests, drawn once."""

import functools

from fedcmp.evaluation.suites.table import build_suite


@functools.cache
def built(name, split="test"):
    """(items, pictures) of a suite."""
    return build_suite(name, split)
