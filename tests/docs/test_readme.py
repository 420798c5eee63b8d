"""README.md: its commands and its Python run as printed, its figures are published, its links lead somewhere."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

import fedcmp
from tests.cli.test_cli import invoke
from tests.examples.small import small_training

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
index_readme = runpy.run_path(str(ROOT / "setup.py"), run_name="setup")["index_readme"]


def block(language):
    (found,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return found


@pytest.fixture
def empty_folder(tmp_path, monkeypatch, world_cache):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDCMP_CACHE", str(world_cache))


@pytest.mark.parametrize("small", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_commands_for_own_data_run_as_printed(empty_folder, monkeypatch, small):
    lines = block("sh").splitlines()
    assert len(lines) <= 10
    if small:  # the same lines with fewer pairs and rounds
        lines = [re.sub(r"--count \d+", "--count 40", line) for line in lines]
        monkeypatch.setattr("fedcmp.config.own_data.ROUNDS", 1)
    for line in lines:
        done = invoke(*shlex.split(line, comments=True)[1:])
        assert done.exit_code == 0, (line, done.output, done.exception)
    assert Path("exported/config.json").is_file()
    assert Path("runs/own/report/index.html").is_file()


def test_the_python_runs_as_printed(empty_folder, monkeypatch, capsys):
    text = block("python")
    assert len(text.splitlines()) <= 10
    monkeypatch.setattr(fedcmp, "train", small_training(fedcmp.train))
    exec(text.replace("3000", "120"), {})
    printed = capsys.readouterr().out
    assert "shared-basis" in printed
    assert "index.html" in printed


def test_the_figures_in_words_are_those_of_the_table():
    table = (ROOT / "results" / "demo.md").read_text(encoding="utf-8").partition("## Methods")[2]

    def accuracy(row):
        (line,) = [line for line in table.splitlines() if re.match(rf"\| \**{row}\b", line)]
        return re.search(r"[\d.]+", line.split("|")[4])[0]

    text = " ".join(README.split())
    ours, fedavg, pooled, blind = map(accuracy, ("shared-basis", "fedavg", "centralized", "blind"))
    assert (
        f"`shared-basis` answers {ours} % right, FedAvg's {fedavg} %, pooled data's {pooled} %, and the same LLM "
        f"without the image {blind} %"
    ) in text


@pytest.mark.parametrize("name", ["README.md", "SECURITY.md", "CONTRIBUTING.md"])
def test_links_lead_to_files_that_are_there(name):
    for place in LINK.findall((ROOT / name).read_text(encoding="utf-8")):
        if not place.startswith(("https://", "#")):
            assert (ROOT / place.partition("#")[0]).exists(), place


def test_on_a_package_index_no_link_is_relative():
    for address in (None, "https://example.org/fedcmp/"):
        shown = index_readme(README, address)
        assert all(place.startswith(("https://", "#")) for place in LINK.findall(shown))
    assert "docs/guide.md has the rest" in index_readme("[docs/guide.md](docs/guide.md) has the rest", None)
    shown = index_readme("![a](b.png) [c](d.md)", "https://example.org/x")
    assert shown == "![a](https://example.org/x/raw/HEAD/b.png) [c](https://example.org/x/blob/HEAD/d.md)"


def test_the_first_screen_says_the_limits():
    first = " ".join(README.partition("## Two commands")[0].split())
    for said in (
        "no secure aggregation and no differential privacy",
        "toy world",
        "GPU",
        "loses to FedAvg",
        "Most of its gain is the clients'",
    ):
        assert said in first
