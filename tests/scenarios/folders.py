"""Folders of embeddings whose right partition is known."""

from pathlib import Path

from fedcmp.scenarios.embeddings.folder import EmbeddingFolder, write_embedding_shard, write_index


def embedding_folder(folder: Path, images, texts, *, names=None, shard=100, source=None) -> EmbeddingFolder:
    """Write (N, E) embeddings as `fedcmp scenario embed` does, `shard` pairs a file."""
    folder.mkdir(parents=True)
    names = names or [f"pair-{i:05d}" for i in range(len(images))]
    shards = []
    for number, first in enumerate(range(0, len(images), shard)):
        stop = min(first + shard, len(images))
        path = folder / f"shard-{number:05d}.safetensors"
        shards.append(
            write_embedding_shard(
                path, names[first:stop], images[first:stop], texts[first:stop], key="key", first=first, stop=stop
            )
        )
    write_index(
        folder,
        shards,
        width=images.shape[1],
        model={"name": "model", "fingerprint": "m"},
        source=source or {"name": "pairs", "fingerprint": "s"},
    )
    return EmbeddingFolder(folder)
