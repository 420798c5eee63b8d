"""How large an image becomes before it is cropped.

Scaled until its shorter side is 336, one of 1 x 5000 pixels would have half a billion: it is refused before that.
"""

from typing import Any

from fedcmp.errors import UserError

FREE_PIXELS = 4 * 2**20  # an image may have as many after scaling, however long it is
LONGEST = 50  # times its shorter side: what is cropped is then a fiftieth of the image
PIXEL_BYTES = 16  # of an image while it is scaled and cropped, copies included


class TooLargeAfterResizing(UserError):  # noqa: N818 - says what was found
    """An image that the encoder's own preprocessing would scale to too many pixels."""


def most_pixels(side: int) -> int:
    """Return how many pixels an image may have after it was scaled.

    Args:
        side: what its shorter side is scaled to.
    """
    return max(FREE_PIXELS, LONGEST * side * side)


def check_scaled(processor: Any, width: int, height: int) -> None:
    """Refuse an image that becomes too large when its shorter side gets the encoder's.

    Args:
        processor: the encoder's image processor.
        width: of the image.
        height: of the image.

    Raises:
        TooLargeAfterResizing: names both sizes.
    """
    size = getattr(processor, "size", None)
    edge = size.get("shortest_edge") if isinstance(size, dict) else getattr(size, "shortest_edge", None)
    if not edge or not getattr(processor, "do_resize", True):
        return
    factor = edge / max(1, min(width, height))
    if width * factor * height * factor > most_pixels(edge):
        raise TooLargeAfterResizing(
            f"{width} x {height} pixels would become {round(width * factor):,} x {round(height * factor):,}: crop the "
            "image, or leave it out"
        )
