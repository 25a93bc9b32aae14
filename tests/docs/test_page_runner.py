"""The runner of the documentation's blocks: what it runs, and what it does not let pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sybil.example import SybilFailure

RunPage = Callable[[Path], int]


def page(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "some-page.md"
    path.write_text(text.replace("~~~", "```"), encoding="utf-8")
    return path


def test_blocks_share_a_module_and_a_folder(tmp_path: Path, run_page: RunPage) -> None:
    text = """
~~~python title="shapes.py"
SIDES = 4
~~~

~~~python
from shapes import SIDES

class Square:
    pass
~~~

1. In a list:

    ~~~python
    print(SIDES, Square.__module__, "and 1.5 s")
    ~~~

    ~~~text title="Output"
    4 page_some_page and 9 ms
    ~~~

~~~console
$ SIDES=5
$ cat shapes.py; echo \\
>   $SIDES
SIDES = 4
5
$ false
$ echo $?
1
~~~
"""
    assert run_page(page(tmp_path, text)) == 5


def test_a_command_is_killed_at_the_line_before_killed(tmp_path: Path, run_page: RunPage) -> None:
    text = """
~~~python title="endless.py"
import signal

for n in range(3):
    print("round", n)
signal.pause()
~~~

~~~console
$ python endless.py
round 0
...
round 2
Killed
$ echo $?
137
~~~
"""
    assert run_page(page(tmp_path, text)) == 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('~~~python\nprint(1)\n~~~\n\n~~~text title="Output"\n2\n~~~\n', "the page shows\n\n2\n\nbut there came\n\n1"),
        ("~~~console\n$ echo one two\none ... three\n~~~\n", r"\$ echo one two\nthe page shows"),
        ("~~~console\n$ echo one\n~~~\n", "but there came\n\none"),
        ("~~~console\n$ false\n~~~\n", "failed with exit code 1, which the page does not show"),
        ("~~~ruby\nputs 1\n~~~\n", "nobody knows how to run a block of 'ruby'"),
        ("~~~\nputs 1\n~~~\n", "nobody knows how to run a block of ''"),
        ("~~~sh\nmake tests\n~~~\n", "the Makefile has no target 'tests'"),
        ("~~~sh\nrm -r demo\n~~~\n", "'rm -r demo' is not a known way to set up a clone"),
        ('~~~text title="Output"\n2\n~~~\n', "an output without a python block before it"),
    ],
)
def test_what_a_page_shows_wrongly_fails(tmp_path: Path, run_page: RunPage, text: str, complaint: str) -> None:
    with pytest.raises(SybilFailure, match=complaint):
        run_page(page(tmp_path, text))


def test_an_error_in_a_block_names_the_line_of_the_page(tmp_path: Path, run_page: RunPage) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run_page(page(tmp_path, "# Title\n\n~~~python\nx = 1\n1 / 0\n~~~\n"))
    assert caught.traceback[-1].path.name == "some-page.md"
    assert caught.traceback[-1].lineno + 1 == 5
