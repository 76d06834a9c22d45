"""Checks of gradients, and gradient flow; neither changes a layer."""

from npnlp.gradients.check import check_adjoint, check_gradients
from npnlp.gradients.flow import GradientFlow, gradient_flow
from npnlp.gradients.jacobians import Jacobians, jacobians
from npnlp.gradients.report import GradientReport, GradientRow

__all__ = [
    "GradientFlow",
    "GradientReport",
    "GradientRow",
    "Jacobians",
    "check_adjoint",
    "check_gradients",
    "gradient_flow",
    "jacobians",
]
