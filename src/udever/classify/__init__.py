"""Labels for texts from a handful of examples: a linear head on embeddings, with probabilities that mean something."""

from udever.classify.examples import Examples, Fields, read_examples
from udever.classify.fitting import FitSettings
from udever.classify.head import Filter
from udever.classify.report import Report, fit

__all__ = ["Examples", "Fields", "Filter", "FitSettings", "Report", "fit", "read_examples"]
