"""Training: the trainer, its optimisers and CUDA graphs; polishing. May import ``problem`` and the packages below."""

from hesstore.training.polish import Objective, polish
from hesstore.training.trainer import Fit, FitSettings, Trainer

__all__ = ["Fit", "FitSettings", "Objective", "Trainer", "polish"]
