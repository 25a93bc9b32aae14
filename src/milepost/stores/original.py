"""Take over a file in the table layout of the library that ``DagProvenance`` comes from.

Its three tables are kept as they are; what they tell is written beside them into the ledger's own, in one transaction.
What is there already is passed over, so that opening the file again changes nothing.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Final

from milepost.stores.sql import load_statements
from milepost.stores.sqlite_connection import APPLICATION_ID
from milepost.stores.sqlite_errors import translate
from milepost.values import content_hash

__all__ = ["KEPT_TABLES", "adopt_original", "import_original"]

KEPT_TABLES: Final = ("dag_runs", "node_executions", "edge_traversals")

_TABLES: Final = ("dag_runs", "node_executions")


def adopt_original(path: str) -> None:
    """Mark a file in the original's layout as one that may become a ledger; leave every other as it is.

    What cannot be opened or read is left to whoever opens the ledger.
    """
    if not os.path.isfile(path):
        return
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=30)
        try:
            is_foreign = connection.execute("PRAGMA application_id").fetchone()[0] == 0
            if is_foreign and all(_columns(connection, table) for table in _TABLES):
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
        finally:
            connection.close()
    except sqlite3.DatabaseError:
        pass  # no database, or one that cannot be opened: whoever opens the ledger says so better


def import_original(path: str) -> int:
    """Import what a file has in the original's tables and not yet in the ledger's; return how many runs.

    The ledger's own tables must be there.

    Raises:
        StoreError: The file cannot be read or written.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=30)
        try:
            return _import(connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise translate(error, path) from error


def _import(connection: sqlite3.Connection) -> int:
    of_runs, of_nodes = (_columns(connection, table) for table in _TABLES)
    if not of_runs:
        return 0
    if "node_type" in of_nodes:
        kind = "COALESCE(n.node_type, 'step')"
    elif "is_source" in of_nodes:
        kind = "CASE WHEN n.is_source THEN 'source' WHEN n.is_sink THEN 'sink' ELSE 'step' END"
    else:
        kind = "'step'"
    columns = {
        "parent": "d.parent_run_id" if "parent_run_id" in of_runs else "NULL",
        "initiator": "d.initiated_by" if "initiated_by" in of_runs else "NULL",
        "result": "d.sink_outputs_json" if "sink_outputs_json" in of_runs else "NULL",
        "kind": kind,
    }
    connection.create_function("content_hash", 1, lambda text: None if text is None else content_hash(text))
    connection.execute("BEGIN IMMEDIATE")
    try:
        count = 0
        for name, statement in load_statements("sqlite/original.sql").items():
            text = statement.text
            for column, expression in columns.items():
                text = text.replace(f"{{{column}}}", expression)
            changed = connection.execute(text).rowcount
            if name == "runs":
                count = changed
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("ROLLBACK")
        raise
    return count


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {row[0] for row in connection.execute("SELECT name FROM pragma_table_info(?)", [table])}
