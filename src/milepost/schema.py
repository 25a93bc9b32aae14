"""The columns of record tables: names, types and whether a value may be missing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["ColumnSchema", "DatetimeType", "Dtype"]


class Dtype(StrEnum):
    """The plain types of columns."""

    UTF8 = "utf8"
    INT64 = "int64"


@dataclass(frozen=True, slots=True)
class DatetimeType:
    """A point in time.

    Attributes:
        unit: What it is counted in: ``us`` for microseconds.
        timezone: The zone that it is given in.
    """

    unit: str = "us"
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class ColumnSchema:
    """One column.

    Example:
        >>> ColumnSchema("attempt", Dtype.INT64, nullable=False).name
        'attempt'
    """

    name: str
    dtype: Dtype | DatetimeType
    nullable: bool = True
