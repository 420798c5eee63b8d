"""Held-out pictures that a report shows: chosen and copied once, captioned by every model.

prepared/samples.json: [{"position", "key", "group", "reference", "image"}]; a run's own samples.json adds "captions".
"""

import json
import shutil
from pathlib import Path
from typing import Any

from fedcmp.checksums import sealed
from fedcmp.data.images import decode_image
from fedcmp.data.pairs import PairSource
from fedcmp.data.quality import BadPair
from fedcmp.errors import UserError
from fedcmp.files import write_whole

_LARGEST_SIDE = 512


def choose(groups: list[str], count: int) -> list[int]:
    """Positions of `count` held-out pairs, one of each group in turn."""
    by_group: dict[str, list[int]] = {}
    for position, group in enumerate(groups):
        by_group.setdefault(group, []).append(position)
    turns = max(map(len, by_group.values()), default=0)
    in_turn = [
        by_group[group][turn] for turn in range(turns) for group in sorted(by_group) if turn < len(by_group[group])
    ]
    return in_turn[:count]


def keep_pictures(
    folder: Path, positions: list[int], places: list[tuple[PairSource, int]], groups: list[str], *, max_pixels: int
) -> None:
    """Copy the chosen pictures and write samples.json.

    Args:
        folder: `prepared/` of the run.
        positions: the chosen held-out pairs.
        places: where each of them lies: its source and its index there.
        groups: the group of each of them.
        max_pixels: see data/images.py.

    Raises:
        UserError: one of them cannot be read any more.
    """
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    for number, (position, (source, index), group) in enumerate(zip(positions, places, groups, strict=True)):
        try:
            picture = decode_image(source.read_image(index), max_pixels=max_pixels)
        except BadPair as bad:
            raise UserError(f"{source.locate(index)}: {bad}: start again, and leave the files alone") from None
        picture.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
        name = f"samples/{number}.png"
        picture.save(folder / name)
        pair = source.pair(index)
        entries.append(
            {"position": position, "key": pair.key, "group": group, "reference": pair.caption, "image": name}
        )
    write_whole(folder / "samples.json", json.dumps(entries, indent=1).encode())


def sample_positions(prepared: Path) -> list[int]:
    """The held-out pairs that were chosen."""
    return [int(entry["position"]) for entry in _entries(prepared)]


def write_samples(prepared: Path, run: Path, captions: list[dict[str, str]]) -> None:
    """A run's own samples.json and pictures.

    Args:
        prepared: of the run.
        run: the method's folder.
        captions: who -> what it wrote, one a chosen picture.
    """
    shutil.copytree(prepared / "samples", run / "samples", dirs_exist_ok=True)
    entries = [sealed(entry | {"captions": said}) for entry, said in zip(_entries(prepared), captions, strict=True)]
    write_whole(run / "samples.json", json.dumps(entries, indent=1, ensure_ascii=False).encode())


def _entries(prepared: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((prepared / "samples.json").read_text(encoding="utf-8"))
    return entries
