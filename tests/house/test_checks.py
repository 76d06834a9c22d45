"""Range checks: what passes, and what is refused by the argument's name, value and range."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest

from npnlp.checks import (
    from_fields,
    require_flag,
    require_fraction,
    require_not_negative,
    require_positive,
    require_whole,
)
from npnlp.errors import InputError

Check = Callable[[str, Any], None]
CHECKS: list[tuple[Check, list[Any], list[Any], str]] = [
    (require_whole, [1, 2**40], [0, -1, 1.0, True, "1", None, np.int64(3)], "of at least 1"),
    (partial(require_whole, least=0), [0, 1], [-1, 0.0, False], "of at least 0"),
    (partial(require_whole, least=None), [-(2**70), 0], [0.5, "x", None], "a whole number"),
    (require_positive, [1e-30, 3, np.float64(2)], [0, -1, math.inf, math.nan, "1"], "above 0"),
    (require_not_negative, [0, 0.0, 5], [-1e-9, math.inf, math.nan, None], "of at least 0"),
    (require_fraction, [0, 0.0, 0.999], [1, 1.0, -0.1, math.nan, "0", True], "below 1"),
    (require_flag, [True, False], [0, 1, None, "true", np.True_], "true or false"),
]


@pytest.mark.parametrize(("check", "good", "bad", "wanted"), CHECKS)
def test_a_value_out_of_range_is_refused(
    check: Check, good: list[Any], bad: list[Any], wanted: str
) -> None:
    for value in good:
        check("size", value)
    for value in bad:
        with pytest.raises(InputError, match=r"^size is .*; it has to be .*") as caught:
            check("size", value)
        assert str(caught.value).endswith(wanted)


@dataclass(frozen=True)
class Settings:
    size: int
    name: str = "x"


def test_a_dataclass_comes_of_its_fields() -> None:
    assert from_fields(Settings, {"size": 3}, "settings") == Settings(3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([3], r"settings is \[3\]; it has to be a table of fields"),
        ({"size": 3, "age": 1}, "settings has an unknown field 'age'"),
        ({"name": "y"}, "settings is incomplete: .*size"),
    ],
)
def test_fields_that_do_not_fit_are_refused(values: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_fields(Settings, values, "settings")
