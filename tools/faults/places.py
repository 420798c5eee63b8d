"""A small federation on the embedded world: three sites with pairs of their own, a server's recipe; all as files.

FOLDER/pairs/SITE/              the site's pairs, each in another format; shared by all schedules
SCHEDULE/SITE.toml, SITE/       what the site keeps
SCHEDULE/server/                the run's folder
SCHEDULE/net/, SCHEDULE/boxes/  sockets: of the network, and of the trainers behind it
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from fedcmp.config import Recipe, parse_recipe
from fedcmp.world.export import Split, export_world

SITES = ("north", "south", "west")
ROUNDS = 3
_COUNTS = {"north": 60, "south": 48, "west": 40}
_SPLITS: dict[str, Split] = {"north": "train", "south": "validation", "west": "test"}


@dataclass(frozen=True)
class Setting:
    """What a schedule's federation trains, and when its server closes a round.

    Attributes:
        method: of the run.
        payload: form of the updates; int8 comes with error feedback, whose residual stays with the site.
        deadline: of a round, as a share of the seconds that a run takes without faults; None: it waits for all sites.
        min_clients: updates that a round needs.
    """

    method: str
    payload: str = "float32"
    deadline: float | None = None
    min_clients: int = len(SITES)


def export_pairs(folder: Path) -> dict[str, dict[str, Any]]:
    """Write the sites' pairs; return each site's [data] keys."""
    llava = export_world(folder / "north", split=_SPLITS["north"], count=_COUNTS["north"], format="llava")
    tars = export_world(folder / "south", split=_SPLITS["south"], count=_COUNTS["south"], format="webdataset")
    tables = export_world(folder / "west", split=_SPLITS["west"], count=_COUNTS["west"], format="parquet")
    return {
        "north": {"format": "llava", "pairs": str(llava / "pairs.json"), "images": str(llava / "images")},
        "south": {"format": "webdataset", "pairs": [str(path) for path in sorted(tars.glob("*.tar"))]},
        "west": {"format": "parquet", "pairs": [str(path) for path in sorted(tables.glob("*.parquet"))]},
    }


class Places:
    """Where a schedule keeps what.

    Args:
        folder: an empty one, with a short path: Unix sockets take 107 bytes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = folder / "server" / "run"
        self.closings = folder / "closings.jsonl"
        self.fired = folder / "fired"

    def state(self, site: str) -> Path:
        """Return the folder in which a site keeps its state."""
        return self.folder / site

    def file(self, site: str) -> Path:
        """Return a site's SITE.toml."""
        return self.folder / f"{site}.toml"

    def network(self, site: str) -> Path:
        """Return the socket by which the server reaches a site."""
        return self.folder / "net" / site

    def trainer(self, site: str) -> Path:
        """Return the socket of a site's trainer."""
        return self.folder / "boxes" / site / "trainer"

    def make(self, pairs: Mapping[str, Mapping[str, Any]]) -> None:
        """Write what a site's operator writes, and make the folders."""
        (self.folder / "net").mkdir(parents=True)
        for site in SITES:
            self.trainer(site).parent.mkdir(parents=True, mode=0o700)
            self.state(site).mkdir()
            for name in ("ca.pem", "site.key"):  # of Flower's, which is not there
                (self.folder / name).touch(mode=0o600)
            content = {
                "site": {"name": site, "server": "127.0.0.1:9000", "folder": str(self.state(site))},
                "data": dict(pairs[site]),
                "limits": {"save_seconds": 0.001},
            }
            self.file(site).write_text(tomli_w.dumps(content), encoding="utf-8")
        self.server.parent.mkdir()

    def recipe(self, setting: Setting, span: float) -> Recipe:
        """Return the server's recipe, where a run without faults takes `span` seconds."""
        federation: dict[str, Any] = {
            "rounds": ROUNDS,
            "min_clients": setting.min_clients,
            "payload": setting.payload,
        }
        content: dict[str, Any] = {
            "run": {
                "name": self.server.name,
                "folder": str(self.server.parent),
                "methods": [setting.method],
                "seed": 3,
            },
            "federation": federation | ({} if setting.deadline is None else {"deadline": setting.deadline * span}),
            "data": {"held_out": 0.2},
            "training": {"batch_size": 4, "learning_rate": 1e-3},
            "evaluation": {"captions": 30},
            "deployment": {"sites": list(SITES), "poll_seconds": 2.0},
        }
        return parse_recipe(content, "the schedule's recipe")
