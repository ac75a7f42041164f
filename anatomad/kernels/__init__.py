"""The operators the method stands on. This package is the plain torch reference."""

from anatomad.kernels.edges import edges
from anatomad.kernels.label_map import label_map
from anatomad.kernels.one_hot import one_hot, one_hot_argmax

__all__ = ["edges", "label_map", "one_hot", "one_hot_argmax"]
