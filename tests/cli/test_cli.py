import errno
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from fedcmp import __version__, aggregation
from fedcmp.cli import main as cli
from fedcmp.cli import train
from fedcmp.cli.main import app, main
from fedcmp.config.methods import available_methods
from fedcmp.errors import WorkerDied
from fedcmp.runs.place import preparing_place


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
    assert len(done.stdout.splitlines()) <= 44


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
    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130


def test_our_own_mistakes_are_not_hidden(monkeypatch):
    def broken(**_):
        raise RuntimeError("ours")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(RuntimeError, match="ours"):
        main()


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (MemoryError(), 1, "not enough memory; "),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, "not enough memory; "),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "the disk is full: "),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "runs/a"), 1, "runs/a: the disk quota is used up: "),
        (PermissionError(errno.EACCES, "Permission denied", "runs/a\x1b[2J"), 2, "runs/a\\x1b[2J: Permission denied; "),
        (WorkerDied("a worker ended"), 1, "a worker ended"),
    ],
)
def test_what_runs_short_is_one_line(monkeypatch, capsys, error, code, told):
    def short(**_):
        raise error

    monkeypatch.setattr(cli, "app", short)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    err = capsys.readouterr().err
    assert err.startswith(f"fedcmp: {told}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "a\x1b[31m\nb.toml"],
        ["tr\x1b[31main"],
        ["train", "a.toml", "--re\x1b[31msume"],
        ["world", "export", "x", "--count", "\x1b[31m"],
        ["report", "runs/\u202edemo"],
        ["export", "runs/\x1b]0;owned\x07", "out"],
        ["evaluate", "runs/\x9bdemo"],
        ["scenario", "build", "\x1b[2J", "--out", "x"],
    ],
)
def test_what_was_typed_never_reaches_the_terminal_raw(monkeypatch, tmp_path, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "argv", ["fedcmp", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(out + err)


@pytest.mark.parametrize("verb", ["report", "track"])
def test_a_verb_says_what_it_begins(monkeypatch, tmp_path, capsys, verb):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fedcmp", verb, "empty"])
    with pytest.raises(SystemExit):
        main()
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first.startswith("empty: ")
    assert first.endswith(" ...")
    assert last.startswith("fedcmp: empty")


def test_the_command_itself_loads_no_large_library():
    code = "import sys, fedcmp.cli.main; assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "verb",
    [
        ["scenario", "build", "emb", "--out", "x", "--seed", str(2**64)],
        ["scenario", "build", "emb", "--out", "x", "--clients", str(2**70)],
        ["scenario", "embed", "a.json", "--model", "world", "--out", "x", "--batch-size", str(2**70)],
        ["scenario", "show", "x", "--seed", str(2**64)],
        ["world", "export", "x", "--count", str(2**70)],
        ["study", "x.toml", "--minutes", "1e300"],
    ],
    ids=lambda verb: " ".join(verb[:2] + verb[-2:-1]),
)
def test_numbers_of_every_verb_have_bounds(monkeypatch, tmp_path, capsys, verb):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fedcmp", *verb])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert f"{verb[-2]} " in err
    assert "must be a number of at most" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("option", [["--limit", str(2**70)], ["--client", str(2**70)]])
def test_numbers_without_sense_are_refused(tmp_path, monkeypatch, capsys, option):
    monkeypatch.setattr(sys, "argv", ["fedcmp", "evaluate", str(tmp_path), *option])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert f"{option[0]} {2**70}: must be a number of at most" in capsys.readouterr().err


def test_sigterm_ends_as_ctrl_c_with_a_code_of_its_own(tmp_path):
    code = (
        "import os, signal, sys\nfrom fedcmp.cli import main as cli\n"
        "def stopped(**_):\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "cli.app = stopped\ncli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 143, done.stderr
    assert done.stderr == ""


def test_an_interrupted_run_says_how_it_is_continued(tmp_path):
    """What is named must work: --resume is refused where nothing was begun, and would continue the earlier run."""
    place = tmp_path / "run"
    said = train._interrupted(place, "fedcmp train a.toml", replacing=False)
    assert said.endswith("To begin it: fedcmp train a.toml")
    preparing_place(place).mkdir()
    assert train._interrupted(place, "fedcmp train a.toml", replacing=False).endswith("a.toml --resume")
    place.mkdir()
    assert train._begun(place) is None
    (place / "recipe.toml").touch()
    assert train._begun(place) == train._begun(place) is not None
    assert "is kept in" in train._interrupted(place, "fedcmp train a.toml", replacing=False)
    assert train._interrupted(place, "fedcmp train a.toml", replacing=True).endswith("a.toml --overwrite")
