"""Many callers write at once: each is answered for its own write, and nobody ever waits for nobody."""

from __future__ import annotations

import asyncio
import dis
import functools
import itertools
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from rows import checkpoint, completed, end, new_run, write

from milepost.errors import LeaseLost, RunExists, StoreError, StoreUnavailable
from milepost.ledger import GroupCommit, group_commit
from milepost.stores.sqlite import SQLiteStore

DEADLINE = 20.0  # seconds: a wait this long is a hang


class Gate:
    """A fault hook that holds a commit until it is opened, or raises at a named point of a numbered one."""

    def __init__(self) -> None:
        self.commits = 0
        self.threads: list[int] = []
        self.arrived = threading.Event()
        self._open = threading.Event()
        self._open.set()
        self._errors: dict[tuple[int, str], BaseException] = {}

    def __call__(self, point: str) -> None:
        if point == "before_commit":
            self.commits += 1
            self.threads.append(threading.get_ident())
            self.arrived.set()
            assert self._open.wait(DEADLINE)
        error = self._errors.pop((self.commits, point), None)
        if error is not None:
            raise error

    def shut(self) -> None:
        self.arrived.clear()
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def fail_next(self, error: BaseException, point: str = "before_commit") -> None:
        """Raise in the commit after the one that is under way, or that was the last."""
        self._errors[self.commits + 1, point] = error


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def store(gate: Gate, tmp_path: Path) -> Iterator[SQLiteStore]:
    opened = SQLiteStore(str(tmp_path / "runs.db"), durability="process", fault=gate)
    yield opened
    opened.close()


@pytest.fixture
def committer(store: SQLiteStore) -> Iterator[GroupCommit]:
    opened = GroupCommit(store)
    yield opened
    closing = threading.Thread(target=opened.close, daemon=True)  # a committer that broke would hang here
    closing.start()
    closing.join(DEADLINE)
    assert not closing.is_alive()


class Caller(threading.Thread):
    """Commits one write in a thread of its own and keeps how that ended."""

    def __init__(self, committer: GroupCommit, of: Any, trace: Callable[..., Any] | None = None) -> None:
        super().__init__(daemon=True)
        self.error: BaseException | None = None
        self._committer = committer
        self._write = of
        self._trace = trace
        self.start()

    def run(self) -> None:
        sys.settrace(self._trace)
        try:
            self._committer.commit(self._write)
        except BaseException as error:
            self.error = error
        finally:
            sys.settrace(None)

    def wait(self) -> BaseException | None:
        self.join(DEADLINE)
        assert not self.is_alive(), "a caller was never answered"
        return self.error


def _wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it never became true"
        os.sched_yield()


async def _reach(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it never became true"
        await asyncio.sleep(0)


def _run_ids(store: SQLiteStore) -> set[str]:
    return set(store.find_run_ids("", 1000))


def _is_at_rest(committer: GroupCommit) -> bool:
    return committer._leader is None and not committer._queue and not committer._batch


def _lead_and_queue(committer: GroupCommit, gate: Gate, run_ids: list[str]) -> list[Caller]:
    """Let one caller's commit hang at the gate and the others queue behind it, in this order."""
    gate.shut()
    callers = [Caller(committer, new_run(run_ids[0]))]
    assert gate.arrived.wait(DEADLINE)
    for number, run_id in enumerate(run_ids[1:], 1):
        callers.append(Caller(committer, new_run(run_id)))
        _wait_until(lambda number=number: len(committer._queue) == number)
    return callers


# --- threads -----------------------------------------------------------------------------------


def test_a_lone_caller_commits_in_its_own_thread(committer: GroupCommit, gate: Gate) -> None:
    committer.commit(new_run("a"))
    committer.commit(write("a", ends=[end(run_id="a")]))
    assert gate.threads == [threading.get_ident()] * 2
    assert _is_at_rest(committer)


def test_writes_that_arrive_during_a_commit_share_the_next_one(
    committer: GroupCommit, store: SQLiteStore, gate: Gate
) -> None:
    callers = _lead_and_queue(committer, gate, list("abcdefgh"))
    gate.open()
    assert [caller.wait() for caller in callers] == [None] * 8
    assert gate.commits == 2
    assert gate.threads == [callers[0].ident, callers[1].ident]  # the head of the queue leads
    assert _run_ids(store) == set("abcdefgh")


def test_every_caller_of_many_threads_finds_its_write_durable_when_it_returns(
    committer: GroupCommit, store: SQLiteStore, gate: Gate
) -> None:
    missing: list[str] = []

    def work(name: str) -> None:
        committer.commit(new_run(name))
        for n in range(20):
            committer.commit(write(name, ends=[end(f"step{n}", name, seq=n)]))
            if store.get_output(name, f"step{n}") is None:
                missing.append(f"{name} step{n}")

    threads = [threading.Thread(target=work, args=(f"run{n}",)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert missing == []
    assert gate.commits <= 12 * 21
    assert _is_at_rest(committer)


def test_in_a_shared_commit_each_caller_gets_the_answer_to_its_own_write(
    committer: GroupCommit, store: SQLiteStore, gate: Gate
) -> None:
    committer.commit(new_run("taken", owner="somebody"))
    committer.commit(new_run("a"))
    gate.shut()
    leader = Caller(committer, new_run("leader"))
    assert gate.arrived.wait(DEADLINE)
    writes = {
        "good": write("a", ends=[end("one", "a")]),
        "stale": write("a", epoch=7, ends=[end("two", "a", lease_epoch=7)]),
        "taken": new_run("taken"),
        "poisoned": write("a", ends=[end("three", "a", status="no such state")]),
        "too big": write("a", ends=[end("four", "a", finished_at=2**70)]),
        "no text": write("a", ends=[end("five", "a", error_message="\udcff")]),
        "also good": write("a", ends=[end("six", "a")]),
    }
    callers = {name: Caller(committer, of) for name, of in writes.items()}
    _wait_until(lambda: len(committer._queue) == len(writes))
    gate.open()
    assert leader.wait() is None
    errors = {name: type(caller.wait()) for name, caller in callers.items()}
    assert errors == {
        "good": type(None),
        "stale": LeaseLost,
        "taken": RunExists,
        "poisoned": StoreError,
        "too big": StoreError,
        "no text": StoreError,
        "also good": type(None),
    }
    assert {step.label for step in store.list_steps("a")} == {"one", "six"}


def test_several_writes_of_one_caller_share_a_transaction_and_each_has_its_answer(
    committer: GroupCommit, store: SQLiteStore, gate: Gate
) -> None:
    assert committer.commit_many([]) == []
    leader, *followers = _lead_and_queue(committer, gate, ["a", "b"])
    answers: list[list[Exception | None]] = []
    batch = [new_run("c"), write("nothing", ends=[end(run_id="nothing")]), new_run("d")]
    thread = threading.Thread(target=lambda: answers.append(committer.commit_many(batch)))
    thread.start()
    _wait_until(lambda: len(committer._queue) == 2)
    follower = Caller(committer, new_run("e"))
    _wait_until(lambda: len(committer._queue) == 3)
    gate.open()
    thread.join(DEADLINE)
    assert [leader.wait(), followers[0].wait(), follower.wait()] == [None] * 3
    assert [type(answer) for answer in answers[0]] == [type(None), LeaseLost, type(None)]
    assert _run_ids(store) == set("abcde")
    assert gate.commits == 2


def test_a_defect_is_everybodys_answer_and_the_next_write_goes_through(
    committer: GroupCommit, store: SQLiteStore, gate: Gate
) -> None:
    first, *others = _lead_and_queue(committer, gate, list("abcd"))
    gate.fail_next(ZeroDivisionError("a defect"))
    gate.open()
    assert first.wait() is None
    assert [type(other.wait()) for other in others] == [ZeroDivisionError] * 3
    committer.commit(new_run("last"))
    assert _run_ids(store) == {"a", "last"}
    assert _is_at_rest(committer)


def test_a_commit_that_fails_after_it_went_through_is_repeated_without_harm(
    committer: GroupCommit, store: SQLiteStore, gate: Gate
) -> None:
    callers = _lead_and_queue(committer, gate, list("abc"))
    gate.fail_next(sqlite3.OperationalError("the answer was lost"), "after_commit")
    gate.open()
    assert [caller.wait() for caller in callers] == [None] * 3
    assert _run_ids(store) == set("abc")
    assert gate.commits == 4  # the shared one once more, each write by itself


# --- interrupts --------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
def test_a_leader_that_is_interrupted_in_its_commit_hands_the_others_writes_on(
    committer: GroupCommit, store: SQLiteStore, gate: Gate, point: str
) -> None:
    first, second, *others = _lead_and_queue(committer, gate, list("abcd"))
    gate.fail_next(KeyboardInterrupt(), point)
    gate.open()
    assert first.wait() is None
    assert isinstance(second.wait(), KeyboardInterrupt)
    assert [other.wait() for other in others] == [None, None]
    assert _run_ids(store) == (set("abcd") if point == "after_commit" else set("acd"))
    assert _is_at_rest(committer)


def test_ctrl_c_takes_a_write_back_that_still_waits(committer: GroupCommit, store: SQLiteStore, gate: Gate) -> None:
    leader, *_ = _lead_and_queue(committer, gate, ["a"])

    def press_ctrl_c() -> None:
        _wait_until(lambda: len(committer._queue) == 1)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        helper = threading.Thread(target=press_ctrl_c)
        helper.start()
        with pytest.raises(KeyboardInterrupt):
            committer.commit(new_run("mine"))
    finally:
        signal.signal(signal.SIGINT, before)
    helper.join(DEADLINE)
    follower = Caller(committer, new_run("b"))
    gate.open()
    assert (leader.wait(), follower.wait()) == (None, None)
    assert _run_ids(store) == {"a", "b"}
    assert _is_at_rest(committer)


@functools.cache
def _points(code: CodeType) -> frozenset[int]:
    """Return the offsets of a function's code at which the interpreter raises what is pending."""
    instructions = list(dis.get_instructions(code))
    return frozenset(
        after.offset
        for before, after in itertools.pairwise(instructions)
        if before.opname.startswith(("CALL", "JUMP_BACKWARD", "RESUME"))
    )


class Interrupt:
    """A trace function that raises KeyboardInterrupt at the n-th point inside the committer's code."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.where: str | None = None

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename != group_commit.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and self.where is None and frame.f_lasti in _points(frame.f_code):
            self.left -= 1
            if self.left < 0:
                self.where = f"{frame.f_code.co_name}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self


def test_a_lone_caller_may_be_interrupted_anywhere(committer: GroupCommit, store: SQLiteStore) -> None:
    places = []
    for number in range(1000):
        interrupt = Interrupt(number)
        error = Caller(committer, new_run(f"a{number}"), trace=interrupt).wait()
        assert _is_at_rest(committer), interrupt.where
        assert Caller(committer, new_run(f"b{number}")).wait() is None
        if interrupt.where is None:
            assert error is None
            break
        places.append(interrupt.where)
        assert isinstance(error, KeyboardInterrupt), interrupt.where
    assert len(places) > 10
    assert {f"b{number}" for number in range(len(places))} < _run_ids(store)


def test_a_caller_that_leads_others_may_be_interrupted_anywhere(
    committer: GroupCommit, store: SQLiteStore, gate: Gate
) -> None:
    places = []
    for number in range(1000):
        gate.shut()
        leader = Caller(committer, new_run(f"a{number}"))
        assert gate.arrived.wait(DEADLINE)
        interrupt = Interrupt(number)
        traced = Caller(committer, new_run(f"b{number}"), trace=interrupt)
        _wait_until(lambda traced=traced: len(committer._queue) == 1 or not traced.is_alive())
        length = len(committer._queue)
        others = [Caller(committer, new_run(f"{name}{number}")) for name in "cd"]
        _wait_until(lambda length=length: len(committer._queue) >= length + 2)
        gate.open()
        error = traced.wait()
        assert [leader.wait(), *(other.wait() for other in others)] == [None] * 3, interrupt.where
        assert _is_at_rest(committer), interrupt.where
        assert {f"{name}{number}" for name in "acd"} <= _run_ids(store), interrupt.where
        if interrupt.where is None:
            assert error is None
            break
        places.append(interrupt.where)
        assert isinstance(error, KeyboardInterrupt), interrupt.where
    assert len(places) > 30
    assert {place.split(":")[0] for place in places} >= {"_perform", "_lead", "_tell", "_leave", "_appoint"}


# --- event loops -------------------------------------------------------------------------------


def test_tasks_that_write_at_once_share_a_commit_off_the_loop(
    committer: GroupCommit, store: SQLiteStore, gate: Gate
) -> None:
    async def main() -> None:
        await asyncio.gather(*(committer.commit_async(new_run(f"run{n}")) for n in range(50)))

    asyncio.run(main())
    assert len(_run_ids(store)) == 50
    assert gate.commits == 1
    assert threading.get_ident() not in gate.threads


def test_tasks_and_threads_share_commits_and_each_gets_its_own_answer(
    committer: GroupCommit, store: SQLiteStore, gate: Gate
) -> None:
    committer.commit(new_run("taken", owner="somebody"))
    leader, *followers = _lead_and_queue(committer, gate, list("ab"))

    async def main() -> list[BaseException | None]:
        tasks = [asyncio.ensure_future(committer.commit_async(new_run(name))) for name in ("c", "taken", "d")]
        await _reach(lambda: len(committer._queue) == 4)
        gate.open()
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    answers = asyncio.run(main())
    assert [type(answer) for answer in answers] == [type(None), RunExists, type(None)]
    assert (leader.wait(), followers[0].wait()) == (None, None)
    assert _run_ids(store) == {"taken", "a", "b", "c", "d"}


def test_several_loops_write_through_one_committer(committer: GroupCommit, store: SQLiteStore) -> None:
    async def main(name: str) -> None:
        await committer.commit_async(new_run(name))
        for n in range(10):
            await committer.commit_async(write(name, ends=[end(f"step{n}", name, seq=n)]))

    threads = [threading.Thread(target=lambda n=n: asyncio.run(main(f"run{n}"))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert [len(store.list_steps(f"run{n}")) for n in range(4)] == [10] * 4


def test_cancelling_a_task_that_waits_does_not_take_its_write_back(
    committer: GroupCommit, store: SQLiteStore, gate: Gate
) -> None:
    async def main() -> None:
        gate.shut()
        waiting = asyncio.ensure_future(committer.commit_async(new_run("cancelled")))
        await _reach(gate.arrived.is_set)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.open()
        await committer.commit_async(new_run("next"))

    asyncio.run(main())
    assert _run_ids(store) == {"cancelled", "next"}


def test_a_loop_that_is_closed_while_its_write_is_under_way_hurts_nobody(
    committer: GroupCommit, store: SQLiteStore, gate: Gate
) -> None:
    gate.shut()
    loop = asyncio.new_event_loop()
    coroutine = committer.commit_async(new_run("left"))
    task = loop.create_task(coroutine)
    loop.run_until_complete(_reach(gate.arrived.is_set))
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    gate.open()
    asyncio.run(committer.commit_async(new_run("next")))
    assert _run_ids(store) == {"left", "next"}


def test_a_defect_answers_tasks_too_and_the_background_thread_goes_on(
    committer: GroupCommit, store: SQLiteStore, gate: Gate
) -> None:
    async def main() -> None:
        gate.fail_next(ZeroDivisionError("a defect"))
        with pytest.raises(ZeroDivisionError):
            await committer.commit_async(new_run("a"))
        await asyncio.wait_for(committer.commit_async(new_run("b")), DEADLINE)

    asyncio.run(main())
    assert _run_ids(store) == {"b"}


def test_an_interrupt_in_the_background_thread_answers_tasks_and_the_thread_goes_on(
    committer: GroupCommit, store: SQLiteStore, gate: Gate
) -> None:
    async def main() -> None:
        gate.fail_next(SystemExit())
        with pytest.raises(StoreUnavailable, match=r"was interrupted by SystemExit\(\)"):
            await committer.commit_async(new_run("a"))
        await asyncio.wait_for(committer.commit_async(new_run("b")), DEADLINE)

    asyncio.run(main())
    assert _run_ids(store) == {"b"}


def test_a_thread_that_is_interrupted_while_it_leads_for_tasks_hands_their_writes_on(
    committer: GroupCommit, store: SQLiteStore, gate: Gate
) -> None:
    first, second = _lead_and_queue(committer, gate, list("ab"))

    async def main() -> None:
        tasks = [asyncio.ensure_future(committer.commit_async(new_run(name))) for name in "cd"]
        await _reach(lambda: len(committer._queue) == 3)
        gate.fail_next(KeyboardInterrupt())
        gate.open()
        await asyncio.wait_for(asyncio.gather(*tasks), DEADLINE)

    asyncio.run(main())
    assert first.wait() is None
    assert isinstance(second.wait(), KeyboardInterrupt)
    assert _run_ids(store) == set("acd")


# --- closing -----------------------------------------------------------------------------------


def test_closing_commits_what_waits_and_refuses_what_comes_later(
    committer: GroupCommit, store: SQLiteStore, gate: Gate, tmp_path: Path
) -> None:
    callers = _lead_and_queue(committer, gate, list("abc"))

    async def main() -> list[BaseException | None]:
        tasks = [asyncio.ensure_future(committer.commit_async(new_run(name))) for name in "de"]
        await _reach(lambda: len(committer._queue) == 4)
        closing = threading.Thread(target=committer.close)
        closing.start()
        await _reach(lambda: len(committer._queue) == 5)
        with pytest.raises(StoreError, match="has been closed"):
            await committer.commit_async(new_run("late"))
        gate.open()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        closing.join(DEADLINE)
        assert not closing.is_alive()
        return list(answers)

    assert asyncio.run(main()) == [None, None]
    assert [caller.wait() for caller in callers] == [None] * 3
    with pytest.raises(StoreError, match=r"has been closed\. Open it again"):
        committer.commit(new_run("late"))
    reader = SQLiteStore(str(tmp_path / "runs.db"), read_only=True)
    assert _run_ids(reader) == set("abcde")
    reader.close()


def test_closing_twice_does_nothing_the_second_time(committer: GroupCommit) -> None:
    asyncio.run(committer.commit_async(new_run("a")))
    thread = committer._thread
    assert thread is not None
    committer.close()
    assert not thread.is_alive()
    committer.close()


def test_a_write_that_is_repeated_in_one_commit_stands_once(
    committer: GroupCommit, store: SQLiteStore, gate: Gate
) -> None:
    committer.commit(new_run("a"))
    gate.shut()
    leader = Caller(committer, new_run("leader"))
    assert gate.arrived.wait(DEADLINE)
    last = write("a", ends=[end("one", "a")], checkpoints=[checkpoint("x", "1", "a")], end=completed())
    callers = [Caller(committer, last) for _ in range(3)]
    _wait_until(lambda: len(committer._queue) == 3)
    late = Caller(committer, write("a", ends=[end("two", "a")]))
    _wait_until(lambda: len(committer._queue) == 4)
    gate.open()
    assert [leader.wait(), *(caller.wait() for caller in callers)] == [None] * 4
    assert isinstance(late.wait(), LeaseLost)
    assert [step.label for step in store.list_steps("a")] == ["one"]
