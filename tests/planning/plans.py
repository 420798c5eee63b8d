"""Recipes and machines for tests of plans."""

import pytest

from fedcmp.config import Recipe
from fedcmp.planning import preflight
from fedcmp.planning.machine import Machine

PLENTY = Machine(memory=10**15, gpu=None, cache_disk=10**15, run_disk=10**15)


def world(**sections: dict[str, object]) -> Recipe:
    content = {"data": {"num_pairs": 240}, "scenario": {"clients": 3}}
    return Recipe.model_validate({key: content.get(key, {}) | sections.get(key, {}) for key in content | sections})


def has(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    monkeypatch.setattr(preflight, "read_machine", lambda device, cache, runs: machine)


def silent(_what: str, _done: int, _total: int) -> None:
    return None
