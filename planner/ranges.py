"""Numbers and ranges of numbers as a plan may hold them; everything else is refused by its key."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

T = TypeVar("T", int, float)


def _in_order(ends: tuple[T, T]) -> tuple[T, T]:
    low, high = ends
    if low > high:
        raise ValueError(f"{low:g} must not lie above {high:g}")
    return ends


Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[int, Field(ge=0)]
Range = Annotated[tuple[float, float], AfterValidator(_in_order)]
PositiveRange = Annotated[tuple[Positive, Positive], AfterValidator(_in_order)]
Amounts = Annotated[tuple[NotNegative, NotNegative], AfterValidator(_in_order)]
Shares = Annotated[tuple[Share, Share], AfterValidator(_in_order)]
Numbers = Annotated[tuple[Number, Number], AfterValidator(_in_order)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(gt=0)]
Counts = tuple[Count, Count, Count]
Percentile = Annotated[float, Field(ge=0, le=100)]
Percentiles = tuple[Percentile, Percentile]
