#!/usr/bin/env bash
# nltk 3.10.4, KneserNeyInterpolated of order n >= 3: probabilities at the start sum to more than one.
#
# Trained as the documentation shows (padded_everygram_pipeline), the scores of the whole vocabulary sum
# to one after the contexts of the text, but not after n - 2 and n - 1 "<s>", where sentences begin. The
# n-gram of n - 1 "<s>" stands at the start alone, so no word precedes it and its continuation count is
# 0; the weight of the lower order counts it all the same, and gives away a discount that was taken from
# nobody. The class refuses discounts outside 0 to 1 "for probabilities to sum to unity".
#
# So do not compare perplexities with those of another library, and do not draw first letters or words
# from these scores, without dividing by their sum.
#
# Seen for letters of six names, n = 3, discount 0.75: 1.25 after "<s>", 1.094 after "<s> <s>", 1
# elsewhere (n = 2: 1 everywhere). Fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet nltk==3.10.4
"$work/venv/bin/python" -W error - <<'END'
from math import isclose

from nltk.lm import KneserNeyInterpolated
from nltk.lm.preprocessing import padded_everygram_pipeline

names = ["anna", "ann", "bob", "bobby", "nan", "banba"]


def sums(order, contexts):
    grams, letters = padded_everygram_pipeline(order, names)
    model = KneserNeyInterpolated(order, discount=0.75)
    model.fit(grams, letters)
    return [sum(model.score(letter, context) for letter in model.vocab) for context in contexts]


start = sums(3, [("<s>",), ("<s>", "<s>")])
contexts = [(), ("a",), ("n",), ("b",), ("<s>", "a"), ("<s>", "b"), ("a", "n"), ("b", "b"), ("n", "</s>")]
inside = sums(3, contexts)
order_2 = sums(2, [(), ("<s>",), ("a",), ("n",), ("b",)])
print("start", start, "inside", inside, "order 2", order_2)
assert [round(value, 4) for value in start] == [1.25, 1.0937], start
assert all(isclose(value, 1) for value in inside + order_2), (inside, order_2)
END
