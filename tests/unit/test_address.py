"""A PostgreSQL ledger's URL: what the driver gets, what people are shown, which schema it names."""

from __future__ import annotations

import pytest
from psycopg.conninfo import conninfo_to_dict

from milepost.errors import ConfigurationError
from milepost.stores.postgres_connection import Address


def test_the_schema_is_taken_out_and_everything_else_reaches_the_driver_as_it_was_written() -> None:
    address = Address("postgresql://me@/db?host=/run/pg&schema=team&options=-c%20a.b%3D1%20-c%20c.d%3D2")
    assert address.schema == "team"
    assert conninfo_to_dict(address.conninfo) == {
        "user": "me",
        "dbname": "db",
        "host": "/run/pg",
        "options": "-c a.b=1 -c c.d=2",
    }


@pytest.mark.parametrize("password", ["a+b", "a%2Bb", "a%20b", "a%26schema%3Dx"])
def test_a_password_is_not_changed_on_its_way(password: str) -> None:
    url = f"postgresql://me@host/db?password={password}&schema=team"
    expected = conninfo_to_dict(f"postgresql://me@host/db?password={password}")
    assert conninfo_to_dict(Address(url).conninfo) == expected


@pytest.mark.parametrize("url", ["postgresql://me:secret@host/db", "postgresql://host/db?user=me&password=secret"])
def test_nobody_is_shown_a_password(url: str) -> None:
    assert "secret" not in Address(url).url
    assert "secret" in Address(url).conninfo


def test_the_schema_is_milepost_unless_it_is_named() -> None:
    assert Address("postgresql:///db").schema == "milepost"


@pytest.mark.parametrize("schema", ["", "Team", "1st", "a-b", "a%22b", "x" * 64])
def test_a_schema_that_would_need_quotes_is_refused(schema: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a schema's name"):
        Address(f"postgresql:///db?schema={schema}")
