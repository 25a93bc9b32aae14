"""What workflows may call and read: what was registered, allowed or configured, and nothing else."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from milepost import Ledger
from milepost.dsl import (
    FunctionNotFound,
    allow_environment,
    allow_module,
    configure_builtins,
    resolve_function,
    set_secrets,
)
from milepost.dsl import WorkflowBuilder as B
from milepost.errors import ConfigurationError


@pytest.fixture(autouse=True)
def off():
    configure_builtins()
    yield
    configure_builtins()


@pytest.mark.parametrize("name", ["os.system", "http.request", "shell.run", "sql.query", "file.read", "eval", ""])
def test_nothing_is_called_that_nobody_registered_or_allowed(name):
    with pytest.raises(FunctionNotFound):
        resolve_function(name)


def test_an_allowed_module_gives_its_own_functions_alone():
    allow_module("json.decoder")
    assert resolve_function("json.decoder.JSONDecoder")
    for name in (
        "json.decoder.re",
        "json.decoder._hidden",
        "json.decoder.missing",
        "json.decoder.scanner.c_make_scanner",
    ):
        with pytest.raises(FunctionNotFound):
            resolve_function(name)


def test_a_workflow_without_its_functions_builds_and_loads_and_creates_no_run(ledger):
    workflow = B("x").task("a", "never.registered").build()
    with pytest.raises(FunctionNotFound, match=r"never\.registered"):
        workflow.run(ledger=ledger)
    assert ledger.list_runs() == []


def test_files_stay_under_their_folder(tmp_path):
    configure_builtins(file_root=tmp_path / "in")
    (tmp_path / "in").mkdir()
    resolve_function("file.write")("a.txt", "hello")
    assert resolve_function("file.read")("a.txt") == "hello"
    assert resolve_function("file.list")() == ["a.txt"]
    (tmp_path / "in" / "link").symlink_to(tmp_path)
    for path in ("../b.txt", "/etc/passwd", "link/b.txt"):
        with pytest.raises(ConfigurationError, match="leads out"):
            resolve_function("file.read")(path)


def test_queries_go_to_named_connections(tmp_path):
    configure_builtins(sql={"main": lambda: sqlite3.connect(tmp_path / "x.db")})
    query = resolve_function("sql.query")
    assert query("main", "SELECT ? + 1 AS n", [2]) == [{"n": 3}]
    with pytest.raises(ConfigurationError, match="knows no connection"):
        query("other", "SELECT 1")


def test_commands_run_only_where_they_are_enabled():
    configure_builtins(shell=True)
    assert resolve_function("shell.run")(["echo", "hi"])["stdout"] == "hi\n"


def test_requests_go_to_named_hosts_and_follow_no_redirect():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", "http://elsewhere/")
            self.end_headers()

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        host = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            configure_builtins(http_hosts=[host])
            assert resolve_function("http.request")(f"http://{host}/")["status"] == 302
            for url in ("http://elsewhere/", f"file://{host}/etc/passwd", f"http://{host}@elsewhere/"):
                with pytest.raises(ConfigurationError, match="may not ask"):
                    resolve_function("http.request")(url)
        finally:
            server.shutdown()
            thread.join()


def test_templates_read_what_was_allowed_of_the_environment_and_secrets_that_are_never_stored(run, ledger, monkeypatch):
    monkeypatch.setenv("MINE", "m")
    monkeypatch.setenv("OTHER", "o")
    allow_environment("MINE")
    set_secrets(lambda: {"key": "s3cret"})
    flow = B("x").task("a", "t.add", args=["{{ENV.MINE}}", "{{secrets.key}}"]).task("b", "t.echo", args=[1])
    finished = run(flow)
    assert ledger.get_output(finished.run_id, "a") == "ms3cret"
    assert "s3cret" not in str([step.input for step in ledger.list_steps(finished.run_id)])
    assert "OTHER" in run(B("y").task("a", "t.echo", args=["{{ENV.OTHER}}"])).error


def test_a_retry_that_is_due_late_waits_in_the_ledger_and_not_in_the_process(tmp_path):
    from milepost import Worker

    with Ledger.open(tmp_path / "runs.db") as ledger:
        workflow = B("late").task("a", "t.fail_times", args=[1]).retry(1, timedelta(hours=1)).build()
        handle = workflow.submit(ledger=ledger)
        Worker([workflow.for_worker()], ledger=ledger, heartbeat_process=False).run_until_idle()
        assert handle.status().value == "suspended"
        (wait,) = ledger.list_waits(handle.run_id)
        assert (wait.label, round((wait.wake_at - wait.created_at) / 1e6)) == ("a[retry 1]", 3600)


def test_keys_that_no_event_can_bear_are_keys_of_their_own(run, calls):
    for last in ("1", "2", "1"):
        for key in (f"{'x' * 300}{last}", f"two\nlines {last}"):
            finished = run(B("x").task("a", "t.echo", args=[last], idempotency_key="{{inputs.key}}"), {"key": key})
            assert finished.result() == last
    assert [value for _, value in calls] == ["1", "1", "2", "2"]


def test_every_way_to_submit_a_workflow_keeps_its_tags(ledger):
    workflow = B("x").task("a", "t.echo").add_tags("nightly").build()
    for handle in (workflow.submit(ledger=ledger, tags={"own": 1}), workflow.for_worker().submit(ledger=ledger)):
        assert json.loads(ledger.get_payload(handle.run_id).tags)["nightly"] is True


def test_a_paused_workflow_has_never_a_schedule_that_fires(ledger, monkeypatch):
    flow = B("x").task("a", "t.echo").set_schedule("0 2 * * *")
    monkeypatch.setattr(type(ledger), "pause_schedule", lambda *_: pytest.fail("it was added unpaused"))
    assert flow.set_paused(True).build().add_schedule(ledger=ledger).paused_at is not None
    assert ledger.require_schedule("x").paused_at is not None


def test_a_workflow_that_is_paused_later_pauses_the_schedule_that_is_there(ledger):
    flow = B("x").task("a", "t.echo").set_schedule("0 2 * * *")
    assert flow.build().add_schedule(ledger=ledger).paused_at is None
    assert flow.set_paused(True).build().add_schedule(ledger=ledger).paused_at is not None


def test_what_an_async_function_keeps_is_read_and_written_off_the_event_loop(run, ledger, monkeypatch):
    seen = []
    for name in ("get_event", "emit_event", "require_run"):
        plain = getattr(ledger, name)

        def watched(*args, plain=plain, name=name, **more):
            try:
                asyncio.get_running_loop()
                seen.append((name, "on the loop"))
            except RuntimeError:
                seen.append((name, "off"))
            return plain(*args, **more)

        monkeypatch.setattr(ledger, name, watched)
    flow = B("x").task("a", "t.sleepy", args=[0], idempotency_key="k {{run.id}}")
    assert run(flow).result() == "awake"
    assert {("get_event", "off"), ("emit_event", "off"), ("require_run", "off")} <= set(seen)
    assert not [name for name, where in seen if where != "off"]
