"""Take docs/images/page.png: the page of npnlp's own model, as Chromium shows it.

    python tools/page_picture.py

Needs the program chromium (Debian's package of that name).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from npnlp.classifier.classifier import Classifier
from npnlp.page.html import PAGE, write_page

ROOT = Path(__file__).resolve().parents[1]
#: Down to the end of the drawing of the gradient, in pixels.
WIDTH, HEIGHT = 1280, 3362


def take(path: Path) -> int:
    """The status of Chromium, which writes ``path``."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / PAGE
        write_page(page, [(Classifier.load(), "")])
        options = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--lang=en",
            "--hide-scrollbars", f"--user-data-dir={folder}/profile",
            f"--window-size={WIDTH},{HEIGHT}", "--virtual-time-budget=5000",
            f"--screenshot={path}",
        ]  # fmt: skip
        return subprocess.run(
            ["chromium", *options, page.as_uri()], check=False, env=os.environ | {"LANGUAGE": "en"}
        ).returncode


if __name__ == "__main__":
    sys.exit(take(ROOT / "docs/images/page.png"))
