"""A store that was closed says so at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from rows import NOW, new_run
from tasks import claim, submit, task

from milepost.errors import StoreError
from milepost.store import Store

VERBS: dict[str, Callable[[Store], Any]] = {
    "get_run": lambda store: store.get_run("run"),
    "submit_tasks": lambda store: submit(store, task()),
    "claim_tasks": claim,
    "await_news": lambda store: store.await_news(None, 0),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_of_a_closed_store_is_refused_at_once_with_the_remedy(store: Store, verb: str) -> None:
    submit(store, task("before"))
    store.close()
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"has been closed\. Open it again"):
        VERBS[verb](store)
    assert time.monotonic() - began < 10


def test_a_write_to_a_closed_store_is_refused_and_opens_nothing(store: Store) -> None:
    store.close()
    (error,) = store.apply([new_run(now=NOW)])
    assert isinstance(error, StoreError)
    assert "has been closed" in str(error)
    store.close()  # a second time does nothing
