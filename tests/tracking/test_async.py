"""The client for event loops has every verb of the other, with the same arguments, and does the same."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from tracked import Base

from milepost.tracking import AsyncClient, Client, TaskSuspended


def _verbs(kind: type) -> dict[str, object]:
    found = inspect.getmembers(kind, callable)
    return {name: verb for name, verb in found if not name.startswith("_")}


def test_both_clients_have_the_same_verbs_with_the_same_signatures() -> None:
    sync, awaited = _verbs(Client), _verbs(AsyncClient)
    assert set(sync) == set(awaited)
    for name, verb in sync.items():
        assert inspect.signature(verb) == inspect.signature(awaited[name]), name  # type: ignore[arg-type]
        assert inspect.iscoroutinefunction(awaited[name]), name
    assert inspect.signature(Client) == inspect.signature(AsyncClient)


def test_a_task_is_worked_on_from_an_event_loop(base: Base) -> None:
    async def work() -> None:
        options = {} if base.is_postgres else {"check_same_thread": False}
        conn = base.connect(**options)
        async with AsyncClient("work", ledger=base.url) as client:
            workflow = await client.create_workflow_run(conn, "etl", "1")
            spawned = await client.spawn_task(conn, "job", {"workflow_run_id": workflow})
            assert await client.get_task_status(task_id=spawned.task_id) is None
            conn.commit()
            (claim,) = await client.claim_task()
            with pytest.raises(TaskSuspended):
                await client.wait_for_event(run_id=claim.run_id, event_name="e")
            await client.emit_event(event_name="e", payload=1)
            (again,) = await client.claim_task()
            assert again.event_payload == 1
            await client.complete_task(run_id=again.run_id, result="done")
            await client.update_workflow_run_status(workflow_run_id=workflow, status="completed")
            row = await client.wait_for_workflow_run(workflow_run_id=workflow)
            assert (row["status"], row["tasks"]) == ("completed", {"completed": 1})

    asyncio.run(work())


def test_an_event_loop_goes_on_while_many_verbs_work(base: Base) -> None:
    async def work() -> int:
        async with AsyncClient("work", ledger=base.url) as client:
            await asyncio.gather(*(client.spawn_task(task_name="job", params={"n": n}) for n in range(50)))
            return len(await client.claim_task(qty=100))

    assert asyncio.run(work()) == 50
