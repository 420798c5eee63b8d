from pathlib import Path

import pytest

from fedcmp.deployment.site_file import SENDABLE, Site, read_site
from fedcmp.errors import UserError

MINIMAL = """
[site]
name = "hospital-a"
server = "fl.example.org:8443"
[data]
format = "llava"
pairs = "pairs.json"
"""


def write(folder, text=MINIMAL):
    for name in ("pairs.json", "ca.pem", "site.key"):
        (folder / name).write_text("")
    path = folder / "SITE.toml"
    path.write_text(text)
    return path


def test_paths_start_at_the_files_folder_and_defaults_hold(tmp_path, monkeypatch):
    path = write(tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    site = read_site(Path(tmp_path.name) / "SITE.toml")
    assert site.data.pairs == tmp_path / "pairs.json"
    assert (site.site.certificate, site.site.key) == (tmp_path / "ca.pem", tmp_path / "site.key")
    assert site.site.folder == tmp_path / "state"
    assert site.limits.threads == 1
    assert site.send.allow == list(SENDABLE)
    assert site.accepts_method("moon")
    assert site.accepts_recipe("0" * 64)
    assert read_site(path) == site


def test_a_model_that_is_a_folder_is_taken_from_the_files_folder_another_is_left_as_a_name(tmp_path):
    (tmp_path / "llm").mkdir()
    path = write(tmp_path, MINIMAL + '[model]\nlanguage = "llm"\nvision = "openai/clip-vit-base-patch32"\n')
    model = read_site(path).model
    assert (model.language, model.vision) == (str(tmp_path / "llm"), "openai/clip-vit-base-patch32")


def test_what_a_site_accepts_and_sends_is_what_its_file_lists(tmp_path):
    text = f'[accept]\nmethods = ["fedavg"]\nrecipes = ["{"a" * 64}"]\n[send]\nallow = ["projector", "counts"]\n'
    site = read_site(write(tmp_path, MINIMAL + text))
    assert site.accepts_method("fedavg")
    assert not site.accepts_method("shared-basis")
    assert site.accepts_recipe("a" * 64)
    assert not site.accepts_recipe("b" * 64)
    assert site.sends("projector")
    assert not site.sends("gram matrices")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MINIMAL.replace("name =", "nam ="), "site.nam: unknown key; did you mean name?"),
        (MINIMAL.replace('"hospital-a"', '"../a"'), "site.name = '../a': "),
        (MINIMAL.replace(":8443", ""), "site.server = 'fl.example.org': must be \"host:port\""),
        (MINIMAL.replace("fl.example.org", "https://fl.example.org"), "site.server = "),
        (MINIMAL.replace("8443", "84430"), "site.server = "),
        (MINIMAL.replace('"llava"', '"world"'), "data.format = 'world': "),
        (MINIMAL.replace('format = "llava"', ""), "data.format: missing"),
        (MINIMAL.replace("pairs.json", "none.json"), "no such file or folder"),
        (MINIMAL + 'scenario = "none"\n', "data.scenario = "),
        (MINIMAL + "[limits]\nthreads = 0\n", "limits.threads = 0: must be at least 1"),
        (MINIMAL + '[limits]\nmemory_gb = "8"\n', "limits.memory_gb = '8': "),
        (MINIMAL + '[accept]\nrecipes = ["abc"]\n', "accept.recipes.0 = 'abc': "),
        (MINIMAL + "[accept]\nmethods = []\n", "accept.methods = []: "),
        (MINIMAL + '[send]\nallow = ["everything"]\n', "send.allow.0 = 'everything': "),
        (MINIMAL + '[send]\nallow = ["counts", "counts"]\n', "send.allow: names something twice"),
        (MINIMAL + "[data\n", "not valid TOML"),
        (MINIMAL.replace('"pairs.json"', "[]"), "data.pairs: names no file"),
    ],
)
def test_a_mistake_is_one_line_that_names_file_and_key(tmp_path, text, said):
    path = write(tmp_path, text)
    with pytest.raises(UserError) as refused:
        read_site(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("missing", "said"), [("ca.pem", "the server's operator has it"), ("site.key", "keys new")])
def test_what_is_not_there_is_named_with_who_makes_it(tmp_path, missing, said):
    path = write(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(UserError, match=said):
        read_site(path)
    assert read_site(path, present=False).site.name == "hospital-a"


def test_no_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_site(tmp_path / "SITE.toml")
    with pytest.raises(UserError, match="is a folder"):
        read_site(tmp_path)


def test_every_key_is_described():
    for name, section in Site.model_fields.items():
        for key, field in section.annotation.model_fields.items():
            assert field.description, f"{name}.{key}"
