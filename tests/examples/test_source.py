"""What the main job reads out of files."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Tree = Callable[[dict[str, str | bytes]], Path]


@pytest.fixture
def read(job: ModuleType, tree: Tree) -> Callable[..., object]:
    """Return a function that writes one file and returns what the job reads out of it."""

    def read(text: str | bytes, path: str = "pkg/mod.py") -> object:
        root = tree({path: text})
        [file] = job.list_files(root, on_error=_fail)
        return job.read_module(file)

    return read


def _fail(error: OSError) -> None:
    raise error


def test_a_module_tells_its_classes_functions_lines_and_docstrings(read):
    module = read(
        '"""About it."""\n'
        "class Shape:\n"
        '    """Documented."""\n'
        "    def area(self): return 0\n"
        "    class Corner:\n"
        "        pass\n"
        "async def draw():\n"
        '    """Documented."""\n'
        "    def inner(): ...\n"
        "    class Local: ...\n"
        "def _private(): ...\n"
        "if True:\n"
        "    def sometimes(): ..."
    )
    assert module.lines == 13
    assert module.classes == ["Shape", "Shape.Corner"]
    assert module.functions == ["Shape.area", "draw", "_private", "sometimes"]
    # The module, Shape, Shape.area, Shape.Corner, draw and sometimes; neither _private nor what draw hides.
    assert (module.documented, module.documentable) == (3, 6)
    assert module.error is None


def test_a_getter_and_its_setter_are_one_function_with_one_docstring(read):
    module = read(
        "class A:\n"
        "    @property\n"
        "    def x(self):\n"
        '        """Documented here."""\n'
        "    @x.setter\n"
        "    def x(self, value): ...\n"
    )
    assert module.functions == ["A.x"]
    assert (module.documented, module.documentable) == (1, 3)


def test_imports_that_loading_passes_by_are_told_apart(read):
    module = read(
        "import a, b.c as d\n"
        "from e import f\n"
        "try:\n    import g\nexcept ImportError:\n    import h\nelse:\n    import i\nfinally:\n    import j\n"
        "def later():\n    import k\n"
        "class Body:\n    import l\n    def later(self):\n        import m\n"
        "if TYPE_CHECKING:\n    import n\nelse:\n    import o\n"
        "if typing.TYPE_CHECKING:\n    import p\n"
        "if __name__ == '__main__':\n    import q\n"
        "with x:\n    import r\n"
        "match x:\n    case 1:\n        import s\n"
    )
    assert module.imports == ["a", "b.c", "e.f", "g", "h", "i", "j", "l", "o", "r", "s"]
    assert module.late_imports == ["k", "m", "n", "p", "q"]


@pytest.mark.parametrize(
    ("path", "statement", "names"),
    [
        ("pkg/sub/mod.py", "from . import other", ["pkg.sub.other"]),
        ("pkg/sub/mod.py", "from .. import other", ["pkg.other"]),
        ("pkg/sub/mod.py", "from ..other import name, more", ["pkg.other.name", "pkg.other.more"]),
        ("pkg/sub/mod.py", "from .other import *", ["pkg.sub.other"]),
        ("pkg/sub/__init__.py", "from . import other", ["pkg.sub.other"]),
        ("pkg/sub/__init__.py", "from .. import other", ["pkg.other"]),
        ("pkg/mod.py", "from ... import beyond", []),
        ("mod.py", "from . import sibling", ["sibling"]),
        ("mod.py", "from . import *", []),
        ("mod.py", "from .. import beyond", []),
    ],
)
def test_relative_imports_become_absolute(read, path, statement, names):
    assert read(statement, path).imports == names


UNUSABLE = {
    "a syntax error": (b"def broken(:\n    pass\n", "SyntaxError"),
    "Python 2": (b"print 'hello'\n", "SyntaxError"),
    "NUL bytes": (b"x = 1\0\n", ("ValueError", "SyntaxError")),
    "bytes that are not UTF-8": (b"x = '\xff\xfe'\n", "SyntaxError"),
    "bytes that are not of the declared encoding": (b"# coding: ascii\n\n\nx = '\xc3\xa9'\n", "UnicodeDecodeError"),
    "an encoding that does not exist": (b"# coding: klingon\n", "SyntaxError"),
    "an encoding that is none for text": (b"# coding: rot13\n", "LookupError"),
    "too many parentheses": (b"x = " + b"(" * 5000 + b")" * 5000, "SyntaxError"),
    "operators nested too deep": (b"x = " + b"-" * 100_000 + b"1", "MemoryError"),
    "attributes nested too deep": (b"x = a" + b".b" * 100_000, "RecursionError"),
    "blocks nested too deep": (
        b"".join(b" " * n + b"if 1:\n" for n in range(150)) + b" " * 150 + b"x",
        "IndentationError",
    ),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_file_that_cannot_be_parsed_says_why(read, kind):
    content, errors = UNUSABLE[kind]
    # In a thread, as in a run: the parser's stack is another one there.
    modules: list[object] = []
    thread = threading.Thread(target=lambda: modules.append(read(content)))
    thread.start()
    thread.join()
    assert modules[0].error.startswith(errors)
    assert not modules[0].error.endswith((" ", ":"))
    assert (modules[0].functions, modules[0].imports, modules[0].documentable) == ([], [], 0)


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", 0),
        (b"\n", 1),
        (b"x = 1", 1),
        (b"\xef\xbb\xbfx = 1\n", 1),
        (b"# coding: latin-1\nx = '\xe9'\n", 2),
        (b"x = 1\r\ny = 2\r\n", 2),
        (b"# coding: utf-7\nx = '+AOk-'\n", 2),
    ],
)
def test_files_of_every_encoding_and_line_ending_are_read(read, content, lines):
    module = read(content)
    assert (module.error, module.lines) == (None, lines)


def test_an_empty_file_has_nothing_to_document(read):
    assert read("").documentable == 0
    assert read("x = 1").documentable == 1


def test_deep_code_that_the_parser_takes_is_walked_to_its_end(read):
    depth = 98
    text = "".join(" " * n + "if 1:\n" for n in range(depth)) + " " * depth + "import bottom\n"
    text += "if a" + ".b" * 800 + ":\n import attribute\n"
    text += "if 0: pass\n" + "".join(f"elif {n}: import m{n}\n" for n in range(900))
    assert read(text).imports == ["bottom", "attribute", *(f"m{n}" for n in range(900))]


def test_a_file_that_is_gone_says_so(job, tree):
    root = tree({"gone.py": ""})
    [file] = job.list_files(root, on_error=_fail)
    (root / "gone.py").unlink()
    assert job.read_module(file).error.startswith("FileNotFoundError: ")


def test_the_warnings_of_parsed_code_stay_out_of_the_process(read):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert read("x = '\\d'; y = 1 is 1\n").error is None
    assert seen == []


def test_names_begin_at_the_top_of_the_package_and_the_order_is_that_of_the_paths(job, tree):
    root = tree(
        {
            "b.py": "",
            "a/__init__.py": "",
            "a/z.py": "",
            "a/inner/__init__.py": "",
            "a/inner/deep.py": "",
            "space/mod.py": "",
            "a/notes.txt": "",
        }
    )
    files = job.list_files(root, on_error=_fail)
    assert [file.name for file in files] == ["b", "a", "a.z", "a.inner", "a.inner.deep", "space.mod"]
    assert [file.name for file in files if file.is_package] == ["a", "a.inner"]
    inside = job.list_files(root / "a" / "inner", on_error=_fail)
    assert [(file.name, file.path.as_posix()) for file in inside] == [
        ("a.inner", "__init__.py"),
        ("a.inner.deep", "deep.py"),
    ]


def test_installed_packages_caches_and_the_folders_of_tools_are_passed_over(job, tree):
    kept = "lib2to3/tests/data/py2.py"
    root = tree(
        dict.fromkeys(
            [kept, "site-packages/x.py", "dist-packages/x.py", "__pycache__/x.py", ".venv/lib/x.py", ".git/x.py"], ""
        )
    )
    assert [file.path.as_posix() for file in job.list_files(root, on_error=_fail)] == [kept]


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes and links")
def test_what_is_no_file_is_not_opened(job, tree):
    import os

    root = tree({"real.py": "", "folder.py/inside.py": ""})
    os.mkfifo(root / "pipe.py")
    (root / "dangling.py").symlink_to(root / "nowhere.py")
    (root / "loop").symlink_to(root)
    assert [file.name for file in job.list_files(root, on_error=_fail)] == ["real", "folder.py.inside"]
