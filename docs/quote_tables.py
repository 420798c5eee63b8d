"""Put tables of published results into a document, between their marks; `make study` calls this.

    python docs/quote_tables.py results/*.md results/*.txt -- README.md docs/results.md docs/performance.md

<!-- quote: study: Who wins in each scenario -->   the file's name, and the heading of a section or how it begins
...                                                replaced by that section, without its heading
<!-- end of quote -->

"study: summary" is what stands before the first heading, "training: text" all of training.txt, indented. All results
are of the embedded world: a quoted table begins with a line that says what that is; "quote as it is" leaves the line
out, for a table that holds of the real models.
"""

import re
import sys
from pathlib import Path

MARK = re.compile(r"(<!-- quote(?P<plain> as it is)?: (?P<wanted>.+?) -->\n).*?(<!-- end of quote -->)", re.DOTALL)
TABLE = re.compile(r"^\|", re.MULTILINE)
TOY_WORLD = "*Toy world: drawn scenes of 48 x 48 pixels, frozen models of 4 MB.*"


def contents(path: Path) -> dict[str, str]:
    """What may be quoted of one published file."""
    text = path.read_text(encoding="utf-8")
    return {f"{path.stem}: text": indented(text)} if path.suffix == ".txt" else sections(path.stem, text)


def indented(text: str) -> str:
    """Lines as Markdown shows them as they are."""
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


def sections(name: str, tables: str) -> dict[str, str]:
    """ "NAME: HEADING" -> text of each section."""
    before, *rest = re.split(r"^## ", tables, flags=re.MULTILINE)
    found = {f"{name}: summary": before.partition("\n")[2].strip()}
    for part in rest:
        heading, _, body = part.partition("\n")
        found[f"{name}: {heading.strip()}"] = body.strip()
    return found


def quoted(document: str, known: dict[str, str]) -> str:
    """The document with its quotes renewed; ValueError names a heading that no file has."""

    def fill(match: re.Match[str]) -> str:
        wanted = match["wanted"]
        bodies = [body for heading, body in known.items() if heading.startswith(wanted)]
        if not bodies:
            raise ValueError(f"no section begins with {wanted!r}; there are: {', '.join(known)}")
        toy = f"{TOY_WORLD}\n\n" if TABLE.search(bodies[0]) and not match["plain"] else ""
        return f"{match[1]}\n{toy}{bodies[0]}\n\n{match[4]}"

    return MARK.sub(fill, document)


if __name__ == "__main__":
    given = sys.argv[1:]
    results, documents = given[: given.index("--")], given[given.index("--") + 1 :]
    content: dict[str, str] = {}
    for result in map(Path, results):
        content |= contents(result)
    for path in map(Path, documents):
        path.write_text(quoted(path.read_text(encoding="utf-8"), content), encoding="utf-8")
