"""Every architecture of docs/models.md: a folder as the hub has it, trained, exported, run by transformers."""

import shutil
from pathlib import Path

import pytest
import sentencepiece
import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoProcessor,
    Dinov2Model,
    Gemma3Config,
    Gemma3nTextConfig,
    GenerationConfig,
    LlavaForConditionalGeneration,
)

from fedcmp.errors import UserError
from fedcmp.model.export import export_llava, prompt_text
from fedcmp.model.language import LanguageModel
from fedcmp.model.projector import Projector
from fedcmp.model.text_format import TextFormat
from fedcmp.model.vision import VisionEncoder
from fedcmp.model.vlm import VLM
from fedcmp.world.scene import make_scenes
from tests.model.dual_encoders import naflex_folder
from tests.model.tiny_models import CAPTIONS, LLMS, llm_folder, tower_folder, vicuna_folder

TOWERS = ("clip", "clip-vision", "siglip", "siglip2", "dinov2", "dinov2-registers")
PROMPTS = ["", "What is it?", "a cat or a dog?", ""]


def pictures(count):
    return [Image.fromarray(pixels).resize((50, 40)) for pixels in make_scenes(9, 0, count).images]


def trained(vlm, encoder, steps=8):
    """A small round; the loss must fall."""
    language = vlm.language
    features = encoder.encode(pictures(4))
    rows = [[*language.tokenizer(c, add_special_tokens=False)["input_ids"], language.end] for c in CAPTIONS]
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.tensor([row + [language.pad] * (int(lengths.max()) - len(row)) for row in rows])
    optimizer = torch.optim.AdamW(vlm.trainable.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        loss = vlm.caption_losses(features, ids, lengths).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(parameter.grad is None for parameter in language.model.parameters())


def our_tokens(vlm, prompts, count):
    visual = vlm.visual_tokens(vlm.encoder.encode(pictures(len(prompts))))
    asked = [torch.tensor([vlm.language.prompt_ids(prompt)], dtype=torch.long) for prompt in prompts]
    rows = [vlm.language.generated_ids(visual[[i]], ids, max_new_tokens=count) for i, ids in enumerate(asked)]
    return [row[0].tolist() for row in rows]


def their_tokens(folder: Path, language, prompts, count):
    """Greedy tokens of the exported model, through its own processor; loads without a word about keys."""
    model, info = LlavaForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not any(info[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    processor = AutoProcessor.from_pretrained(folder)
    tokens = []
    for picture, prompt in zip(pictures(len(prompts)), prompts, strict=True):
        inputs = processor(images=picture, text=prompt_text(language, prompt), return_tensors="pt")
        said = prompt or (language.instruction if language.prompt == "chat" else "")
        content = [{"type": "image", "image": picture}, *([{"type": "text", "text": said}] if said else [])]
        options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
        chat = processor.apply_chat_template([{"role": "user", "content": content}], **options)
        assert chat["input_ids"].tolist() == inputs["input_ids"].tolist()
        out = model.eval().generate(**inputs, max_new_tokens=count)
        tokens.append(out[0, inputs["input_ids"].shape[1] :].tolist())
    return tokens


def round_trip(tmp_path, tower, llm, *, prompt="plain", layer=-2, strategy="auto", kind="mlp"):
    """Train, export, compare; returns the exported folder and what was said."""
    encoder = VisionEncoder(str(tower), layer=layer, strategy=strategy)
    language = LanguageModel(str(llm), prompt=prompt)
    vlm = VLM(language, Projector(encoder.width, language.width, kind=kind, seed=1), encoder)
    with torch.no_grad():
        for parameter in vlm.trainable.parameters():
            parameter.mul_(3)
    trained(vlm, encoder)
    ours = our_tokens(vlm, PROMPTS, 8)
    folder = export_llava(tmp_path / "llava", encoder, vlm.trainable, language)
    assert len({tuple(ids) for ids in ours}) > 1
    assert ours == their_tokens(folder, language, PROMPTS, 8)
    return folder, ours


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return llm_folder(tmp_path_factory.mktemp("llm") / "llama", "llama")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return tower_folder(tmp_path_factory.mktemp("tower") / "clip", "clip")


@pytest.mark.parametrize("kind", TOWERS)
def test_every_tower(tmp_path, kind, llama):
    strategy = "full" if kind == "dinov2-registers" else "auto"
    round_trip(tmp_path, tower_folder(tmp_path / "tower", kind), llama, strategy=strategy)


@pytest.mark.parametrize("kind", [kind for kind in LLMS if kind != "phi"])
def test_every_llm(tmp_path, kind, clip):
    round_trip(tmp_path, clip, llm_folder(tmp_path / "llm", kind))


def test_vicuna_as_it_lies_on_the_hub(tmp_path, clip):
    """The large recipe's LLM: its tokens are SentencePiece's own, its weights come out of pickled shards."""
    folder = vicuna_folder(tmp_path / "llm")
    text = TextFormat(str(folder))
    own = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    for caption in CAPTIONS:
        assert text.tokenizer(caption)["input_ids"] == [own.bos_id(), *own.encode(caption)]
    assert (text.start_ids, text.separator_ids) == ([own.bos_id()], [own.piece_to_id("<0x0A>")])
    round_trip(tmp_path, clip, folder)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma", "phi3"])
def test_the_llms_own_chat(tmp_path, kind, clip):
    round_trip(tmp_path, clip, llm_folder(tmp_path / "llm", kind), prompt="chat")


@pytest.mark.parametrize(("layer", "strategy"), [([-2, 1, -1], "default"), ([-1], "full"), (2, "full")])
def test_feature_layers_and_patches_as_llavas_options(tmp_path, layer, strategy, clip, llama):
    folder, _ = round_trip(tmp_path, clip, llama, layer=layer, strategy=strategy, kind="linear")
    config = AutoConfig.from_pretrained(folder)
    assert (config.vision_feature_layer, config.vision_feature_select_strategy) == (layer, strategy)


def test_phis_output_bias_trains_but_has_no_place_in_llava(tmp_path, clip):
    encoder, language = VisionEncoder(str(clip)), LanguageModel(str(llm_folder(tmp_path / "llm", "phi")))
    vlm = VLM(language, Projector(encoder.width, language.width, seed=1))
    trained(vlm, encoder)
    with pytest.raises(UserError, match=r"model\.language = .*its output layer has a bias"):
        export_llava(tmp_path / "llava", encoder, vlm.trainable, language)
    assert not (tmp_path / "llava").exists()


def test_registers_can_be_dropped_in_training_but_not_in_llava(tmp_path, llama):
    tower = tower_folder(tmp_path / "tower", "dinov2-registers")
    encoder, every = VisionEncoder(str(tower)), VisionEncoder(str(tower), strategy="full")
    assert (encoder.num_prefix_tokens, encoder.num_patches, encoder.grid) == (5, 16, (4, 4))
    assert torch.equal(encoder.encode(pictures(2)), every.encode(pictures(2))[:, 5:])
    with pytest.raises(UserError, match=r"5 tokens before the patches.* train with 'full' to export"):
        export_llava(tmp_path / "llava", encoder, Projector(32, 32), LanguageModel(str(llama)))


def test_dinov2s_grid_is_that_of_its_processor(tmp_path):
    """Trained at 48 pixels, cropped to 32: 16 patches of 8 pixels, not 36."""
    encoder = VisionEncoder(str(tower_folder(tmp_path / "tower", "dinov2")))
    assert (encoder.image_size, encoder.grid, encoder.num_patches) == (48, (4, 4), 16)
    assert encoder.encode(pictures(2)).shape == (2, 16, 32)
    model = Dinov2Model.from_pretrained(encoder.location)
    states = model(encoder.pixel_values(pictures(2)), output_hidden_states=True).hidden_states
    torch.testing.assert_close(encoder.encode(pictures(2)), states[-2][:, 1:].detach(), rtol=1e-4, atol=1e-5)


def test_a_siglip2_of_any_resolution_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"siglip2 model takes images of any resolution.* use one of fixed"):
        VisionEncoder(str(naflex_folder(tmp_path)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Gemma3nTextConfig(num_hidden_layers=2), "looks up token ids again in every layer"),
        (Gemma3Config(), "a gemma3 model sees images already"),
    ],
)
def test_llms_that_read_more_than_embeddings_are_refused(tmp_path, config, message):
    config.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=rf"model\.language = .*{message}"):
        TextFormat(str(tmp_path))


@pytest.mark.parametrize("keep", [3, torch.tensor([1, 2])])
def test_an_llm_that_cannot_leave_out_logits_is_cut(llama, monkeypatch, keep):
    language = LanguageModel(str(llama))
    inputs = language.inputs(torch.randn(2, 4, 32), torch.tensor([[5, 6], [7, 8]]))
    expected = language.logits(inputs, keep)
    forward = language.model.forward
    monkeypatch.setattr(
        language.model, "forward", lambda inputs_embeds, use_cache: forward(inputs_embeds=inputs_embeds)
    )
    language._keeps_logits = False
    torch.testing.assert_close(language.logits(inputs, keep), expected)


def test_habits_of_a_checkpoints_generation_are_left_out(tmp_path, llama):
    """As Qwen's: a penalty on repetition, which the exported model has not."""
    folder = shutil.copytree(llama, tmp_path / "llm")
    GenerationConfig(repetition_penalty=5.0, do_sample=True).save_pretrained(folder)
    visual, prompt = torch.randn(1, 4, 32), torch.tensor([[5, 6]])
    plain, other = (LanguageModel(str(place)) for place in (llama, folder))
    said = [model.generated_ids(visual, prompt, max_new_tokens=12).tolist() for model in (plain, other)]
    assert said[0] == said[1]
