"""Counter-based noise, equal bit for bit to ``anatomad/kernels/backends/noise.py``: compile with no fused products."""

import triton
import triton.language as tl


@triton.jit
def philox(low_key, high_key, c0, c1, c2, c3):
    """Four words, uint32, of each counter (Salmon et al., SC 2011)."""
    k0 = low_key.to(tl.uint32, bitcast=True)
    k1 = high_key.to(tl.uint32, bitcast=True)
    for _ in tl.static_range(10):
        p0 = c0.to(tl.uint64) * 0xD2511F53
        p1 = c2.to(tl.uint64) * 0xCD9E8D57
        c0 = (p1 >> 32).to(tl.uint32) ^ c1 ^ k0
        c1 = p1.to(tl.uint32)
        c2 = (p0 >> 32).to(tl.uint32) ^ c3 ^ k1
        c3 = p0.to(tl.uint32)
        k0 += 0x9E3779B9
        k1 += 0xBB67AE85
    return c0, c1, c2, c3


@triton.jit
def log_positive(x):
    """Natural logarithm of a positive normal number."""
    shifted = x.to(tl.int32, bitcast=True) - 0x3F3504F3
    exponent = (shifted >> 23).to(tl.float32)
    m = ((shifted & 0x7FFFFF) + 0x3F3504F3).to(tl.float32, bitcast=True) - 1.0
    y = m * 1.1896108836e-1 + -1.8667855859e-1
    y = y * m + 2.0496328175e-1
    y = y * m + -2.4909743667e-1
    y = y * m + 3.3314508200e-1
    y = y * m + -5.0001114607e-1
    y = y * m + 1.0000009537
    return y * m + exponent * 0.693147182


@triton.jit
def uniform(word):
    """In (0, 1), neither end reached."""
    return ((word >> 9).to(tl.float32) + 0.5) * 1.1920928955078125e-07


@triton.jit
def gumbel(word):
    """Standard Gumbel number of a word."""
    return -log_positive(-log_positive(uniform(word)))


@triton.jit
def normal(word):
    """Standard normal number of a word (Giles, 2010)."""
    x = uniform(word) * 2.0 - 1.0
    w = -log_positive((1.0 - x) * (1.0 + x))
    c = w - 2.5
    t = tl.sqrt_rn(w) - 3.0
    p = c * 2.81022636e-08 + 3.43273939e-07
    p = p * c + -3.5233877e-06
    p = p * c + -4.39150654e-06
    p = p * c + 0.00021858087
    p = p * c + -0.00125372503
    p = p * c + -0.00417768164
    p = p * c + 0.246640727
    p = p * c + 1.50140941
    q = t * -0.000200214257 + 0.000100950558
    q = q * t + 0.00134934322
    q = q * t + -0.00367342844
    q = q * t + 0.00573950773
    q = q * t + -0.0076224613
    q = q * t + 0.00943887047
    q = q * t + 1.00167406
    q = q * t + 2.83297682
    return tl.where(w < 5.0, p, q) * x * 1.41421356
