"""As many names as one likes, of three kinds, from a table of some."""

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
