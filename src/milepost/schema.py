"""Column types and columns of tables, independent of any engine that reads them.

A coarse type (a member of :class:`Dtype`) says what kind of values a column holds; an exact form, such as
:class:`DatetimeType`, says with which parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

__all__ = [
    "ArrayType",
    "CategoricalType",
    "ColumnSchema",
    "ColumnType",
    "DatetimeType",
    "DecimalType",
    "Dtype",
    "DurationType",
    "EnumType",
    "ListType",
    "StructField",
    "StructType",
    "accepts",
]


class Dtype(StrEnum):
    """The kind of values a column holds.

    Example:
        >>> Dtype.UTF8
        <Dtype.UTF8: 'Utf8'>
    """

    INT8 = "Int8"
    INT16 = "Int16"
    INT32 = "Int32"
    INT64 = "Int64"
    UINT8 = "UInt8"
    UINT16 = "UInt16"
    UINT32 = "UInt32"
    UINT64 = "UInt64"
    FLOAT32 = "Float32"
    FLOAT64 = "Float64"
    DECIMAL = "Decimal"
    UTF8 = "Utf8"
    BINARY = "Binary"
    BOOLEAN = "Boolean"
    DATE = "Date"
    DATETIME = "Datetime"
    DURATION = "Duration"
    TIME = "Time"
    LIST = "List"
    ARRAY = "Array"
    STRUCT = "Struct"
    CATEGORICAL = "Categorical"
    ENUM = "Enum"
    NULL = "Null"


@dataclass(frozen=True, slots=True)
class ListType:
    """A list of values of one type."""

    inner: ColumnType


@dataclass(frozen=True, slots=True)
class ArrayType:
    """A list of values of one type that always has ``width`` of them."""

    inner: ColumnType
    width: int


@dataclass(frozen=True, slots=True)
class StructField:
    """One named field of a struct."""

    name: str
    dtype: ColumnType
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class StructType:
    """Named fields in order."""

    fields: tuple[StructField, ...]


@dataclass(frozen=True, slots=True)
class DecimalType:
    """A decimal number; None leaves precision or scale to the engine."""

    precision: int | None = None
    scale: int | None = None


@dataclass(frozen=True, slots=True)
class DatetimeType:
    """A moment: its unit (``"ms"``, ``"us"`` or ``"ns"``) and its time zone, None for a naive one.

    Example:
        >>> DatetimeType("us", "UTC")
        DatetimeType(time_unit='us', time_zone='UTC')
    """

    time_unit: str = "us"
    time_zone: str | None = None


@dataclass(frozen=True, slots=True)
class DurationType:
    """A span of time in a unit."""

    time_unit: str = "us"


@dataclass(frozen=True, slots=True)
class CategoricalType:
    """A text of which few different ones occur."""


@dataclass(frozen=True, slots=True)
class EnumType:
    """A text out of a fixed list."""

    categories: tuple[str, ...]


ColumnType: TypeAlias = (
    Dtype | ListType | ArrayType | StructType | DecimalType | DatetimeType | DurationType | CategoricalType | EnumType
)

_COARSE: Final[dict[type, Dtype]] = {
    ListType: Dtype.LIST,
    ArrayType: Dtype.ARRAY,
    StructType: Dtype.STRUCT,
    DecimalType: Dtype.DECIMAL,
    DatetimeType: Dtype.DATETIME,
    DurationType: Dtype.DURATION,
    CategoricalType: Dtype.CATEGORICAL,
    EnumType: Dtype.ENUM,
}


@dataclass(frozen=True, slots=True)
class ColumnSchema:
    """A column: its name, its type, and whether a value may be missing.

    Example:
        >>> ColumnSchema("run_id", Dtype.UTF8, nullable=False)
        ColumnSchema(name='run_id', dtype=<Dtype.UTF8: 'Utf8'>, nullable=False)
    """

    name: str
    dtype: ColumnType
    nullable: bool = True


def accepts(declared: ColumnType, actual: ColumnType) -> bool:
    """Return whether a declared type takes an actual one: a coarse one any parameters, an exact one only itself.

    Example:
        >>> accepts(Dtype.DATETIME, DatetimeType("us", "UTC")), accepts(DatetimeType("ms"), DatetimeType("us"))
        (True, False)
    """
    return declared == actual or (isinstance(declared, Dtype) and _COARSE.get(type(actual)) == declared)
