"""The distribution has a name of its own: on the public index ``npnlp`` is another project."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import npnlp

ROOT = Path(__file__).resolve().parents[2]
#: Where somebody may be told how to install something, and in what kinds of files.
PLACES = ("*.md", "*.cfg", "*.toml", ".ci/*", "docs/**/*", "findings/**/*", "npnlp/**/*",
          "experiments/**/*", "benchmarks/**/*", "tools/**/*", "tests/**/*",
          "notebooks/**/*")  # fmt: skip
KINDS = {".md", ".py", ".sh", ".txt", ".cfg", ".toml", ".cu", ".cuh", ".h", ""}
#: Asking for the other project by name, with extras or without.
FOREIGN = re.compile(
    r"pip\d? install [^\n`]*(?<![\w./-])npnlp(?![\w/-]|\.\w)|(?<![\w./-])npnlp\[[a-z0-9]+\]"
)


def texts() -> dict[Path, str]:
    found = {path for place in PLACES for path in ROOT.glob(place)}
    return {
        path: path.read_text(encoding="utf-8")
        for path in sorted(found)
        if path.is_file() and path.suffix in KINDS and path != Path(__file__)
    }


def test_nobody_is_told_to_install_the_other_project() -> None:
    pages = texts()
    assert len(pages) > 400
    assert {path: found[0] for path, text in pages.items() if (found := FOREIGN.search(text))} == {}


def test_such_advice_would_be_found() -> None:
    for text in ("pip install npnlp", "pip install 'npnlp[numba]'", "pip install -U npnlp.",
                 "needs npnlp[onnx]"):  # fmt: skip
        assert FOREIGN.search(text), text
    for text in ("pip install numba scipy", "pip install '.[numba]'", "pip install . for npnlp/x",
                 "pip uninstall npnlp", 'values["npnlp"]'):  # fmt: skip
        assert not FOREIGN.search(text), text


def test_the_distribution_has_its_own_name() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["metadata"]["name"] == "npnlp-text"
    assert "`npnlp-text`" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_citation_is_of_this_version() -> None:
    lines = (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split(": ", 1) for line in lines if re.match(r"[\w-]+: ", line))
    assert fields["version"] == npnlp.__version__
    assert {"cff-version", "message", "title", "license"} <= set(fields)
    assert "authors:" in lines
