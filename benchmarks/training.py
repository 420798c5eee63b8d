"""Training speed: ours over a plain transformers loop on the same exported LLaVA checkpoint.

    python benchmarks/training.py [--pairs 3000] [--batch-size 16]

Both train the projector on the same pairs of the embedded world, one epoch, the same batch size, float32. The plain
loop is what a careful user would write: LlavaForConditionalGeneration with a frozen tower and LLM, the processor's own
batches, one process with two threads. Ours is the two-worker simulation, its feature extraction counted in (cold store,
captions read and tokenised), and once more with a warm store. Starting processes and loading models is counted for
neither side. Each figure is the best of `--repeats`; the ratios are printed last.
"""

import argparse
import itertools
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import numpy as np
import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration

from fedcmp.config import Recipe, parse_recipe
from fedcmp.data.captions import tokenize_captions
from fedcmp.data.images import decode_image
from fedcmp.data.pairs import PairSource
from fedcmp.model.export import export_llava, prompt_text
from fedcmp.model.language import LanguageModel
from fedcmp.model.text_format import TextFormat
from fedcmp.model.vision import VisionEncoder
from fedcmp.preparation.loading import new_trainable
from fedcmp.preparation.prepare import prepare
from fedcmp.preparation.sources import frozen_features, training_collections
from fedcmp.simulation.engine import read_replies, training_job
from fedcmp.simulation.pool import Pool
from fedcmp.wire.messages import Assignment
from fedcmp.wire.payload import forms

LEARNING_RATE = 1e-3


def quiet(_what: str, _done: int, _total: int) -> None:
    return None


def recipe_for(pairs: int, batch_size: int, cache: Path) -> Recipe:
    content = {
        "run": {"name": "benchmark", "methods": ["fedavg"], "workers": 2, "cache": str(cache)},
        "data": {"num_pairs": pairs},
        "scenario": {"kind": "iid", "clients": 2},
        "federation": {"rounds": 1},
        "training": {"batch_size": batch_size, "learning_rate": LEARNING_RATE},
        "evaluation": {"captions": 16, "questions_per_kind": 0, "samples": 0},
    }
    return parse_recipe(content, "benchmark")


def plain_loop(
    folder: Path, source: PairSource, language: LanguageModel, batch_size: int, *, everything: bool
) -> float:
    """Samples a second of the plain loop."""
    torch.set_num_threads(2)
    model = LlavaForConditionalGeneration.from_pretrained(folder).train()
    processor = AutoProcessor.from_pretrained(folder)
    processor.tokenizer.padding_side = "right"
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(everything or "multi_modal_projector" in name)
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE, weight_decay=0.0
    )
    prompt = prompt_text(language, "")
    prompt_length = processor(images=decode_image(source.read_image(0)), text=prompt, return_tensors="pt")[
        "input_ids"
    ].shape[1]
    order = np.random.RandomState(0).permutation(len(source))
    start = time.perf_counter()
    for at in range(0, len(order), batch_size):
        chosen = order[at : at + batch_size].tolist()
        images = [decode_image(source.read_image(i)) for i in chosen]
        texts = [prompt + source.pair(i).caption + processor.tokenizer.eos_token for i in chosen]
        inputs = processor(images=images, text=texts, padding=True, return_tensors="pt")
        labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
        labels[:, :prompt_length] = -100
        loss = model(**inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return len(order) / (time.perf_counter() - start)


def our_loop(recipe: Recipe, folder: Path, repeats: int) -> tuple[float, float]:
    """Samples a second with a cold and with a warm feature store."""
    torch.set_num_threads(2)
    encoder = VisionEncoder(recipe.model.vision)
    collection = training_collections(recipe, quiet)[0]
    text = TextFormat(recipe.model.language)
    start = time.perf_counter()
    frozen_features(recipe, collection, encoder, quiet)
    captions = [collection.source.pair(index).caption for index in range(len(collection.source))]
    tokenize_captions(text.tokenizer, captions, max_tokens=recipe.data.max_caption_tokens, eos_token_id=text.end)
    extraction = time.perf_counter() - start
    data = prepare(recipe, folder / "prepared", quiet)
    initial = new_trainable(recipe, data.vision_width, text.width).tensors()
    assignment = Assignment(1, learning_rate=LEARNING_RATE, forms=forms("float32"), state=initial)
    jobs = [training_job({client: assignment}, {client: folder / f"client-{client}"}) for client in (0, 1)]
    ready = {"op": "evaluate", "what": "captions", "start": 0, "stop": 16, "blind": False}
    with Pool(recipe, folder / "prepared") as pool:
        list(pool.map([(ready, initial)] * 4))
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            replies = [read_replies(answer.result, answer.tensors)[0] for answer in pool.map(jobs)]
            trained = sum(reply.num_examples for reply in replies)
            seconds.append(time.perf_counter() - start)
    best = min(seconds)
    return trained / (best + extraction), trained / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = recipe_for(options.pairs, options.batch_size, folder / "cache")
        encoder, language = VisionEncoder("world"), LanguageModel("world")
        projector = new_trainable(recipe, encoder.width, language.width)
        checkpoint = export_llava(folder / "llava", encoder, projector, language)
        language = LanguageModel("world")
        source = training_collections(recipe, quiet)[0].source
        plain: dict[bool, float] = {}
        for everything, _ in itertools.product((False, True), range(options.repeats)):
            speed = plain_loop(checkpoint, source, language, options.batch_size, everything=everything)
            plain[everything] = max(speed, plain.get(everything, 0.0))
        cold, warm = our_loop(recipe, folder, options.repeats)
    print(f"pairs {options.pairs}, batch size {options.batch_size}, float32, {os.cpu_count()} cores")
    print(f"plain loop, frozen tower and LLM   {plain[False]:7.0f} samples/s   (one process, two threads)")
    print(f"plain loop, everything trainable   {plain[True]:7.0f} samples/s")
    print(f"fedcmp, two workers, cold store    {cold:7.0f} samples/s   (feature extraction counted in)")
    print(f"fedcmp, two workers, warm store    {warm:7.0f} samples/s")
    print(f"ratio to the frozen plain loop: cold {cold / plain[False]:.2f}x, warm {warm / plain[False]:.2f}x")
    print(f"ratio to everything trainable: cold {cold / plain[True]:.2f}x, warm {warm / plain[True]:.2f}x")


if __name__ == "__main__":
    main()
