"""Write README's table in Korean, of the figures of the English one.

Run it after tools/results_tables.py.
"""

from __future__ import annotations

import runpy
from pathlib import Path

from npnlp.files import fill_section

ROOT = Path(__file__).resolve().parents[1]
ENGLISH = runpy.run_path(str(ROOT / "tools/results_tables.py"))
#: What README.ko.md says for the words of README's table; longer ones first.
WORDS = {
    "accuracy, macro F1 on the book's 1,660 test names": (
        "책의 테스트 이름 1,660개에서 정확도, 매크로 F1"
    ),
    "n-grams, logistic regression": "n그램, 로지스틱 회귀",
    "training it": "그 학습",
    "an epoch of 7,680 names, Elman 64": "이름 7,680개의 한 에포크, Elman 64",
    "JAX, a call an epoch": "JAX, 에포크마다 호출 한 번",
    "a million different names": "서로 다른 이름 백만 개, 하나마다",
    "us a name": "us",
    "the first answer of a new process": "새 프로세스의 첫 답",
    "importing NumPy alone": "NumPy를 불러오기만",
    "| n-grams ": "| n그램 ",
    "beside it": "비교 대상",
    "measured by": "잰 스크립트",
}


def at_a_glance() -> str:
    """The same rows, with Korean words."""
    text = str(ENGLISH["at_a_glance"]())
    for english, korean in WORDS.items():
        text = text.replace(english, korean)
    return text


PAGES = {"README.ko.md": (at_a_glance,)}


def main() -> None:
    """Fill it in."""
    for page, tables in PAGES.items():
        for table in tables:
            fill_section(ROOT / page, table.__name__, table())


if __name__ == "__main__":
    main()
