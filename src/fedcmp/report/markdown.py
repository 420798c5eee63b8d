"""A report as Markdown: the answer in sentences, what ran, what to beware of, then every table under its heading."""

from collections.abc import Iterable, Sequence

from fedcmp.report.tables import Table, escape_markdown, table_to_markdown
from fedcmp.report.verdict import Phrase

CITATION = (
    "The method Fed-CMP is its authors': A Step Toward Federated Pretraining of Multimodal Large Language Models, "
    "arXiv 2603.26786."
)


def render_document(
    *,
    title: str,
    verdict: Sequence[Sequence[Phrase]],
    facts: Sequence[tuple[str, str]],
    warnings: Iterable[str],
    tables: Iterable[tuple[str, Table]],
    toy: str = "",
    notes: Sequence[str] = (),
    subject: str = "What ran",
) -> str:
    """Render a whole report.

    Args:
        title: the heading, plain text, as all texts are.
        verdict: paragraphs; those after the first become a list.
        facts: (name, value) pairs.
        warnings: what a reader must know first.
        tables: (heading, table), in order.
        toy: what of it is the embedded toy world, "" for nothing.
        notes: how to read all of the tables.
        subject: what the facts are about.
    """
    parts = [f"# {escape_markdown(title)}", *([f"*{escape_markdown(toy)}*"] if toy else [])]
    parts.append(phrases_to_markdown(verdict[0]))
    parts += _items([phrases_to_markdown(phrases) for phrases in verdict[1:]])
    said = "; ".join(f"{name.lower()} {value}" for name, value in facts)
    parts += [f"{subject}: {escape_markdown(said)}."] if said else []
    parts += [f"> {escape_markdown(text)}" for text in warnings]
    parts += _items([escape_markdown(note) for note in notes])
    parts += [f"## {escape_markdown(heading)}\n\n{table_to_markdown(table)}" for heading, table in tables]
    parts.append(f"## Citation\n\n{CITATION}")
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def render_tables(beginning: str, tables: Iterable[Table]) -> str:
    """Render a page of tables, each under its caption; those without a row are left out.

    Args:
        beginning: Markdown, heading and all, that ends in a line break.
        tables: in order.
    """
    shown = [f"## {escape_markdown(t.caption)}\n\n{table_to_markdown(t).rstrip()}\n" for t in tables if t.rows]
    return "\n".join([beginning, *shown]).rstrip("\n") + "\n"


def phrases_to_markdown(phrases: Sequence[Phrase]) -> str:
    """Render sentences as one line of Markdown, strong phrases in bold."""
    return "".join(
        f"**{escape_markdown(phrase.text)}**" if phrase.strong else _inner_escape(phrase.text) for phrase in phrases
    ).strip()


def _inner_escape(text: str) -> str:
    """Escape a piece of a sentence, keeping the spaces at its ends that part it from its neighbours."""
    inner = escape_markdown(text)
    return f"{' ' if text[:1] == ' ' else ''}{inner}{' ' if text[-1:] == ' ' and inner else ''}"


def _items(texts: Sequence[str]) -> list[str]:
    return ["\n".join(f"- {text}" for text in texts)] if texts else []
