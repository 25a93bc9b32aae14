"""Values cross from process to process: the same text everywhere, and the classes of a script found again."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

JOB = """
import enum, sys
from dataclasses import dataclass
from typing import NamedTuple
from pydantic import BaseModel
from milepost.values import classes_in, decode, encode

class Word(enum.Enum):
    YES = 1

@dataclass(frozen=True)
class Row:
    words: frozenset

class Pair(NamedTuple):
    left: Row
    right: Word

class Page(BaseModel):
    pairs: list[Pair]

VALUE = Page(pairs=[Pair(Row(frozenset({Word.YES, "a", "b"})), Word.YES)])

def check(text, known=()):
    restored = decode(text, known)
    assert restored == VALUE and type(restored) is Page and type(restored.pairs[0]) is Pair, restored
    print("restored")

if __name__ == "__main__":
    if sys.argv[1:]:
        check(sys.argv[1])
    else:
        print(encode(VALUE))
"""

LOAD = """
import importlib.util, sys
from milepost.values import alias_main, classes_in, decode, encode

def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
"""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """Return a script that prints its value, or restores what it is given."""
    path = tmp_path / "job.py"
    path.write_text(JOB)
    return path


def run(*arguments: object, seed: int = 0) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def run_code(code: str, *arguments: object) -> str:
    return run("-c", LOAD + textwrap.dedent(code), *arguments)


def test_a_value_has_the_same_text_whatever_the_hashes() -> None:
    code = """
        import enum, datetime
        from decimal import Decimal
        from milepost.values import content_hash, encode
        words = [f"word {n}" for n in range(50)]
        values = [set(words), frozenset(words), {*words, 1, None, (2, "a")}, {frozenset({w, 1}): {w} for w in words},
                  {Decimal(n) for n in range(20)}, {datetime.date(2024, 1, n + 1) for n in range(20)}]
        print(content_hash(encode(values)))
    """
    assert len({run("-c", textwrap.dedent(code), seed=seed) for seed in (0, 1, 2)}) == 1


def test_values_of_a_script_are_restored_where_the_same_file_is_loaded_under_another_name(job: Path) -> None:
    text = run(job)
    assert '"__main__:Page"' in text
    code = """
        module = load(sys.argv[1], sys.argv[2])
        alias_main(sys.argv[2])
        module.check(sys.argv[3])
    """
    for name in ("job", "target_of_a_command"):
        assert run_code(code, job, name, text) == "restored"


def test_a_script_restores_what_was_stored_where_its_file_was_loaded_as_a_module(job: Path) -> None:
    for name in ("job", "package.job"):
        text = run_code("print(encode(load(sys.argv[1], sys.argv[2]).VALUE))", job, name)
        assert f'"{name}:Page"' in text
        assert run(job, text) == "restored"


def test_what_the_reader_knows_stands_in_for_a_name_that_nobody_declared(job: Path) -> None:
    code = """
        module = load(sys.argv[1], "elsewhere")
        module.check(sys.argv[2], classes_in(list[module.Page]))
        try:
            decode(sys.argv[2])
        except Exception as error:
            print(error)
    """
    restored, complaint = run_code(code, job, run(job)).splitlines()
    assert restored == "restored"
    assert "this process did not load the script that stored it" in complaint
    assert "alias_main(" in complaint


def test_two_scripts_with_classes_of_one_name_are_told_apart_by_what_the_reader_knows(job: Path) -> None:
    code = """
        first, second = load(sys.argv[1], "first"), load(sys.argv[1], "second")
        alias_main("first")
        alias_main("second")
        for module in (first, second):
            module.check(sys.argv[2], classes_in(module.Page))
        try:
            decode(sys.argv[2])
        except Exception as error:
            print(error)
    """
    *restored, complaint = run_code(code, job, run(job)).splitlines()
    assert restored == ["restored"] * 2
    assert "first and second each have such a class" in complaint


def test_values_pass_between_a_script_and_the_processes_it_spawns(tmp_path: Path) -> None:
    script = tmp_path / "spawning.py"
    script.write_text(
        textwrap.dedent("""
            import multiprocessing
            from dataclasses import dataclass
            from milepost.values import decode, encode

            @dataclass
            class Row:
                x: int

            def double(text):
                row = decode(text)
                assert type(row) is Row
                return encode(Row(2 * row.x))

            if __name__ == "__main__":
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    text = pool.apply(double, [encode(Row(4))])
                print(text, decode(text) == Row(8))
        """)
    )
    assert run(script) == '{"$":"dataclass","class":"__main__:Row","fields":{"x":8}} True'


def test_neither_storing_nor_reading_imports_pydantic() -> None:
    code = """
        import sys
        from dataclasses import dataclass
        from milepost.values import decode, encode
        @dataclass
        class Row:
            x: object
        assert decode(encode([Row(1), {1: (2,)}])) == [Row(1), {1: (2,)}]
        for text in ('{"$":"model","class":"a:B","fields":{}}', '{"$":"url","class":"a:B","v":""}'):
            try:
                decode(text)
            except ValueError:
                pass
        print("pydantic" in sys.modules)
    """
    assert run("-c", textwrap.dedent(code)) == "False"
