"""A real browser for checks of the pages, where one is installed; a page runs in it and says what it found.

The page's policy forbids any script but its own, so the check's script goes into a copy without the policy.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = os.environ.get("AXE", "")  # axe.min.js of the package axe-core
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
needs_axe = pytest.mark.skipif(not Path(AXE).is_file(), reason="AXE names no axe.min.js")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--virtual-time-budget=20000"),
)


def run_in_page(page: str, script: str, folder: Path, *, width: int = 1200, dark: bool = False) -> str:
    """Load a page, run a script's body in it, and return the text that the body returns (or resolves to).

    Args:
        page: the HTML document.
        script: JavaScript, the body of an async function.
        folder: for the copy and the browser's profile.
        width: of the window, in pixels.
        dark: in the dark.
    """
    assert CHROMIUM is not None
    bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    told = f"(async () => {{ {script} }})().catch(String).then((said) => {{ document.title = `said:${{said}}`; }});"
    copy = folder / "page.html"
    copy.write_text(bare.replace("</body>", f"<script>{told}</script></body>"), encoding="utf-8")
    command = [CHROMIUM, *_FLAGS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900", "--dump-dom"]
    command += ["--blink-settings=preferredColorScheme=0"] if dark else []
    done = subprocess.run([*command, copy.as_uri()], capture_output=True, text=True, timeout=120)
    found = re.search(r"<title>said:(.*?)</title>", done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return found[1]


def violations(page: str, folder: Path, *, width: int = 1200, dark: bool = False) -> str:
    """Return what axe-core finds wrong with a page, one line per rule; "" for nothing."""
    report = """
      const { violations } = await axe.run();
      return violations.map((one) => `${one.id} x${one.nodes.length}: ${one.nodes[0].target} ` +
        `${one.nodes[0].failureSummary.split('\\\\n').slice(1, 3).join(' ')}`).join(' | ');
    """
    return run_in_page(page, Path(AXE).read_text(encoding="utf-8") + "\n" + report, folder, width=width, dark=dark)
