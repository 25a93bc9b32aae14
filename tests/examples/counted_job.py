"""The main job itself, with two ears for tests: `parse` logs each call, and the report can be cut short.

    python counted_job.py LEDGER SOURCE OUT            start a run
    python counted_job.py LEDGER --resume RUN_ID       resume it in a fresh process

`COUNTED_LOG` names the file to log to. Where `COUNTED_DIE` is set, the process kills itself after the report
was written, and before it stands under its name.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from stdlib_index.job import Module, SourceFile, dag, parse

read_module = parse.fn


def counted(file: SourceFile) -> Module:
    # One write in append mode: whole lines, and there before the process can be killed for what follows.
    log = os.open(os.environ["COUNTED_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"{file.path}\n".encode())
    os.close(log)
    return read_module(file)


parse.fn = counted

if os.environ.get("COUNTED_DIE"):
    os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    ledger, *rest = sys.argv[1:]
    if rest[0] == "--resume":
        run = dag.resume(rest[1], ledger=ledger)
    else:
        source, out = map(Path, rest)
        run = dag.run(source=source, out=out, ledger=ledger, run_id="counted", target=f"{__file__}:dag")
    print(run.result().json)
