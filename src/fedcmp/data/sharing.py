"""One feature store made by several ranks: what the others do while rank 0 is in `store.build_feature_store`.

A store's shards are divided, not the pictures: a shard is encoded in batches of its own, so every file has the bytes
that one process would have written. Shares are consecutive, so each rank reads its own stretch of the tars or parquet
files, from one end to the other, and it does not matter how many of those files there are.
"""

from pathlib import Path

from fedcmp.data.building import ShardBuilder
from fedcmp.data.feature_forms import FeatureDtype, feature_form
from fedcmp.data.features import ImageEncoder, feature_shape
from fedcmp.data.images import DEFAULT_MAX_PIXELS
from fedcmp.data.quality import BadPairs
from fedcmp.data.source import PairSource
from fedcmp.data.store import feature_key, store_folder
from fedcmp.distributed import Group
from fedcmp.errors import UserError


def build_share(
    source: PairSource,
    encoder: ImageEncoder,
    folder: Path,
    *,
    shard_size: int,
    group: Group,
    feature_dtype: FeatureDtype = "float16",
    batch_size: int = 64,
    max_bad_fraction: float = 0.05,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    decode_threads: int = 1,
) -> None:
    """Make this rank's share of the shards.

    Arguments and errors are those of `build_feature_store`; `shard_size` is what rank 0 said.

    Raises:
        UserError: rank 0's store is not in `folder`: the ranks see other disks, pairs or encoders.
    """
    key = feature_key(encoder, source, feature_dtype, max_pixels=max_pixels)
    target = store_folder(folder, key)
    if not target.is_dir():
        raise UserError(
            f"{target}: rank {group.rank} does not see the feature store that rank 0 has begun: set run.cache to a "
            "folder that all machines share, and give all of them the same pairs and encoder"
        )
    total = len(source) + len(source.rejected)
    builder = ShardBuilder(
        source=source,
        encoder=encoder,
        key=key,
        shape=feature_shape(encoder),
        form=feature_form(feature_dtype),
        batch_size=batch_size,
        max_pixels=max_pixels,
        decode_threads=decode_threads,
        ledger=BadPairs(source.name, total=total, max_bad_fraction=max_bad_fraction),
        progress=lambda _done, _total: None,
    )
    builder.shards(target, shard_size, group)
