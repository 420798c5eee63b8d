from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from fedcmp.errors import UserError
from fedcmp.model.export import check_export_folder, export_llava, prompt_text
from fedcmp.model.language import LanguageModel
from fedcmp.model.projector import Projector
from fedcmp.model.projector_files import read_projector
from fedcmp.model.text_format import TextFormat
from fedcmp.model.vision import VisionEncoder
from fedcmp.model.vlm import VLM
from fedcmp.world.scene import make_scenes


def items(count):
    """One question a picture, in turn of kind, with the empty one (a caption) among them."""
    scenes = make_scenes(77, 0, count)
    pictures = [Image.fromarray(pixels) for pixels in scenes.images]
    prompts = []
    for i, questions in enumerate(scenes.questions):
        prompts.append("" if i % 10 == 0 else f"question : {questions[i % len(questions)].text} answer :")
    return pictures, prompts


def their_answers(folder, language, pictures, prompts, tokens):
    model, info = LlavaForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not any(info[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    processor = AutoProcessor.from_pretrained(folder)
    answers = []
    for picture, prompt in zip(pictures, prompts, strict=True):
        inputs = processor(images=picture, text=prompt_text(language, prompt), return_tensors="pt")
        out = model.eval().generate(**inputs, do_sample=False, max_new_tokens=tokens)
        answers.append(processor.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    return answers


def trained_like(projector, encoder, language, steps=60):
    """A few steps are enough that answers differ from picture to picture."""
    scenes = make_scenes(78, 0, 16 * steps)
    vlm = VLM(language, projector)
    optimizer = torch.optim.AdamW(projector.parameters(), lr=3e-3)
    for step in range(steps):
        rows = slice(16 * step, 16 * step + 16)
        features = encoder.encode([Image.fromarray(p) for p in scenes.images[rows]])
        ids = [
            [*r, language.end] for r in language.tokenizer(scenes.captions[rows], add_special_tokens=False)["input_ids"]
        ]
        length = max(map(len, ids))
        batch = torch.tensor([r + [language.pad] * (length - len(r)) for r in ids])
        loss = vlm.caption_losses(features, batch, torch.tensor([len(r) for r in ids])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return projector


@pytest.mark.parametrize("count", [50, pytest.param(200, marks=pytest.mark.slow)])
def test_greedy_answers_are_the_same(tmp_path, count):
    encoder, language = VisionEncoder("world"), LanguageModel("world")
    projector = trained_like(Projector(encoder.width, language.width), encoder, language)
    pictures, prompts = items(count)
    ours = VLM(language, projector, encoder).answer(pictures, prompts, max_new_tokens=20)
    folder = export_llava(tmp_path / "llava", encoder, projector, language)
    assert ours == their_answers(folder, language, pictures, prompts, 20)
    assert len(set(ours)) > count / 10  # not one answer for all


def test_projector_comes_back_bit_for_bit(tmp_path):
    encoder, language = VisionEncoder("world"), LanguageModel("world")
    projector = Projector(encoder.width, language.width, seed=5)
    folder = export_llava(tmp_path / "llava", encoder, projector, language)
    assert (folder / "model.safetensors").stat().st_mode == (
        folder / "config.json"
    ).stat().st_mode  # others may read it
    back = read_projector(folder).tensors
    assert back.keys() == projector.tensors().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in projector.tensors().items())


@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_other_families_export_as_well(tmp_path, kind, siglip_folder, byte_level_llm):
    """SigLIP without a class token, an LLM without bos and `<image>`, whose vocabulary has to grow."""
    encoder, language = VisionEncoder(str(siglip_folder), layer=-2), LanguageModel(str(byte_level_llm))
    projector = Projector(encoder.width, language.width, kind=kind, seed=1)
    with torch.no_grad():
        for parameter in projector.parameters():
            parameter.mul_(3)  # louder visual tokens: answers that depend on the picture
    pictures, _ = items(12)
    prompts = ["What is it?", "写真?", ""] * 4
    ours = VLM(language, projector, encoder).answer(pictures, prompts, max_new_tokens=8)
    folder = export_llava(tmp_path / "llava", encoder, projector, language)
    assert ours == their_answers(folder, language, pictures, prompts, 8)


def test_the_llm_is_in_memory_once(tmp_path, monkeypatch):
    """At 7B: 14 GB, not 14 for training's own copy, 14 for the checkpoint's and 28 for random weights."""
    text, loaded, saved = TextFormat("world"), [], []
    load, save = TextFormat.load_weights, LlavaForConditionalGeneration.save_pretrained
    monkeypatch.setattr(TextFormat, "load_weights", lambda self, dtype: loaded.append(load(self, dtype)) or loaded[-1])
    monkeypatch.setattr(
        LlavaForConditionalGeneration, "save_pretrained", lambda self, new: saved.append(self) or save(self, new)
    )
    folder = export_llava(tmp_path / "llava", VisionEncoder("world"), Projector(128, 128), text, dtype=torch.bfloat16)
    assert len(loaded) == 1
    theirs = dict(loaded[0].named_parameters())
    for name, parameter in saved[0].model.language_model.named_parameters():
        assert parameter is theirs[f"model.{name}"]
    assert all(parameter.dtype == torch.bfloat16 for parameter in saved[0].parameters())
    assert LlavaForConditionalGeneration.from_pretrained(folder).dtype == torch.bfloat16


def test_a_folder_with_a_model_is_left_alone(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds a model already"):
        export_llava(tmp_path, VisionEncoder("world"), Projector(128, 128), LanguageModel("world"))
    assert (tmp_path / "config.json").read_text() == "{}"


def test_a_folder_with_other_files_is_left_alone_before_anything_is_loaded(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty"):
        export_llava(tmp_path, None, None, None)
    with pytest.raises(UserError, match="is not empty"):
        check_export_folder(tmp_path / "notes.txt")
    check_export_folder(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_interrupted_export_leaves_nothing(tmp_path, monkeypatch):
    """Ctrl-C while the weights are written: an empty folder stays empty, and the next export fills it."""
    encoder, language = VisionEncoder("world"), LanguageModel("world")
    projector = Projector(encoder.width, language.width)
    (tmp_path / "llava").mkdir()

    def interrupted(_model, folder, **_options):
        assert (Path(folder) / "tokenizer.json").exists()  # the first half is written, but not in the folder asked for
        assert not any((tmp_path / "llava").iterdir())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LlavaForConditionalGeneration, "save_pretrained", interrupted)
        with pytest.raises(KeyboardInterrupt):
            export_llava(tmp_path / "llava", encoder, projector, language)
    assert list(tmp_path.rglob("*")) == [tmp_path / "llava"]
    export_llava(tmp_path / "llava", encoder, projector, language)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {p.name for p in (tmp_path / "llava").iterdir()}
    assert list(tmp_path.iterdir()) == [tmp_path / "llava"]


def test_a_folder_without_projector_is_named(tmp_path):
    with pytest.raises(UserError, match="holds no safetensors file; is it a LLaVA checkpoint"):
        read_projector(tmp_path)
