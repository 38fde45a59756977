"""Training: the trainer, its optimisers and its CUDA graphs. May import ``problem`` and the packages below."""

from hesstore.training.trainer import Fit, FitSettings, Trainer

__all__ = ["Fit", "FitSettings", "Trainer"]
