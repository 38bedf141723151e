"""Training of prompt generators from boxes, as an iterator of events."""

from napari_boxprompt.training.plan import check_boxed
from napari_boxprompt.training.run import TrainingRun, fit

__all__ = ["TrainingRun", "check_boxed", "fit"]
