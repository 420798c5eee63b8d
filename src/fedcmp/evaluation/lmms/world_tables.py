"""Items of the embedded world's suites in the real formats of POPE, MME and MMBench, for lmms-eval to ask.

    FOLDER/POPE/data/test-00000-of-00001.parquet        as on the hub, and so on

Real conventions that differ from our suites': POPE asks about a present object once a split, so a row of ours that
counts in three splits is written three times; MME's questions end with " Please answer yes or no."; MMBench gives
letters, "nan" for options that are not there, and a rotation's index is the question's plus a million.
"""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedcmp.errors import UserError
from fedcmp.evaluation.lmms.benchmarks import BENCHMARKS, PROMPTS
from fedcmp.evaluation.lmms.datasets import TOY
from fedcmp.evaluation.lmms.tables import write_table
from fedcmp.evaluation.suites.items import Item
from fedcmp.evaluation.suites.pope import PRESENT, SPLITS
from fedcmp.evaluation.suites.table import build_suite
from fedcmp.files import write_whole

MME_ENDING = " Please answer yes or no."
ROTATION = 1_000_000
LETTERS = "ABCD"
_PLACES = {"pope": "POPE/data", "mme": "MME/data", "mmbench": "MMBench/en"}

Rows = list[tuple[int, dict[str, Any]]]  # an item's number, its row without the picture


def write_world_benchmarks(folder: Path, *, split: str = "test", limit: int | None = None) -> dict[str, list[int]]:
    """Write pope, mme and mmbench of the embedded world.

    Args:
        folder: a new or empty folder.
        split: "test" or "validation".
        limit: the first so many units (pictures, or MMBench's questions) only.

    Returns:
        Real benchmark -> the number of the suite's item behind each row, in the rows' order.

    Raises:
        UserError: the folder holds something, or cannot be written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: is not empty; give a new folder")
    written = {}
    for name, place in _PLACES.items():
        suite, images = build_suite(f"{name}-world", split)
        kept = [number for number, item in enumerate(suite.items) if limit is None or item.unit < limit]
        rows = _ROWS[name]([(number, suite.items[number]) for number in kept])
        pictures = {item: _png(images[suite.items[item].picture]) for item, _ in rows}
        target = folder / place
        target.mkdir(parents=True, exist_ok=True)
        file = f"{BENCHMARKS[name].split}-00000-of-00001.parquet"
        write_table(target / file, [row | {"image": pictures[item]} for item, row in rows])
        written[name] = [item for item, _ in rows]
    write_whole(folder / TOY, json.dumps({"split": split, "benchmarks": list(written)}).encode())
    return written


def question_of(item: Item) -> str:
    """An item's question without the words that the world's form of prompts puts around it."""
    form = PROMPTS["world"]
    assert form is not None
    return item.prompt.removeprefix(form.before).removesuffix(form.after)


def _pope(items: Sequence[tuple[int, Item]]) -> Rows:
    rows: Rows = []
    for split in SPLITS:
        for number, item in items:
            if item.category in (PRESENT, split):
                rows.append((number, _pope_row(len(rows) + 1, item, split)))
    return rows


def _pope_row(question_id: int, item: Item, split: str) -> dict[str, Any]:
    return {
        "id": str(question_id),
        "question_id": str(question_id),
        "question": question_of(item),
        "answer": item.answer,
        "image_source": f"picture-{item.picture:05d}",
        "category": split,
    }


def _mme(items: Sequence[tuple[int, Item]]) -> Rows:
    real_names = {"ocr": "OCR"}
    return [
        (
            number,
            {
                "question_id": f"{real_names.get(item.category, item.category)}/{item.picture:04d}.png",
                "question": question_of(item) + MME_ENDING,
                "answer": item.answer.capitalize(),
                "category": real_names.get(item.category, item.category),
            },
        )
        for number, item in items
    ]


def _mmbench(items: Sequence[tuple[int, Item]]) -> Rows:
    rows: Rows = []
    turns: dict[int, int] = {}
    for number, item in items:
        turn = turns.get(item.unit, 0)
        turns[item.unit] = turn + 1
        options = {letter: item.options[i] if i < len(item.options) else "nan" for i, letter in enumerate(LETTERS)}
        right = LETTERS[item.options.index(item.answer)]
        rows.append(
            (
                number,
                {
                    "index": item.unit + turn * ROTATION,
                    "question": question_of(item),
                    "hint": "nan",
                    "answer": right,
                    **options,
                    "category": item.category.replace(" ", "_"),
                    "source": "embedded world",
                    "L2-category": "perception",
                    "comment": "nan",
                    "split": "dev",
                },
            )
        )
    return rows


_ROWS: dict[str, Callable[[Sequence[tuple[int, Item]]], Rows]] = {"pope": _pope, "mme": _mme, "mmbench": _mmbench}


def _png(pixels: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
