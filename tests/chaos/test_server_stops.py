"""The server is stopped hard, again and again, under a load of runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROOF = Path(__file__).with_name("server_stops.py")


@pytest.mark.skipif(
    "MILEPOST_TEST_POSTGRES" in os.environ, reason="a server that somebody else runs is not ours to stop"
)
def test_every_run_ends_right_though_the_server_is_stopped_hard_under_them() -> None:
    sizes = ("2000", "3") if os.environ.get("MILEPOST_CHAOS") == "full" else ("300", "2")
    done = subprocess.run(
        [sys.executable, str(PROOF), "--runs", sizes[0], "--stops", sizes[1], "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # the driver tells of each connection that it lost
        text=True,
        check=False,
    )
    found = json.loads(done.stdout)
    del found["extra"]  # a body may run again whose completion the server never heard of
    assert found == {
        "runs": int(sizes[0]),
        "stops": int(sizes[1]),
        "right": int(sizes[0]),
        "completed twice": 0,
        "again": 0,
        "open": 0,
        "problems": 0,
    }
