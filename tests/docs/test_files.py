"""The files that people and hosts look for are there and well formed."""

import re
import tomllib
from pathlib import Path

import yaml

from fedcmp.version import __version__

ROOT = Path(__file__).parents[2]


def test_one_version_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert project["version"] == citation["version"] == __version__
    assert f"fedcmp-{__version__}-py3" in (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")


def test_issue_templates_and_workflow_are_valid():
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert path.name == "config.yml" or {"name", "description", "body"} <= content.keys()
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["checks"]["steps"]
    assert any(step.get("run") == ".ci/run" for step in steps)


def test_every_optional_library_is_in_all_and_named_where_it_is_missed():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = set()
    for path in (ROOT / "src").rglob("*.py"):
        named |= set(re.findall(r'require\((?:"\w+"|module), "(\w+)"', path.read_text(encoding="utf-8")))
    assert named <= extras.keys()
    (everything,) = extras["all"]
    only_on_a_cluster = {"slurm"}
    assert named - only_on_a_cluster <= set(everything.partition("[")[2].rstrip("]").split(","))


def test_the_glossary_has_a_nearest_term_for_each_word():
    rows = [
        line.split("|")
        for line in (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ]
    assert len(rows) > 12
    assert all(len(row) == 5 and all(cell.strip() for cell in row[1:4]) for row in rows)
