"""What runs an operator. Each module holds one function per operator, with the operator's own arguments, and

``supports(operator, *tensors)``, whether it can serve this call. ``reference`` (plain torch) is the truth and serves
every call; the others must equal it within the bounds of ``tests/kernels``.
"""
