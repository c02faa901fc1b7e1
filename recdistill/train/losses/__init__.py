"""What a student learns from a list: pure functions of scores, on the last axis."""

from recdistill.train.losses.soft import (
    binary_labels,
    catalogue_scores,
    kl_distillation,
    softmax_distillation,
    softmax_labels,
)

__all__ = [
    "binary_labels",
    "catalogue_scores",
    "kl_distillation",
    "softmax_distillation",
    "softmax_labels",
]
