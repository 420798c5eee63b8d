"""A first run on a stranger's data: `shared-basis` beside FedAvg, with no learning rate given.

    python benchmarks/default_rates.py [--seeds 1 2 3] [--out results/default_rates.md]
    python benchmarks/default_rates.py --stamps usr/share/tuxpaint/stamps --llm SmolLM2-135M-Instruct

Every run is `fedcmp train` in a folder of its own. Worlds:
    tryout   README's own: two organisations, 600 and 300 pairs of the embedded world as LLaVA files
    tenth    the demo's recipe on a tenth of its pairs
    stamps   real images: Debian's package tuxpaint-stamps-default, three clients by its folders, captions from its
             texts (PNG only, unless the SVG were rendered next to their texts); with the embedded parts, and with a
             random CLIP and a random Llama that has the LLM's tokenizer (needs --llm)
    llm      a real LLM over the embedded world: 1,000 captions of at most 16 tokens, batches of 4
Printed: caption loss of both on held-out pairs, mean and standard deviation over the seeds, and the paired difference
with its standard error. Goal: in no world is `shared-basis` behind by more than two standard errors.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

METHODS = ("fedavg", "shared-basis")
CLIENTS = {
    "nature": ("animals", "plants", "naturalforces"),
    "home": ("food", "clothes", "household", "hobbies", "medical"),
    "town": ("people", "seasonal", "space", "sports", "symbols", "town", "vehicles", "military"),
}
WORLD = '[data]\nnum_pairs = {pairs}\n{more}[scenario]\nkind = "image"\nclients = 5\n'
QUICK = "[evaluation]\nevery = 100\nsamples = 0\nquestions_per_kind = 0\n"


def fedcmp(place: Path, *arguments: str) -> None:
    """Run the command in a folder; its own words where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "fedcmp", *arguments],
        cwd=place,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"fedcmp {' '.join(arguments)}:\n{done.stderr}")


def clients_of(folders: dict[str, Path]) -> str:
    """Return the tables of clients that bring their own pairs."""
    tables = [
        f'[[data.clients]]\nname = "{name}"\npairs = "{folder}/pairs.json"\nimages = "{folder}/images"\n'
        for name, folder in folders.items()
    ]
    return "".join(tables) + '[scenario]\nkind = "given"\n'


def export_tryout(place: Path) -> str:
    """Write README's two organisations; returns the recipe."""
    fedcmp(place, "world", "export", "a", "--count", "600")
    fedcmp(place, "world", "export", "b", "--split", "validation", "--count", "300")
    return '[data]\nformat = "llava"\n' + clients_of({"hospital-a": place / "a", "hospital-b": place / "b"})


def write_stamps(place: Path, stamps: Path) -> str:
    """Write the stamps as three clients' LLaVA files; returns the recipe."""
    from PIL import Image

    folders = {}
    for client, parts in CLIENTS.items():
        folder = folders[client] = place / "stamps" / client
        (folder / "images").mkdir(parents=True)
        records = []
        found = sorted(path for part in parts for path in (stamps / part).rglob("*.png"))
        for number, path in enumerate(found):
            text = path.with_suffix(".txt")
            lines = text.read_text(encoding="utf-8", errors="replace").splitlines() if text.exists() else []
            caption = (lines[0].strip() if lines else "") or path.stem.replace("_", " ").replace("-", " ")
            image = Image.open(path).convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            white.alpha_composite(image)
            white.thumbnail((256, 256))
            white.convert("RGB").save(folder / "images" / f"{number:04}.png")
            records.append({"id": f"{client}-{number}", "image": f"{number:04}.png", "caption": caption})
        (folder / "pairs.json").write_text(json.dumps(records))
    return '[data]\nformat = "llava"\nmax_unknown_fraction = 1.0\nheld_out = 0.15\n' + clients_of(folders)


def write_random_models(place: Path, llm: Path) -> str:
    """Write a random CLIP tower and a random Llama; returns the recipe's [model]."""
    import torch
    from transformers import (
        AutoTokenizer,
        CLIPImageProcessor,
        CLIPVisionConfig,
        CLIPVisionModel,
        LlamaConfig,
        LlamaForCausalLM,
    )

    torch.manual_seed(0)
    shape = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
    CLIPVisionModel(CLIPVisionConfig(image_size=48, patch_size=12, **shape)).save_pretrained(place / "clip")
    processor = CLIPImageProcessor(size={"shortest_edge": 48}, crop_size={"height": 48, "width": 48})
    processor.save_pretrained(place / "clip")
    tokenizer = AutoTokenizer.from_pretrained(llm)
    tokens = {key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape, **tokens)).save_pretrained(place / "llama")
    tokenizer.save_pretrained(place / "llama")
    return f'[model]\nvision = "{place}/clip"\nlanguage = "{place}/llama"\n'


def worlds(place: Path, stamps: Path | None, llm: Path | None) -> dict[str, str]:
    """Return name -> recipe, without its [run]."""
    found = {
        "README's try-out, 900 pairs": export_tryout(place),
        "the demo's recipe, 1,200 pairs": WORLD.format(pairs=1200, more="") + QUICK,
    }
    if stamps is not None:
        own = write_stamps(place, stamps) + "[evaluation]\nevery = 100\nsamples = 0\n"
        found["stamps, embedded parts"] = own
        if llm is not None:
            found["stamps, random CLIP and Llama"] = own + write_random_models(place, llm)
    if llm is not None:
        data = WORLD.format(pairs=1000, more="max_caption_tokens = 16\n") + QUICK + "captions = 192\n"
        found[f"{llm.name} over the embedded world"] = (
            f'{data}[model]\nlanguage = "{llm}"\n[training]\nbatch_size = 4\n'
        )
    return found


def losses(place: Path, name: str, recipe: str, seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return the held-out caption loss and the learning rate of each method."""
    run = f'[run]\nname = "{name}-{seed}"\nseed = {seed}\nmethods = {json.dumps(METHODS)}\n'
    (place / "recipe.toml").write_text(run + recipe)
    fedcmp(place, "train", "recipe.toml")
    found, rates = {}, {}
    for method in METHODS:
        lines = (place / "runs" / f"{name}-{seed}" / method / "metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        measured = [record for record in records if record["kind"] == "evaluation" and record["model"] == "global"]
        found[method] = measured[-1]["caption_loss"]
        rates[method] = next(record["learning_rate"] for record in records if record["kind"] == "run")
    return found, rates


def row(title: str, runs: Sequence[tuple[dict[str, float], dict[str, float]]]) -> tuple[str, bool]:
    """Return a line of the table, and whether the goal is met."""

    def cell(values: Sequence[float]) -> str:
        return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"

    theirs, ours = ([found[method] for found, _ in runs] for method in METHODS)
    difference = [a - b for a, b in zip(ours, theirs, strict=True)]
    error = statistics.stdev(difference) / len(difference) ** 0.5
    rates = ", ".join(f"{rate:g}" for rate in sorted({rate for _, known in runs for rate in known.values()}))
    met = statistics.mean(difference) <= 2 * error
    told = f"{statistics.mean(difference):+.3f} ± {error:.3f}"
    return f"| {title} | {rates} | {cell(theirs)} | {cell(ours)} | {told} | {'yes' if met else 'no'} |", met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--stamps", type=Path, default=None, help="the stamps' folder of the unpacked Debian package")
    parser.add_argument("--llm", type=Path, default=None, help="folder of a small causal LLM")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    if len(options.seeds) < 2:
        parser.error("--seeds: give at least two")
    count = len(options.seeds)
    lines = [
        "## No learning rate given",
        "",
        f"Held-out caption loss (nats per token), mean ± standard deviation over {count} seeds; the difference is",
        "paired by seed, ± its standard error. Toy world where the embedded world or its models are named.",
        "",
        "| data | rate worked out | fedavg | shared-basis | difference | not behind by two standard errors |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        given = (None if path is None else path.resolve() for path in (options.stamps, options.llm))
        for number, (title, recipe) in enumerate(worlds(place, *given).items()):
            runs = [losses(place, f"world-{number}", recipe, seed) for seed in options.seeds]
            lines.append(row(title, runs)[0])
            print(lines[-1], file=sys.stderr, flush=True)
    print("\n".join(lines))
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
