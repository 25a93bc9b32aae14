"""How the blocks of a page are run.

A page's fenced blocks run from top to bottom in one temporary folder:

- ``python``: executed in the page's own module.
- any block with ``title="NAME"`` (but ``title="Output"``): written to the file NAME, for later blocks.
- ``text title="Output"``: what the ``python`` block before it printed.
- ``console``: lines after ``$ `` are commands of one bash session, the lines between are what they
  print. A command that fails must be followed by ``$ echo $?``. A line ``Killed`` means: as soon
  as the line before it is printed, the runner sends SIGKILL to the command.
- ``sql``: statements of one empty SQLite database.
- ``sh``: what a reader types to set up a clone; only known commands are allowed, nothing is run.
- ``text`` without a title: a drawing or a message, not run.

In outputs ``...`` stands for anything: within a line where it stands in one, for any lines where it
is a line. Run ids, moments, durations, sizes, process ids and the bars of a timeline differ from run
to run: any is taken for any other. Runs of blanks count as one. The page's folder is shown as
``/home/ada/work``, an empty schema of the tests' PostgreSQL server as ``postgresql://ada@db/work``.
Lines of progress, which begin with a time of day, come when the command line happens to look: whichever
come are as good as those shown.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import types
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from postgres import server_url
from sybil import Document, Example, Region
from sybil.evaluators.python import pad
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

ROOT = Path(__file__).parents[2]
DEADLINE = 90.0  # seconds for one command
KILLED = "Killed"
HOME = "/home/ada/work"
SERVER = "postgresql://ada@db/work"

_INFO = re.compile(r"(?P<language>[\w-]*)(?:[ ]+(?P<attributes>[^\n]*))?\n")
_TITLE = re.compile(r'title="(?P<title>[^"]+)"')
_SET_UP = re.compile(
    r"make( [\w-]+| [A-Z]+=\S+)+|git clone \S+( \S+)?|cd [\w-]+|(python -m )?pip install \S+|"
    r"\.venv/bin/python -m pytest( -k \w+| tests/\S+)+"
)
_UNWANTED = re.compile(r"MILEPOST_|PYTHON|FORCE_COLOR|CLICOLOR")
_PROGRESS = re.compile(r"\d\d:\d\d:\d\d ")
_VARIABLE = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<run id>"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}\b"), "<run id>"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?(Z| UTC|\+00:00)?"), "<moment>"),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "<moment>"),
    (re.compile(r"\b\d+(\.\d+)? ?(µs|ms|s|min|m|h)( \d+ ?s)?(?!\w)"), "<duration>"),
    (re.compile(r"<duration> ago|just now"), "<age>"),
    (re.compile(r"\b\d+(\.\d+)?( ?/ ?s\b)"), "<rate>"),
    (re.compile(r"\b\d+(\.\d+)? ?(B|kB|KB|KiB|MB|MiB)\b"), "<size>"),
    (re.compile(r"process \d+ on [\w.-]+"), "<process>"),
    (re.compile(r"[░▒▓█]+(?: +[░▒▓█]+)*"), "<bar>"),  # a step's attempts may touch, share a column, or not
    (re.compile(r"(?<=\S)[ \t]+"), " "),
    (re.compile(r"[ \t]+$"), ""),
)


def _settled(line: str) -> str:
    for pattern, name in _VARIABLE:
        line = pattern.sub(name, line)
    return line


def _lines(text: str) -> list[str]:
    lines = text.rstrip("\n").split("\n") if text.strip() else []
    return [_settled(line) for line in lines if not _PROGRESS.match(line)]


def difference(expected: str, actual: str) -> str | None:
    """Say how an output differs from what the page shows, or None where it does not."""
    pattern = ""
    for line in _lines(expected):
        if line.strip() == "...":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += "[^\n]*?".join(re.escape(part) for part in line.split("...")) + r"\n"
    if re.fullmatch(pattern, "".join(f"{line}\n" for line in _lines(actual))):
        return None
    return f"the page shows\n\n{expected}\nbut there came\n\n{actual}"


class Shell:
    """One bash session in a folder, without the user's settings."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self._folder = folder
        self._url = url or SERVER
        environment = {name: value for name, value in os.environ.items() if not _UNWANTED.match(name)}
        environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",  # a terminal shows each line when it is printed
            "PYTHONUTF8": "1",
            "COLUMNS": "100",
            "NO_COLOR": "1",
        }
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )

    def run(self, command: str, kill_after: str | None = None) -> tuple[str, int]:
        """Run a command; return what it printed, and its exit code. SIGKILL follows a line if asked for."""
        assert self._bash.stdin is not None
        command = command.replace(SERVER, f"'{self._url}'")
        if kill_after is None:
            self._bash.stdin.write(f"{{ {command}\n}} </dev/null\n")
        else:
            self._bash.stdin.write(f"{command} </dev/null &\nprintf '%d\\n' $!; wait $! 2>/dev/null\n")
        self._bash.stdin.write("__status=$?; printf '\\036%d\\n' $__status; (exit $__status)\n")
        self._bash.stdin.flush()
        watchdog = threading.Timer(DEADLINE, self._bash.kill)
        watchdog.start()
        try:
            return self._read(kill_after)
        finally:
            watchdog.cancel()

    def _read(self, kill_after: str | None) -> tuple[str, int]:
        assert self._bash.stdout is not None
        process = int(self._bash.stdout.readline()) if kill_after is not None else 0
        printed = []
        for line in self._bash.stdout:
            before, mark, status = line.partition("\036")
            printed.append(before)
            if mark:
                return "".join(printed).replace(str(self._folder), HOME).replace(self._url, SERVER), int(status)
            if kill_after is not None and difference(kill_after, line) is None:
                with contextlib.suppress(ProcessLookupError):  # it has ended; its exit code will tell
                    os.kill(process, signal.SIGKILL)
        raise AssertionError(f"the command took longer than {DEADLINE:.0f} s or ended the shell: {''.join(printed)}")

    def close(self) -> None:
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.close()
        self._bash.wait(timeout=DEADLINE)
        self._bash.stdout.close()


class Page:
    """The blocks of one page, run in order in one folder."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path = path
        self._folder = folder
        self._printed: str | None = None
        self._shell: Shell | None = None
        self._database = sqlite3.connect(":memory:")
        self._module = types.ModuleType(f"page_{re.sub(r'[^a-z]', '_', path.stem.lower())}")

    def run(self) -> int:
        """Run every block and return how many there were."""
        document = Document.parse(str(self._path), self._find)
        document.namespace = vars(self._module)
        sys.modules[self._module.__name__] = self._module  # so that stored values find the page's classes
        count = 0
        try:
            for example in document:
                example.evaluate()
                count += 1
        finally:
            del sys.modules[self._module.__name__]
            for name, module in list(sys.modules.items()):  # the page's files: another page may use their names
                if Path(getattr(module, "__file__", None) or "/").is_relative_to(self._folder):
                    del sys.modules[name]
            if self._shell is not None:
                self._shell.close()
            self._database.close()
        return count

    def _find(self, document: Document) -> Iterator[Region]:
        for region in RawFencedCodeBlockLexer(_INFO)(document):
            region.parsed = region.lexemes["source"]
            region.evaluator = self._evaluate
            yield region

    def _evaluate(self, example: Example) -> str | None:
        language = example.region.lexemes["language"]
        title = _TITLE.search(example.region.lexemes["attributes"] or "")
        source = str(example.parsed)
        if title is not None and title["title"] != "Output":
            (self._folder / title["title"]).write_text(source, encoding="utf-8")
            return None
        run: Callable[[Example, str], str | None] | None = getattr(self, f"_run_{language}", None)
        if run is None:
            return f"nobody knows how to run a block of {language!r}: see the conventions in {Path(__file__).name}"
        return run(example, source)

    def _run_python(self, example: Example, source: str) -> str | None:
        printed = io.StringIO()
        code = compile(pad(source, example.line), example.path, "exec", dont_inherit=True)
        with contextlib.redirect_stdout(printed):
            exec(code, example.namespace)
        self._printed = printed.getvalue()
        return None

    def _run_text(self, example: Example, source: str) -> str | None:
        if _TITLE.search(example.region.lexemes["attributes"] or "") is None:
            return None
        if self._printed is None:
            return "an output without a python block before it"
        printed, self._printed = self._printed, None
        return difference(source, printed)

    def _run_console(self, example: Example, source: str) -> str | None:
        if self._shell is None:
            needs_server = SERVER in self._path.read_text(encoding="utf-8")
            self._shell = Shell(self._folder, _empty_schema() if needs_server else None)
        commands = _commands(source)
        for (command, shown), after in zip(commands, [*commands[1:], None], strict=True):
            expected, killed, _ = shown.partition(f"{KILLED}\n")
            kill_after = expected.splitlines()[-1] if killed else None
            printed, status = self._shell.run(command, kill_after)
            wrong = difference(expected, printed)
            if wrong is not None:
                return f"$ {command}\n{wrong}"
            if kill_after is not None and status != 128 + signal.SIGKILL:
                return f"$ {command}\nended with exit code {status} before it could be killed"
            if kill_after is None and status and (after is None or after[0] != "echo $?"):
                return f"$ {command}\nfailed with exit code {status}, which the page does not show\n\n{printed}"
        return None

    def _run_sql(self, example: Example, source: str) -> str | None:
        self._database.executescript(source)
        return None

    def _run_sh(self, example: Example, source: str) -> str | None:
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        for line in source.splitlines():
            if not _SET_UP.fullmatch(line):
                return f"{line!r} is not a known way to set up a clone; show it in a console block, which is run"
            for target in re.findall(r"(?<= )[a-z-]+(?= |$)", line) if line.startswith("make") else []:
                if target not in targets:
                    return f"the Makefile has no target {target!r}"
            for file in re.findall(r"tests/\S+", line):
                if not (ROOT / file).exists():
                    return f"there is no {file}"
        return None


def _empty_schema() -> str:
    url = server_url()
    return f"{url}{'&' if '?' in url else '?'}schema=page_{uuid.uuid4().hex}"


def _commands(source: str) -> list[tuple[str, str]]:
    commands: list[tuple[str, str]] = []
    is_open = False
    for line in source.splitlines():
        if line.startswith("$ "):
            commands.append((line[2:], ""))
            is_open = line.endswith("\\")
        elif is_open:
            commands[-1] = (f"{commands[-1][0]}\n{line.removeprefix('> ')}", "")
            is_open = line.endswith("\\")
        else:
            command, expected = commands[-1]
            commands[-1] = (command, f"{expected}{line}\n")
    return commands


@pytest.fixture
def run_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], int]]:
    """Return the function that runs every block of a page in a fresh folder."""
    logger = logging.getLogger("milepost.step")
    handlers, level = list(logger.handlers), logger.level
    folder = tmp_path.resolve() / "page"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MILEPOST_LEDGER", raising=False)
    monkeypatch.syspath_prepend(str(folder))
    yield lambda path: Page(path, folder).run()
    logger.handlers[:] = handlers
    logger.setLevel(level)
