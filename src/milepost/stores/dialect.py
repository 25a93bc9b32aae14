"""How the portable SQL text becomes a dialect's own: fragments and table names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from milepost.clock import FOR_EVER
from milepost.model import Run
from milepost.stores.scheduling import SCHEDULE_COLUMNS

__all__ = ["POSTGRES", "SQLITE", "Dialect"]

_COMMON: Final = {
    "run_columns": ", ".join(Run.__dataclass_fields__),
    "schedule_columns": SCHEDULE_COLUMNS,
    "for_ever": str(FOR_EVER),
}
_TABLES: Final = (
    "attempts|checkpoints|definitions|edges|events|queues|run_payloads|run_tags|runs|schedules|schema_migrations"
    "|status_reports|steps|waits|workers"
)
_AFTER: Final = re.compile(rf"\b(FROM|INTO|UPDATE|JOIN)(\s+)({_TABLES})\b")


@dataclass(frozen=True, slots=True)
class Dialect:
    """The fragments that differ.

    Attributes:
        name: Names the folder of its migrations.
        fragments: What ``{name}`` in a statement stands for.
    """

    name: str
    fragments: Mapping[str, str]

    def render(self, text: str, *, schema: str | None = None) -> str:
        """Return a statement's text with its fragments; with a schema, every table is named in it.

        A caller's own connection may have any search path, so names never depend on it.
        """
        for name, fragment in {**_COMMON, **self.fragments}.items():
            text = text.replace(f"{{{name}}}", fragment)
        return text if schema is None else _AFTER.sub(rf'\1\2"{schema}".\3', text)


SQLITE: Final = Dialect(
    name="sqlite",
    fragments={
        # One writer at a time: there is nobody to skip, to share with or to lock out.
        "skip_locked": "",
        # Left to itself, it takes the index by status and looks at all that wait.
        "by_due": "INDEXED BY runs_due",
        "for_share": "",
        "for_update": "",
        "for_change": "",
        "lease_now": ":now",
        "lease_until": ":lease_until",
        "output_bytes": "CAST(output AS BLOB)",
        "among_texts": "IN (SELECT value FROM json_each(:texts))",
    },
)

# Shifted by a setting of the session, so that tests can move the server's clock.
_SERVER_CLOCK: Final = (
    "((EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT"
    " + COALESCE(NULLIF(current_setting('milepost.clock_shift', true), '')::BIGINT, 0))"
)

POSTGRES: Final = Dialect(
    name="postgres",
    fragments={
        "skip_locked": "FOR UPDATE SKIP LOCKED",
        "by_due": "",
        "for_share": "FOR SHARE",
        "for_update": "FOR UPDATE",
        # Lets others refer to the row meanwhile: an open transaction that links a task to it stops nobody.
        "for_change": "FOR NO KEY UPDATE",
        # Leases follow the server's clock, so that machines whose clocks differ agree on who holds one.
        "lease_now": f"(SELECT {_SERVER_CLOCK})",  # asked once, so that an index can be walked up to it
        "lease_until": f"({_SERVER_CLOCK} + :lease)",
        "output_bytes": "convert_to(output, 'UTF8')",
        "among_texts": "= ANY (ARRAY(SELECT json_array_elements_text(CAST(:texts AS JSON))))",
    },
)
