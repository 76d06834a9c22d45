"""The classifier by scikit-learn's conventions; scikit-learn itself is not needed."""

from __future__ import annotations

import html
import inspect
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from npnlp.backend import get_backend
from npnlp.classifier.classifier import Classifier
from npnlp.classifier.prediction import require_finite
from npnlp.errors import DeviceError, InputError
from npnlp.estimator.fit import fit_model
from npnlp.estimator.given import (
    as_classes,
    as_names,
    as_weights,
    class_names,
    column_of,
    row_weights,
)
from npnlp.models import ClassifierConfig, SurnameClassifier

if TYPE_CHECKING:
    import pandas as pd


class NotFittedError(InputError, AttributeError):
    """An estimator was asked before it was fitted, where there is no scikit-learn with its own."""


@dataclass(kw_only=True, eq=False, repr=False)
class SurnameClassifierEstimator:
    """Names to labels with ``fit``, ``predict``, ``predict_proba`` and ``score``.

    ``SurnameClassifierEstimator(cell="gru").fit(names, labels).predict(["Nakamoto"])``

    Parameters are kept as they are given and looked at by ``fit``, as scikit-learn asks; so
    ``clone``, ``Pipeline``, ``cross_val_score`` and ``GridSearchCV`` take it. Those of the model
    are :class:`ClassifierConfig`'s, those of training :class:`TrainingConfig`'s. None is "not
    given": the recipe's value, or else the default there. One that is given and cannot apply, such
    as ``reset`` without a GRU, is refused by ``fit``. ``clip_norm="none"`` clips nothing, where a
    recipe would. Besides:

    - ``recipe``: a name of :data:`npnlp.training.recipes.RECIPES`;
    - ``class_weight``: "balanced", or a weight for each label, which multiplies ``sample_weight``;
      one that a dict leaves out is 1;
    - ``validation_fraction``: the fraction of each class that is held out, to find the best epoch,
      to stop early and to ``calibrate`` the probabilities (False: leave them); with 0 all rows are
      trained on, their own loss is watched, and nothing is calibrated;
    - ``backend``: ``"numpy"``, ``"cupy"``, ``"numba"`` or ``"auto"``;
    - ``random_state``: the seed of weights, shuffles, dropout and held-out rows: the same one gives
      the same bits. None draws a new one;
    - ``verbose``: above 0, a line an epoch.

    After ``fit``: ``classes_`` (sorted), ``n_features_in_`` (1), ``feature_names_in_`` (of a
    table), ``n_iter_`` (epochs), ``history_`` (a frame with a row for each and the columns of
    ``history.csv``), ``model_``, ``calibration_`` (None without one), ``familiarity_`` and
    ``vectorizer_``. A fitted estimator can be pickled and copied; :meth:`save` writes the file that
    :class:`Classifier` loads, in which nothing is executable.
    """

    recipe: str | None = None
    cell: str | None = None
    num_layers: int | None = None
    bidirectional: bool | None = None
    pooling: str | None = None
    embedding_size: int | None = None
    rnn_hidden_size: int | None = None
    dropout: float | None = None
    rnn_dropout: float | None = None
    variational: bool | None = None
    nonlinearity: str | None = None
    reset: str | None = None
    forget_bias: float | None = None
    num_heads: int | None = None
    num_epochs: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    early_stopping_criteria: int | None = None
    optimizer: str | None = None
    momentum: float | None = None
    clip_norm: float | str | None = None
    calibrate: bool | None = None
    typing_errors: float | None = None
    class_weight: Any = None
    validation_fraction: float = 0.1
    backend: str = "numpy"
    random_state: Any = 1337
    verbose: int = 0

    #: What scikit-learn before 1.6 asks for in the place of tags.
    _estimator_type: ClassVar[str] = "classifier"

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from names ``X`` and their labels ``y``; the estimator itself.

        ``sample_weight (n,)`` weighs rows in the loss; a row of weight 0 is left out.
        Raises :class:`InputError` (a ``ValueError``) for names, labels, weights or parameters that
        are not what they have to be, and :class:`DivergenceError` where a number is not finite.
        """
        (classes, targets), names = as_classes(y), as_names(X)
        if len(names) != len(targets):
            raise InputError(
                f"X has {len(names)} rows, but y has {len(targets)}; give each name a label"
            )
        weights = row_weights(sample_weight, self.class_weight, classes, targets)
        if weights is not None:
            kept = np.flatnonzero(weights)
            names, targets, weights = [names[row] for row in kept], targets[kept], weights[kept]
            weights = None if (weights == weights[0]).all() else weights
        fitted = fit_model(names, class_names(classes), targets, self.get_params(), weights)
        self.classes_: NDArray[Any] = classes
        self.n_features_in_ = 1
        self.n_iter_, self.history_ = len(fitted.history), _frame(fitted.history)
        vars(self).pop("feature_names_in_", None)
        if (column := column_of(X)) is not None:
            self.feature_names_in_ = np.array([column], dtype=object)
        made = fitted.classifier
        self.vectorizer_, self.model_ = made.vectorizer, made.model
        self.calibration_, self.familiarity_ = made.calibration, made.familiarity
        return self

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """The probability of each of ``classes_`` for each name ``(n, C)``."""
        classifier, names = self.to_classifier(), self._names(X)
        probabilities = classifier.probabilities(names)
        require_finite(probabilities, names)
        return probabilities

    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """The logarithms of :meth:`predict_proba`; that of 0 is ``-inf``."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))  # type: ignore[no-any-return]

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable label of each name ``(n,)``."""
        classifier, names = self.to_classifier(), self._names(X)
        best, probabilities = classifier.best(names)
        require_finite(probabilities, names)
        labels: NDArray[Any] = self.classes_[best[:, 0]]
        return labels

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The fraction of names whose label is predicted, weighted where weights are given."""
        predicted, labels = self.predict(X), np.asarray(y).reshape(-1)
        if len(predicted) != len(labels):
            raise InputError(f"X has {len(predicted)} rows, but y has {len(labels)}")
        right = predicted == labels
        return float(np.average(right, weights=as_weights(sample_weight, len(labels))))

    def to_classifier(self) -> Classifier:
        """The fitted model with its vectorizer; its labels are the texts of ``classes_``."""
        if not hasattr(self, "model_"):
            raise _not_fitted(type(self).__name__)
        found = (getattr(self, name, None) for name in ("calibration_", "familiarity_"))
        return Classifier(self.model_, self.vectorizer_, None, *found)

    def save(self, path: str | Path) -> None:
        """Write ``model.safetensors``, which :meth:`Classifier.load` reads."""
        self.to_classifier().save(path)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name; none of them holds any of its own, so ``deep`` is the same."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name; raises :class:`InputError` for one that does not exist."""
        known = self.get_params()
        for name in params:
            if name not in known:
                raise InputError(
                    f"Invalid parameter {name!r} for {type(self).__name__}; choose of "
                    f"{', '.join(known)}"
                )
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """The model as its configuration and plain arrays: its layers hold a module and views.

        The history goes as plain numbers, which every version of pandas makes a frame of.
        """
        state = dict(vars(self))
        if "history_" in state:
            state["history"] = state.pop("history_").to_dict("list")
        if "model_" in state:
            model = state.pop("model_")
            state["model"] = (model.config.to_dict(), model.state_dict(), model.backend.name)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        config, weights, backend = state.pop("model", (None, None, None))
        if "history" in state:
            state["history_"] = _frame(state.pop("history"))
        vars(self).update(state)
        if config is not None:
            try:
                held = get_backend(backend)
            except DeviceError as error:
                held = get_backend("numpy")
                warnings.warn(
                    f"{error}; the estimator, which was fitted there, predicts with numpy",
                    stacklevel=2,
                )
            self.model_ = SurnameClassifier(ClassifierConfig.from_dict(config), backend=held)
            self.model_.load_state_dict(weights)

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        changed = ", ".join(
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if value is not defaults[name].default and value != defaults[name].default
        )
        return f"{type(self).__name__}({changed})"

    def _repr_html_(self) -> str:
        """scikit-learn's drawing, for notebooks, where it is installed."""
        try:
            from sklearn.utils import estimator_html_repr
        except Exception:  # an incomplete installation may raise anything
            return f"<pre>{html.escape(repr(self))}</pre>"
        return str(estimator_html_repr(self))

    def _names(self, X: Any) -> list[str]:
        """Raises :class:`InputError` for a table with another column than that of ``fit``."""
        column, known = column_of(X), getattr(self, "feature_names_in_", [None])[0]
        if column is not None and known is not None and column != known:
            raise InputError(f"X has the column {column!r}; fit was given {known!r}")
        return as_names(X)

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn 1.6 and later asks before it takes an estimator."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(one_d_array=True, two_d_array=False, string=True),
            non_deterministic=self.random_state is None,
        )


def _frame(rows: Any) -> pd.DataFrame:
    import pandas as pd  # predicting does without

    return pd.DataFrame(rows)


def _not_fitted(name: str) -> Exception:
    """scikit-learn's own error where it is installed, so that its users can catch theirs."""
    message = f"this {name} is not fitted yet; call fit first"
    try:
        from sklearn.exceptions import NotFittedError as Theirs
    except Exception:  # as above
        return NotFittedError(message)
    return Theirs(message)  # type: ignore[no-any-return]
