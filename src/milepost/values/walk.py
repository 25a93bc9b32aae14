"""The walk over a value: how parts are written and read, and how an error learns where it happened.

Each family of types (`scalars`, `times`, `containers`, `objects`, `models`) registers how its types are
written, read and shown, side by side. The walk knows only the tables. An error starts at the part that failed
and collects its path while it unwinds, so a value without errors pays nothing for paths.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeAlias

Tree: TypeAlias = Any
"""What the json module writes and reads. `Any`, because recursive aliases of invariant lists help nobody."""

TAG = "$"
MAX_DEPTH = 150
"""Levels of nesting. Each takes up to five frames to read, and Python's default limit is a thousand."""

ATOMS = frozenset({type(None), bool})
PLAIN = ATOMS | {int, float, str}
TEXT = frozenset({str})
SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
"""Two lone surrogates side by side: JSON's escapes would turn them into one character."""

_NESTED = frozenset({dict, list})
_REFERS_TO_ITSELF = "it refers to itself"
_TOO_DEEP = f"it is nested more than {MAX_DEPTH} levels deep"


class Refused(Exception):
    """A part of a value cannot be stored."""

    def __init__(
        self, culprit: type, reason: str | None = None, *, remedy: str | None = None, deep: bool = False
    ) -> None:
        super().__init__()
        self.culprit, self.reason, self.remedy, self.deep = culprit, reason, remedy, deep
        self.trail: list[tuple[Any, str]] = []

    def inside(self, owner: Any, segment: str) -> None:
        """Note on the way out that the culprit is inside `owner`, at `segment`."""
        self.trail.append((owner, segment))

    def facts(self) -> tuple[str, str, str | None, str | None]:
        """Return type name, path, reason and remedy; too deep a value that contains itself is told apart here."""
        culprit, reason, trail = self.culprit, self.reason, self.trail[::-1]
        if self.deep:
            culprit, reason, ancestors = type(trail[-1][0]), _TOO_DEEP, set[int]()
            for index, (owner, _) in enumerate(trail):
                if id(owner) in ancestors:
                    culprit, reason, trail = type(owner), _REFERS_TO_ITSELF, trail[:index]
                    break
                ancestors.add(id(owner))
            else:
                trail = [*trail[:8], (None, "...")]
        path = "$" + "".join(segment for _, segment in trail)
        return f"{culprit.__module__}.{culprit.__qualname__}", path, reason, self.remedy


class Unreadable(Exception):
    """A part of a stored value cannot be restored."""

    def __init__(self, type_name: str, reason: str, remedy: str | None = None) -> None:
        super().__init__()
        self.type_name, self.reason, self.remedy = type_name, reason, remedy
        self.trail: list[str] = []

    def inside(self, segment: str) -> None:
        """Note on the way out that the damage is at `segment` of what is being read."""
        self.trail.append(segment)


class Writer:
    """Writes one value as a tree. It is used once."""

    __slots__ = ("careful", "depth", "known", "learned", "plain")

    def __init__(self, known: Collection[type], *, careful: bool = False) -> None:
        # Numbers and texts that JSON cannot take are rare, so the first attempt leaves them to the JSON
        # encoder, and only a value that it rejects is written again with a look at each of them.
        self.careful = careful
        self.plain = ATOMS if careful else PLAIN
        self.known = known
        self.learned: dict[type, WriteFunction] | None = None
        self.depth = 0

    def write(self, value: Any) -> Tree:
        """Write one part of the value."""
        kind = type(value)
        if kind in self.plain:
            return value
        write = WRITERS.get(kind) or self._learn(kind)
        return write(self, value)

    def write_items(self, owner: Any, values: Collection[Any]) -> Tree:
        """Write the items of a list or of what is stored as one."""
        if self.plain.issuperset(map(type, values)):
            return values if isinstance(values, list | tuple) else list(values)
        self.enter()
        written: list[Tree] = []
        try:
            for value in values:
                written.append(self.write(value))
        except Refused as refused:
            refused.inside(owner, f"[{len(written)}]")
            raise
        self.depth -= 1
        return written

    def write_pairs(self, owner: Any, mapping: dict[Any, Any]) -> Tree:
        """Write a mapping with any keys as a list of pairs, in its order."""
        self.enter()
        pairs: list[Tree] = []
        segment = ""
        try:
            for key, value in mapping.items():
                segment = f"<key {len(pairs)}>"
                written_key = self.write(key)
                segment = path_of_key(key)
                pairs.append([written_key, self.write(value)])
        except Refused as refused:
            refused.inside(owner, segment)
            raise
        self.depth -= 1
        return pairs

    def write_state(self, owner: Any, fields: dict[str, Any]) -> dict[str, Tree]:
        """Write named parts of an object that are mostly plain, and then their dict as it is."""
        if self.plain.issuperset(map(type, fields.values())):
            return fields
        return self.write_fields(owner, fields.items())

    def write_fields(self, owner: Any, fields: Iterable[tuple[str, Any]]) -> dict[str, Tree]:
        """Write named parts of an object."""
        self.enter()
        written: dict[str, Tree] = {}
        name = ""
        try:
            for name, value in fields:
                written[name] = self.write(value)
        except Refused as refused:
            refused.inside(owner, path_of_key(name))
            raise
        self.depth -= 1
        return written

    def enter(self) -> None:
        """Count one more level; leaving it is `depth -= 1`, and an error ends the writer anyway."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Refused(type(None), deep=True)

    def _learn(self, kind: type) -> WriteFunction:
        """Find out how a class is written: the answer is kept for good unless it depends on who asks."""
        if self.learned is not None and kind in self.learned:
            return self.learned[kind]
        for family in FAMILIES:
            found = family(kind, self.known)
            if found is not None:
                write, lasting = found
                if lasting:
                    WRITERS[kind] = write
                else:
                    self.learned = {**(self.learned or {}), kind: write}
                return write
        raise _without_form(kind)


class Reader:
    """Reads a tree back into the value it was written from."""

    __slots__ = ("classes", "known")

    def __init__(self, known: Collection[type] = ()) -> None:
        self.known = known
        self.classes: dict[tuple[str, str], type] = {}
        """By kind and stored name, the classes found so far: a value often holds many objects of one class."""

    def read(self, tree: Tree) -> Any:
        """Read one part of the stored value."""
        if type(tree) is dict:
            return self._read_tagged(tree) if TAG in tree else self.read_fields(tree)
        return self.read_items(tree) if type(tree) is list else tree

    def read_items(self, trees: list[Tree]) -> list[Any]:
        """Read the items of a list."""
        if type(trees) is not list:
            raise TypeError("not a list")
        values: list[Any] = []
        try:
            for tree in trees:
                values.append(self.read(tree) if type(tree) in _NESTED else tree)
        except Unreadable as unreadable:
            unreadable.inside(f"[{len(values)}]")
            raise
        return values

    def read_pairs(self, trees: list[list[Tree]]) -> list[tuple[Any, Any]]:
        """Read the pairs of a mapping."""
        pairs: list[tuple[Any, Any]] = []
        try:
            for key, value in trees:
                pairs.append((self.read(key), self.read(value)))
        except Unreadable as unreadable:
            unreadable.inside(f"[{len(pairs)}]")
            raise
        return pairs

    def read_fields(self, trees: dict[str, Tree]) -> dict[str, Any]:
        """Read named parts."""
        values: dict[str, Any] = {}
        name = ""
        try:
            for name, tree in trees.items():
                values[name] = self.read(tree) if type(tree) in _NESTED else tree
        except Unreadable as unreadable:
            unreadable.inside(path_of_key(name))
            raise
        return values

    def _read_tagged(self, tree: dict[str, Tree]) -> Any:
        tag = tree[TAG]
        read = READERS.get(tag) if type(tag) is str else None
        if read is None:
            raise Unreadable(
                str(tag), "this tag is unknown", "read it with the Milepost that stored it, or a newer one"
            )
        try:
            return read(self, tree)
        except (Unreadable, RecursionError):
            raise
        except Exception as error:  # damaged data can fail in any of the ways its readers can
            raise Unreadable(tag, "its stored form is damaged") from error


class Shower:
    """Turns a tree into plain JSON for people. It needs no class, so none can be missing."""

    __slots__ = ()

    def show(self, tree: Tree) -> Tree:
        """Show one part of the stored value."""
        if type(tree) is list:
            return [self.show(item) for item in tree]
        if type(tree) is not dict:
            return tree
        if TAG not in tree:
            return {name: self.show(item) for name, item in tree.items()}
        tag = tree[TAG]
        show = SHOWERS.get(tag) if type(tag) is str else None
        return f"<{tag}>" if show is None else show(self, tree)

    def show_pairs(self, trees: list[list[Tree]]) -> Tree:
        """Show a mapping as an object when its keys make distinct texts, otherwise as pairs."""
        pairs = [(self.show(key), self.show(value)) for key, value in trees]
        shown = {key if isinstance(key, str) else _key_text(key): value for key, value in pairs}
        return shown if len(shown) == len(pairs) else [list(pair) for pair in pairs]


WriteFunction: TypeAlias = Callable[[Writer, Any], Tree]
ReadFunction: TypeAlias = Callable[[Reader, dict[str, Tree]], Any]
ShowFunction: TypeAlias = Callable[[Shower, dict[str, Tree]], Tree]
Family: TypeAlias = Callable[[type, Collection[type]], tuple[WriteFunction, bool] | None]

WRITERS: dict[type, WriteFunction] = {}
READERS: dict[str, ReadFunction] = {}
SHOWERS: dict[str, ShowFunction] = {}
STANDARD: dict[str, type] = {}
"""The types that are storable without being the user's own, by names that hold in every version of Python."""
STANDARD_NAMES: dict[Any, str] = {}
FAMILIES: list[Family] = []
"""Each finds the writer of a class that is its own, and says whether to remember it for later values."""


def show_v(shower: Shower, tree: dict[str, Tree]) -> Tree:
    """Show a tagged value by the part that holds it."""
    return shower.show(tree["v"])


def register(
    tag: str, kinds: Iterable[type], write: WriteFunction, read: ReadFunction, show: ShowFunction = show_v
) -> None:
    """Register how the types of one tag are written, read and shown."""
    for kind in kinds:
        WRITERS[kind] = write
        # The private module that a class is defined in moves: pathlib._local came with 3.13 and went with 3.14.
        name_standard(kind, f"{kind.__module__.partition('.')[0]}:{kind.__qualname__}")
    READERS[tag] = read
    SHOWERS[tag] = show


def name_standard(kind: type, name: str) -> None:
    """Name a type that is storable without being the user's own."""
    STANDARD[name] = kind
    STANDARD_NAMES[kind] = name


def path_of_key(key: Any) -> str:
    """Return the path segment of a key: `.name` for a name, `[key]` for anything else."""
    if type(key) is str and key.isidentifier():
        return f".{key}"
    if type(key) in PLAIN:
        text = repr(key)
        return f"[{text if len(text) <= 40 else text[:37] + '...'}]"
    return f"[{type(key).__name__}]"  # the repr of anything else is somebody's code, and may be long


for _kind in (list, bool, type(None)):  # they need no tag
    name_standard(_kind, f"builtins:{_kind.__name__}")


def _without_form(kind: type) -> Refused:
    """Refuse a type that no family knows, with a remedy where it is nearly one that is known."""
    if hasattr(kind, "tolist"):  # arrays and scalars of numpy, of the standard library, and of those like them
        return Refused(kind, remedy="Return what its tolist() makes, or mark the step transient=True.")
    base = next((base.__name__ for base in kind.__mro__ if base in WRITERS), None)
    if base is not None:
        return Refused(kind, f"it is a subclass of {base}, and only {base} itself comes back as it was")
    return Refused(kind)


def _key_text(key: Tree) -> str:
    return "null" if key is None else str(key).lower() if type(key) is bool else str(key)
