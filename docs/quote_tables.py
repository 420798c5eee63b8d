"""Put the tables of a study's report into a document, between their marks; `make study` calls this.

<!-- quote: Who wins in each scenario -->      the heading of a section of tables.md, or how it begins
...                                            replaced by that section, without its heading
<!-- end of quote -->
"""

import re
import sys
from pathlib import Path

MARK = re.compile(r"(<!-- quote: (?P<heading>.+?) -->\n).*?(<!-- end of quote -->)", re.DOTALL)


def sections(tables: str) -> dict[str, str]:
    """Heading -> text of each section; "" is what stands before the first, without the title."""
    before, *rest = re.split(r"^## ", tables, flags=re.MULTILINE)
    found = {"": before.partition("\n")[2].strip()}
    for part in rest:
        heading, _, body = part.partition("\n")
        found[heading.strip()] = body.strip()
    return found


def quoted(document: str, tables: str) -> str:
    """The document with its quotes renewed; ValueError names a heading that the tables do not have."""
    known = sections(tables)

    def fill(match: re.Match[str]) -> str:
        wanted = match["heading"]
        bodies = [body for heading, body in known.items() if heading and heading.startswith(wanted)]
        if wanted == "summary":
            bodies = [known[""]]
        if not bodies:
            raise ValueError(
                f"no section of the tables begins with {wanted!r}; there are: {', '.join(filter(None, known))}"
            )
        return f"{match[1]}\n{bodies[0]}\n\n{match[3]}"

    return MARK.sub(fill, document)


if __name__ == "__main__":
    tables_path, *documents = map(Path, sys.argv[1:])
    content = tables_path.read_text(encoding="utf-8")
    for path in documents:
        path.write_text(quoted(path.read_text(encoding="utf-8"), content), encoding="utf-8")
