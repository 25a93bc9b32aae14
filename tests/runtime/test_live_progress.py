"""What a watcher sees of a run: counts of elements are counts of elements."""

from __future__ import annotations

from milepost import Dag, StepStatus
from milepost.runtime import NodeProgress, Progress


def fail_at_two(n: int) -> int:
    if n == 2:
        raise ValueError("two")
    return n


def watch(way, dag: Dag) -> NodeProgress:
    seen: list[Progress] = []
    way.run(dag, ledger=":memory:", on_start=seen.append)
    (node,) = seen[0].snapshot()
    return node


def test_a_map_counts_each_failed_element_once(way):
    dag = Dag("g")
    dag.map(fail_at_two, [1, 2, 3], concurrency=1)
    node = watch(way, dag)
    assert (node.status, node.done, node.failed, node.total) == (StepStatus.FAILED, 1, 1, 3)


def test_a_map_that_cannot_start_has_no_failed_element(way):
    def odd():
        return 5

    dag = Dag("g")
    dag.map(fail_at_two, dag.node(odd, label="odd"))
    seen: list[Progress] = []
    way.run(dag, ledger=":memory:", on_start=seen.append)
    _, node = seen[0].snapshot()
    assert (node.status, node.failed) == (StepStatus.FAILED, 0)
