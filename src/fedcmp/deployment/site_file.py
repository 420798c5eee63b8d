"""Stand-in until the real one lands: SITE.toml."""

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import Field

from fedcmp.config.sections import Section, File, Seconds

SENDABLE = ("projector", "second moments", "gram matrices", "control variates", "alignment error", "losses")


class SiteSection(Section):
    name: str
    server: str = "127.0.0.1:9000"
    certificate: File | None = None
    key: File | None = None
    folder: File = Path("state")


class DataSection(Section):
    format: Literal["llava", "webdataset", "parquet"]
    pairs: File | list[File]
    images: File | None = None
    max_bad_fraction: float = 0.01
    max_pixels: int = 178_956_970
    feature_store: bool = True
    scenario: File | None = None


class ModelSection(Section):
    vision: str = "world"
    language: str = "world"
    device: str = "auto"
    dtype: str | None = None


class Limits(Section):
    threads: int = 1
    memory_gb: float | None = None
    disk_gb: float | None = None
    save_seconds: Seconds | None = 60.0


class Accept(Section):
    methods: list[str] = ["*"]
    recipes: list[str] = []
    max_rounds: int | None = None


class Send(Section):
    allow: list[str] = list(SENDABLE)


class Site(Section):
    site: SiteSection
    data: DataSection
    model: ModelSection = ModelSection()
    limits: Limits = Limits()
    accept: Accept = Accept()
    send: Send = Field(Send())


def read_site(path: Path) -> Site:
    return Site.model_validate(tomllib.loads(path.read_text()))
