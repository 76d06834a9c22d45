"""Settings of a run that go together: what ``npnlp train --recipe NAME`` stands for.

Each is made of fields of :class:`ClassifierConfig` and :class:`TrainingConfig`.
"""

from __future__ import annotations

from typing import Any

#: By name, the settings that differ from those without a recipe. They were chosen on the
#: validation split of the reference table alone; docs/recipe.md says what each part brings.
RECIPES: dict[str, dict[str, Any]] = {
    "light": {
        # The model: an Elman network, and beside it a bag of the n-grams that occur again.
        "embedding_size": 32,
        "hidden_layer": False,
        "ngram_orders": [1, 2, 3, 4],
        "ngram_size": 48,
        "ngram_min_count": 2,
        "store": "float16",
        # What keeps it from learning names by heart.
        "dropout": 0.4,
        "embedding_dropout": 0.2,
        "char_dropout": 0.1,
        "ngram_dropout": 0.6,
        "weight_decay": 0.03,
        "label_smoothing": 0.1,
        # How it is trained.
        "num_epochs": 15,
        "learning_rate": 7e-3,
        "batch_size": 128,
        "beta2": 0.99,
        "schedule": "cosine",
        "clip_norm": 1.0,
        "bucket": 16,
        # Rare classes.
        "prior_correction": 0.3,
    },
    "wide": {
        # The model: a bidirectional GRU, and beside it a bag of the n-grams that occur again.
        "cell": "gru",
        "bidirectional": True,
        "rnn_hidden_size": 128,
        "embedding_size": 64,
        "hidden_layer": False,
        "ngram_orders": [1, 2, 3, 4],
        "ngram_size": 128,
        "ngram_min_count": 2,
        "store": "float16",
        # What keeps it from learning names by heart.
        "dropout": 0.4,
        "embedding_dropout": 0.2,
        "char_dropout": 0.1,
        "ngram_dropout": 0.7,
        "weight_decay": 0.03,
        "label_smoothing": 0.1,
        "consistency": 1.0,
        # How it is trained.
        "num_epochs": 20,
        "learning_rate": 5e-3,
        "batch_size": 128,
        "beta2": 0.99,
        "schedule": "cosine",
        "warm_up": 0.15,
        "clip_norm": 1.0,
        "bucket": 16,
        # Rare classes.
        "prior_correction": 0.3,
    },
}
