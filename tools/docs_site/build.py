"""Build the site from README.md, docs/ and the docstrings, and follow every link in it.

    python tools/docs_site/build.py --out out/site

needs ``pip install '.[docs]'``. A warning, or a link that leads nowhere, is status 1.
"""

from __future__ import annotations

import argparse
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


class Links(HTMLParser):
    """What a page points to, and the places in it that can be pointed to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the links and the places of a tag."""
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.targets.add(value)
            if name in ("id", "name") and value:
                self.places.add(value)


def broken_links(folder: Path) -> list[str]:
    """Links between the pages, pictures and styles of ``folder`` that lead nowhere."""
    pages = {
        path: Links(path.read_text(encoding="utf-8"))
        for path in sorted(folder.rglob("*.html"))
        if "_static" not in path.parts  # the theme's own
    }
    found = []
    for page, links in pages.items():
        for target in sorted(links.targets):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            place = unquote(parts.fragment)
            exists = file.is_file()
            if not exists or (place and file in pages and place not in pages[file].places):
                found.append(f"{page.relative_to(folder)}: {target}")
    return found


def main() -> int:
    """Build, and check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "out/site", metavar="DIR",
                        help="folder of the site (default: out/site)")  # fmt: skip
    folder = parser.parse_args().out.resolve()
    from sphinx.cmd.build import build_main

    options = ["--fail-on-warning", "--keep-going", "--quiet", "--fresh-env", "--write-all",
               "-b", "html", "-c", str(HERE)]  # fmt: skip
    trees = folder.with_name(f"{folder.name}-trees")
    status = build_main([*options, "-d", str(trees), str(ROOT), str(folder)])
    if status:
        return 1
    broken = broken_links(folder)
    for link in broken:
        print(f"leads nowhere: {link}", file=sys.stderr)
    pages = sum(1 for _ in folder.rglob("*.html"))
    print(f"{pages} pages in {folder}, {len(broken)} broken links")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
