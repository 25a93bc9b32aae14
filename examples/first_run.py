"""How small does the standard library get? One durable step per file: kill it, and resume it."""

import bz2
import sysconfig
from pathlib import Path

from milepost import Dag


def list_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "site-packages" not in path.parts)


def compress(path: Path) -> int:
    return len(bz2.compress(path.read_bytes()))


def add_up(sizes: list[int]) -> str:
    return f"{len(sizes):,} files fit in {sum(sizes):,} bytes"


dag = Dag("first-run")
files = dag.node(list_files, folder=Path(sysconfig.get_path("stdlib")))
sizes = dag.map(compress, files)
dag.node(add_up, sizes=sizes)

if __name__ == "__main__":
    print(dag.run().result())
