"""Records in memory, with what one asks of them."""

from __future__ import annotations

import threading

from milepost.records import ExecutionRecord, PipelineRunRecord, ProcessRunRecord, RunStatus, StepRunRecord

__all__ = ["MemoryRecordStore"]


class MemoryRecordStore:
    """Keeps records in the order in which they came. Safe to write to from many threads.

    Example:
        >>> MemoryRecordStore().failures()
        []
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._records: list[ExecutionRecord] = []
        self._lock = threading.Lock()

    def write_record(self, record: ExecutionRecord, /) -> None:
        """Keep a record.

        Raises:
            TypeError: It is no record.
        """
        if type(record) not in (PipelineRunRecord, ProcessRunRecord, StepRunRecord):
            raise TypeError(f"write_record takes an execution record, not {type(record).__name__}.")
        with self._lock:
            self._records.append(record)

    @property
    def records(self) -> list[ExecutionRecord]:
        """All records, oldest first."""
        with self._lock:
            return list(self._records)

    def pipelines(self, name: str | None = None) -> list[PipelineRunRecord]:
        """Return the records of pipelines, or of those of a name."""
        found = [record for record in self.records if isinstance(record, PipelineRunRecord)]
        return [record for record in found if name in (None, record.pipeline)]

    def processes(self, name: str | None = None) -> list[ProcessRunRecord]:
        """Return the records of processes, or of those of a name."""
        found = [record for record in self.records if isinstance(record, ProcessRunRecord)]
        return [record for record in found if name in (None, record.process)]

    def steps(self, name: str | None = None) -> list[StepRunRecord]:
        """Return the records of steps, or of those of a name."""
        found = [record for record in self.records if isinstance(record, StepRunRecord)]
        return [record for record in found if name in (None, record.step)]

    def of_run(self, run_id: str) -> list[ExecutionRecord]:
        """Return the records of one attempt of a pipeline."""
        return [record for record in self.records if record.run_id == run_id]

    def of_correlation(self, correlation_id: str) -> list[ExecutionRecord]:
        """Return the records of all attempts of one job."""
        return [record for record in self.records if record.correlation_id == correlation_id]

    def failures(self) -> list[ExecutionRecord]:
        """Return the records of what has failed."""
        return [record for record in self.records if record.status == RunStatus.FAILED]

    def last_run(self, pipeline: str) -> PipelineRunRecord | None:
        """Return the record of the pipeline's last run, or None."""
        found = self.pipelines(pipeline)
        return found[-1] if found else None

    def clear(self) -> None:
        """Forget all records."""
        with self._lock:
            self._records.clear()
