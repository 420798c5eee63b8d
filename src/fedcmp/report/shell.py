"""The frame that every report's page shares: head, style, script, first screen, footer, and its small pieces.

The page is one file that asks for nothing from outside; its own policy forbids any script but its own, by hash. Text is
escaped here; pieces called markup are taken as they are.
"""

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template

from fedcmp.report.panels import Panel
from fedcmp.report.verdict import Phrase

_MOST_OPEN = 4  # panels of small multiples shown before the rest is folded away


def render_shell(
    *,
    title: str,
    links: Sequence[tuple[str, str]],
    warnings: Sequence[str],
    verdict: str,
    facts: Sequence[tuple[str, str]],
    picture: str,
    table: str,
    pointers: str,
    body: str,
    sentences: str = "",
) -> str:
    """Render a whole HTML document.

    Args:
        title: the heading, plain text.
        links: (section id, name) of the navigation.
        warnings: what a reader must know first, plain texts.
        verdict: markup of the first sentences.
        facts: (name, value) pairs, plain texts.
        picture: markup beside the verdict.
        table: markup under both.
        pointers: markup that ends the first screen.
        body: markup of the sections.
        sentences: markup between the verdict and the facts.
    """
    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return Template(_asset("page.html")).substitute(
        title=escape(title),
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        style=_asset("page.css"),
        script=script,
        links="".join(f'<a href="#{escape(name)}">{escape(text)}</a>' for name, text in links),
        facts=definitions(facts),
        verdict=verdict,
        sentences=sentences,
        warnings=_warnings(warnings),
        picture=picture,
        table=table,
        pointers=pointers,
        body=body,
    )


def section(name: str, heading: str, content: str) -> str:
    """Return a section of the page; `content` is markup."""
    return f'<section id="{escape(name)}"><h2>{escape(heading)}</h2>{content}</section>'


def phrases_html(phrases: Sequence[Phrase]) -> str:
    """Return sentences as markup, strong phrases in bold."""
    return "".join(
        f"<strong>{escape(phrase.text)}</strong>" if phrase.strong else escape(phrase.text) for phrase in phrases
    )


def definitions(pairs: Sequence[tuple[str, str]]) -> str:
    """Return the inside of a list of definitions."""
    return "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs)


def next_steps(pointers: Sequence[tuple[str, str, str]]) -> str:
    """Return the box "where to look next" of (text, section id, section's name), or nothing without any."""
    told = "".join(
        f'<li>{escape(text)} <a href="#{escape(name)}">{escape(link)}</a></li>' for text, name, link in pointers
    )
    return f'<div class="next"><h3>Where to look next</h3><ul>{told}</ul></div>' if told else ""


def grid(kind: str, panels: Sequence[Panel]) -> str:
    """Return panels side by side; `kind` is the style sheet's class."""
    return f'<div class="{kind}">{"".join(panel.html() for panel in panels)}</div>' if panels else ""


def multiples(panels: Sequence[Panel]) -> str:
    """Return a row of small charts; beyond the first ones they are folded: on a phone each takes half a screen."""
    shown, folded = panels[:_MOST_OPEN], panels[_MOST_OPEN:]
    if not folded:
        return grid("small", shown)
    names = escape(", ".join(panel.title for panel in folded))
    count = "One more chart" if len(folded) == 1 else f"{len(folded)} more charts"
    summary = f"<summary>{count}: {names}</summary>"
    return f'{grid("small", shown)}<details class="charts">{summary}{grid("small", folded)}</details>'


def _warnings(texts: Sequence[str]) -> str:
    told = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<ul class="warnings" role="note" aria-label="Unfinished or failed runs">{told}</ul>' if told else ""


def _asset(name: str) -> str:
    return resources.files("fedcmp.report").joinpath(name).read_text(encoding="utf-8")
