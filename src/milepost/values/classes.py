"""Names of classes in stored values: `module:qualname`, and the way back without importing anything."""

from __future__ import annotations

import dataclasses
import os
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from types import ModuleType
from typing import Any

from milepost.values.walk import Unreadable

_MAIN = "__main__"
_main_aliases: list[str] = []


def alias_main(module_name: str) -> None:
    """Declare that a module is the file which other processes run as `__main__`, or the reverse.

    A script run as `python job.py` stores its classes under `__main__`; the command line that resumes its
    runs loads the same file as module `job`. After `alias_main("job")` that process finds the classes of the
    script. The script finds those of module `job`, or `package.job`, by itself, since its file is called `job.py`.

    Example:
        >>> alias_main("job")
    """
    if module_name != _MAIN and module_name not in _main_aliases:
        _main_aliases.append(module_name)


def class_name(cls: type) -> str:
    """Return the stored name of a class, `module:qualname`."""
    # A spawned process of multiprocessing calls the very same script __mp_main__.
    module = _MAIN if cls.__module__ == "__mp_main__" else cls.__module__
    return f"{module}:{cls.__qualname__}"


def is_reachable(cls: type) -> bool:
    """Tell whether the name of a class leads back to it, in this process as it is now."""
    return _look_up(*_split(class_name(cls))) is cls


def find_class(name: str, known: Iterable[type], is_kind: Callable[[type], bool], kind: str) -> type:
    """Find the class with a stored name among the known classes, then among imported modules.

    Args:
        name: the stored name, `module:qualname`.
        known: classes that the reader vouches for; they come first, and may be local classes.
        is_kind: tells whether a class is of the tagged kind; any other class is refused.
        kind: the tagged kind in words, for the error.

    Raises:
        Unreadable: when no such class is imported, or what bears the name is something else.
    """
    if not isinstance(name, str) or ":" not in name:
        raise Unreadable(str(name), "its class has no name of the form module:qualname")
    module, qualname = _split(name)
    namesakes = [cls for cls in known if cls.__qualname__ == qualname and is_kind(cls)]
    for cls in namesakes:
        if class_name(cls) == name:
            return cls
    found = [thing for home in _homes(module) if (thing := _look_up(home, qualname)) is not None]
    classes = list(dict.fromkeys(thing for thing in found if isinstance(thing, type) and is_kind(thing)))
    if len(classes) > 1:  # several scripts are loaded, and each has such a class: the reader's own is meant
        classes = [cls for cls in classes if cls in namesakes] or classes
    elif not classes:
        # The script may be loaded under a name that nobody declared; then what the reader knows has to do.
        classes = [cls for cls in namesakes if _is_script(cls.__module__) or _is_script(module)][:1]
    if len(classes) == 1:
        return classes[0]
    if classes:
        homes = " and ".join(cls.__module__ for cls in classes)
        raise Unreadable(name, f"{homes} each have such a class", "annotate what the step returns")
    if found:
        raise Unreadable(name, f"what bears this name is not a {kind}", "restore the class as it was")
    raise _missing(name, module, qualname)


def classes_in(annotation: Any) -> tuple[type, ...]:
    """Collect the classes of values that an annotation mentions, and those of their fields: the `known` of `decode`.

    Annotations that cannot be evaluated are passed over: what is known only helps to find classes.

    Example:
        >>> from urllib.parse import SplitResult
        >>> classes_in(dict[str, SplitResult | None])
        (<class 'urllib.parse.SplitResult'>,)
    """
    found: dict[type, None] = {}
    followed: list[Any] = []
    waiting = [annotation]
    while waiting:
        current = waiting.pop(0)
        origin = typing.get_origin(current)
        if origin is not None:
            waiting += [origin, *typing.get_args(current)]
        elif isinstance(current, type):
            if current not in found:
                found[current] = None
                waiting += _classes_of_fields(current)
        elif isinstance(current, Enum):  # from a Literal
            waiting.append(type(current))
        elif not any(current is one for one in followed):  # a `type` statement may speak of itself
            followed.append(current)
            # A NewType stands for its supertype, a `type` statement (Python 3.12) for its value.
            waiting += [getattr(current, name) for name in ("__supertype__", "__value__") if hasattr(current, name)]
    return tuple(cls for cls in found if is_value_class(cls))


def is_dataclass(cls: type) -> bool:
    """Tell whether instances of the class are stored as dataclasses."""
    return dataclasses.is_dataclass(cls)


def is_enum(cls: type) -> bool:
    """Tell whether the class is an enumeration."""
    return issubclass(cls, Enum)


def is_namedtuple(cls: type) -> bool:
    """Tell whether the class is a named tuple, made by `collections` or by `typing`."""
    fields = getattr(cls, "_fields", None)
    return issubclass(cls, tuple) and isinstance(fields, tuple) and all(type(name) is str for name in fields)


def is_model(cls: type) -> bool:
    """Tell whether the class is a pydantic model, without importing pydantic."""
    # Nobody can hold a model while pydantic.main is not imported, so its absence is an answer.
    main = sys.modules.get("pydantic.main")
    return main is not None and issubclass(cls, main.BaseModel)


def is_url(cls: type) -> bool:
    """Tell whether the class is one of pydantic's parsed URLs, without importing pydantic."""
    return _is_any_of(
        cls, {"pydantic_core": ("Url", "MultiHostUrl"), "pydantic.networks": ("_BaseUrl", "_BaseMultiHostUrl")}
    )


def is_secret(cls: type) -> bool:
    """Tell whether the class is one of pydantic's secrets, without importing pydantic."""
    return _is_any_of(cls, {"pydantic.types": ("_SecretBase",)})


def _is_any_of(cls: type, bases: Mapping[str, tuple[str, ...]]) -> bool:
    # As with models; and older versions of pydantic lack some of these bases.
    found = (getattr(sys.modules.get(module), name, None) for module, names in bases.items() for name in names)
    return any(base is not None and issubclass(cls, base) for base in found)


def is_value_class(cls: type) -> bool:
    """Tell whether objects of the class can be stored, whatever they hold."""
    return is_enum(cls) or is_dataclass(cls) or is_namedtuple(cls) or is_model(cls) or is_url(cls)


def _split(name: str) -> tuple[str, str]:
    module, _, qualname = name.partition(":")
    return module, qualname


def _look_up(module_name: str, qualname: str) -> Any:
    """Walk from an imported module to what bears a qualified name there; None when there is no such thing."""
    module = sys.modules.get(module_name)
    if not isinstance(module, ModuleType):
        return None
    # Namespaces are read directly: getattr would run a module's __getattr__, and a lazy module would load
    # itself.
    names: Any = object.__getattribute__(module, "__dict__")
    thing: Any = None
    for part in qualname.split("."):
        if names is None or part not in names:
            return None
        thing = names[part]
        names = type.__getattribute__(thing, "__dict__") if isinstance(thing, type) else None
    return thing


def _homes(module: str) -> Iterator[str]:
    yield module
    if module == _MAIN:
        yield from _main_aliases
    elif module in _main_aliases or _is_file_of_main(module):
        yield _MAIN


def _is_script(module: str) -> bool:
    return module in (_MAIN, "__mp_main__", *_main_aliases) or _is_file_of_main(module)


def _is_file_of_main(module: str) -> bool:
    """Tell whether a module that is not imported here is the file that this process runs as `__main__`."""
    file = getattr(sys.modules.get(_MAIN), "__file__", None) or ""
    return module not in sys.modules and os.path.splitext(os.path.basename(file))[0] == module.rpartition(".")[2]


def _missing(name: str, module: str, qualname: str) -> Unreadable:
    if "<locals>" in qualname:
        reason = "it was defined inside a function"
        remedy = "define the class at the top of a module, or annotate what the step returns"
    elif module == _MAIN:
        reason = "this process did not load the script that stored it"
        remedy = "read it with that script, or name its module: milepost.values.alias_main('module')"
    elif module in sys.modules:
        reason = f"module {module} no longer has such a class"
        remedy = f"give it back, or leave its old name behind: {qualname.rpartition('.')[2]} = TheNewName"
    else:
        reason, remedy = f"module {module} is not imported", f"import module {module} before reading"
    return Unreadable(name, reason, remedy)


def _classes_of_fields(cls: type) -> list[Any]:
    """Return the annotations of the fields of a class whose objects are stored by their fields."""
    if is_model(cls):
        generic = getattr(cls, "__pydantic_generic_metadata__", None) or {}
        fields: dict[str, Any] = getattr(cls, "model_fields", {})
        return [*generic.get("args", ()), *(field.annotation for field in fields.values())]
    if not (dataclasses.is_dataclass(cls) or hasattr(cls, "_fields") or hasattr(cls, "__required_keys__")):
        return []
    try:
        return list(typing.get_type_hints(cls).values())
    except Exception:  # a hint is any expression, and may fail in any way; see classes_in
        return []
