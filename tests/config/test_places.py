"""Files and folders that a recipe names are looked for first."""

import pytest

from fedcmp.config import load_recipe
from fedcmp.errors import UserError
from tests.config.recipes import MINIMAL

LLAVA = '[data]\nformat = "llava"\npairs = "a.json"\nimages = "images"\n'
CLIENT = """
[data]
format = "llava"
[scenario]
kind = "given"
[[data.clients]]
name = "a"
pairs = ["a.json", "c"]
"""


@pytest.fixture
def present(tmp_path):
    """(text) -> the recipe, checked with its places; a.json and images/ are there."""
    (tmp_path / "a.json").write_text("[]")
    (tmp_path / "images").mkdir()

    def check(text):
        path = tmp_path / "recipe.toml"
        path.write_text(text)
        return load_recipe(path, present=True)

    return check


def test_the_cache_that_the_environment_names_must_be_a_folder(present, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDCMP_CACHE", str(tmp_path / "a.json" / "cache"))
    with pytest.raises(UserError, match=r"^\$FEDCMP_CACHE = .*: .*a\.json is a file; name another folder$"):
        present(MINIMAL)


def test_what_is_there_is_accepted(present):
    assert present(LLAVA).data.format == "llava"
    assert present(MINIMAL).data.format == "world"
    patterns = '[data]\nformat = "webdataset"\npairs = ["x-{0000..0003}.tar", "y-*.tar"]\n'
    assert present(patterns).data.pairs  # patterns are expanded by who reads them


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "[federation]\nrounds = 21\n", r"num_pairs = 100: 5 clients .* fewer than federation\.rounds = 21"),
        (LLAVA.replace("a.json", "b.json"), r"data\.pairs = .*b\.json': no such file or folder"),
        (LLAVA.replace("a.json", "[b].json"), r"data\.pairs = .*\[b\]\.json': no such file or folder"),
        (
            LLAVA.replace('"llava"', '"webdataset"').replace("images =", "# "),
            r"a\.json': is not in the format 'webdataset'; .* set data\.format = \"llava\"",
        ),
        (LLAVA.replace('"images"', '"pictures"'), r"data\.images = .*pictures': no such folder"),
        (LLAVA.replace('"images"', '"a.json"'), r"data\.images = .*a\.json': is a file; name a folder"),
        (LLAVA + '[evaluation]\nquestions = "q.jsonl"\n', r"evaluation\.questions = .*q\.jsonl': no such file"),
        (LLAVA + '[model]\nprojector_from = "p.bin"\n', r"model\.projector_from = .*p\.bin': no such file"),
        (LLAVA + '[model]\nvision = "a.json"\n', r"model\.vision = 'a\.json': no such folder"),
        (LLAVA + '[model]\nlanguage = "images"\n', r"model\.language = .*images': the folder holds no config\.json"),
        (LLAVA + '[scenario]\nkind = "manifest"\nmanifest = "none"\n', r"scenario\.manifest = .*none': no such folder"),
        (
            CLIENT,
            r"data\.clients\.0\.pairs = .*c': no such file or folder",
        ),
    ],
)
def test_what_is_not_there_is_named_with_its_key(present, tmp_path, text, message):
    with pytest.raises(UserError, match=message) as caught:
        present(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["folder", "cache"])
def test_a_file_in_the_way_of_a_folder_is_named(present, tmp_path, key):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=rf"run\.{key} = .*file/inside.*file is a file; name another folder"):
        present(MINIMAL + f'[run]\n{key} = "{tmp_path}/file/inside"\n')


@pytest.mark.parametrize(
    "text",
    [
        LLAVA.replace("a.json", "é" * 300),
        LLAVA.replace('"images"', f'"{"x" * 300}"'),
        CLIENT.replace('"c"', f'"{"x" * 300}"'),
        f'{MINIMAL}[model]\nvision = "{"x" * 300}"\n',
        f'{MINIMAL}[run]\nfolder = "{"x" * 300}"\n',
        f'{LLAVA}[evaluation]\nquestions = "{"x" * 300}"\n',
    ],
    ids=["pairs", "images", "client", "model", "runs", "questions"],
)
def test_a_name_that_no_disk_takes_is_one_line(present, text):
    with pytest.raises(UserError, match=r"recipe\.toml: .*too long"):
        present(text)
