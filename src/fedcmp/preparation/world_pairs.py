"""A drawn world's pairs as files in the cache, held against what was drawn whenever they are read back.

CACHE/world/SPLIT-COUNT-revision-R/sealed.json              fingerprint of the pairs, sha256 of the questions
CACHE/world/untouched-SPLIT-COUNT-revision-R/sealed.json    the same of another world than the embedded one
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from fedcmp.data.contents import CONTENTS
from fedcmp.data.pairs import PairSource, open_pairs
from fedcmp.data.quality import logger
from fedcmp.errors import UserError
from fedcmp.files import write_whole
from fedcmp.world.export import Split, export_world
from fedcmp.world.scene import EMBEDDED
from fedcmp.world.worlds import WORLDS

Progress = Callable[[str, int, int], None]


def world_pairs(
    cache: Path, split: Split, count: int, progress: Progress, *, world: str = EMBEDDED.name
) -> tuple[PairSource, Path]:
    """Open the first scenes of a split, and draw them if they are not there as they were drawn.

    Args:
        cache: the folder of all caches.
        split: "train", "validation" or "test".
        count: scenes.
        progress: called while they are drawn.
        world: name of the world, as in data.world.

    Returns:
        The pairs, and the file of their questions.
    """
    named = "" if world == EMBEDDED.name else f"{world}-"
    folder = cache / "world" / f"{named}{split}-{count}-revision-{WORLDS[world].revision}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):  # two runs may begin at once
        source = _whole(cache, folder) if folder.exists() else None
        if source is None:
            if folder.exists():
                logger.warning("%s: is not as it was drawn: it is drawn anew", folder)
                shutil.rmtree(folder)
            export_world(
                folder,
                split=split,
                count=count,
                world=world,
                on_progress=lambda d, t: progress(f"drawing {split} scenes", d, t),
            )
            source = _opened(cache, folder)
            write_whole(folder / "sealed.json", json.dumps(_seal(source, folder)).encode())
    return source, folder / "questions.jsonl"


def _whole(cache: Path, folder: Path) -> PairSource | None:
    """The pairs of a folder, None where anything in it is not what was written."""
    try:
        sealed = json.loads((folder / "sealed.json").read_text(encoding="utf-8"))
        source = _opened(cache, folder)
        return source if _seal(source, folder) == sealed else None
    except (OSError, ValueError, UserError, RecursionError):
        return None


def _opened(cache: Path, folder: Path) -> PairSource:
    return open_pairs("llava", folder / "pairs.json", folder / "images", contents=cache / CONTENTS)


def _seal(source: PairSource, folder: Path) -> dict[str, str]:
    questions = hashlib.sha256((folder / "questions.jsonl").read_bytes()).hexdigest()
    return {"pairs": source.fingerprint(), "questions": questions}
