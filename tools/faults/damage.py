"""Files that are torn while the process whose they are is down, and what their owner does about it."""

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedcmp.runs.record_files import checkpoint_folders
from tools.faults.places import Places


@dataclass(frozen=True)
class Torn:
    """A file that was cut off: its content before and after."""

    path: Path
    before: bytes
    after: bytes

    def repair(self, said: str) -> None:
        """Do what was said: remove its folder where that is the advice, else restore the file as it was.

        A file that was written again meanwhile is left alone.
        """
        if "remove this folder" in said and str(self.path.parent) in said:
            shutil.rmtree(self.path.parent)
        elif self.path.exists() and self.path.read_bytes() == self.after:
            self.path.write_bytes(self.before)


def tear(places: Places, site: str, what: str, draw: random.Random) -> Torn | None:
    """Cut a file off at its middle; None where there is none.

    Args:
        places: of the run.
        site: whose; "" is the server.
        what: a key of plan.OF_SERVER or plan.OF_SITE.
        draw: which of several.
    """
    files = sorted(path for path in _files(places, site, what) if path.is_file() and path.stat().st_size > 1)
    if not files:
        return None
    path = draw.choice(files)
    before = path.read_bytes()
    after = before[: len(before) // 2]
    path.write_bytes(after)
    return Torn(path, before, after)


def _files(places: Places, site: str, what: str) -> Iterator[Path]:
    server, state = places.server, places.state(site)
    match what:
        case "newest checkpoint":
            for folder in checkpoint_folders(server)[-1:]:
                yield from folder.iterdir()
        case "waiting reply":
            yield from server.glob("waiting/*/*.safetensors")
        case "records":
            yield server / "metrics.jsonl"
        case "register":
            yield server / "sites.json"
        case "state":
            yield from state.glob("runs/*/methods/*/round-*.safetensors")
        case "middle of a part":
            yield from state.glob("runs/*/methods/*/part.safetensors")
        case "last reply":
            yield from state.glob("runs/*/methods/*/reply.safetensors")
        case "recipe":
            yield from state.glob("runs/*/recipe.toml")
        case "place":
            yield from state.glob("runs/*/placement.json")
        case "ticket":
            yield from state.glob("runs/*/ticket.json")
        case "prepared pairs":
            yield from state.glob("runs/*/prepared-*/*")
        case "features":
            yield from (path for path in state.glob("cache/**/*") if path.suffix != ".lock")
        case _:
            raise ValueError(what)
