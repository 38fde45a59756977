"""Training: the trainer, its optimisers and its CUDA graph. May import ``problem``, ``autodiff`` and below."""

from hesstore.training.trainer import Fit, FitSettings, Trainer, fit

__all__ = ["Fit", "FitSettings", "Trainer", "fit"]
