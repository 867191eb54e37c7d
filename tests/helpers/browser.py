"""A real browser that opens a page and tells what a script found there."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium here: the page is not opened")


def opened(page: Any, image: str) -> None:
    """Wait until the page of an image is there, with it on the canvas."""
    page.wait_for_selector(f"#canvas[data-shown='{image}']")


def found_in(page: Path, script: str, tmp_path: Path) -> dict[str, Any]:
    """Open a copy of a page, run a script in it that fills ``found``, and return that."""
    text = re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", page.read_text(encoding="utf-8"))
    made = "Object.assign(document.createElement('pre'), {id: 'found', textContent: JSON.stringify(found)})"
    last = f"<script>const found = {{}};{script};document.body.append({made})</script></body>"
    copy = tmp_path / "opened.html"
    copy.write_text(text.replace("</body>", last), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom"]
    command = [str(BROWSER), *options, copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert said, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(html.unescape(said[1]))
    return answer
