"""Sample images with the captions that each method's model wrote, shared words marked by more than colour.

Images are read from the run's own folder only, checked by their first bytes, and inlined.
"""

import base64
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcmp.report.comparison import Comparison
from fedcmp.report.verdict import Phrase
from fedcmp.runs.records import Sample

MOST_SAMPLES = 24
_MOST_BYTES = 2_000_000
_MOST_SHOWN = 2
_TYPES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))
_WORD = re.compile(r"\w+", re.UNICODE)


@dataclass(frozen=True)
class Caption:
    """What one model wrote: its label and colour, the text in pieces (strong ones are in the reference), counts."""

    label: str
    colour: str
    glyph: str
    pieces: list[Phrase]
    shared: int
    words: int


@dataclass(frozen=True)
class Card:
    """One image ("" where it was not found) with its reference and the captions, some of them folded away."""

    uri: str
    reference: str
    group: str
    shown: list[Caption]
    folded: list[Caption]


def sample_cards(comparison: Comparison) -> list[Card]:
    """Make one card per image; images of several runs are matched by their key, a method's first seed speaks.

    Args:
        comparison: its methods, in the order of the table.

    Returns:
        At most MOST_SAMPLES cards; none where no run wrote samples.
    """
    palette = comparison.palette
    found: dict[str, tuple[Path, Sample]] = {}
    captions: dict[str, list[Caption]] = {}
    for method in comparison.methods:
        run = next((run for run in method.counted if run.samples), None)
        if run is None:
            continue
        names = {f"client-{holding.client}": holding.name for holding in run.holdings}
        for sample in run.samples:
            _, first = found.setdefault(sample.key, (run.folder, sample))
            for who, text in sample.captions.items():
                label = method.label if len(sample.captions) == 1 else f"{method.label} · {names.get(who, who)}"
                marked = Caption(
                    label,
                    palette.colour(method.label),
                    palette.glyph(method.label),
                    *mark_shared(text, first.reference),
                )
                captions.setdefault(sample.key, []).append(marked)
    return [_card(*found[key], captions.get(key, [])) for key in list(found)[:MOST_SAMPLES]]


def mark_shared(caption: str, reference: str) -> tuple[list[Phrase], int, int]:
    """Mark the words of a caption that are in the reference, each as often as it is there.

    Returns:
        (pieces, the shared words strong, how many are shared, how many words the caption has).
    """
    left = Counter(word.lower() for word in _WORD.findall(reference))
    pieces: list[Phrase] = []
    end, shared, words = 0, 0, 0
    for match in _WORD.finditer(caption):
        word = match.group()
        words += 1
        if left[word.lower()] > 0:
            left[word.lower()] -= 1
            shared += 1
            pieces += [Phrase(caption[end : match.start()]), Phrase(word, True)]
            end = match.end()
    return [piece for piece in (*pieces, Phrase(caption[end:])) if piece.text], shared, words


def inline_image(folder: Path, name: str) -> str | None:
    """Return an image as a data URI; None where it is missing, too large, no image, or outside the run's folder."""
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()) or path.stat().st_size > _MOST_BYTES:
            return None
        content = path.read_bytes()
    except (OSError, ValueError):  # ValueError: a name with a null byte
        return None
    kind = next((kind for magic, kind in _TYPES if content.startswith(magic)), None)
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}" if kind else None


def _card(folder: Path, sample: Sample, captions: Sequence[Caption]) -> Card:
    uri = inline_image(folder, sample.image) if sample.image else None
    return Card(uri or "", sample.reference, sample.group, *_split(captions))


def _split(captions: Sequence[Caption]) -> tuple[list[Caption], list[Caption]]:
    """Fold a method's third caption and those after it: five clients' own models would bury the rest."""
    shown: list[Caption] = []
    folded: list[Caption] = []
    seen: Counter[str] = Counter()
    for caption in captions:
        seen[caption.colour] += 1
        (shown if seen[caption.colour] <= _MOST_SHOWN else folded).append(caption)
    return shown, folded
