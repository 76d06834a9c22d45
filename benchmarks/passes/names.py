"""As many names, or rows of a table, as one likes, made from a table of some."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from random import Random

LONGEST = 24


def registered(table: Sequence[str], count: int, seed: int) -> list[str]:
    """Rows of the table, drawn with repetition."""
    return Random(seed).choices(table, k=count)


def distinct(table: Sequence[str], count: int, seed: int) -> list[str]:
    """All different: letter after letter as it follows two others in the table."""
    follows: dict[str, list[str]] = {}
    for name in table:
        whole = f"\n\n{name}\n"
        for place in range(2, len(whole)):
            follows.setdefault(whole[place - 2 : place], []).append(whole[place])
    random, made = Random(seed), dict[str, None]()
    while len(made) < count:
        name = "\n\n"
        while len(name) < LONGEST and (letter := random.choice(follows[name[-2:]])) != "\n":
            name += letter
        made[name[2:]] = None
    return list(made)


def of_letters(table: Sequence[str], count: int, seed: int) -> list[str]:
    """4 to 10 letters, one as likely as the other; the table is not asked."""
    random = Random(seed)
    return [
        "".join(random.choices(string.ascii_lowercase, k=random.randint(4, 10))).title()
        for _ in range(count)
    ]


KINDS: dict[str, Callable[[Sequence[str], int, int], list[str]]] = {
    "registered": registered,
    "distinct": distinct,
    "random": of_letters,
}


def labelled(table: Sequence[tuple[str, str]], count: int, seed: int) -> list[tuple[str, str]]:
    """Rows of a label and a name: 49 of 50 names differ, the others are rows of ``table``.

    A different name has the label of some row of ``table`` that begins with the same two letters,
    so that there is something to learn.
    """
    random, repeated = Random(seed), count // 50
    begins: dict[str, list[str]] = {}
    for label, name in table:
        begins.setdefault(name[:2], []).append(label)
    made = distinct([name for _, name in table], count - repeated, seed)
    rows = [(random.choice(begins[name[:2]]), name) for name in made]
    rows += random.choices(table, k=repeated)
    random.shuffle(rows)
    return rows
