"""What an embedding worker does: batches of image files and captions become vectors."""

import json
from collections.abc import Callable

from fedcmp.model.dual_encoder import DualEncoder
from fedcmp.scenarios.embeddings.batches import Embedder, batch_from, frame_of_vectors
from fedcmp.wire.frames import Frame, Header, Tensors
from fedcmp.workers.jobs import Handler


def serve_batches(setup: str) -> Handler:
    """Load the model.

    Args:
        setup: JSON of model, dtype, device, key (of `DualEncoder`), max_pixels and threads (of `Embedder`).

    Raises:
        UserError: the model or the device cannot be used.
    """
    given = json.loads(setup)
    model = DualEncoder(given["model"], dtype=given["dtype"], device=given["device"], key=given["key"])
    embedder = Embedder(model, max_pixels=given["max_pixels"], threads=given["threads"])

    def begin(header: Header, tensors: Tensors) -> Callable[[], Frame]:
        vectors = embedder.begin(batch_from(header, tensors))
        return lambda: frame_of_vectors(vectors())

    return begin
