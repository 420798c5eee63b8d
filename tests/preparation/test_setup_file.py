"""setup.json vouches for the files next to it."""

import json

import pytest

from fedcmp.errors import UserError
from fedcmp.preparation.setup_file import read_setup, write_setup

SETUP = {"pad": 0, "train": {"rows": [0, 2], "groups": ["a", "é"]}}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "samples").mkdir()
    for name in ("manifest.json", "samples.json", "tokens-train.safetensors", "samples/0.png"):
        (tmp_path / name).write_text(name)
    write_setup(tmp_path, SETUP)
    return tmp_path


def test_it_comes_back_as_it_was_given(folder):
    (folder / "worker.toml").write_text("written at every start")
    assert read_setup(folder) == SETUP


@pytest.mark.parametrize("name", ["manifest.json", "samples.json", "tokens-train.safetensors", "samples/0.png"])
def test_a_file_that_changed_or_is_gone_is_named(folder, name):
    for damage in (lambda path: path.write_text("Manifest.json"), lambda path: path.unlink()):
        damage(folder / name)
        with pytest.raises(UserError, match=rf"{name}: damaged or missing .*; remove .*--resume` makes it again$"):
            read_setup(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"files": 3}', '{"files": {"a": "b"}}', "[" * 100_000])
def test_a_damaged_setup_is_named(folder, content):
    (folder / "setup.json").write_text(content)
    with pytest.raises(UserError, match="damaged or missing") as raised:
        read_setup(folder)
    assert "\n" not in str(raised.value)


def test_one_number_that_changed_is_found(folder):
    path = folder / "setup.json"
    path.write_text(path.read_text().replace("[0, 2]", "[0, 3]"))
    with pytest.raises(UserError, match=r"setup\.json: damaged"):
        read_setup(folder)


def test_one_of_an_earlier_version_is_taken_as_it_is(tmp_path):
    (tmp_path / "setup.json").write_text(json.dumps(SETUP))
    assert read_setup(tmp_path) == SETUP
