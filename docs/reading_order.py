"""Count the files and lines that one round of `fedcmp train` passes through, as docs/architecture.md lists them.

python docs/reading_order.py
"""

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROW = re.compile(r"^\| `(?P<file>[a-z_/]+\.py)` \|", re.MULTILINE)


def reading_order() -> dict[Path, int]:
    """Return the listed files in their order, with their lines."""
    text = (HERE / "architecture.md").read_text(encoding="utf-8")
    listed = ROW.findall(text.partition("## One round of `fedcmp train`")[2].partition("\n## ")[0])
    files = [HERE.parent / "src" / "fedcmp" / name for name in listed]
    return {file: len(file.read_text(encoding="utf-8").splitlines()) for file in files}


if __name__ == "__main__":
    found = reading_order()
    for file, lines in found.items():
        print(f"{lines:6}  {file.relative_to(HERE.parent)}")
    print(f"{sum(found.values()):6}  lines in {len(found)} files")
