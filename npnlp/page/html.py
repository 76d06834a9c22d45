"""The page: one HTML file, with everything that it needs inside.

Its policy for content allows the scripts and the styles that are in it, by their hashes, and
nothing else: a browser that keeps to it asks nobody for anything.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from npnlp.classifier.classifier import Classifier
from npnlp.errors import InputError
from npnlp.files import write_atomic
from npnlp.page.offered import require_offered
from npnlp.page.values import values_of

FOLDER = Path(__file__).parent
#: The file of a page, where no other is given.
PAGE = "page.html"
#: The library that draws the curves, as its authors publish it: https://github.com/leeoniya/uPlot
UPLOT = "1.6.32"
#: The page's own scripts, each of which may use those before it.
SCRIPTS = (
    "arrays", "cells", "chain", "pooling", "network", "names", "unit", "words", "table", "colours",
    "chart", "heatmap", "flow", "panel", "lesson", "main",
)  # fmt: skip
#: Its languages, with a file of strings each.
LANGUAGES = ("en", "ko")


def write_page(path: str | Path, classifiers: Sequence[tuple[Classifier, str]]) -> None:
    """Write the page of one model, or of two side by side, each with the label above it.

    Raises :class:`InputError` for a model that a page cannot show
    (:mod:`npnlp.page.offered`), and for another number of them.
    """
    write_atomic(path, page_of(classifiers))


def page_of(classifiers: Sequence[tuple[Classifier, str]]) -> str:
    """The content of :func:`write_page`."""
    if len(classifiers) not in (1, 2):
        raise InputError(f"a page of {len(classifiers)} models; give one, or two to compare")
    for classifier, _ in classifiers:
        require_offered(classifier)
    models = [values_of(classifier, label) for classifier, label in classifiers]
    style, script = _style(), _script()
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return Template(_read("source/page.html")).substitute(
        policy=policy, style=style, script=script, models=_data(models),
        strings=_data({name: json.loads(_read(f"strings/{name}.json")) for name in LANGUAGES}),
        uplot=_read("uplot/LICENSE").strip(),
    )  # fmt: skip


def _style() -> str:
    return _read("uplot/uPlot.min.css") + _read("source/style.css")


def _script() -> str:
    """The library, and the page's own scripts in a scope of their own."""
    own = "\n".join(_read(f"source/{name}.js") for name in SCRIPTS)
    return f'{_read("uplot/uPlot.iife.min.js")}\n(() => {{\n"use strict";\n{own}}})();\n'


def _data(values: Any) -> str:
    """JSON that no browser takes for a tag."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


@cache
def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
