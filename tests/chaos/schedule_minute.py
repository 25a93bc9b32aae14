"""Three workers, a schedule every second, and a killer: does every tick run exactly once?

    python tests/chaos/schedule_minute.py [--seconds 60] [--postgres] [--seed N]

Workers are processes of their own. Each is killed with SIGKILL at random moments and started again a moment
later; now and then none is left. Each run leaves a line in a file, the tick (its ``data_interval_end``) and the
run, which no kill takes back. At the end, for every tick from the first to the last: one run, completed, with
its line. A body that was killed before its completion was recorded has run again, as the guarantees say: its
line is there more than once, by the same run, and no more often than that run was claimed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from milepost import Dag, Ledger, RunStatus, StepContext, Worker

WORKERS = 3
PATIENCE = 60.0  # seconds after the last kill until everything must have been done
LOG = "MILEPOST_CHAOS_LOG"


def note(ctx: StepContext, end: datetime) -> None:
    """Leave a line that says which tick was executed, and by which run."""
    log = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"{end.timestamp():.0f} {ctx.run_id}\n".encode())
    os.close(log)


def linger(ctx: StepContext) -> None:
    """Take a while, so that many a kill strikes in the middle of a run."""
    for _ in range(20):
        ctx.heartbeat()
        time.sleep(0.02)


dag = Dag("minute")
dag.node(note) >> dag.node(linger)


@dataclass
class Workers:
    """The processes, and who of them was killed how often."""

    url: str
    chance: random.Random
    alive: list[subprocess.Popen[bytes]] = field(default_factory=list)
    kills: int = 0
    deserted: int = 0  # moments at which none was left

    def start(self) -> None:
        line = [sys.executable, __file__, "--worker", self.url]
        self.alive.append(subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def kill_one(self) -> None:
        victim = self.alive.pop(self.chance.randrange(len(self.alive)))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        self.kills += 1
        self.deserted += not self.alive

    def harass(self, seconds: float) -> None:
        """Kill and start again at random for so long; end with all of them alive."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(self.chance.choice([1, 1, 1, 1, 2, WORKERS])):
                self.kill_one()
            time.sleep(self.chance.uniform(0.0, 0.7))
            while len(self.alive) < WORKERS:
                self.start()
            time.sleep(self.chance.uniform(0.2, 1.8))  # a kill may strike one that has only just begun

    def stop(self) -> None:
        for process in self.alive:
            process.terminate()
        for process in self.alive:
            process.wait(30)


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
    from postgres import new_schema, server_url

    yield new_schema(server_url())


@contextlib.contextmanager
def sqlite(folder: Path) -> Iterator[str]:
    yield str(folder / "runs.db")


def prove(url: str, log: Path, seconds: float, seed: int) -> list[str]:
    """Let it happen, print what happened, and return what must not have."""
    os.environ[LOG] = str(log)
    workers = Workers(url, random.Random(seed))
    with Ledger.open(url) as ledger:
        made = dag.schedule("tick", every=1, catch_up=True, inputs={"end": "{data_interval_end}"}, ledger=ledger)
        assert made.next_at is not None
        first = made.next_at // 1_000_000
        for _ in range(WORKERS):
            workers.start()
        try:
            workers.harass(seconds)
            last = int(time.time())
            _await(lambda: _completed(ledger) >= last - first + 1)
            ledger.pause_schedule("tick")
            _await(lambda: not [run for run in ledger.list_runs(limit=1000) if run.finished_at is None])
        finally:
            workers.stop()
        return _judge(ledger, log, first, last, workers, seed)


def _await(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < deadline:  # what never comes is reported as missing
        time.sleep(0.05)


def _completed(ledger: Ledger) -> int:
    return len(ledger.list_runs(status=RunStatus.COMPLETED, limit=100_000))


def _judge(ledger: Ledger, log: Path, first: int, last: int, workers: Workers, seed: int) -> list[str]:
    lines = [(int(tick), run_id) for tick, run_id in (line.split() for line in log.read_text().splitlines())]
    runs = {run.run_id: run for run in ledger.list_runs(limit=100_000)}
    of_tick: dict[int, set[str]] = {}
    for run_id in runs:
        of_tick.setdefault(int(ledger.get_inputs(run_id)["end"].timestamp()), set()).add(run_id)
    written = Counter(lines)
    claims = {run_id: len(ledger.list_attempts(run_id)) for run_id in runs}
    expected = range(first, max(last, *of_tick) + 1)
    completed = [run for run in runs.values() if run.status == RunStatus.COMPLETED]
    counts = {tick: len(of_tick.get(tick, ())) for tick in expected}

    wrong = [f"tick {tick} has {count} runs" for tick, count in counts.items() if count != 1]
    wrong += [f"tick {tick} is none of the schedule's" for tick in of_tick if tick not in expected]
    wrong += [f"run {run.run_id} is {run.status}" for run in runs.values() if run not in completed]
    wrong += [f"tick {tick} left no line" for tick in expected if tick not in {tick for tick, _ in lines}]
    wrong += [f"run {run_id} wrote for tick {tick}" for tick, run_id in written if run_id not in of_tick.get(tick, ())]
    wrong += [
        f"run {run_id} was executed {count} times in {claims.get(run_id, 0)} claims"
        for (_, run_id), count in written.items()
        if count > claims.get(run_id, 0)
    ]
    wrong += [str(problem) for problem in ledger.check()]
    tick_of = {run_id: tick for tick, ids in of_tick.items() for run_id in ids}
    late = sorted((run.finished_at or 0) / 1e6 - tick_of[run.run_id] for run in completed)
    print(
        f"seed {seed}: {workers.kills} kills of {WORKERS} workers, {workers.deserted} times none was left\n"
        f"{len(expected)} ticks, {len(runs)} runs, {len(completed)} completed\n"
        f"{len(written)} runs left {len(lines)} lines ({len(lines) - len(written)} bodies were killed and ran again)\n"
        f"{sum(claims.values())} claims, {sum(count > 1 for count in claims.values())} runs taken over\n"
        f"from tick to completion: median {late[len(late) // 2]:.2f} s, longest {late[-1]:.2f} s"
    )
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--worker", metavar="URL", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        # A run may be unlucky more often than anybody is in practice.
        Worker([dag], ledger=given.worker, concurrency=4, max_rescues=1000).run()
        return 0
    with (
        tempfile.TemporaryDirectory(prefix="milepost-chaos-") as folder,
        postgres() if given.postgres else sqlite(Path(folder)) as url,
    ):
        wrong = prove(url, Path(folder) / "lines.log", given.seconds, given.seed)
    for line in wrong:
        print(f"WRONG: {line}")
    print("every tick ran exactly once" if not wrong else f"{len(wrong)} things are wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
