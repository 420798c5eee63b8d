"""The words of the untouched world. All are of the embedded world's vocabulary: its LLM knows no others."""

from fedcmp.world.words import SHAPES, WRITTEN_WORDS

STYLES = ("pen", "ice", "rug", "net", "map", "toy")
STYLE_PHRASES = {style: f"{style} picture" for style in STYLES}
THINGS = ("sun", "box", "cup", "hat", "key", "egg", "bed", "bus")
ANIMALS = ("cat", "dog", "pig", "fox", "owl")
BEARINGS = ("up", "up right", "right", "down right", "down", "down left", "left", "up left")  # eighths, clockwise
OUTER_SHAPES = tuple(shape for shape in SHAPES if shape in ("circle", "square", "diamond", "heart"))
COLUMN_WORDS = tuple(word for word in WRITTEN_WORDS if word not in STYLES)  # a style's word says the style only
