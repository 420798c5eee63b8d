"""LLaVA pretraining speed on one device: ours over a plain transformers loop, on random weights of the real sizes.

    python benchmarks/llava_gpu.py --size 7b --out results/llava_gpu.txt      one GPU of 80 GB, under ten minutes
    python benchmarks/llava_gpu.py                                            the same at tiny size, on a CPU

Rows: (a) the loop that a careful user writes: LlavaForConditionalGeneration, frozen parts, labels of -100, logits
everywhere, torch.optim.AdamW on the projector, gradient checkpointing only if it does not fit without; (b) ours
(fedcmp.client.training.train_cohort) with one client; (c) ours with five clients batched over the one backbone, so many
samples at a time as (b) has in a step (training.micro_batch); then (b) with one lever more each. (a), (b) and (c)
compute the vision features in passing. All train on the same samples from the same projector; pictures are noise, the
captions 12 to 36 random tokens. Reading pictures from disk and the alignment errors at a round's end are counted for
neither side.

Useful work, the same for every row:   4 N a token of the LLM    N its layers, without embeddings; 2 N forward, 2 N
                                                                  for the gradient by the input (weights have none)
                                       4 V D a caption token     the output layer, where there is a loss
                                       2 N a patch               the tower's layers below the one that is read; 0 where
                                                                  features are cached
Attention, the projector (0.4 % at 7B) and padding are not counted; attention's own figure stands apart. The ceiling is
what large square matrix products reach in the same run and dtype. Peak memory is torch's, of tensors.

Every row's loss and projector gradient are compared with (a)'s on the same samples; beyond the tolerances below the
exit status is 1. A row that does not fit is tried with half as many samples at a time; one that fails is named, the
others go on, and the exit status is 1. The share of FP8 rows is of the same bfloat16 ceiling. A row that compiled while
it was timed says so. The step's graph is compared as it is replayed.
"""

import argparse
import importlib.metadata
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")

import torch
from llava_bench import CLIENTS, Bench, Way, release
from llava_report import HEAD, UNITS, Row, goals, line_of
from llava_work import ceiling

WAYS = [
    Way("(b) ours, one client"),
    Way("(c) ours, five clients", clients=CLIENTS),
    Way("(b) + features cached", cached=True),
    Way("(b) + 512 rows of logits", options={"logit_rows": 512}),
    Way("(b) + torch.compile", options={"compile": True}),
    Way("(b) + cached, compile", cached=True, options={"compile": True}),
    Way("(b) + FP8", options={"frozen_precision": "float8"}),
    Way("(b) + FP8, compile", options={"frozen_precision": "float8", "compile": True}),
    Way("(b) + FP8, cached, compile", cached=True, options={"frozen_precision": "float8", "compile": True}),
    Way("(b) + CUDA graph", graph=True),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--size", choices=["7b", "0.5b", "tiny"], default="7b" if on_gpu else "tiny")
    parser.add_argument("--device", default="cuda" if on_gpu else "cpu")
    parser.add_argument("--batch-size", type=int, default=None, help="samples a client and step; default: by size")
    parser.add_argument("--steps", type=int, default=8, help="timed steps a row")
    parser.add_argument("--minutes", type=float, default=8.0, help="no row begins, and none goes on, after that")
    parser.add_argument("--rows", default=None, help="only (a), (b), (c) and the rows whose label holds this text")
    parser.add_argument("--out", type=Path, default=None, help="a text file for what is printed")
    options = parser.parse_args()
    begin = time.perf_counter()
    deadline = begin + 60 * options.minutes
    device = torch.device(options.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    if device.type == "cpu":
        torch.set_num_threads(1)
    elif device.index is not None:
        torch.cuda.set_device(device)  # a graph's stream is the current device's
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, one thread"
    versions = ", ".join(f"{lib} {importlib.metadata.version(lib)}" for lib in ("fedcmp", "torch", "transformers"))
    lines = [f"{versions}; {name}, {str(dtype).removeprefix('torch.')}"]

    def tell(*texts: str) -> None:
        print(*texts, sep="\n", flush=True)
        lines.extend(texts)

    print(lines[0], flush=True)
    bench = Bench(options.size, device, dtype, steps=options.steps, batch=options.batch_size)
    limit = ceiling(device, dtype)
    tell(f"size {options.size}, {bench.batch_size} samples a client and step, {options.steps} timed steps a row")
    tell(f"ceiling by square matrix products: {limit / 1e12:.3f} TFLOP/s")
    tell(*(" " * 30 + "".join(f"{text:>{width}}" for text, width in line) for line in (HEAD, UNITS)))
    rows: dict[str, Row] = {}
    ways: list[Way | None] = [None]  # (a)
    ways += [w for w in WAYS if "+" not in w.label or options.rows is None or options.rows in w.label]
    for way in ways:
        label = "(a) plain transformers loop" if way is None else way.label
        row = Row(label)
        print(f"{label} ...", file=sys.stderr, flush=True)
        try:
            if time.perf_counter() > deadline:
                row.notes.append("not run: --minutes is over")
            else:
                if way is not None and way.graph:
                    bench.renew()
                release(device)
                row = bench.plain_row(deadline) if way is None else bench.ours(way, deadline)
        except torch.OutOfMemoryError:
            row.notes.append("does not fit into the device's memory")
        except RuntimeError as error:
            row.agrees = False
            row.notes.append(f"failed: {(str(error).strip() or type(error).__name__).splitlines()[0]}")
        rows[label] = row
        tell(line_of(row, next(iter(rows.values())), limit))
    tell("goals" if device.type == "cuda" else "goals (they are for a GPU; on a CPU this shows the form only)")
    tell(*goals(rows, limit, sum(p.numel() for p in bench.projector.parameters()), CLIENTS))
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{(time.perf_counter() - begin) / 60:.1f} minutes", file=sys.stderr)
    return 0 if all(row.agrees for row in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
