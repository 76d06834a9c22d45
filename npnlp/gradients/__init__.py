"""Looking at gradients without changing them."""

from npnlp.gradients.check import GradientReport, GradientRow, check_adjoint, check_gradients
from npnlp.gradients.jacobians import Jacobians, jacobians

__all__ = [
    "GradientReport",
    "GradientRow",
    "Jacobians",
    "check_adjoint",
    "check_gradients",
    "jacobians",
]
