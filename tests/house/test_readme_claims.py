"""What README says that is no table and no example: each figure has a script, and is so."""

from __future__ import annotations

import csv
import re
import shlex
from collections import Counter
from pathlib import Path

import pytest

from tests.support.tables import npnlp

ROOT = Path(__file__).resolve().parents[2]
ENGLISH, KOREAN = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ko.md")
)
#: A measured figure in a sentence, and what says where it comes from.
FIGURE = re.compile(r"\d+(?:\.\d+)? ?(?:s|ms|us|min|%|MB|kB)\b|\b0\.\d+|factor of \w+|\w+ digits")
SOURCE = re.compile(r"`(?:python )?(?:experiments|benchmarks|tools)/\w+\.py|`npnlp [\w-]+")


def paragraphs(text: str) -> list[str]:
    """Sentences, without code and tables; a picture goes with the text after it."""
    prose = re.sub(r"^```.*?^```|^\|.*?$", "", text, flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"(^!\[.*\]\(.*\))\n\n", r"\1\n", prose, flags=re.MULTILINE)
    return [paragraph for paragraph in re.split(r"\n\s*\n", prose) if paragraph.strip()]


def without_source(text: str) -> list[str]:
    return [p for p in paragraphs(text) if FIGURE.search(p) and not SOURCE.search(p)]


def test_every_figure_stands_beside_the_script_that_gives_it() -> None:
    assert sum(bool(FIGURE.search(paragraph)) for paragraph in paragraphs(ENGLISH)) >= 3
    assert without_source(ENGLISH) == []


def test_a_figure_without_a_script_would_be_found() -> None:
    assert without_source("It falls by a factor of ten.\n\n`npnlp gradcheck` shows 12 %.") == [
        "It falls by a factor of ten."
    ]
    assert without_source("Installing takes 90 s.") == ["Installing takes 90 s."]


@pytest.fixture(scope="module")
def flows(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[float]]:
    """The gradient that arrives by lag, of the first and of the last epoch of the main job."""
    folder = tmp_path_factory.mktemp("main")
    done = npnlp("train", "--quiet", "--no-pictures", "--save-dir", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    found: dict[int, list[float]] = {}
    with (folder / "run/gradient_flow.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(int(row["epoch"]), []).append(float(row["hidden_grad_mean"]))
    return {0: found[min(found)], -1: found[max(found)]}


def test_the_gradient_falls_as_readme_says(flows: dict[int, list[float]]) -> None:
    said = "by a factor of ten every three letters; in the last epoch, with larger weights, by"
    assert said in " ".join(ENGLISH.split())
    first, last = flows[0], flows[-1]
    for lag in (0, 3, 6):
        assert 8 < first[lag] / first[lag + 3] < 16
    falls = next(lag for lag, size in enumerate(last) if last[0] / size >= 10)
    assert 7 <= falls <= 12


def test_the_run_that_explodes_says_what_readme_says(tmp_path: Path) -> None:
    (block,) = (b for b in blocks(ENGLISH) if "npnlp replay" in b)
    train, replay, said = block.splitlines()[1:-1]
    done = npnlp(*shlex.split(train)[2:], "--no-pictures", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.decode().startswith(f"npnlp train: {said}; ")
    again = npnlp(*shlex.split(replay.partition("|")[0])[2:], cwd=tmp_path)
    assert (again.returncode, again.stdout.decode().splitlines()[0]) == (1, said)


# --- the Korean README


def blocks(text: str) -> list[str]:
    """Those of code, without the times that stand behind commands."""
    found = re.findall(r"^```.*?^```", text, flags=re.DOTALL | re.MULTILINE)
    return [re.sub(r"  # (?:about|over|약|\d+분).*$", "", b, flags=re.MULTILINE) for b in found]


def shape(text: str) -> list[str]:
    """Headings by depth, pictures with their files and marks, in order."""
    outside = re.sub(r"^```.*?^```", "```", text, flags=re.DOTALL | re.MULTILINE)
    found = re.findall(
        r"^#+(?= )|^```|!\[[^]]*\](\([^)]+\))|(<!-- .* -->)", outside, flags=re.MULTILINE
    )
    headings = re.findall(r"^#+(?= )|^```|^!|^<!--", outside, flags=re.MULTILINE)
    pictures = [str(part).replace(".ko.png", ".png") for part in found]
    return [str(part) for part in headings] + pictures


def numbers(text: str) -> Counter[str]:
    """All but 0 and 1, which are often words in English and digits in Korean."""
    found = re.findall(r"\d+(?:[.,]\d+)*", text)
    return Counter(number for number in found if number not in ("0", "1"))


def links(text: str) -> Counter[str]:
    """Where it leads, whatever the language of the page there."""
    found = re.findall(r"\]\(([^)]+)\)", text)
    return Counter(re.sub(r"\.ko(\.\w+)$", r"\1", target) for target in found)


def test_both_languages_have_the_same_sections_pictures_and_blocks() -> None:
    assert shape(ENGLISH) == shape(KOREAN)
    assert blocks(ENGLISH) == blocks(KOREAN)
    assert len(blocks(ENGLISH)) > 8


def test_both_languages_have_the_same_figures_and_links() -> None:
    english, korean = numbers(ENGLISH), numbers(KOREAN)
    assert english == korean, (english - korean, korean - english)
    assert links(ENGLISH) == links(KOREAN)


def test_the_korean_page_is_korean() -> None:
    english, korean = (len(re.findall("[가-힣]", text)) for text in (ENGLISH, KOREAN))
    assert english < 20
    assert korean > 1000


def test_a_difference_would_be_found() -> None:
    assert numbers(KOREAN.replace("0.805", "0.806")) != numbers(ENGLISH)
    assert shape(KOREAN.replace("## 쓰기", "### 쓰기")) != shape(ENGLISH)
    assert blocks(KOREAN.replace("np.outer", "np.inner")) != blocks(ENGLISH)
    assert links(KOREAN.replace("docs/speed.md", "docs/gpu.md")) != links(ENGLISH)
