"""Publish a data set in five stages: copy, verify, transform 50,000 records, index, publish; each can be undone.

Kill it anywhere and run it again: it goes on where it was. Undo it: everything it made is gone, stage by stage.

    python examples/dataset_task/task.py            # run, or go on
    python examples/dataset_task/task.py rollback   # undo
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path

from milepost import Ledger, MilepostError
from milepost.stages import BaseStage, BaseStageState, RetryPolicy, SimpleRecordsResult, TaskEngine

RECORDS = 50_000
PAUSE = float(os.environ.get("DATASET_PAUSE", "0"))  # seconds that each record takes longer, to have time to stop it
TASK_ID = "dataset"


class DatasetState(BaseStageState[SimpleRecordsResult]):
    """What the stages know: each sees what those before it set."""

    folder: str = ""
    source: str = ""
    copied: str = ""
    digest: str = ""
    transformed: str = ""
    index: str = ""
    published: str = ""


class DatasetStage(BaseStage[DatasetState]):
    """What all of them need."""

    def path(self, name: str) -> Path:
        """Return a path in the task's folder, which is there."""
        folder = Path(self.state.folder)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name


class Copy(DatasetStage):
    """Copy the source in pieces, as a download would; a restart goes on at the piece it had reached."""

    def execute_stage(self) -> None:
        source, copied = Path(self.state.source), self.path("source.csv")
        with source.open("rb") as reader, copied.open("ab") as writer:
            reader.seek(writer.tell())
            while piece := reader.read(1 << 18):
                writer.write(piece)
                self.context.progress(writer.tell(), source.stat().st_size)
        self.state.copied = str(copied)

    def rollback_stage(self) -> None:
        Path(self.state.copied).unlink(missing_ok=True)


class Verify(DatasetStage):
    """Compare the copy's hash with the source's."""

    def execute_stage(self) -> None:
        digests = [
            hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in (self.state.source, self.state.copied)
        ]
        if digests[0] != digests[1]:
            Path(self.state.copied).unlink()
            raise OSError("the copy differs from its source")
        self.state.digest = digests[0]

    def rollback_stage(self) -> None:
        """Nothing to undo: it only looked."""


class Transform(DatasetStage):
    """Turn each line into a JSON record; how far it came is saved as it goes."""

    def execute_stage(self) -> SimpleRecordsResult:
        lines = Path(self.state.copied).read_text(encoding="utf-8").splitlines()
        target = self.path("records.jsonl")
        # A crash may have left records that were written after the last save: they are written again.
        written = target.read_text(encoding="utf-8").splitlines(keepends=True) if target.exists() else []
        target.write_text("".join(written[: self.processed()]), encoding="utf-8")
        with target.open("a", encoding="utf-8") as file:

            def transform(line: str) -> None:
                if PAUSE:
                    time.sleep(PAUSE)  # stands for slow work, so that there is time to kill it in the middle
                number, name = line.split(",")
                file.write(json.dumps({"number": int(number), "name": name.title()}) + "\n")

            result = self.process_records(lines, transform, key=lambda line: line.split(",")[0], on_save=file.flush)
        self.state.transformed = str(target)
        return result

    def rollback_stage(self) -> None:
        Path(self.state.transformed).unlink(missing_ok=True)


class BuildIndex(DatasetStage):
    """Index the records by the first letter of their names."""

    def execute_stage(self) -> None:
        index: dict[str, list[int]] = {}
        for line in Path(self.state.transformed).read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            index.setdefault(record["name"][0], []).append(record["number"])
        target = self.path("index.json")
        target.write_text(json.dumps(index), encoding="utf-8")
        self.state.index = str(target)

    def rollback_stage(self) -> None:
        Path(self.state.index).unlink(missing_ok=True)


class Publish(DatasetStage):
    """Put records and index where readers find them: all at once, by a rename."""

    def execute_stage(self) -> SimpleRecordsResult:
        published, building = self.path("published"), self.path("published.new")
        if not published.exists():  # else an execution that was cut short had renamed it
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
            for path in (self.state.transformed, self.state.index):
                shutil.copy(path, building)
            os.rename(building, published)
        self.state.published = str(published)
        count = sum(1 for _ in (published / "records.jsonl").open(encoding="utf-8"))
        return SimpleRecordsResult(total_count=count, success_count=count)

    def rollback_stage(self) -> None:
        shutil.rmtree(self.state.published, ignore_errors=True)


def make_source(folder: Path) -> Path:
    """Write the data set that the task takes in, if it is not there."""
    source = folder / "cities.csv"
    if not source.exists():
        folder.mkdir(parents=True, exist_ok=True)
        source.write_text("".join(f"{n},{chr(97 + n % 26)}city {n}\n" for n in range(RECORDS)), encoding="utf-8")
    return source


def build(task_id: str = TASK_ID, ledger: Ledger | str | None = None) -> TaskEngine[SimpleRecordsResult]:
    """Return the task's engine: `milepost resume` and `milepost rollback` call this."""
    folder = Path(os.environ.get("DATASET_FOLDER", "dataset"))
    first = DatasetState(folder=str(folder / "out"), source=str(make_source(folder)))
    stages = [
        Copy(stage_name="copy", state=first),
        Verify(stage_name="verify"),
        Transform(stage_name="transform"),
        BuildIndex(stage_name="index"),
        Publish(stage_name="publish"),
    ]
    return TaskEngine(
        task_id,
        stages,
        ledger=ledger,
        retry_policy=RetryPolicy.STAGE,
        max_attempts=3,
        workflow="dataset",
        target=f"{Path(__file__).absolute()}:build",
    )


def main(*words: str) -> int:
    """Run the task, or undo it."""
    engine = build()
    try:
        if words == ("rollback",):
            print("undone:", ", ".join(engine.rollback().undo) or "nothing")
            return 0
        result = engine.run()
    except MilepostError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"published {result.total_count if result else 0:,} records in {engine.stages[-1].state.published}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
