"""Training of prompt generators from boxes, as an iterator of events."""

from napari_boxprompt.training.run import TrainingRun, fit

__all__ = ["TrainingRun", "fit"]
