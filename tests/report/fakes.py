"""A generator of runs as the program writes them: recipe, metrics, samples and pictures, without any training."""

import json
import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from fedcmp.report.rendering import environment
from fedcmp.report.tables import Table
from fedcmp.runs.held_out import HeldOut

GROUPS = ("shapes", "count", "word", "number", "chart", "texture", "face", "arrow")
KINDS = ("existence", "count", "attribute", "relation", "ocr", "style", "choice")
# method -> (final caption loss, final worst-group loss, final accuracy)
FINALS = {
    "centralized": (0.674, 0.845, 0.631),
    "fedavg": (0.796, 1.066, 0.583),
    "shared-basis": (0.759, 0.885, 0.615),
    "local": (1.21, 1.62, 0.41),
}
BLIND_LOSS, BLIND_ACCURACY = 0.922, 0.300
PROJECTOR_BYTES = 132_608
HELD_OUT_PAIRS = 240
CAPTIONS = (
    "a red circle left of a blue square on a plain ground photo",
    "three small green triangles in a row at night",
    "a bar chart with four bars the tallest is the second",
    "the word LAMP in white letters on a dark ground",
    "a smiling face with round eyes in sketch style",
    "an arrow that points up and to the right noisy",
)


def evaluation(
    model: str, round_: int, final: tuple[float, float, float], draw: random.Random, **more: Any
) -> dict[str, Any]:
    """One evaluation line around the given figures."""
    loss, worst, accuracy = final
    losses = {group: loss + 0.02 * index - 0.09 for index, group in enumerate(GROUPS)} | {"chart": worst}
    kinds = {kind: accuracy + 0.05 * (index - 3) + draw.gauss(0, 0.01) for index, kind in enumerate(KINDS)}
    line = {
        "kind": "evaluation",
        "model": model,
        "round": round_,
        "client": None,
        "split": "test",
        "captions": HELD_OUT_PAIRS,
        "caption_loss": loss,
        "worst_group": "chart",
        "worst_group_loss": worst,
        "group_losses": losses,
        "question_accuracy": accuracy,
        "question_accuracy_by_kind": kinds,
        "seconds": 1.5,
    }
    return {**line, **more}


def run_lines(method: str, *, seed: int, rounds: int, clients: int) -> list[dict[str, Any]]:
    """All lines of a finished run, as the program would append them."""
    draw = random.Random(f"{method}-{seed}")
    finals = FINALS.get(method, (0.81, 1.01, 0.6))
    blind = (BLIND_LOSS, 1.31, BLIND_ACCURACY)
    learners = 1 if method == "centralized" else clients
    per_client = 4_800 // rounds
    lines: list[dict[str, Any]] = []
    for client in range(clients):
        counts = {group: (1800 if index % clients == client else 150) for index, group in enumerate(GROUPS)}
        lines.append(
            {
                "kind": "data",
                "client": client,
                "client_name": f"client-{client}",
                "num_pairs": sum(counts.values()),
                "bad_pairs": {"truncated": 2} if client == 3 else {},
                "wrong_captions": 0,
                "groups": counts,
            }
        )
    lines.append(evaluation("blind", 0, blind, draw))
    lines.append(evaluation("initial", 0, (3.41, 4.2, 0.11), draw))
    offsets = [draw.gauss(0, 0.12) for _ in range(clients)]
    for round_ in range(1, rounds + 1):
        progress = 1 - math.exp(-0.45 * round_)
        shift = draw.gauss(0, 0.003)
        now = (
            finals[0] + (1.15 - finals[0]) * (1 - progress) + shift,
            finals[1] + (1.6 - finals[1]) * (1 - progress) + 3 * shift,
            finals[2] - (finals[2] - 0.25) * (1 - progress) - shift,
        )
        weights = [1 / clients] * clients
        if method not in ("fedavg", "local", "centralized"):
            raw = [math.exp(0.5 * offset + draw.gauss(0, 0.05)) for offset in offsets]
            weights = [value / sum(raw) for value in raw]
        for client in range(learners):
            offset = offsets[client] if learners > 1 else 0.0
            sends = method not in ("local", "centralized")
            lines.append(
                {
                    "kind": "client",
                    "round": round_,
                    "client": client if learners > 1 else None,
                    "client_name": f"client-{client}" if learners > 1 else "all",
                    "num_examples": per_client if learners > 1 else per_client * clients,
                    "loss": 0.75 + offset * 0.5 + 1.1 * (1 - progress) + draw.gauss(0, 0.01),
                    "loss_first": 1.4,
                    "loss_last": 0.9,
                    "alignment_error": 0.88 + 0.1 * offset * progress + draw.gauss(0, 0.002),
                    "update_norm": (2.2 + offset) * (1 - 0.7 * round_ / rounds) + draw.gauss(0, 0.03),
                    "weight": weights[client] if sends else None,
                    "learning_rate": 0.01,
                    "bytes_up": PROJECTOR_BYTES if sends else 0,
                    "bytes_down": PROJECTOR_BYTES if sends else 0,
                    "seconds": 2.1,
                }
            )
            if method == "local":
                own = (now[0] + offset, now[1] + offset, now[2] - offset * 0.3)
                lines.append(evaluation("client", round_, own, draw, client=client))
        if method != "local":
            lines.append(evaluation("global", round_, now, draw))
        sent = 2 * clients * PROJECTOR_BYTES if method not in ("local", "centralized") else 0
        diagnostics = {}
        if method == "shared-basis":
            diagnostics = {
                "beta.linear_1.weight": 0.5 + 0.02 * round_,
                "beta.linear_2.weight": 0.55 + 0.03 * round_,
                "rank.linear_1.weight": 16,
                "rank.linear_2.weight": 18,
            }
        lines.append({"kind": "round", "round": round_, "seconds": 3.1, "bytes_sent": sent, "diagnostics": diagnostics})
    lines.append({"kind": "finished", "seconds": 31.0 + 3 * seed})
    return lines


def recipe_text(method: str, *, name: str, seed: int, rounds: int, clients: int, extra: str = "") -> str:
    """A resolved recipe as the program would write it."""
    return f"""[run]
name = "{name}"
seed = {seed}
methods = ["{method}"]

[data]
format = "world"
clients = []
num_pairs = {4_800 * clients}

[scenario]
kind = "image"
clients = {clients}

[scenario.wrong_captions]

[federation]
rounds = {rounds}

[training]
learning_rate = 0.01
batch_size = 16

[aggregation]
rank = {16 if method == "shared-basis" else '"full"'}
{extra}
[versions]
fedcmp = "0.1.0"
torch = "2.13.0"
transformers = "5.23.0"
manifest = "3f2a"
"""


def write_samples(folder: Path, method: str, clients: int) -> None:
    """Six pictures of 48 x 48 pixels and what the method's model says about them."""
    draw = random.Random(method)
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    entries = []
    for index, reference in enumerate(CAPTIONS):
        shade = random.Random(index)
        image = Image.new("RGB", (48, 48), tuple(shade.randrange(60, 200) for _ in range(3)))
        ImageDraw.Draw(image).ellipse(
            (8, 8, 30 + index, 30 + index), fill=tuple(shade.randrange(256) for _ in range(3))
        )
        image.save(folder / "samples" / f"{index}.png")

        def garble(reference: str = reference) -> str:
            kept = FINALS.get(method, (0, 0, 0.6))[2]
            return " ".join(
                word if draw.random() < kept else draw.choice(["blue", "two", "chart"]) for word in reference.split()
            )

        captions = {f"client-{k}": garble() for k in range(clients)} if method == "local" else {method: garble()}
        entries.append(
            {
                "key": f"test-{index}",
                "image": f"samples/{index}.png",
                "reference": reference,
                "group": GROUPS[index % len(GROUPS)],
                "captions": captions,
            }
        )
    (folder / "samples.json").write_text(json.dumps(entries), encoding="utf-8")


def write_lines(folder: Path, lines: list[dict[str, Any]]) -> None:
    """Write metrics.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def write_held_out(folder: Path, lines: list[dict[str, Any]], *, pairs: int = HELD_OUT_PAIRS) -> None:
    """Write held_out.json: captions of ten tokens, hard and easy ones the same for all methods, means as evaluated."""
    measured = {line["model"]: line for line in lines if line["kind"] == "evaluation"}
    shared, own = random.Random("captions"), random.Random(str(measured.get("global")))
    hard = [shared.gauss(0, 0.3) for _ in range(pairs)]
    for who in ("blind", "global"):
        loss = measured.get(who, {}).get("caption_loss")
        if loss is not None and math.isfinite(loss):
            noise = [own.gauss(0, 0.02) for _ in range(pairs)]
            middle = sum(hard) / pairs + sum(noise) / pairs
            scored = [(10 * (loss + a + b - middle), 10) for a, b in zip(hard, noise, strict=True)]
            HeldOut.add(folder, who, measured[who]["round"], measured[who]["split"], scored)


def write_run(
    folder: Path,
    method: str,
    *,
    seed: int = 0,
    rounds: int = 10,
    clients: int = 5,
    extra: str = "",
    change: Callable[[dict[str, Any]], Mapping[str, Any] | None] = lambda line: line,
    samples: bool = True,
    pairs: int = HELD_OUT_PAIRS,
) -> Path:
    """Write a whole run; `change` edits each line, or drops it by returning None; no `pairs`: no losses per caption."""
    lines = run_lines(method, seed=seed, rounds=rounds, clients=clients)
    kept_lines = [dict(kept) for line in lines if (kept := change(line)) is not None]
    if pairs != HELD_OUT_PAIRS:
        kept_lines = [line | ({"captions": pairs or None} if "caption_loss" in line else {}) for line in kept_lines]
    write_lines(folder, kept_lines)
    if pairs:
        write_held_out(folder, kept_lines, pairs=pairs)
    recipe = recipe_text(method, name=folder.name, seed=seed, rounds=rounds, clients=clients, extra=extra)
    (folder / "recipe.toml").write_text(recipe, encoding="utf-8")
    if samples:
        write_samples(folder, method, clients)
    return folder


def render_part(macro: str, *given: Any, **options: Any) -> str:
    """Render one of the parts that pages are made of: "table", "panel", "multiples" ..."""
    part = getattr(environment().get_template("parts.html.j2").module, macro)
    return str(part(*given, **options))


def text_rows(table: Table) -> list[list[str]]:
    """Return the cells of a table as plain text."""
    return [[cell.plain for cell in row.cells] for row in table.rows]
