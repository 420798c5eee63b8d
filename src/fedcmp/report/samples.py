"""Sample pictures with the captions that each method's model wrote, shared words marked by more than colour.

Pictures are read from the run's own folder only, checked by their first bytes, and inlined.
"""

import base64
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from fedcmp.report.methods import Method
from fedcmp.report.records import Sample
from fedcmp.report.summary import Comparison

MOST_SAMPLES = 24
_MOST_BYTES = 2_000_000
_MOST_SHOWN = 2
_TYPES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))
_WORD = re.compile(r"\w+", re.UNICODE)


@dataclass(frozen=True)
class _Caption:
    label: str
    colour: str
    text: str


def sample_cards(comparison: Comparison) -> list[str]:
    """Render one card a picture; pictures of several runs are matched by their key, a method's first seed speaks.

    Args:
        comparison: its methods, in the order of the table.

    Returns:
        Markup of at most MOST_SAMPLES cards; none where no run wrote samples.
    """
    palette = comparison.palette
    found: dict[str, tuple[Path, Sample]] = {}
    captions: dict[str, list[_Caption]] = {}
    for method in comparison.methods:
        run = next((run for run in method.counted if run.samples), None)
        if run is None:
            continue
        names = {f"client-{holding.client}": holding.name for holding in run.holdings}
        for sample in run.samples:
            found.setdefault(sample.key, (run.folder, sample))
            written = sample.captions.items()
            captions.setdefault(sample.key, []).extend(
                _Caption(_label(method, names.get(who, who), len(written)), palette.colour(method.label), text)
                for who, text in written
            )
    chosen = list(found)[:MOST_SAMPLES]
    return [_card(*found[key], captions[key]) for key in chosen]


def mark_shared(caption: str, reference: str) -> tuple[str, int, int]:
    """Mark the words of a caption that are in the reference, each as often as it is there.

    Returns:
        (markup with the shared words in <mark>, how many are shared, how many words the caption has).
    """
    left = Counter(word.lower() for word in _WORD.findall(reference))
    parts, end, shared, words = [], 0, 0, 0
    for match in _WORD.finditer(caption):
        parts.append(escape(caption[end : match.start()]))
        word = match.group()
        words += 1
        if left[word.lower()] > 0:
            left[word.lower()] -= 1
            shared += 1
            parts.append(f"<mark>{escape(word)}</mark>")
        else:
            parts.append(escape(word))
        end = match.end()
    parts.append(escape(caption[end:]))
    return "".join(parts), shared, words


def inline_picture(folder: Path, name: str) -> str | None:
    """Return a picture as a data URI; None where it is missing, too large, no picture, or outside the run's folder."""
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()) or path.stat().st_size > _MOST_BYTES:
            return None
        content = path.read_bytes()
    except (OSError, ValueError):  # ValueError: a name with a null byte
        return None
    kind = next((kind for magic, kind in _TYPES if content.startswith(magic)), None)
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}" if kind else None


def _label(method: Method, who: str, written: int) -> str:
    return method.label if written == 1 else f"{method.label} · {who}"


def _card(folder: Path, sample: Sample, captions: Sequence[_Caption]) -> str:
    uri = inline_picture(folder, sample.image) if sample.image else None
    picture = (
        f'<img src="{uri}" alt="{escape(sample.reference)}"/>'
        if uri
        else '<div class="missing">picture not found</div>'
    )
    group = f'<span class="group">{escape(sample.group)}</span>' if sample.group else ""
    shown, folded = _split(captions)
    rows = "".join(_row(caption, sample.reference) for caption in shown)
    if folded:
        rows_folded = "".join(_row(caption, sample.reference) for caption in folded)
        rows += f"<details><summary>{len(folded)} more, from clients' own models</summary>{rows_folded}</details>"
    return (
        f'<article class="sample">{picture}<div><p class="true"><span class="who">reference</span> '
        f"{escape(sample.reference)} {group}</p>{rows}</div></article>"
    )


def _split(captions: Sequence[_Caption]) -> tuple[list[_Caption], list[_Caption]]:
    """Fold a method's third caption and those after it: five clients' own models would bury the rest."""
    shown: list[_Caption] = []
    folded: list[_Caption] = []
    seen: Counter[str] = Counter()
    for caption in captions:
        seen[caption.colour] += 1
        (shown if seen[caption.colour] <= _MOST_SHOWN else folded).append(caption)
    return shown, folded


def _row(caption: _Caption, reference: str) -> str:
    marked, shared, words = mark_shared(caption.text, reference)
    swatch = f'<span class="swatch" style="background:{escape(caption.colour)}"></span>'
    text = marked or "<em>empty</em>"
    return (
        f'<p class="wrote"><span class="who">{swatch}{escape(caption.label)}</span> {text} '
        f'<span class="detail">{shared} of {words} words</span></p>'
    )
