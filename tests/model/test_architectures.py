"""Every architecture of docs/models.md: loaded from a folder as the hub has it, trained, exported, served by transformers."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from fedcmp.client.optimizer import Optimisation
from fedcmp.errors import UserError
from fedcmp.model.export import export_llava, prompt_text
from fedcmp.model.language import LanguageModel
from fedcmp.model.projector import Projector
from fedcmp.model.vision import VisionEncoder
from fedcmp.model.vlm import VLM
from fedcmp.world.scene import make_scenes
from tests.model.tiny_models import CAPTIONS, LLMS, llm_folder, tower_folder

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
    optimizer = torch.optim.AdamW(vlm.projector.parameters(), lr=3e-3)
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
    said = []
    for picture, prompt in zip(pictures(len(prompts)), prompts, strict=True):
        inputs = processor(images=picture, text=prompt_text(language, prompt), return_tensors="pt")
        content = [{"type": "image", "image": picture}, *([{"type": "text", "text": prompt}] if prompt else [])]
        if prompt or language.prompt == "plain":
            chat = [{"role": "user", "content": content}]
            options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
            rendered = processor.apply_chat_template(chat, **options)
            assert rendered["input_ids"].tolist() == inputs["input_ids"].tolist()
        out = model.eval().generate(**inputs, max_new_tokens=count)
        said.append(out[0, inputs["input_ids"].shape[1] :].tolist())
    return said


def round_trip(tmp_path, tower, llm, *, prompt="plain", layer=-2, strategy="auto", kind="mlp"):
    """Train, export, compare; returns the exported folder and what was said."""
    encoder = VisionEncoder(str(tower), layer=layer, strategy=strategy)
    language = LanguageModel(str(llm), prompt=prompt)
    vlm = VLM(language, Projector(encoder.width, language.width, kind=kind, seed=1), encoder)
    with torch.no_grad():
        for parameter in vlm.projector.parameters():
            parameter.mul_(3)
    trained(vlm, encoder)
    ours = our_tokens(vlm, PROMPTS, 8)
    folder = export_llava(tmp_path / "llava", encoder, vlm.projector, language)
    print(ours)
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


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma", "phi3", "smollm3"])
def test_every_chat(tmp_path, kind, clip):
    round_trip(tmp_path, clip, llm_folder(tmp_path / "llm", kind), prompt="chat")
