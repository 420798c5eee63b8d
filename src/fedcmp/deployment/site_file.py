"""SITE.toml: what a site is, what it holds, what it accepts and what it is willing to send.

It is read on the site's machine only. Nothing that a server sends can change a value of it: a recipe says how to train,
the site's file says on what, with which copy of the model, within which limits, and what may leave.
"""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from fedcmp.config.mistakes import first_mistake
from fedcmp.config.sections import File, Fraction, ModelName, Seconds, Section, SiteName, Text
from fedcmp.deployment.addresses import check_address
from fedcmp.errors import UserError

_LONGEST = 1_000_000  # bytes of a site's file

Sendable = Literal[
    "projector", "second moments", "gram matrices", "control variates", "alignment error", "losses", "counts"
]
SENDABLE: tuple[Sendable, ...] = (
    "projector",
    "second moments",
    "gram matrices",
    "control variates",
    "alignment error",
    "losses",
    "counts",
)
_Kind = TypeVar("_Kind", bound=Section)
Port = Annotated[int, Field(ge=1, le=65535)]
Checksum = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SiteIdentity(Section):
    """Who the site is, which server it works with, and where it keeps its own files."""

    name: SiteName = Field(description="name of the site, as the server registered its key")
    server: Annotated[str, AfterValidator(check_address)] = Field(
        description='address of the server, "host:port"; the host must be one that the server\'s certificate names'
    )
    certificate: File = Field(
        Path("ca.pem"), description="certificate of the federation's authority, as the server's operator handed it over"
    )
    key: File = Field(
        Path("site.key"), description="private key of the site, which `fedcmp keys new` makes; it never leaves the site"
    )
    folder: File = Field(
        Path("state"), description="folder for what the site keeps: its own state, the feature cache, logs"
    )
    node_port: Port | None = Field(
        None, description="port on this machine's loopback that the SuperNode uses; default: one that is free"
    )


class SiteData(Section):
    """The site's own pairs. No message of the server can name other ones."""

    format: Literal["llava", "webdataset", "parquet"] = Field(
        description="format of the pairs: LLaVA's JSON, WebDataset tars, or parquet files"
    )
    pairs: File | list[File] = Field(description="JSON/JSONL files, tar shards or parquet files")
    images: File | None = Field(
        None, description="image folder that paths in LLaVA's JSON start from; default: the folder of the first file"
    )
    scenario: File | None = Field(
        None,
        description="this site's share of a scenario, written by `fedcmp scenario split`: which pairs it trains on in "
        "which round, and which it holds out; default: all pairs, split by the recipe's seed",
    )
    max_bad_fraction: Fraction = Field(
        0.01, description="maximum share of unusable pairs; the site does not train above it"
    )
    max_pixels: int = Field(
        178_956_970, ge=1, le=10**10, description="maximum pixels of an image; larger ones are refused undecoded"
    )
    feature_store: bool = Field(
        True, description="encode each image once and keep its features on disk; false: encode images in every round"
    )


class SiteModel(Section):
    """The site's own copies of the frozen parts. A recipe cannot make the site load others."""

    vision: ModelName = Field(
        "world", description="frozen image encoder: 'world' (the embedded one), a folder, or a hub name"
    )
    language: ModelName = Field("world", description="frozen LLM: 'world' (the embedded one), a folder, or a hub name")
    device: Text = Field("auto", description="device of the frozen parts: auto (a GPU if there is one), cpu, cuda, ...")
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="data type of the frozen parts; default: the recipe's"
    )


class SiteLimits(Section):
    """What the site's work may take of its machine."""

    threads: int = Field(1, ge=1, le=1024, description="CPU threads of the trainer")
    memory_gb: float | None = Field(
        None, gt=0, le=10**6, description="main memory that the trainer may use; more is refused before training begins"
    )
    disk_gb: float | None = Field(
        None, gt=0, le=10**6, description="disk space that the site's folder may take, feature cache included"
    )
    save_seconds: Seconds = Field(
        300.0, description="seconds between saves within a round, from which a killed trainer resumes"
    )


class SiteAccept(Section):
    """Which work the site accepts; a request beyond it is refused in one line that both sides see."""

    methods: list[Text] = Field(
        ["*"], min_length=1, max_length=1000, description='names of the methods that may run here; ["*"]: any'
    )
    recipes: list[Checksum] = Field(
        [],
        max_length=10**4,
        description="sha256 of the recipes that may run here, as `fedcmp serve` prints it; empty: any recipe",
    )
    max_rounds: int | None = Field(
        None, ge=1, le=10**6, description="maximum number of rounds of a recipe; default: no limit"
    )


class SiteSend(Section):
    """What the site is willing to send."""

    allow: list[Sendable] = Field(
        list(SENDABLE),
        max_length=len(SENDABLE),
        description="what may leave the site: projector (the trained tensors), second moments (of AdamW), gram "
        "matrices (means of x x^T over what a layer is fed), control variates (of SCAFFOLD and FedMuon; momenta), "
        "alignment error, losses, counts (numbers of examples and tokens)",
    )


class Site(Section):
    """A site's whole file; its paths are absolute once `read_site` has read it."""

    site: SiteIdentity
    data: SiteData
    model: SiteModel = SiteModel()
    limits: SiteLimits = SiteLimits()
    accept: SiteAccept = SiteAccept()
    send: SiteSend = SiteSend()

    def accepts_method(self, name: str) -> bool:
        """Return whether a method of that name may run here."""
        return "*" in self.accept.methods or name in self.accept.methods

    def accepts_recipe(self, checksum: str) -> bool:
        """Return whether a recipe with that sha256 (lower-case hexadecimal) may run here."""
        return not self.accept.recipes or checksum in self.accept.recipes

    def sends(self, kind: Sendable) -> bool:
        """Return whether that kind of content may leave the site."""
        return kind in self.send.allow


def read_site(path: Path, *, present: bool = True) -> Site:
    """Read and check a site's file.

    Relative paths are taken from the file's own folder. Names of models are left as they are unless such a folder is
    there.

    Args:
        path: a TOML file.
        present: check also that the pairs, the share, the certificate and the key are there.

    Raises:
        UserError: no such file, no TOML, an unknown key, a wrong type, a path that is not there: names file and key.
    """
    return site_from(read_toml(path), path, present=present)


def site_from(content: dict[str, Any], path: Path, *, present: bool) -> Site:
    """Return a site's file that has been read, checked; see `read_site`."""
    site = parsed(Site, content, path)
    if len(set(site.send.allow)) != len(site.send.allow):
        raise UserError(f"{path}: send.allow: names something twice")
    with naming(path):
        site = _from_folder(site, path.absolute().parent)
        if present:
            _check_present(site, path)
    return site


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn what the system refuses into a UserError that names the file which asks for it."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: names {error.filename}: {error.strerror}; check the path") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Return what is in a site's or an edge server's file.

    Raises:
        UserError: no such file, or no TOML.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_LONGEST + 1)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `fedcmp serve --new-lab DIR` writes examples") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; name the site's TOML file in it") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if len(raw) > _LONGEST:
        raise UserError(f"{path}: is larger than {_LONGEST // 10**6} MB; is it a site's file?")
    try:
        return tomllib.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error


def parsed(kind: type[_Kind], content: dict[str, Any], path: Path) -> _Kind:
    """Return a file's content, checked.

    Raises:
        UserError: names file and key.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {first_mistake(error, content, kind)}") from error


def identity_from(own: SiteIdentity, folder: Path) -> SiteIdentity:
    """Return an identity whose paths start at its file's folder."""
    places = {key: folder / getattr(own, key).expanduser() for key in ("certificate", "key", "folder")}
    return own.model_copy(update=places)


def check_identity(own: SiteIdentity, source: Path) -> None:
    """Refuse an identity without certificate or key.

    Raises:
        UserError: names file and key, and says where they come from.
    """
    if not own.certificate.is_file():
        raise UserError(
            f"{source}: site.certificate = {str(own.certificate)!r}: no such file; the server's operator has it "
            "(certificates/ca.pem of the server's folder)"
        )
    if not own.key.is_file():
        raise UserError(f"{source}: site.key = {str(own.key)!r}: no such file; `fedcmp keys new {source}` makes it")
    if own.folder.exists() and not own.folder.is_dir():
        raise UserError(f"{source}: site.folder = {str(own.folder)!r}: is a file; name a folder")


def _from_folder(site: Site, folder: Path) -> Site:
    def at(path: Path) -> Path:
        return folder / path.expanduser()

    def maybe(path: Path | None) -> Path | None:
        return None if path is None else at(path)

    def part(name: str) -> str:
        here = at(Path(name))
        return str(here) if name != "world" and here.is_dir() else name

    own, data, model = site.site, site.data, site.model
    pairs = [at(path) for path in data.pairs] if isinstance(data.pairs, list) else at(data.pairs)
    moved = {"pairs": pairs, "images": maybe(data.images), "scenario": maybe(data.scenario)}
    parts = {key: part(getattr(model, key)) for key in ("vision", "language")}
    return site.model_copy(
        update={
            "site": identity_from(own, folder),
            "data": data.model_copy(update=moved),
            "model": model.model_copy(update=parts),
        }
    )


def _check_present(site: Site, source: Path) -> None:
    pairs = site.data.pairs if isinstance(site.data.pairs, list) else [site.data.pairs]
    if not pairs:
        raise UserError(f"{source}: data.pairs: names no file; give at least one")
    for path in pairs:
        patterned = site.data.format != "llava" and frozenset("{}[]*?") & set(str(path))
        if not patterned and not path.exists():
            raise UserError(f"{source}: data.pairs = {str(path)!r}: no such file or folder")
    for key in ("images", "scenario"):
        folder = getattr(site.data, key)
        if folder is not None and not folder.is_dir():
            raise UserError(f"{source}: data.{key} = {str(folder)!r}: no such folder")
    check_identity(site.site, source)
