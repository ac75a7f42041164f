"""anatomad: finds what does not belong in a brain scan, having learnt only from healthy ones.

Nothing is imported here, so that ``import anatomad`` and every ``--help`` stay quick.
"""

__version__ = "0.1.0"
