"""Looking at gradients without changing them."""

from npnlp.gradients.check import GradientReport, GradientRow, check_adjoint, check_gradients

__all__ = ["GradientReport", "GradientRow", "check_adjoint", "check_gradients"]
