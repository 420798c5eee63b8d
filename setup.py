"""Make the description that a package index shows: README.md, whose relative links would lead nowhere there.

With an address under "Repository" in [project.urls] they are made absolute; without one their text is kept and
relative images are left out. All else about the package is in pyproject.toml.
"""

import re
import tomllib
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?://|#|mailto:)([^)\s]+)\)")


def index_readme(readme: str, address: str | None) -> str:
    """Return the README with absolute links, or without the relative ones where no address is known."""

    def absolute(match: re.Match[str]) -> str:
        image, text, place = match.groups()
        if address is None:
            return "" if image else text
        return f"{image}[{text}]({address.rstrip('/')}/{'raw' if image else 'blob'}/HEAD/{place})"

    return _LINK.sub(absolute, readme)


if __name__ == "__main__":
    urls = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"].get("urls", {})
    setup(
        long_description=index_readme((HERE / "README.md").read_text(encoding="utf-8"), urls.get("Repository")),
        long_description_content_type="text/markdown",
    )
