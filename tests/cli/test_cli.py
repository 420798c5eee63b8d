import sys

import pytest
import typer
from typer.testing import CliRunner

from fedcmp import __version__, aggregation
from fedcmp.cli.main import app, main
from fedcmp.config.methods import available_methods


def leaves(command, path=()):
    """Every verb with the words that lead to it."""
    inner = getattr(command, "commands", None)
    if inner is None:
        return {path: command}
    return {words: leaf for name, sub in inner.items() for words, leaf in leaves(sub, (*path, name)).items()}


VERBS = list(leaves(typer.main.get_command(app)))


def invoke(*arguments):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "100", "NO_COLOR": "1"})


def test_all_verbs_are_there():
    expected = {("train",), ("study",), ("report",), ("evaluate",), ("export",), ("methods",), ("world", "export")}
    assert expected <= set(VERBS)


def test_the_version_is_the_packages():
    done = invoke("--version")
    assert done.exit_code == 0
    assert done.stdout == f"fedcmp {__version__}\n"


def test_methods_lists_all_that_a_recipe_may_name():
    done = invoke("methods")
    assert done.exit_code == 0
    listed = [line.split()[0] for line in done.stdout.splitlines()]
    assert sorted(listed) == available_methods()
    assert {"local", "centralized", "fedprox", *aggregation.available()} <= set(listed)
    for line in done.stdout.splitlines():
        name, summary = line.split(maxsplit=1)
        assert line.startswith(f"{name} ")
        assert summary.strip()


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_a_verbs_help_fits_a_screen(verb, flag):
    done = invoke(*verb, flag)
    assert done.exit_code == 0
    assert len(done.stdout.rstrip().splitlines()) <= 40
    if verb != ("methods",):  # takes no argument
        assert f"Example: fedcmp {' '.join(verb)}" in " ".join(done.stdout.split())


def test_a_shell_completes_verbs():
    environment = {"_FEDCMP_COMPLETE": "complete_bash", "COMP_WORDS": "fedcmp tra", "COMP_CWORD": "1"}
    done = CliRunner().invoke(app, [], prog_name="fedcmp", env=environment)
    assert done.stdout.split() == ["train", "track"]


def test_help_names_every_verb():
    done = invoke("--help")
    assert all(verb[0] in done.stdout for verb in VERBS)
    assert len(done.stdout.splitlines()) <= 40


@pytest.mark.parametrize(
    "arguments",
    [
        ["trian"],
        ["train"],
        ["train", "a.toml", "--resmue"],
        ["world", "exprot"],
        ["world", "export", "x", "--count", "0"],
    ],
)
def test_a_mistyped_command_exits_with_2(arguments):
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert "Usage: " in done.stderr


def test_a_users_mistake_is_one_line_on_stderr(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fedcmp", "train", "none.toml"])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert out == ""
    assert err.startswith("fedcmp: none.toml: ")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_ctrl_c_exits_with_130(monkeypatch):
    from fedcmp.cli import main as cli

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130


def test_our_own_mistakes_are_not_hidden(monkeypatch):
    from fedcmp.cli import main as cli

    def broken():
        raise RuntimeError("ours")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(RuntimeError, match="ours"):
        main()
