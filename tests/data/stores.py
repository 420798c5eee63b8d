"""A small feature store with two bad pairs."""

from pathlib import Path

from fedcmp.data.store import FeatureStore, build_feature_store

from .helpers import FakeEncoder, list_source

MISSING = (4, 11)


def built(folder: Path, **options: object) -> FeatureStore:
    return build_feature_store(
        list_source(20, missing=MISSING), FakeEncoder(), folder, shard_size=6, max_bad_fraction=0.2, **options
    )


def files(folder: Path) -> dict[str, bytes]:
    """All of a store's files but the lock."""
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.*")) if path.suffix != ".lock"}
