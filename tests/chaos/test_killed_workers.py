"""Workers die, fall silent and wake up again: their runs go on elsewhere, and completed steps ran once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from flows import counts, deadly, held, hogging, traces, two_steps
from nursery import Nursery, Process, is_alive
from tasks import until

from milepost import Ledger, RunHandle, RunStatus

LONG = 600.0  # seconds; a lease that no test waits for


def middle_of(folder: Path) -> tuple[int, ...]:
    """Return the processes that have entered the step in the middle, in this order."""
    return tuple(int(words[-1]) for words in traces(folder) if words[0] == "middle")


def let_go(folder: Path, attempt: int) -> None:
    (folder / f"go-{attempt}").touch()


def everything(ledger: Ledger, run_id: str) -> tuple[Any, ...]:
    steps = [row for step in ledger.list_steps(run_id) for row in ledger.get_step(run_id, step.label)]
    return (
        ledger.get_run(run_id),
        ledger.get_payload(run_id),
        ledger.list_attempts(run_id),
        steps,
        ledger.list_edges(run_id),
        ledger.list_checkpoints(run_id),
    )


def in_its_middle(ledger: Ledger, workers: Nursery, folder: Path, **options: Any) -> tuple[RunHandle, Process]:
    """Submit a run, and start a worker that comes as far as its middle step."""
    handle = held.submit({"folder": str(folder)}, ledger=ledger)
    worker = workers.start(ledger.full_url, **options)
    until(lambda: middle_of(folder) == (worker.pid,))
    until(lambda: ledger.list_checkpoints(handle.run_id))  # what it saved shows that the step before is durable
    return handle, worker


def check_taken_over(ledger: Ledger, folder: Path, handle: RunHandle) -> None:
    """Check that another worker did what was left, and nothing that was done."""
    assert handle.result(30) == 22
    assert counts(folder) == {"first": 1, "middle": 2, "last": 1}
    run = handle.record
    assert (run.attempt, run.rescues, run.lease_epoch) == (1, 1, 2)
    assert [(a.status, a.error_type) for a in ledger.list_attempts(run.run_id)] == [
        ("cancelled", "WorkerDied"),
        ("completed", None),
    ]
    assert list(ledger.check()) == []


# --- killed ------------------------------------------------------------------------------------


def test_a_killed_workers_run_goes_on_at_once_where_a_peer_can_see_that_its_process_is_gone(
    ledger: Ledger, workers: Nursery, tmp_path: Path
) -> None:
    handle, victim = in_its_middle(ledger, workers, tmp_path, lease=LONG)
    peer = workers.start(ledger.full_url, lease=LONG)
    until(lambda: ledger.store.get_worker(peer.worker_id))
    let_go(tmp_path, 2)
    victim.send(signal.SIGKILL)
    check_taken_over(ledger, tmp_path, handle)
    assert middle_of(tmp_path) == (victim.pid, peer.pid)
    assert victim.wait() == -signal.SIGKILL


def test_a_killed_workers_run_goes_on_within_a_lease_and_two_seconds_where_nobody_can_see_its_process(
    ledger: Ledger, workers: Nursery, tmp_path: Path
) -> None:
    lease = 2.0
    handle, victim = in_its_middle(ledger, workers, tmp_path, lease=lease, is_elsewhere=True)
    peer = workers.start(ledger.full_url, lease=lease)
    until(lambda: ledger.store.get_worker(peer.worker_id))
    let_go(tmp_path, 2)
    killed_at = time.time_ns() // 1000
    victim.send(signal.SIGKILL)
    check_taken_over(ledger, tmp_path, handle)
    taken_at = ledger.list_attempts(handle.run_id)[1].started_at
    assert (taken_at - killed_at) / 1e6 < lease + 2.0
    assert (taken_at - killed_at) / 1e6 > 0.3 * lease  # it was not seen: the lease had to run out


def test_the_heartbeat_process_of_a_killed_worker_ends_too(ledger: Ledger, workers: Nursery, tmp_path: Path) -> None:
    _, victim = in_its_middle(ledger, workers, tmp_path, lease=LONG)
    (helper,) = until(victim.helpers)
    victim.send(signal.SIGKILL)
    until(lambda: not is_alive(helper))


def test_a_killed_heartbeat_process_is_started_again(ledger: Ledger, workers: Nursery, tmp_path: Path) -> None:
    handle, worker = in_its_middle(ledger, workers, tmp_path, lease=0.6)
    (helper,) = until(worker.helpers)
    os.kill(helper, signal.SIGKILL)
    until(lambda: [pid for pid in worker.helpers() if pid != helper])
    let_go(tmp_path, 1)
    assert handle.result(30) == 12


def test_a_run_that_kills_its_workers_again_and_again_ends_failed_and_others_go_on(
    ledger: Ledger, workers: Nursery, tmp_path: Path
) -> None:
    poison = deadly.submit({"folder": str(tmp_path)}, ledger=ledger)
    others = two_steps.submit_many([{"folder": str(tmp_path), "n": n} for n in range(3)], ledger=ledger)
    deaths = 0
    while poison.record.finished_at is None:
        worker = workers.start(ledger.full_url, worker_id=f"p{deaths}", max_rescues=2)
        until(lambda worker=worker: worker.exit_code is not None or poison.record.finished_at is not None)
        deaths += worker.exit_code == -signal.SIGKILL
    assert (deaths, counts(tmp_path)["died"]) == (3, 3)
    assert (poison.record.status, poison.record.error_type) == (RunStatus.FAILED, "RescuesExhausted")
    assert poison.record.attempt == 1
    for n, other in enumerate(others):
        assert other.result(30).startswith(f"{n}.")
    assert list(ledger.check()) == []


# --- stopped and woken -------------------------------------------------------------------------


def test_a_worker_that_wakes_up_past_its_lease_writes_nothing_more_and_works_on(
    ledger: Ledger, workers: Nursery, tmp_path: Path
) -> None:
    handle, zombie = in_its_middle(ledger, workers, tmp_path, lease=1.0, concurrency=1, queues=["default", "zombie"])
    until(zombie.helpers)
    zombie.send(signal.SIGSTOP)  # its heartbeat process lives on, and holds its tongue
    workers.start(ledger.full_url, lease=1.0)
    let_go(tmp_path, 2)
    check_taken_over(ledger, tmp_path, handle)
    before = everything(ledger, handle.run_id)
    let_go(tmp_path, 1)  # what the zombie's step waits for, before it saves a value and returns
    zombie.send(signal.SIGCONT)
    # One slot: when it executes another run, it is through with this one.
    other = two_steps.submit({"folder": str(tmp_path), "n": 7}, ledger=ledger, queue="zombie")
    assert other.result(30).startswith("7.")
    assert everything(ledger, handle.run_id) == before
    assert counts(tmp_path)["last"] == 1
    assert f"run {handle.run_id} left this worker" in zombie.log
    assert "was lost" in zombie.log


# --- starved -----------------------------------------------------------------------------------


def has_opened_a_ledger(pid: int) -> bool:
    """Return whether a process has a file of a ledger open, or a connection to a server."""
    try:
        opened = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False
    return any(path.endswith("runs.db") or path.startswith("socket:") for path in opened)


@pytest.mark.parametrize("has_helper", [True, False], ids=["helper", "threads only"])
def test_a_step_that_holds_the_interpreter_lock_starves_threads_and_keeps_its_lease_by_the_heartbeat_process(
    ledger: Ledger, workers: Nursery, tmp_path: Path, has_helper: bool
) -> None:
    lease = 1.5
    worker = workers.start(ledger.full_url, lease=lease, heartbeat_process=has_helper)
    until(lambda: ledger.store.get_worker(worker.worker_id))
    if has_helper:
        until(lambda: any(has_opened_a_ledger(helper) for helper in worker.helpers()))
    handle = hogging.submit({"folder": str(tmp_path), "seconds": 3 * lease}, ledger=ledger)
    until(lambda: counts(tmp_path)["hog"])
    seen: set[int] = set()
    is_expired = False

    def has_ended() -> bool:
        nonlocal is_expired
        run = handle.record
        if run.lease_until is not None:
            seen.add(run.lease_until)
            is_expired = is_expired or run.lease_until < time.time_ns() // 1000
        return counts(tmp_path)["after"] > 0 or run.finished_at is not None

    until(has_ended)
    assert handle.result(30) == 3 * lease
    assert counts(tmp_path)["hog"] == 1
    if has_helper:
        assert not is_expired
        assert len(seen) > 3
    else:
        assert is_expired  # nobody else was there to take the run; with a peer it would have been taken


# --- told to stop ------------------------------------------------------------------------------


def test_sigterm_lets_what_runs_finish_and_claims_nothing_more(
    ledger: Ledger, workers: Nursery, tmp_path: Path
) -> None:
    handle, worker = in_its_middle(ledger, workers, tmp_path, drain=60.0)
    worker.send(signal.SIGTERM)
    until(lambda: "stopping" in worker.log)
    late = two_steps.submit({"folder": str(tmp_path), "n": 1}, ledger=ledger)
    let_go(tmp_path, 1)
    assert worker.wait() == 0
    assert handle.result(0) == 12
    assert late.status() == RunStatus.PENDING
    found = ledger.store.get_worker(worker.worker_id)
    assert found is not None
    assert found.stopped_at is not None


def test_a_second_sigterm_hands_back_at_once_and_a_peer_goes_on(
    ledger: Ledger, workers: Nursery, tmp_path: Path
) -> None:
    handle, worker = in_its_middle(ledger, workers, tmp_path, drain=600.0)
    worker.send(signal.SIGTERM)
    until(lambda: "stopping" in worker.log)
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    run = handle.record
    assert (run.status, run.attempt, run.rescues) == (RunStatus.PENDING, 1, 0)
    let_go(tmp_path, 2)
    workers.start(ledger.full_url)
    assert handle.result(30) == 22
    assert counts(tmp_path) == {"first": 1, "middle": 2, "last": 1}
