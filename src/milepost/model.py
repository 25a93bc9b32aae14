"""What the ledger holds, as plain data: runs, attempts, steps, edges, definitions.

Times are microseconds since 1970-01-01 UTC in fields that end in ``_at`` and ``_until``; the
properties of the same name without the suffix in :class:`Run` and :class:`StepAttempt` are not
needed: :func:`milepost.clock.to_datetime` turns any of them into an aware datetime.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any, Final

from milepost.errors import ConfigurationError
from milepost.states import RunStatus, StepStatus

__all__ = [
    "LATEST",
    "MANUAL",
    "UNCHECKED_INPUTS",
    "Attempt",
    "Checkpoint",
    "Edge",
    "Event",
    "Problem",
    "QueueInfo",
    "Retry",
    "Run",
    "RunPayload",
    "Schedule",
    "StepAttempt",
    "StepKind",
    "Storage",
    "TickRun",
    "Wait",
    "WorkerInfo",
    "check_run_id",
    "new_run_id",
    "progress_text",
    "step_at",
]

UNCHECKED_INPUTS: Final = '{"inputs":"unchecked"}'  # in a run's headers
LATEST: Final = "latest"  # what a person writes for the newest run

_RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


def new_run_id(now: int) -> str:
    """Return a UUIDv7 as text (RFC 9562): ids made later sort later.

    Args:
        now: Wall-clock time in microseconds since 1970.

    Example:
        >>> new_run_id(1_700_000_000_000_000)[:13]
        '018bcfe5-6800'
    """
    millis, micros = divmod(now, 1000)
    # The twelve bits after the milliseconds may be a finer clock (RFC 9562, 6.2, method 3): what is
    # submitted within one millisecond keeps its order, too.
    chance = int.from_bytes(os.urandom(8), "big") & (1 << 62) - 1
    value = millis << 80 | 0x7 << 76 | (micros * 4096 // 1000) << 64 | 0b10 << 62 | chance
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def check_run_id(run_id: str) -> str:
    """Return the id, or raise ConfigurationError where it breaks the rule.

    Raises:
        ConfigurationError: The id is empty, longer than 128 characters or has a character outside
            letters, digits, ``.``, ``_``, ``:`` and ``-``; or it is ``latest``, which means the newest run.
    """
    if run_id == LATEST:
        raise ConfigurationError(f"{run_id!r} is no run id: it stands for the newest run. Choose another.")
    if not isinstance(run_id, str) or _RUN_ID.fullmatch(run_id) is None:
        message = (
            f"{run_id!r} is not a run id. Use 1 to 128 letters, digits, '.', '_', ':' or '-', "
            "beginning with a letter or digit."
        )
        raise ConfigurationError(message)
    return run_id


MANUAL: Final = "manual"
"""The kind of runs that are recorded by hand."""


class StepKind:
    """The kinds of step that the engine writes."""

    STEP: Final = "step"
    MAP: Final = "map"
    ELEMENT: Final = "element"
    WAIT: Final = "wait"
    UNDO: Final = "undo"
    SUBRUN: Final = "subrun"
    SWITCH: Final = "switch"


class Storage:
    """Where a completed step's output is."""

    INLINE: Final = "inline"  # in the row itself
    ELEMENTS: Final = "elements"  # a map: one row for each element
    NONE: Final = "none"  # transient: kept in memory only, made again on resume


@dataclass(frozen=True, slots=True)
class Retry:
    """When a failed step is tried again.

    Args:
        max_retries: Further attempts after the first, 0 or more.
        delay: Seconds before the first retry.
        backoff_factor: Each further delay is this many times the one before.
        max_delay: Upper limit of a delay in seconds, the first one's too.
        jitter: Part of the delay, 0 to 1, that is drawn at random and taken off, so that many
            failed steps do not come back at the same moment.
        retry_on: Exception types that are worth another attempt.
        give_up_on: Exception types that are not, even where ``retry_on`` names a base of theirs.

    Raises:
        ConfigurationError: A value is out of range, or ``delay`` is longer than ``max_delay``.

    Example:
        >>> Retry(max_retries=3, delay=0.5, backoff_factor=2).max_retries
        3
    """

    max_retries: int = 3
    delay: float = 0.0
    backoff_factor: float = 2.0
    max_delay: float = 300.0
    jitter: float = 0.0
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what could never work, at the line that wrote it."""
        if isinstance(self.max_retries, bool) or not isinstance(self.max_retries, int) or self.max_retries < 0:
            raise ConfigurationError(f"max_retries must be a whole number of 0 or more, not {self.max_retries!r}.")
        for name in ("delay", "max_delay"):
            if not (_is_number(getattr(self, name)) and getattr(self, name) >= 0):
                raise ConfigurationError(f"{name} must be a number of seconds, 0 or more, not {getattr(self, name)!r}.")
        if self.delay > self.max_delay:
            raise ConfigurationError(
                f"delay={self.delay:g} is longer than max_delay={self.max_delay:g}. "
                f"Give a max_delay of {self.delay:g} or more."
            )
        if not (_is_number(self.backoff_factor) and self.backoff_factor >= 1):
            raise ConfigurationError(f"backoff_factor must be a number of 1 or more, not {self.backoff_factor!r}.")
        if not (_is_number(self.jitter) and 0 <= self.jitter <= 1):
            raise ConfigurationError(f"jitter must be a number from 0 to 1, not {self.jitter!r}.")
        for name in ("retry_on", "give_up_on"):
            given = getattr(self, name)
            types = given if isinstance(given, tuple) else (given,)
            if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in types):
                raise ConfigurationError(f"{name} must be exception types, not {given!r}.")
            object.__setattr__(self, name, types)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def step_at(place: str, labels: Container[str]) -> str:
    """Return the step that a run inside another belongs to, from the place that it is recorded at.

    Args:
        place: ``label``, ``label[element]``, and where a switch chose, either with ``:branch`` behind it.
        labels: Those of the steps of the run around it; they and the branch may hold colons of their own.

    Example:
        >>> step_at("way:less", {"way"}), step_at("each[0]:a:b", {"each", "each[0]"}), step_at("each[1]", {"each"})
        ('way', 'each[0]', 'each[1]')
    """
    if place in labels:
        return place
    ends = (at for at in range(len(place) - 1, 0, -1) if place[at] == ":")
    found = next((place[:at] for at in ends if place[:at] in labels), None)
    if found is not None:
        return found
    # An element whose row is not written yet: its map is there.
    label, bracket, rest = place.partition("[")
    return f"{label}[{rest.rpartition(']')[0]}]" if bracket else place


@dataclass(frozen=True, slots=True)
class Run:
    """One logical execution of a workflow: the hot, narrow row."""

    run_id: str
    workflow: str
    version: str | None
    hash: str | None
    kind: str
    status: RunStatus
    queue: str | None
    priority: int
    available_at: int | None
    lease_owner: str | None
    lease_until: int | None
    lease_epoch: int
    attempt: int
    max_attempts: int
    idempotency_key: str | None
    correlation_id: str | None
    parent_run_id: str | None
    root_run_id: str
    replay_of: str | None
    created_by: str | None
    created_at: int
    started_at: int | None
    finished_at: int | None
    cancel_requested_at: int | None
    error_step: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    rescues: int = 0
    parent_step: str | None = None
    pause_requested_at: int | None = None
    generation: int = 1  # of the claims: one higher with every retry, rescue and takeover


@dataclass(frozen=True, slots=True)
class RunPayload:
    """What belongs to a run and is only read when somebody looks: JSON texts and the target."""

    run_id: str
    inputs: str
    result: str | None
    error_traceback: str | None
    target: str | None
    tags: str
    headers: str
    policies: str

    @property
    def has_unchecked_inputs(self) -> bool:
        """Whether whoever executes the run first has to check its inputs: a schedule filled them in."""
        return self.headers == UNCHECKED_INPUTS or UNCHECKED_INPUTS[1:-1] in self.policies


@dataclass(frozen=True, slots=True)
class Attempt:
    """One claim of a run by one process, from taking the lease to giving it up.

    ``hash`` names the definition it was executed with, None where that is the run's own.
    """

    run_id: str
    lease_epoch: int
    attempt: int
    owner: str
    status: str
    started_at: int
    finished_at: int | None
    error_type: str | None
    error_message: str | None
    hash: str | None = None


@dataclass(frozen=True, slots=True)
class StepAttempt:
    """One attempt of one step. ``input`` and ``output`` are JSON texts, or None where not loaded.

    ``origin_run_id`` is the run that made the output of a skipped step, which a replay copied.
    """

    run_id: str
    label: str
    attempt: int
    seq: int
    lease_epoch: int
    kind: str
    parent: str | None
    status: StepStatus
    input: str | None
    output: str | None
    storage: str
    output_hash: str | None
    error_type: str | None
    error_message: str | None
    error_traceback: str | None
    progress_done: int | None
    progress_total: int | None
    progress_message: str | None
    started_at: int
    finished_at: int | None
    origin_run_id: str | None = None

    @property
    def progress(self) -> str | None:
        """How far the attempt said it was, in words, or None where it said nothing."""
        return progress_text(self.progress_done, self.progress_total, self.progress_message)

    @property
    def duration(self) -> float | None:
        """Seconds from start to end, or None while the attempt runs."""
        return None if self.finished_at is None else (self.finished_at - self.started_at) / 1e6


def progress_text(done: int | None, total: int | None, message: str | None) -> str | None:
    """Return in words how far a step says it is.

    Example:
        >>> progress_text(18, 50, "loading"), progress_text(18, None, None)
        ('18/50 loading', '18')
    """
    count = None if done is None else str(done)
    if total is not None:
        count = f"{done or 0}/{total}"
    return " ".join(part for part in (count, message) if part) or None


@dataclass(frozen=True, slots=True)
class Edge:
    """The downstream step took the output of the upstream step (recorded when it started)."""

    run_id: str
    upstream: str
    downstream: str
    traversed_at: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A value that user code saved by name inside a step."""

    run_id: str
    label: str
    name: str
    value: str
    saved_at: int


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that ``milepost doctor`` found, and what to do about it."""

    code: str
    subject: str
    message: str
    remedy: str
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A process that takes tasks, as it registered itself."""

    worker_id: str
    owner: str
    queues: tuple[str, ...]
    workflows: tuple[str, ...]
    concurrency: int
    lease: int
    started_at: int
    heartbeat_at: int
    stopped_at: int | None

    def is_alive(self, now: int) -> bool:
        """Return whether it has neither stopped nor been silent for longer than a lease."""
        return self.stopped_at is None and self.heartbeat_at + self.lease >= now


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """How deep a queue is. ``oldest_at`` is when its oldest waiting task was created."""

    name: str
    pending: int
    running: int
    suspended: int
    oldest_at: int | None
    paused_at: int | None


@dataclass(frozen=True, slots=True)
class Event:
    """A named message that runs wait for; ``payload`` is JSON text."""

    scope: str
    name: str
    payload: str
    emitted_at: int


@dataclass(frozen=True, slots=True)
class Wait:
    """What a run waits for, or waited for. ``outcome`` is ``woken``, ``emitted`` or ``timed_out``."""

    run_id: str
    label: str
    kind: str
    scope: str | None
    event: str | None
    wake_at: int | None
    created_at: int
    outcome: str | None
    payload: str | None
    resolved_at: int | None


@dataclass(frozen=True, slots=True)
class Schedule:
    """A rule that starts runs at times.

    ``every`` is in microseconds; ``inputs`` is a template as JSON text; ``next_at`` is the next tick, kept
    while the schedule is paused, or None where none comes any more.
    """

    name: str
    workflow: str
    target: str | None
    hash: str | None
    queue: str
    priority: int
    cron: str | None
    every: int | None
    timezone: str
    start_at: int
    catch_up: bool
    max_active: int | None
    inputs: str
    next_at: int | None
    paused_at: int | None
    created_at: int
    kind: str = "dag"

    @property
    def creator(self) -> str:
        """What its runs carry as ``created_by``."""
        return f"schedule:{self.name}"


@dataclass(frozen=True, slots=True)
class TickRun:
    """The one run of a tick. ``is_new`` is False where the tick had its run before."""

    tick_at: int
    run_id: str
    is_new: bool
