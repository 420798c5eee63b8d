"""A few made-up rows of each benchmark in the columns that its published dataset has, and a judge on this machine."""

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fedcmp.evaluation.lmms.benchmarks import BENCHMARKS
from fedcmp.evaluation.lmms.tables import write_table


def picture(number: int) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (48, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def rows(name: str) -> list[dict[str, Any]]:
    """Four rows."""
    made = [ROW[name](number) for number in range(4)]
    return [row if "image" in row else row | {"image": picture(number)} for number, row in enumerate(made)]


def _pope(n: int) -> dict[str, Any]:
    row = {"id": str(n), "question_id": str(n), "question": "is there a red bar ?", "answer": ("yes", "no")[n % 2]}
    return row | {"image_source": f"COCO_{n}", "category": "random"}


def _mme(n: int) -> dict[str, Any]:
    question = "is there a red bar ? Please answer yes or no."
    row = {"question_id": f"existence/{n // 2}.png", "question": question, "answer": ("Yes", "No")[n % 2]}
    return row | {"category": "existence"}


def _mmbench(n: int) -> dict[str, Any]:
    row: dict[str, Any] = {"index": n, "question": "is the star red or blue ?", "hint": "nan", "answer": "A"}
    row |= {"A": "red", "B": "blue", "C": "nan", "D": "nan", "category": "object", "source": "x"}
    return row | {"L2-category": "perception", "comment": "nan", "split": "dev"}


def _seed(n: int) -> dict[str, Any]:
    choices = {f"choice_{letter}": word for letter, word in zip("abcd", ("red", "blue", "star", "bar"), strict=True)}
    row = choices | {"answer": "A", "data_id": str(n), "data_type": "image", "question": "what is this ?"}
    return row | {"question_id": str(n), "question_type_id": 1, "image": [picture(n)], "segment": None}


def _mm_vet(n: int) -> dict[str, Any]:
    row = {"question_id": f"v1_{n}", "question": "what is this ?", "answer": "red<AND>star", "image_source": "x"}
    return row | {"capability": "rec,ocr"}


def _llava_bench(n: int) -> dict[str, Any]:
    row = {"question_id": str(n), "question": "what is this ?", "category": ("conv", "detail", "complex")[n % 3]}
    return row | {"image_id": f"{n}.jpg", "gpt_answer": "a red star", "caption": "a star"}


def _mmvp(n: int) -> dict[str, Any]:
    row = {"Index": n + 1, "Question": "is the star red or blue ?", "Options": "(a) red (b) blue"}
    return row | {"Correct Answer": ("(a)", "(b)")[n % 2]}


ROW = {
    "mm-vet": _mm_vet,
    "mmbench": _mmbench,
    "seed": _seed,
    "llava-bench": _llava_bench,
    "pope": _pope,
    "mme": _mme,
    "mmvp": _mmvp,
}


def write_datasets(folder: Path, names: tuple[str, ...] = tuple(ROW)) -> Path:
    """One folder a benchmark, as parquet beside each other."""
    for name in names:
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        write_table(place / f"{BENCHMARKS[name].split}-00000-of-00001.parquet", rows(name))
    return folder


class _Judge(BaseHTTPRequestHandler):
    """Marks everything alike: 0.5 for MM-Vet, "8 4" for LLaVA-Bench."""

    asked: list[dict[str, Any]]

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append({"path": self.path, "key": self.headers["Authorization"], **request})  # type: ignore[attr-defined]
        if self.path != "/v1/chat/completions":
            self.send_error(404)
            return
        comparative = "[Context]" in request["messages"][0]["content"]
        message = {"role": "assistant", "content": "8 4\nfine" if comparative else "0.5"}
        reply = {"id": "1", "object": "chat.completion", "created": 1, "model": "little-judge"}
        reply |= {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        body = json.dumps(reply | {"usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def judge() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A judge's URL, and what it was asked."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Judge)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", server.asked  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
