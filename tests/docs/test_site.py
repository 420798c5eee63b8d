"""The documentation builds as a site without a warning, and its interface is that of the package."""

import re
import subprocess
import sys
from pathlib import Path

import fedcmp

ROOT = Path(__file__).parents[2]


def test_the_site_builds_strictly(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "python.html").read_text(encoding="utf-8")
    for name in fedcmp.__all__:
        if name != "__version__":
            assert f'id="fedcmp.{name}"' in page, name
    assert 'id="fedcmp.Run.caption"' in page
    methods = (tmp_path / "site" / "methods.html").read_text(encoding="utf-8")
    assert methods.count("<math") > 100
    assert "zformulaz" not in methods
    assert not re.search(r"\$[^$<]*\\(sum|theta|frac)", methods)
    for shown in (tmp_path / "site").rglob("*.html"):
        fetched = re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="(https?:)?//[^"]*"', shown.read_text(encoding="utf-8")
        )
        assert not fetched, shown
