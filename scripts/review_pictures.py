"""Pictures of the review page, docs/images/serve_{worklist,study,next}.png, from images that a service is sent.

python scripts/review_pictures.py RUN IMAGES          # needs chromium, and playwright of the tests
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
from playwright.sync_api import Page, ViewportSize, sync_playwright

from aeflow.data.records import find_images

IMAGES = Path(__file__).parent.parent / "docs" / "images"
SHOWN, LABELLED = 40, 12  # images; the first of the list are labelled as the model calls them
SIZE: ViewportSize = {"width": 1280, "height": 800}


def main() -> None:
    """Start a service, send images, label some, and photograph three pages."""
    run, images = map(Path, sys.argv[1:])
    paths = [record.path for record in find_images([images])]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "aeflow", "serve", str(run), "--data", folder, "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
            assert process.stdout is not None
            address = process.stdout.readline().split()[1]
            try:
                fill(address, paths[:: max(1, len(paths) // SHOWN)][:SHOWN])
                with sync_playwright() as playwright:
                    options = ["--headless", "--no-sandbox", "--disable-gpu"]
                    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=options)
                    photograph(browser.new_page(viewport=SIZE), address)
            finally:
                process.terminate()


def fill(address: str, paths: list[Path]) -> None:
    """Send images, and label the first of the list."""
    with httpx.Client(base_url=address, timeout=60) as client:
        for path in paths:
            client.post("/api/score", files={"files": (path.name, path.read_bytes())}).raise_for_status()
        for study in client.get("/api/studies").json()["studies"][:LABELLED]:
            [image] = client.get(f"/api/studies/{study['id']}").json()["results"]
            given = {"label": study["verdict"]}
            client.post(f"/api/images/{image['id']}/label", json=given).raise_for_status()


def photograph(page: Page, address: str) -> None:
    """Photograph the list, the study that scores third highest, and what to label next."""
    page.goto(address)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=IMAGES / "serve_worklist.png")
    page.locator("a.open").nth(2).click()
    page.wait_for_selector("canvas[data-shown]")
    page.wait_for_load_state("networkidle")
    page.screenshot(path=IMAGES / "serve_study.png")
    page.goto(f"{address}/next")
    page.wait_for_load_state("networkidle")
    page.screenshot(path=IMAGES / "serve_next.png")


if __name__ == "__main__":
    main()
