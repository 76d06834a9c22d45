"""Draw docs/images from the kept results in docs/results: what a page shows is what they say.

    python tools/docs_pictures.py [NAME...]

Run it after an experiment whose CSV files have been copied there. The pictures of pages that are
there in Korean, too, are drawn with labels in both languages, which takes a font with Hangul
(Debian: fonts-nanum). Those of a run are drawn from its files, kept as run_*.csv. Two are drawn
elsewhere, from a model: unrolled by tools/unrolled_picture.py, explained by npnlp explain.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from npnlp import plots
from npnlp.cli.failure import DONE
from npnlp.cli.script import guarded
from npnlp.files.pictures import LANGUAGES, Output
from npnlp.lab.pictures import chain_rule, cures, scores, vanishing

ROOT = Path(__file__).resolve().parents[1]
IMAGES, RESULTS = ROOT / "docs/images", ROOT / "docs/results"
Draw = Callable[..., Any]
#: Pictures of pages in both languages: how each is drawn, and from which result.
BOTH: dict[str, tuple[Draw, str]] = {
    "chain_rule_products": (chain_rule.products, "chain_rule_products"),
    "chain_rule_derivatives": (chain_rule.derivatives, "chain_rule_step_sizes"),
    "chain_rule_descent": (chain_rule.descents, "chain_rule_descent"),
    "vanishing_starts": (vanishing.starts, "vanishing_starts"),
    "vanishing_jacobians": (vanishing.jacobians, "vanishing_jacobians"),
    "vanishing_factors": (vanishing.factors, "vanishing_factors"),
    "vanishing_surnames": (vanishing.surnames, "vanishing_surnames"),
    "vanishing_epochs": (vanishing.epochs, "vanishing_epochs"),
    "vanishing_clipping": (vanishing.clipping, "vanishing_clipping"),
    "long_term_dependencies": (cures.horizons, "long_term_dependencies"),
    "cures_jacobians": (cures.jacobians, "cures_jacobians"),
    "gradient_flow": (plots.gradient_flow, "run_gradient_flow"),
}
#: Pictures of English pages.
ENGLISH: dict[str, tuple[Draw, str]] = {
    "confusion_matrix": (plots.confusion_matrix, "run_confusion_matrix"),
    "reliability": (plots.reliability, "run_reliability"),
    "book_protocol": (scores.book_protocol, "book_protocol"),
    "compare_models": (scores.compare_models, "compare_models"),
    "recipe_ablation": (scores.recipe_ablation, "recipe_ablation_runs"),
}


def main(names: list[str]) -> int:
    """Draw those that are named, or all of them."""
    for name, (draw, result) in (BOTH | ENGLISH).items():
        if names and name not in names:
            continue
        for language in LANGUAGES if name in BOTH else ("en",):
            path = Output(IMAGES, language=language).path(name)
            draw(RESULTS / f"{result}.csv", path, language=language)
            print(path.relative_to(ROOT))
    return DONE


if __name__ == "__main__":
    sys.exit(guarded("docs_pictures.py", lambda: main(sys.argv[1:])))
