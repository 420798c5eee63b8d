"""Report how many captions are longer than a text tower reads: their ends do not count for similarity."""

from collections.abc import Sequence

from fedcmp.data.quality import logger
from fedcmp.model.dual_encoder import DualEncoder

SAMPLE = 2000  # captions that are looked at


def log_long_captions(model: DualEncoder, captions: Sequence[str], name: str) -> None:
    """Log one line where the model cuts captions.

    Args:
        model: the dual encoder.
        captions: a sample of the collection's.
        name: of the collection.
    """
    cut = model.count_cut(captions)
    if cut:
        logger.warning(
            "%s: %d of %d captions looked at are longer than the %d tokens that the text tower reads; what is beyond "
            "them does not count for similarity",
            *(name, cut, len(captions), model.longest),
        )


def sample_of(count: int) -> range:
    """Return which pairs of a collection to look at: SAMPLE of them, evenly spread."""
    return range(0, count, -(-count // SAMPLE) or 1)
