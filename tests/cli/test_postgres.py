"""The command line on a PostgreSQL ledger: no file, in need of a migration, and with a password that nobody sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import psycopg
import pytest
from postgres import PostgresServer, new_schema, server_url

from milepost import Ledger
from milepost.stores.postgres_address import Address
from milepost.stores.sql import load_migrations

SECRET = "s3cr3t%2Fw0rd"  # as it stands in a URL
NAMES = [name for _, name, _ in load_migrations("postgres")]


@pytest.fixture
def empty():
    """Return the URL of a schema that is not there."""
    url = server_url()
    return f"{url}{'&' if '?' in url else '?'}schema=t_{os.urandom(8).hex()}"


@pytest.fixture
def shop(place, monkeypatch):
    """Return a folder whose default ledger is a migrated one in PostgreSQL."""
    monkeypatch.setenv("MILEPOST_LEDGER", new_schema(server_url()))
    return place


@pytest.fixture(scope="module")
def locked():
    """Return a server that asks for passwords, as the host part of a URL."""
    server = PostgresServer(fsync="off")
    server.start()
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE ada LOGIN PASSWORD 's3cr3t/w0rd'")
        connection.execute("CREATE DATABASE work OWNER ada")
        rules = server.folder / "data" / "pg_hba.conf"
        rules.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
        connection.execute("SELECT pg_reload_conf()")
    yield server.folder
    server.close()


# --- migrating -----------------------------------------------------------------------------------


def test_migrate_shows_its_plan_carries_it_out_once_and_then_finds_nothing_to_do(place, empty):
    words = ["migrate", "--ledger", empty]
    plan = place.run(*words, "--dry-run")
    assert plan.stdout.splitlines() == [f"To do on {empty}:", *(f"  {name}" for name in NAMES)]
    assert json.loads(place.run(*words, "--dry-run", "--json").stdout) == {"ledger": empty, "migrations": NAMES}
    assert place.run(*words).stdout.splitlines() == [f"Done on {empty}:", *(f"  {name}" for name in NAMES)]
    assert place.run(*words).stdout == f"{empty} is up to date.\n"
    assert place.run("runs", "--ledger", empty).stdout == f"No runs in {empty}.\n"


def test_migrate_leaves_a_file_alone_and_says_why(place):
    result = place.run("migrate", "--ledger", "runs.db")
    assert result.exit_code == 0
    assert result.stdout == "runs.db is a file: a ledger in SQLite migrates by itself when it is opened.\n"
    assert not (place.folder / "runs.db").exists()


@pytest.mark.parametrize("words", [["runs"], ["run", "job.py:dag"], ["submit", "job.py:dag"], ["worker", "job.py:dag"]])
def test_a_ledger_that_was_not_migrated_names_the_command(place, empty, words):
    result = place.run(*words, "--ledger", empty)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "has no tables yet. Bring it up to date: `milepost migrate" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_ledger_of_a_newer_version_is_left_alone(shop):
    address = Address(os.environ["MILEPOST_LEDGER"])
    with psycopg.connect(address.conninfo, autocommit=True) as connection:
        connection.execute(f'INSERT INTO "{address.schema}".schema_migrations VALUES (9999, $$future$$, 0)')
    for words in (["runs"], ["worker", "job.py:dag"], ["migrate"], ["migrate", "--dry-run"]):
        result = shop.run(*words)
        assert (result.exit_code, result.stdout) == (2, ""), words
        assert "newer than the" in result.stderr
        assert "Upgrade Milepost" in result.stderr


# --- looking -------------------------------------------------------------------------------------


def test_a_run_in_the_foreground_is_recorded_and_looked_at(shop):
    assert shop.finish("run", "job.py:dag", "--run-id", "first").returncode == 0
    assert "first" in shop.run("runs").stdout
    assert json.loads(shop.run("runs", "--json").stdout)["runs"][0]["status"] == "completed"
    shown = shop.run("show", "first").stdout
    assert "✓ Run first of tens: completed" in shown
    assert "4/4" in shown
    assert json.loads(shop.run("show", "first", "work[2]", "--json").stdout)["attempts"][0]["output"] == 20
    assert "class n0,n1,n2 completed" in shop.run("graph", "first", "--format", "mermaid").stdout
    doctor = shop.run("doctor")
    assert (doctor.exit_code, "Nothing is wrong." in doctor.stdout) == (0, True), doctor.stdout
    assert shop.run("why", "first").stdout.splitlines()[1].startswith("  It completed at ")
    assert shop.run("gc", "--older-than", "0s", "--dry-run").stdout.startswith("Would delete 1 run ")
    assert shop.run("gc", "--older-than", "0s").stdout.startswith("Deleted 1 run ")
    assert shop.run("runs").stdout.startswith("No runs in postgresql://")


def test_a_run_that_was_killed_is_found_and_resumed(shop, wait_for):
    (shop.folder / "hold").touch()
    victims = [shop.start("run", "job.py:dag", "--run-id", name) for name in ("a", "b")]
    wait_for(lambda: shop.effects.count(2) == 2)
    for victim in victims:
        victim.kill()
        victim.communicate()
    (shop.folder / "hold").unlink()
    assert json.loads(shop.run("why", "a", "--json").stdout)["code"] == "interrupted"
    assert shop.run("doctor").exit_code == 1
    resumed = shop.finish("resume", "--all")
    assert resumed.returncode == 0, resumed.stderr
    assert [shop.effects.count(n) for n in range(4)] == [2, 2, 4, 2]
    assert {run["status"] for run in json.loads(shop.run("runs", "--json").stdout)["runs"]} == {"completed"}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["show", "nothing"], "No run 'nothing' in this ledger."),
        (["why", "nothing"], "No run 'nothing' in this ledger."),
        (["cancel", "nothing"], "No run 'nothing' in this ledger."),
        (["resume", "nothing"], "No run 'nothing' in this ledger."),
        (["graph", "nothing"], "No run 'nothing' in this ledger."),
    ],
)
def test_what_is_not_there_is_not_found(shop, words, complaint):
    result = shop.run(*words)
    assert (result.exit_code, result.stdout) == (3, "")
    assert complaint in result.stderr


# --- servers that refuse -------------------------------------------------------------------------


def test_the_right_password_opens_the_ledger_and_is_never_shown(place, locked):
    url = f"postgresql://ada:{SECRET}@/work?host={locked}"
    told = ""
    for words, code in (
        (["migrate", "--dry-run"], 0),
        (["migrate"], 0),
        (["run", "job.py:dag"], 0),
        (["runs", "--json"], 0),
        (["queues"], 0),
        (["doctor"], 0),
        (["show", "nothing"], 3),
    ):
        result = place.run(*words, "--ledger", url)
        assert result.exit_code == code, result.stderr
        told += result.stdout + result.stderr
    (place.folder / "broken").touch()
    failed = place.finish("run", "job.py:dag", "--ledger", url)  # as a process: the hints of a run that failed
    assert failed.returncode == 1
    told += failed.stdout + failed.stderr
    assert f"ada:***@/work?host={locked}" in told
    assert "--ledger 'postgresql://ada:***@" in told
    assert not any(form in told for form in (SECRET, "s3cr3t"))


def test_resume_all_passes_no_password_on_a_command_line(place, locked, wait_for):
    url = f"postgresql://ada:{SECRET}@/work?host={locked}&schema=again"
    Ledger.migrate(url)
    (place.folder / "hold").touch()
    victims = [place.start("run", "job.py:dag", "--ledger", url) for _ in range(2)]
    wait_for(lambda: place.effects.count(2) == 2)
    for victim in victims:
        victim.kill()
        victim.communicate()
    resuming = place.start("resume", "--all", env={**os.environ, "MILEPOST_LEDGER": url})
    wait_for(lambda: place.effects.count(2) == 3)
    lines = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    (place.folder / "hold").unlink()
    out, err = resuming.communicate(timeout=60)
    assert resuming.returncode == 0, err
    assert any(" resume " in line and "--durability" in line for line in lines.splitlines())
    assert "s3cr3t" not in lines + out + err


@pytest.mark.parametrize(
    ("user", "database", "told", "remedy"),
    [
        ("ada:wr0ng%21", "work", 'password authentication failed for user "ada"', "Check the user and the password"),
        ("ada", "work", "no password supplied", "Check the user and the password"),
        ("bob:wr0ng%21", "work", 'password authentication failed for user "bob"', "Check the user and the password"),
        ("postgres", "nowhere", 'database "nowhere" does not exist', "Create it with `createdb`"),
    ],
)
def test_a_refused_connection_is_one_line_with_the_remedy(place, locked, user, database, told, remedy, monkeypatch):
    monkeypatch.setenv("HOME", str(place.folder))  # no ~/.pgpass
    monkeypatch.delenv("PGPASSWORD", raising=False)
    url = f"postgresql://{user}@/{database}?host={locked}"
    for words in (["runs"], ["submit", "job.py:dag"], ["worker", "job.py:dag"], ["migrate"]):
        result = place.run(*words, "--ledger", url)
        assert (result.exit_code, result.stdout) == (2, ""), result.stderr
        assert told in result.stderr
        assert remedy in result.stderr
        assert "wr0ng" not in result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("query", ["host=/nowhere", "host=127.0.0.1&port=1", "host=no-such-host.invalid"])
def test_a_server_out_of_reach_is_one_line_and_exit_code_2(place, query):
    result = place.run("runs", "--ledger", f"postgresql://ada:wr0ng@/work?{query}")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "cannot be reached: " in result.stderr
    assert "Start the server, or check the URL." in result.stderr
    assert "wr0ng" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_debug_traceback_shows_no_password_either(place, locked):
    for url in (f"postgresql://ada:wr0ng%zz@/work?host={locked}", f"postgresql://ada:wr0ng@/work?host={locked}"):
        result = place.finish("runs", "--ledger", url, "--debug")
        assert result.returncode == 2
        assert "Traceback" in result.stderr
        assert "wr0ng" not in result.stderr


def test_without_the_driver_the_extra_is_named(place):
    line = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from milepost.cli import main\n"
        "sys.argv = ['milepost', *sys.argv[1:]]\n"
        "main()\n"
    )
    for words in (["runs"], ["migrate"]):
        done = subprocess.run(
            [sys.executable, "-c", line, *words, "--ledger", "postgresql://ada:wr0ng@db/work"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert "Install it: pip install 'milepost[postgres]'." in done.stderr
        assert "wr0ng" not in done.stderr


def test_doctor_says_that_this_machine_s_clock_is_off(place):
    url = new_schema(server_url())
    assert place.run("doctor", "--ledger", url).exit_code == 0
    ahead = place.run("doctor", "--ledger", f"{url}&options=-c%20milepost.clock_shift%3D-3600000000")
    assert ahead.exit_code == 1
    assert "clock_off  postgresql://" in ahead.stdout
    assert "this machine's clock is 3600 s ahead of that of the ledger's server." in ahead.stdout
    assert "Remedy: Set it (NTP)" in ahead.stdout
