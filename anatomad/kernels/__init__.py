"""The operators the method stands on, each with a plain torch reference and faster backends that equal it."""

from anatomad.kernels._select import info, serving
from anatomad.kernels.contrast import contrast
from anatomad.kernels.edges import argmax_edges, edge_magnitude, edges
from anatomad.kernels.group_norm import group_norm_silu
from anatomad.kernels.label_map import label_map
from anatomad.kernels.median import median
from anatomad.kernels.one_hot import one_hot, one_hot_argmax
from anatomad.kernels.resample import resample_argmax
from anatomad.kernels.sobel import sobel

__all__ = [
    "argmax_edges",
    "contrast",
    "edge_magnitude",
    "edges",
    "group_norm_silu",
    "info",
    "label_map",
    "median",
    "one_hot",
    "one_hot_argmax",
    "resample_argmax",
    "serving",
    "sobel",
]
