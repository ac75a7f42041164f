"""The operators' Triton kernels, one file each; ``anatomad/kernels/backends/triton.py`` is their only caller.

A kernel sees contiguous [batch, channel, depth, height, width]; 2D has depth 1 and ``flat`` set. Arithmetic is in
float32. ``index`` is the type of places within one volume, int64 where int32 would not hold them. A boolean is widened
by way of float32: straight to bfloat16 it is wrong in Triton's interpreter.
"""
