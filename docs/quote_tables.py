"""Put tables of studies' reports into a document, between their marks; `make study` calls this.

    python docs/quote_tables.py results/*/report/tables.md -- docs/results.md docs/scenarios.md

<!-- quote: study: Who wins in each scenario -->   the study's folder, and the heading of a section or how it begins
...                                                replaced by that section, without its heading
<!-- end of quote -->

"study: summary" is what stands before the first heading.
"""

import re
import sys
from pathlib import Path

MARK = re.compile(r"(<!-- quote: (?P<wanted>.+?) -->\n).*?(<!-- end of quote -->)", re.DOTALL)


def sections(study: str, tables: str) -> dict[str, str]:
    """ "STUDY: HEADING" -> text of each section."""
    before, *rest = re.split(r"^## ", tables, flags=re.MULTILINE)
    found = {f"{study}: summary": before.partition("\n")[2].strip()}
    for part in rest:
        heading, _, body = part.partition("\n")
        found[f"{study}: {heading.strip()}"] = body.strip()
    return found


def quoted(document: str, known: dict[str, str]) -> str:
    """The document with its quotes renewed; ValueError names a heading that no study has."""

    def fill(match: re.Match[str]) -> str:
        wanted = match["wanted"]
        bodies = [body for heading, body in known.items() if heading.startswith(wanted)]
        if not bodies:
            raise ValueError(f"no section begins with {wanted!r}; there are: {', '.join(known)}")
        return f"{match[1]}\n{bodies[0]}\n\n{match[3]}"

    return MARK.sub(fill, document)


if __name__ == "__main__":
    given = sys.argv[1:]
    reports, documents = given[: given.index("--")], given[given.index("--") + 1 :]
    content: dict[str, str] = {}
    for report in map(Path, reports):
        content |= sections(report.parent.parent.name, report.read_text(encoding="utf-8"))
    for path in map(Path, documents):
        path.write_text(quoted(path.read_text(encoding="utf-8"), content), encoding="utf-8")
