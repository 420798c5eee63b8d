"""From a page's parts to one HTML document: the templates, the style and the script, all in the package.

The page is one file that asks for nothing from outside; its own policy forbids any script but its own, by hash. Every
text is escaped by the templates; only the drawings of `charts`, the style and the script are taken as they are.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


@dataclass(frozen=True)
class Section:
    """A section of a page: its id, its heading, its name in links, and what its part of the template shows."""

    name: str
    heading: str
    link: str
    data: Any


@dataclass(frozen=True)
class Pointer:
    """A remark with the section of the page that shows more, and that section's name."""

    text: str
    section: str
    link: str = ""


def sections_of(headings: Mapping[str, tuple[str, str]], data: Mapping[str, Any]) -> list[Section]:
    """Return the sections that have anything to show, in the order of `headings` (id -> heading, name in links)."""
    return [Section(name, *told, data[name]) for name, told in headings.items() if data.get(name)]


def render(
    template: str,
    *,
    sections: Sequence[Section],
    pointers: Sequence[Pointer],
    methods: Sequence[tuple[str, str, str]] = (),
    refresh: int = 0,
    toy: str = "",
    figure: Any = None,
    **parts: Any,
) -> str:
    """Render a whole HTML document.

    Args:
        template: its file's name.
        sections: in the page's order.
        pointers: where to look next; those to a section that is not there are left out.
        methods: (label, colour, glyph) of what can be hidden and highlighted.
        refresh: seconds after which the page loads itself anew, for a run that still works; 0: never.
        toy: what is the embedded toy world, "" for nothing.
        figure: beside the first sentences, as the template's block for it wants it.
        parts: what the template asks for; of all: title, warnings, verdict (paragraphs of phrases),
            facts, table.
    """
    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    links = {section.name: section.link for section in sections}
    return (
        environment()
        .get_template(template)
        .render(
            **parts,
            sections=sections,
            methods=methods,
            refresh=refresh,
            toy=toy,
            figure=figure,
            pointers=[Pointer(p.text, p.section, links[p.section]) for p in pointers if p.section in links],
            policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
            style=Markup(_asset("page.css")),
            script=Markup(script),
        )
    )


@cache
def environment() -> Environment:
    """Return the templates of the package, every text in them escaped."""
    templates = Environment(
        loader=PackageLoader("fedcmp.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    templates.filters["share"] = lambda value: min(max(value, 0.0), 1.0)
    return templates


def _asset(name: str) -> str:
    return resources.files("fedcmp.report").joinpath("templates", name).read_text(encoding="utf-8")
