"""The words of the embedded world: colours, shapes, styles and all that a caption, question or answer may say."""

COLOR_VALUES: dict[str, tuple[int, int, int]] = {
    "red": (214, 39, 40),
    "green": (44, 160, 60),
    "blue": (38, 70, 220),
    "yellow": (240, 205, 30),
    "purple": (140, 50, 180),
    "orange": (250, 130, 20),
    "cyan": (30, 195, 210),
    "pink": (245, 120, 185),
}
COLORS = tuple(COLOR_VALUES)
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "diamond", "heart")
PLURALS = {shape: "crosses" if shape == "cross" else shape + "s" for shape in SHAPES}
SIZES = ("small", "medium", "large")
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "center", "right")
DIRECTIONS = ("up", "right", "down", "left")
STYLES = ("photo", "sketch", "night", "negative", "noisy", "painting")
STYLE_PHRASES = {"night": "night picture", "noisy": "noisy picture"}
MOODS = ("happy", "sad", "surprised", "sleepy")
TEXTURES = ("horizontal stripes", "vertical stripes", "diagonal stripes", "checks", "dots", "grid")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WRITTEN_WORDS = [
    "cat",
    "dog",
    "sun",
    "box",
    "cup",
    "hat",
    "pig",
    "bus",
    "key",
    "map",
    "ice",
    "jam",
    "fox",
    "owl",
    "bed",
    "pen",
    "zip",
    "net",
    "van",
    "log",
    "rug",
    "egg",
    "toy",
    "gum",
]
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
DIGITS = tuple("0123456789")
QUESTION_KINDS = ("existence", "count", "attribute", "relation", "ocr", "style", "choice")


def article(noun_phrase: str) -> str:
    """The indefinite article before a noun phrase."""
    return "an" if noun_phrase[0] in "aeiou" else "a"


def with_article(noun_phrase: str) -> str:
    """'red circle' -> 'a red circle'."""
    return f"{article(noun_phrase)} {noun_phrase}"


def place(cell: int) -> str:
    """Where a cell of the 3 x 3 grid lies, cells counted row by row from the top left."""
    return f"at the {ROWS[cell // 3]} {COLUMNS[cell % 3]}"
