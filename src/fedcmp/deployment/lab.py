"""A federation to try on one machine: a server's folder and a folder per site, each with pairs of its own.

    server/federation.toml                the recipe
    server/certificates/, server/sites/   the authority, the server's certificate, the sites' public keys
    site-1/SITE.toml, site.key, ca.pem    what a site needs
    site-1/pairs/                         drawn by the embedded world: LLaVA's JSON here, WebDataset tars at site-2,
                                          parquet at site-3, and so on in turn

All paths in the files are relative, so that a folder can be moved to another machine.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tomli_w

from fedcmp.config.keys import toml_value
from fedcmp.deployment.addresses import joined_address
from fedcmp.deployment.certificates import make_authority, make_server_certificate
from fedcmp.deployment.server_folder import ServerFolder
from fedcmp.deployment.site_keys import make_site_key, public_path, register_site
from fedcmp.errors import UserError
from fedcmp.files import cannot_be_written
from fedcmp.world.export import SPLITS, export_world
from fedcmp.world.scene import make_scenes
from fedcmp.world.words import STYLES

HOST = "127.0.0.1"
ROUNDS = 3
_LOOKED_THROUGH = 4096  # scenes at a time
_FORMATS: tuple[tuple[Literal["llava", "webdataset", "parquet"], dict[str, str]], ...] = (
    ("llava", {"pairs": "pairs/pairs.json", "images": "pairs/images"}),
    ("webdataset", {"pairs": "pairs/shard-*.tar"}),
    ("parquet", {"pairs": "pairs/pairs.parquet"}),
)


@dataclass(frozen=True)
class Lab:
    """What was written.

    Attributes:
        recipe: the server's recipe.
        site_files: each site's SITE.toml.
        commands: what to type next.
    """

    recipe: Path
    site_files: tuple[Path, ...]
    commands: tuple[str, ...]


def new_lab(
    folder: Path,
    *,
    sites: int,
    pairs: int,
    port: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Lab:
    """Write a lab; the folder appears whole or not at all.

    Args:
        folder: must not exist yet, or be empty.
        sites: number of sites.
        pairs: of each site.
        port: of the server.
        on_progress: called with images drawn and their total.

    Raises:
        UserError: the folder holds something, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is not empty; give a new folder")
    names = [f"site-{number + 1}" for number in range(sites)]
    new = folder.absolute().with_name(f".{folder.absolute().name}.{os.getpid()}")
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir(parents=True, mode=0o700)
        server = ServerFolder(new / "server")
        server.home.mkdir(mode=0o700)
        certificates = make_authority(server.certificates.folder, name="fedcmp lab")
        make_server_certificate(certificates, [HOST])
        (server.home / "federation.toml").write_text(_recipe(names), encoding="utf-8")
        drawn = _divide(sites, pairs)
        for number, name in enumerate(names):
            site, done = new / name, number * pairs
            site.mkdir(mode=0o700)
            format, files = _FORMATS[number % len(_FORMATS)]
            export_world(
                site / "pairs",
                split="train",
                count=pairs,
                format=format,
                indices=drawn[number],
                on_progress=_within(on_progress, done, sites * pairs),
            )
            shutil.copyfile(certificates.authority, site / "ca.pem")
            make_site_key(site / "site.key", name)
            register_site(server.sites, name, public_path(site / "site.key"))
            (site / "SITE.toml").write_text(_site(name, port, format, files), encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        new.rename(folder)
    except OSError as error:
        raise cannot_be_written(folder, error) from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
    recipe = folder / "server" / "federation.toml"
    site_files = tuple(folder / name / "SITE.toml" for name in names)
    commands = [f"fedcmp serve {recipe} --address {HOST} --port {port}"]
    commands += [f"fedcmp join {path}" for path in site_files]
    commands += [f"fedcmp status {folder / 'server'}"]
    return Lab(recipe, site_files, tuple(commands))


def _within(
    on_progress: Callable[[int, int], None] | None, before: int, total: int
) -> Callable[[int, int], None] | None:
    return None if on_progress is None else lambda done, _all: on_progress(before + done, total)


def _divide(sites: int, pairs: int) -> list[list[int]]:
    """Return each site's scenes of the training stream: other styles at every site, as far as there are styles."""
    drawn: list[list[int]] = [[] for _ in range(sites)]
    start = 0
    while min(map(len, drawn)) < pairs:
        scenes = make_scenes(SPLITS["train"], start, _LOOKED_THROUGH, images=False)
        kinds: Sequence[int] = scenes.styles.tolist() if sites <= len(STYLES) else range(_LOOKED_THROUGH)
        for index, kind in zip(scenes.indices.tolist(), kinds, strict=True):
            if len(drawn[kind % sites]) < pairs:
                drawn[kind % sites].append(index)
        start += _LOOKED_THROUGH
    return drawn


def _recipe(names: Sequence[str]) -> str:
    return f"""\
# A federation to try: {len(names)} sites with pairs of their own, two methods one after the other.
# What a key means: fedcmp config KEY

[run]
name = "lab"
methods = ["fedavg", "shared-basis"]

[federation]
rounds = {ROUNDS}
min_clients = {min(2, len(names))}      # a round counts with so many replies
deadline = 600      # seconds after which a round is closed without the others

[data]
held_out = 0.1      # share of each site's pairs that it keeps for evaluation

[training]
batch_size = 16

[evaluation]
captions = 64
questions_per_kind = 0
samples = 0

[deployment]
sites = {toml_value(list(names))}      # in the order of their client numbers
"""


def _site(name: str, port: int, format: str, files: dict[str, str]) -> str:
    content = {
        "site": {
            "name": name,
            "server": joined_address(HOST, port),
            "certificate": "ca.pem",
            "key": "site.key",
            "folder": "state",
        },
        "data": {"format": format, **files},
        "limits": {"threads": 1, "save_seconds": 60},
        "accept": {"methods": ["fedavg", "fedcmp", "shared-basis"], "max_rounds": 100},
    }
    return (
        f"# Site {name}: what it is, what it holds, what it accepts. Paths start at this file's folder.\n"
        "# All keys: docs/deployment.md. The server can change none of them.\n\n" + tomli_w.dumps(content)
    )
