"""The types of columns: their names, their exact forms, and which takes which."""

from __future__ import annotations

import pytest

from milepost.schema import (
    ArrayType,
    CategoricalType,
    ColumnType,
    DatetimeType,
    DecimalType,
    Dtype,
    DurationType,
    EnumType,
    ListType,
    StructField,
    StructType,
    accepts,
)

NAMES = (
    "Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64 Float32 Float64 Decimal Utf8 Binary Boolean Date Datetime "
    "Duration Time List Array Struct Categorical Enum Null"
)


def test_every_kind_of_value_has_its_name() -> None:
    assert [kind.value for kind in Dtype] == NAMES.split()
    assert [kind.name for kind in Dtype] == NAMES.upper().split()


def test_exact_forms_have_their_parameters_and_defaults() -> None:
    assert DatetimeType() == DatetimeType(time_unit="us", time_zone=None)
    assert DatetimeType("ns", "UTC") == DatetimeType(time_unit="ns", time_zone="UTC")
    assert DurationType() == DurationType(time_unit="us")
    assert DecimalType() == DecimalType(precision=None, scale=None)
    assert StructField("a", Dtype.INT8) == StructField("a", Dtype.INT8, nullable=True)


@pytest.mark.parametrize(
    ("coarse", "exact"),
    [
        (Dtype.LIST, ListType(Dtype.INT8)),
        (Dtype.ARRAY, ArrayType(Dtype.FLOAT32, 3)),
        (Dtype.STRUCT, StructType((StructField("a", ListType(Dtype.UTF8)),))),
        (Dtype.DECIMAL, DecimalType(10, 2)),
        (Dtype.DATETIME, DatetimeType("us", "UTC")),
        (Dtype.DURATION, DurationType("ms")),
        (Dtype.CATEGORICAL, CategoricalType()),
        (Dtype.ENUM, EnumType(("a", "b"))),
    ],
)
def test_a_coarse_type_takes_any_parameters_and_an_exact_form_only_itself(coarse: Dtype, exact: ColumnType) -> None:
    assert accepts(coarse, coarse)
    assert accepts(coarse, exact)
    assert accepts(exact, exact)
    assert not accepts(exact, coarse)
    assert not accepts(Dtype.NULL, exact)


def test_other_parameters_are_another_type() -> None:
    assert not accepts(DecimalType(10, 2), DecimalType(10, 3))
    assert not accepts(DatetimeType("us"), DatetimeType("us", "UTC"))
