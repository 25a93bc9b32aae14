"""The named statements: how their files are read, and which index each of them walks."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import milepost.stores
from milepost.stores.sql import Statement, keep_given, load_migrations, load_statements, numbered
from milepost.stores.sqlite import SQLiteStore

FOLDER = Path(milepost.stores.__file__).parent
STATEMENTS = load_statements(*sorted(path.name for path in (FOLDER / "queries").glob("*.sql")))


# --- reading the files -------------------------------------------------------------------------


def test_a_statement_knows_its_parameters_in_order_and_numbers_them_by_a_row_type() -> None:
    statement = Statement("n", "SELECT :b, :a, :b WHERE x = 'a:c' AND y = z::text", None, None, "f.sql")
    assert statement.parameters == ("b", "a")
    assert numbered(statement.text, ("a", "b")) == "SELECT ?2, ?1, ?2 WHERE x = 'a:c' AND y = z::text"


def test_a_parameter_that_the_row_type_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        numbered("SELECT :c", ("a", "b"))


def test_comments_and_the_final_semicolon_are_not_part_of_a_statement() -> None:
    for statement in STATEMENTS.values():
        assert statement.text
        assert not statement.text.endswith(";")
        assert not re.search(r"^\s*--", statement.text, re.MULTILINE)


def test_a_name_that_is_used_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="is defined twice"):
        load_statements("reads.sql", "reads.sql")


def test_optional_lines_stay_only_where_their_parameter_is_given() -> None:
    text = "SELECT 1\nWHERE 1 = 1\n    AND a = :a   -- if :a\n    AND b = :b -- if :b\nLIMIT 1"
    assert keep_given(text, frozenset()) == "SELECT 1\nWHERE 1 = 1\nLIMIT 1"
    assert keep_given(text, frozenset({"a"})) == "SELECT 1\nWHERE 1 = 1\n    AND a = :a\nLIMIT 1"


def test_every_statement_is_used() -> None:
    folders = (FOLDER, FOLDER.parent / "tracking")  # the client reads by the statements' names
    source = "".join(path.read_text() for folder in folders for path in folder.glob("*.py"))
    assert [name for name in STATEMENTS if f'"{name}"' not in source] == []


def test_what_only_one_dialect_has_says_why_it_differs() -> None:
    source = "".join(path.read_text() for path in FOLDER.glob("*.py"))
    for path in FOLDER.glob("queries/postgres/*.sql"):
        assert path.read_text().startswith("-- Differs from the portable text because "), path
        assert [name for name in load_statements(f"postgres/{path.name}") if f'"{name}"' not in source] == []


def test_migrations_split_into_the_statements_they_hold() -> None:
    text = load_migrations("sqlite")[0][2]
    tables = set(re.findall(r"CREATE TABLE (\w+)", text))
    store = SQLiteStore(":memory:")
    found = {name for (name,) in store._read(lambda r: r.execute("SELECT name FROM sqlite_schema").fetchall())}
    store.close()
    assert tables <= found


# --- query plans -------------------------------------------------------------------------------

# Walks over more rows than they return, each with its reason. Every other statement that touches runs
# or steps goes straight to its rows.
WALKS = {
    "list_runs": "walks the index of its order until the page is full",
    "list_workflow_runs": "walks the index of its order until the page is full",
    "list_workflows": "an index alone answers it; asked by people",
    "count_tasks": "counts every run that is not over",
    "find_open_steps": "doctor looks at everything",
    "find_broken_claims": "doctor looks at everything",
    "find_unfinished_steps": "doctor looks at everything",
    "find_completed_twice": "doctor looks at everything",
    "find_bad_times": "doctor looks at everything",
}
DOCTOR = {name for name, reason in WALKS.items() if reason.startswith("doctor")}
FILTERS = ("status", "workflow", "parent_run_id", "since", "before_at")


@pytest.fixture(scope="module")
def store() -> Iterator[SQLiteStore]:
    opened = SQLiteStore(":memory:")
    yield opened
    opened.close()


def _plan(store: SQLiteStore, text: str) -> list[str]:
    if "?" in text:
        values: object = [None] * max(int(number) for number in re.findall(r"\?(\d+)", text))
    else:
        values = dict.fromkeys(re.findall(r"(?<![:\w]):([a-z_]+)", text))
    rows = store._read(lambda reader: reader.execute(f"EXPLAIN QUERY PLAN {text}", values).fetchall())
    return [detail for *_, detail in rows]


def _touches(plan: list[str]) -> list[str]:
    """Return the plan's steps that read runs or steps, by table or alias."""
    return [detail for detail in plan if re.match(r"(SCAN|SEARCH) (runs|steps|child|r|s)\b", detail)]


@pytest.mark.parametrize("name", [name for name in STATEMENTS if name not in DOCTOR])
def test_every_statement_reaches_runs_and_steps_by_an_index(store: SQLiteStore, name: str) -> None:
    for detail in _touches(_plan(store, keep_given(store._sql[name], frozenset()))):
        assert "USING" in detail, detail
        assert detail.startswith("SEARCH") or name in WALKS, detail


def test_the_list_of_walks_holds_nothing_that_goes_straight_to_its_rows(store: SQLiteStore) -> None:
    for name in WALKS:
        text = keep_given(store._sql[name], frozenset())
        assert any(detail.startswith("SCAN") for detail in _touches(_plan(store, text))), name


@pytest.mark.parametrize(
    "given", [names for n in range(len(FILTERS) + 1) for names in itertools.combinations(FILTERS, n)], ids="+".join
)
def test_a_page_of_runs_comes_in_the_order_of_an_index_whatever_the_filter(
    store: SQLiteStore, given: tuple[str, ...]
) -> None:
    state = {"is_over"} if "status" in given else set()
    plan = _plan(store, keep_given(store._sql["list_runs"], frozenset(given) | state))
    assert len(plan) == 1, plan
    expected = "SEARCH runs USING INDEX" if given else "SCAN runs USING INDEX runs_by_created"
    assert plan[0].startswith(expected)
    by = {"parent_run_id": "runs_by_parent", "workflow": "runs_by_(workflow|status)", "status": "runs_by_status"}
    index = next((index for name, index in by.items() if name in given), "runs_by_created")
    assert re.search(index, plan[0]), plan


def test_a_page_of_runs_in_a_state_that_is_not_over_walks_the_index_of_those(store: SQLiteStore) -> None:
    text = keep_given(store._sql["list_runs"], frozenset({"status", "is_open"}))
    assert _plan(store, text) == ["SCAN runs USING INDEX runs_open"]


def test_claiming_and_ending_touch_one_run_by_its_key(store: SQLiteStore) -> None:
    for name in ("claim_run", "heartbeat", "end_run", "get_fence", "request_cancel", "cancel_unowned"):
        assert _plan(store, store._sql[name]) == ["SEARCH runs USING PRIMARY KEY (run_id=?)"], name


def test_deleting_a_definition_looks_for_its_runs_by_an_index(store: SQLiteStore) -> None:
    # The foreign key's own search is not in the plan; it takes the same index.
    assert "SEARCH runs USING COVERING INDEX runs_by_hash (hash=?)" in _plan(
        store, store._sql["delete_unused_definitions"]
    )


def test_sqlite_itself_finds_no_table_scan_in_the_schemas_foreign_keys(store: SQLiteStore) -> None:
    for (table,) in store._read(lambda r: r.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()):
        for row in store._read(lambda r, t=table: r.execute(f"PRAGMA foreign_key_list({t})").fetchall()):
            column = row[3]
            (detail,) = _plan(store, f"SELECT 1 FROM {table} WHERE {column} = :x")
            assert detail.startswith("SEARCH"), (table, column, detail)


# --- both dialects -----------------------------------------------------------------------------


def _shape(dialect: str) -> tuple[dict[str, list[str]], set[str]]:
    """Return the columns of every table, and every index, as the migrations write them."""
    text = "\n".join(text for _, _, text in load_migrations(dialect))
    text = re.sub(r"--.*", "", text)
    tables = {
        table: re.findall(r"^    ([a-z_]+) (?:TEXT|INTEGER|BIGINT)", body, re.MULTILINE)
        for table, body in re.findall(r"CREATE TABLE (\w+) \((.*?)\n\)", text, re.DOTALL)
    }
    for table, column in re.findall(r"ALTER TABLE (\w+) ADD COLUMN (\w+)", text):
        tables[table].append(column)
    indexes = {" ".join(found.split()) for found in re.findall(r"CREATE (?:UNIQUE )?INDEX [^;]+", text)}
    return tables, indexes


def test_both_dialects_have_the_same_tables_columns_and_indexes() -> None:
    assert _shape("sqlite") == _shape("postgres")
    assert [migration[:2] for migration in load_migrations("sqlite")] == [
        migration[:2] for migration in load_migrations("postgres")
    ]
