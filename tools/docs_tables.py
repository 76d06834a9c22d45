"""Write the tables of docs/vanishing-gradients.md and its Korean version from kept results.

Run it after experiments/chain_rule.py and experiments/vanishing_gradients.py, whose CSV files are
kept in docs/results; tools/docs_pictures.py draws docs/images from them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from npnlp.files import fill_section, markdown_table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs/results"
#: The page in each language, and how its tables say what the results say in English.
PAGES: dict[str, dict[str, str]] = {
    "docs/vanishing-gradients.md": {},
    "docs/vanishing-gradients.ko.md": {
        "chain": "사슬",
        "after step {}": "{}단계 뒤",
        "every factor {}": "단계마다 {}",
        "quantity": "값",
        "in numbers": "숫자로 쓰면",
        "by hand": "손 계산",
        "by the layer": "층의 계산",
        "derivative": "미분",
        "complex step": "복소 스텝",
        "agrees": "일치",
        "yes": "예",
        "no": "아니요",
        "dz/dy, second term forgotten": "dz/dy, 둘째 항을 빠뜨린 것",
        "learning rate": "학습률",
        "too small": "너무 작음",
        "right": "알맞음",
        "too large": "너무 큼",
        "at first": "처음",
        "first weights": "초기 가중치",
        "small, tanh": "작은 값, tanh",
        "unit, tanh": "1로 맞춘 값, tanh",
        "large, tanh": "큰 값, tanh",
        "default, tanh": "기본값, tanh",
        "orthogonal, tanh": "직교, tanh",
        "identity, ReLU": "단위행렬, ReLU",
        "exploding, ReLU": "폭발하는 값, ReLU",
        "mean phi'": "phi'의 평균",
        "{} steps back": "{}단계 앞",
        "bound there": "거기서의 한계",
        "left {} characters back": "{}글자 앞에 남은 비율",
        "trained": "학습 뒤",
        "test accuracy": "테스트 정확도",
    },
}
STEPS = (1, 5, 10, 20, 50)
FUNCTIONS = {"bowl": "(w - 3)^2 + 1", "valley": "(w_1^2 + 10 w_2^2) / 2"}
LAGS, FAR = (10, 50, 99), 10
HAND_LINES = ("a[", "h[", "phi'[", "delta[", "dL/dW_hh[", "dL/dh_prev[")
Say = Callable[[str], str]


def speaker(words: dict[str, str]) -> Say:
    """Says in a page's language what a table says in English."""
    return lambda english: words.get(english, english)


def read(name: str) -> pd.DataFrame:
    """A kept result."""
    return pd.read_csv(RESULTS / f"{name}.csv", keep_default_na=False)


def chain_rule_products(say: Say) -> str:
    """The product of each chain after some steps."""
    rows = []
    for chain, found in read("chain_rule_products").groupby("chain", sort=False):
        _, same, factor = str(chain).partition("every factor ")
        product = found.set_index("step")["product"]
        name = say("every factor {}").format(factor) if same else f"`{chain}`"
        rows.append([name, *(f"{product[step]:.3g}" for step in STEPS)])
    return markdown_table(
        [say("chain"), *(say("after step {}").format(step) for step in STEPS)], rows
    )


def chain_rule_elman_step(say: Say) -> str:
    """The hand calculation of one step, and what the layer says."""
    rows = [
        [
            f"`{row['quantity']}`",
            f"`{row['numbers']}`",
            f"{row['by_hand']:.4f}",
            f"{float(row['layer']):.4f}" if row["layer"] != "" else "",
        ]
        for _, row in read("chain_rule_elman_step").iterrows()
        if str(row["quantity"]).startswith(HAND_LINES)
    ]
    return markdown_table([*map(say, ("quantity", "in numbers", "by hand", "by the layer"))], rows)


def chain_rule_derivatives(say: Say) -> str:
    """Both partial derivatives and the slip, against the complex step."""
    rows = [
        [
            say(str(row["derivative"])),
            f"({row['x']:g}, {row['y']:g})",
            f"{row['by_hand']:.4f}",
            f"{row['complex_step']:.4f}",
            say(str(row["agrees"])),
        ]
        for _, row in read("chain_rule_derivatives").iterrows()
    ]
    header = ("derivative", "(x, y)", "by hand", "complex step", "agrees")
    return markdown_table([*map(say, header)], rows)


def chain_rule_descent(say: Say) -> str:
    """J before and after, for each function and learning rate."""
    rows, steps = [], 0
    table = read("chain_rule_descent")
    for (function, rate, eta), path in table.groupby(["function", "rate", "eta"], sort=False):
        formula = FUNCTIONS[str(function)]
        steps = int(path["step"].iloc[-1])
        first, last = (f"{path['J'].iloc[place]:.4g}" for place in (0, -1))
        rows.append([f"`{formula}`", f"{eta}, {say(str(rate))}", first, last])
    header = ["`J(w)`", say("learning rate"), say("at first"), say("after step {}").format(steps)]
    return markdown_table(header, rows)


def vanishing_starts(say: Say) -> str:
    """What is left of the gradient on long random sequences, from each start."""
    rows = []
    for start, found in read("vanishing_starts").groupby("start", sort=False):
        by_lag = found.set_index("lag")
        rows.append([
            say(str(start)),
            f"{by_lag['sigma_max'][0]:.3g}",
            f"{by_lag['saturation'].mean():.2f}",
            *(f"{by_lag['hidden_grad_mean'][lag]:.1e}" for lag in LAGS),
            f"{by_lag['bound'][LAGS[-1]]:.1e}",
        ])  # fmt: skip
    lags = (say("{} steps back").format(lag) for lag in LAGS)
    names = (say("first weights"), "`sigma_max(W_hh)`", say("mean phi'"))
    return markdown_table([*names, *lags, say("bound there")], rows)


def gradient_flow(say: Say) -> str:
    """What is left of the gradient in the surname model, before and after training."""
    flow, rows = read("vanishing_surnames").set_index(["start", "when", "lag"]), []
    for _, score in read("vanishing_scores").iterrows():
        start, cells = score["start"], []
        for when in ("at first", "trained"):
            mean = flow["hidden_grad_mean"][start][when]
            cells += [
                f"{flow['sigma_max'][start, when, 0]:.2f}", f"{mean[FAR] / mean[0]:.1e}",
            ]  # fmt: skip
        rows.append([say(start), *cells, f"{score['test_accuracy']:.3f}"])
    names = ("`sigma_max(W_hh)`", say("left {} characters back").format(FAR))
    header = [f"{name}, {say(when)}" for when in ("at first", "trained") for name in names]
    return markdown_table([say("first weights"), *header, say("test accuracy")], rows)


SECTIONS = (
    chain_rule_products,
    chain_rule_elman_step,
    chain_rule_derivatives,
    chain_rule_descent,
    vanishing_starts,
    gradient_flow,
)


def main() -> None:
    """Fill every table in, in every language."""
    for page, words in PAGES.items():
        for section in SECTIONS:
            fill_section(ROOT / page, section.__name__, section(speaker(words)))


if __name__ == "__main__":
    main()
