"""A ledger's address is never shown with its password."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milepost import Ledger
from milepost.errors import ConfigurationError, SchemaOutdated
from milepost.stores.postgres_address import Address, hide_password


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ada:secret@db:5432/work", "postgresql://ada:***@db:5432/work"),
        ("postgresql://ada:se/cr#et@db/work", "postgresql://ada:***@db/work"),
        ("postgresql://ada:se@cret@db/work", "postgresql://ada:***@db/work"),
        ("postgresql://:secret@db/work", "postgresql://:***@db/work"),
        ("postgresql://ada@db/work?password=secret&schema=s", "postgresql://ada@db/work?password=***&schema=s"),
        ("postgresql:///work?sslkey=k&sslpassword=secret", "postgresql:///work?sslkey=k&sslpassword=***"),
        ("postgresql://ada@[::1]:5432/work", "postgresql://ada@[::1]:5432/work"),
        ("postgresql://ada@/work?host=/run/pg", "postgresql://ada@/work?host=/run/pg"),
        ("runs.db", "runs.db"),
        ("/folder/a:b@c.db", "/folder/a:b@c.db"),
    ],
)
def test_a_url_is_shown_without_its_password_and_with_all_the_rest(url: str, shown: str) -> None:
    assert hide_password(url) == shown


@given(st.text(min_size=4).filter(lambda text: "*" not in text))
def test_no_password_is_shown_however_it_is_written(password: str) -> None:
    secret = f"Q{password}Q"  # long enough not to be a part of the rest by chance
    assert secret not in hide_password(f"postgresql://ada:{secret}@db/work")


def test_the_schema_is_taken_out_of_what_the_driver_gets() -> None:
    address = Address("postgresql://ada:secret@db/work?schema=mine&sslmode=require")
    assert address.schema == "mine"
    assert address.conninfo == "postgresql://ada:secret@db/work?sslmode=require"
    assert Address("postgresql://ada@db/work").schema == "milepost"


def test_what_the_driver_says_is_repeated_without_the_password() -> None:
    address = Address("postgresql://ada:se%2Fcret@db/work?sslpassword=other")
    assert address.scrub("invalid token 'se%2Fcret', or se/cret, or other") == "invalid token '***', or ***, or ***"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://ada:[secret@db/work", "is not a URL"),
        ("postgresql://ada:secret@db/work?schema=No-Name", "'No-Name' is not a schema's name"),
        ("postgresql://ada:secret%zz@db/work", "is not a URL that PostgreSQL takes: invalid percent-encoded token"),
        ("postgresql://ada:secret@db/work?hots=x", "is not a URL that PostgreSQL takes: invalid URI query parameter"),
        ("mysql://ada:secret@db/work", "'mysql://ada:***@db/work' is not a ledger URL this version knows"),
    ],
)
def test_a_url_that_cannot_be_is_refused_without_its_password(url: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Ledger.open(url)
    assert told in str(refused.value)
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None  # a traceback would repeat the driver's error


def test_a_schema_that_is_behind_names_the_command_that_brings_it_up_to_date() -> None:
    assert str(SchemaOutdated("postgresql://db/work", 1, 2)) == (
        "The ledger postgresql://db/work has schema 1, and this version needs 2. "
        "Bring it up to date: `milepost migrate`."
    )
    assert "has no tables yet" in str(SchemaOutdated("postgresql://db/work", 0, 2))


def test_an_address_loads_no_driver() -> None:
    line = "import sys, milepost.cli, milepost.stores.postgres_address; print('psycopg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", line], capture_output=True, text=True).stdout == "False\n"
