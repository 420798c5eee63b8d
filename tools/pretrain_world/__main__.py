"""The command that made the shipped weights: train the tiny CLIP and the tiny Llama from scratch, an hour on two cores.

python -m tools.pretrain_world weights/ [--part vision|language|both] [--steps N]
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from tools.pretrain_world.language import pretrain_language
from tools.pretrain_world.vision import pretrain_vision

VISION_STEPS, LANGUAGE_STEPS = 4200, 9000


def pretrain(
    folder: Path, *, part: Literal["vision", "language", "both"], steps: int | None, log: Callable[[str], None]
) -> None:
    """Train one or both frozen parts and save them under folder/vision and folder/language.

    Args:
        folder: where the parts are written.
        part: which of them.
        steps: optimiser steps of each; None: those of the shipped weights.
        log: receives a line now and then.

    Raises:
        FileExistsError: a part is there already.
    """
    wanted = ["vision", "language"] if part == "both" else [part]
    for name in wanted:
        if (folder / name / "config.json").exists():
            raise FileExistsError(f"{folder / name}: holds a model already; give another folder or remove it")
    if "vision" in wanted:
        pretrain_vision(folder / "vision", steps=steps or VISION_STEPS, log=log)
    if "language" in wanted:
        pretrain_language(folder / "language", steps=steps or LANGUAGE_STEPS, log=log)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, pretrain, print where the weights are; progress goes to stderr."""
    parser = argparse.ArgumentParser(prog="python -m tools.pretrain_world", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="where vision/ and language/ are written")
    parser.add_argument("--part", choices=["vision", "language", "both"], default="both", help="default: both")
    parser.add_argument("--steps", type=_positive, help="optimiser steps; default: those of the shipped weights")
    given = parser.parse_args(arguments)
    try:
        pretrain(given.folder, part=given.part, steps=given.steps, log=lambda line: print(line, file=sys.stderr))
    except FileExistsError as error:
        parser.error(str(error))
    print(f"pretrained: {given.folder}")


def _positive(text: str) -> int:
    steps = int(text)
    if steps < 1:
        raise argparse.ArgumentTypeError(f"{steps}: must be at least 1")
    return steps


if __name__ == "__main__":
    main()
