"""The command that made the shipped weights: the tiny CLIP and the tiny Llama, from scratch."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from fedcmp.errors import UserError

VISION_STEPS, LANGUAGE_STEPS = 4200, 9000


def pretrain(
    folder: Path, *, part: Literal["vision", "language", "both"], steps: int | None, log: Callable[[str], None]
) -> None:
    """Train one or both frozen parts and save them under folder/vision and folder/language.

    Raises:
        UserError: a part is there already.
    """
    from fedcmp.world.pretrain_language import pretrain_language
    from fedcmp.world.pretrain_vision import pretrain_vision

    wanted = ["vision", "language"] if part == "both" else [part]
    for name in wanted:
        if (folder / name / "config.json").exists():
            raise UserError(f"{folder / name}: holds a model already; give another folder or remove it")
    if "vision" in wanted:
        pretrain_vision(folder / "vision", steps=steps or VISION_STEPS, log=log)
    if "language" in wanted:
        pretrain_language(folder / "language", steps=steps or LANGUAGE_STEPS, log=log)
