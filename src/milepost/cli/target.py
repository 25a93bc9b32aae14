"""From a target such as ``pkg.mod:dag`` or ``file.py:dag`` to the Dag itself.

What is called a Dag here may also be a pipeline's class, a ``Workflow`` of the DSL, or a function without required
parameters that returns one of the three; and a target may be a workflow file: ``flow.yaml``, or
``flow.yaml:etl,billing`` where its functions are in these modules.

A file is imported as its module would be: under its dotted name where it lies in a package (folders with
an ``__init__.py``), else under its own name, with the folder it is found from first on ``sys.path``, as
``python file.py`` has it. So the classes of stored values are found again whichever way a run was started.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias

import milepost
from milepost.dag import Dag
from milepost.errors import ConfigurationError, TargetNotFound, did_you_mean
from milepost.pipeline import Pipeline
from milepost.values import alias_main

__all__ = [
    "WORKFLOW_FILES",
    "Flow",
    "Target",
    "import_modules",
    "import_target",
    "is_target",
    "load_target",
    "load_targets",
]


WORKFLOW_FILES: Final = (".yaml", ".yml", ".json")


Flow: TypeAlias = Any
"""A Dag, or what a pipeline or a workflow is to commands: they call the same methods of it."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is run, and the text that leads to it from anywhere on this machine."""

    dag: Flow
    text: str


def is_target(text: str) -> bool:
    """Return whether a text can only be meant as a target: it names a file, or a module and a variable."""
    return ":" in text or text.endswith((".py", *WORKFLOW_FILES)) or os.sep in text


def load_target(text: str) -> Target:
    """Import what a target names and return its Dag. Without ``:name``, the module's only Dag.

    Raises:
        TargetNotFound: There is no such file, module or variable.
        ConfigurationError: The module cannot be imported, or what bears the name neither is a Dag nor makes one.
    """
    (found,) = _load(text, lambda module, name, place: [_find_dag(module, name, place)])
    return found


def load_targets(text: str) -> list[Target]:
    """Import what a target names and return its Dag, or without ``:name`` every Dag of the module.

    Raises:
        TargetNotFound: There is no such file, module or variable, or no Dag in it.
        ConfigurationError: The module cannot be imported, or what bears the name neither is a Dag nor makes one.
    """

    def find(module: ModuleType, name: str, place: str) -> list[tuple[Any, str]]:
        every = {} if name else _distinct(module)
        return [(_opened(dag), key) for key, dag in every.items()] or [_find_dag(module, name, place)]

    return _load(text, find)


def _load(text: str, find: Callable[[ModuleType, str, str], list[tuple[Any, str]]]) -> list[Target]:
    place, _, modules = text.partition(":")
    if place.endswith(WORKFLOW_FILES):
        return [_load_workflow(place, [name for name in modules.split(",") if name])]
    # What the user's module prints must not get between the lines, or into the JSON, on stdout.
    with contextlib.redirect_stdout(sys.stderr):
        module, name, place, lasting = import_target(text)
        found = find(module, name, place)
    return [Target(dag, f"{lasting}:{key}") for dag, key in found]


def _load_workflow(place: str, modules: list[str]) -> Target:
    """Load a workflow file; the modules that are allowed are looked for beside it, too."""
    from milepost.dsl.files import load_workflow  # only workflow files need it
    from milepost.dsl.running import RunnableWorkflow

    path = Path(place).absolute()
    workflow = load_workflow(place)
    import_modules(place, modules)
    lasting = f"{path}:{','.join(modules)}" if modules else str(path)
    return Target(RunnableWorkflow(workflow, lasting), lasting)


def import_modules(place: str, modules: list[str]) -> None:
    """Allow and import the modules that a workflow file calls functions of, so that they are registered.

    Raises:
        ConfigurationError: One cannot be imported.
    """
    from milepost.dsl import allow_module

    _put_on_path(Path.cwd())
    _put_on_path(Path(place).absolute().parent)
    allow_module(*modules)
    with contextlib.redirect_stdout(sys.stderr):
        for name in modules:
            try:
                importlib.import_module(name)
            except (Exception, SystemExit) as error:
                raise _broken(name, error) from error


def import_target(text: str) -> tuple[ModuleType, str, str, str]:
    """Import what a target names.

    Returns:
        The module, the name in it (empty where none is given), the place as it was written, and as it is
        found from any folder.

    Raises:
        TargetNotFound: There is no such file or module.
        ConfigurationError: The module cannot be imported.
    """
    place, colon, name = text.rpartition(":")
    if not colon or (os.name == "nt" and len(place) == 1):
        place, name = text, ""
    if not place:
        raise ConfigurationError(f"{text!r} is not a target. Write pkg.mod:dag or file.py:dag.")
    is_file = place.endswith(".py") or os.sep in place or os.path.isfile(place)
    module = _import_file(place) if is_file else _import_module(place)
    alias_main(module.__name__)
    return module, name, place, _lasting(module, place, is_file=is_file)


# --- importing -----------------------------------------------------------------------------------


def _import_file(place: str) -> ModuleType:
    path = Path(place).absolute()
    if path.is_dir():
        raise TargetNotFound(f"{place!r} is a folder. Name the Python file in it that holds the Dag.")
    if not path.is_file():
        near = did_you_mean(path.name, _names_in(path.parent))
        raise TargetNotFound(f"There is no file {place!r}.{near}")
    root, name = _module_name(path)
    loaded = sys.modules.get(name)
    if loaded is not None:
        if os.path.realpath(getattr(loaded, "__file__", None) or "") == os.path.realpath(path):
            return loaded
        raise ConfigurationError(
            f"{place!r} has the name of the module {name!r}, which is loaded already. Rename the file."
        )
    _put_on_path(root)
    try:
        if name.rpartition(".")[0]:
            return importlib.import_module(name)
        # By its path, so that a file of another kind, or of the same name elsewhere, is never taken for it.
        spec = spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ConfigurationError(f"{place!r} is not a Python file. Name one that ends in .py.")
        module = sys.modules[name] = module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
    except (Exception, SystemExit) as error:
        raise _broken(place, error, path) from error
    return module


def _import_module(place: str) -> ModuleType:
    if not all(part.isidentifier() for part in place.split(".")):
        raise TargetNotFound(
            f"{place!r} is neither a module's name nor a Python file. Write pkg.mod:dag or file.py:dag."
        )
    _put_on_path(Path.cwd())
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not (place == error.name or place.startswith(f"{error.name}.")):
            raise _broken(place, error) from error
        parts = place.split(".")
        folder = Path.cwd().joinpath(*parts[:-1])
        near = did_you_mean(parts[-1], (name.removesuffix(".py") for name in _names_in(folder)))
        raise TargetNotFound(
            f"There is no module {place!r}.{near} Modules are looked for in this folder and in this Python's packages."
        ) from error
    except (Exception, SystemExit) as error:
        raise _broken(place, error) from error


def _put_on_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _module_name(path: Path) -> tuple[Path, str]:
    """Return the folder that a file is imported from, and its dotted name from there."""
    folder, parts = path.parent, [path.stem]
    if path.name == "__init__.py":
        folder, parts = folder.parent, [folder.name]
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        parts.append(folder.name)
        folder = folder.parent
    return folder, ".".join(reversed(parts))


def _names_in(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir() if entry.suffix == ".py"]
    except OSError:
        return []


def _broken(place: str, error: BaseException, path: Path | None = None) -> ConfigurationError:
    """Return the error that names the line of the user's own code where the import went wrong."""
    if isinstance(error, SyntaxError) and error.filename:
        where: str | None = f"{_near(error.filename)}:{error.lineno}"
        told: object = error.msg
    else:
        where, told = _own_line(error, path), error
    detail = f"{where}: " if where else ""
    return ConfigurationError(
        f"The target {place!r} cannot be loaded: {detail}{type(error).__qualname__}: {told}. Mend it and try again."
    )


def _own_line(error: BaseException, path: Path | None) -> str | None:
    frames = traceback.extract_tb(error.__traceback__)
    libraries = tuple(
        os.path.realpath(folder) + os.sep
        for folder in {*sysconfig.get_paths().values(), os.path.dirname(milepost.__file__)}
    )
    for frame in reversed(frames):
        file = os.path.realpath(frame.filename)
        is_target = path is not None and file == os.path.realpath(path)
        if is_target or not (frame.filename.startswith("<") or file.startswith(libraries)):
            return f"{_near(frame.filename)}:{frame.lineno}"
    return None


def _near(file: str) -> str:
    near = os.path.relpath(file)
    return near if len(near) < len(file) else file


# --- finding the Dag -----------------------------------------------------------------------------


def _dags_of(module: ModuleType) -> dict[str, Any]:
    found = {key: value for key, value in vars(module).items() if _is_flow(value)}
    bases = [key for key, value in found.items() if isinstance(value, type) and not getattr(value, "processes", ())]
    return {key: value for key, value in found.items() if key not in bases}  # of pipelines: nothing to run


def _distinct(module: ModuleType) -> dict[str, Any]:
    """Return the Dags of a module by name: of several names for one Dag, the first."""
    found: dict[int, tuple[str, Any]] = {}
    for key, dag in _dags_of(module).items():
        found.setdefault(id(dag), (key, dag))
    return dict(found.values())


def _is_flow(value: object) -> bool:
    return isinstance(value, _classes()) or (isinstance(value, type) and issubclass(value, Pipeline))


def _classes() -> tuple[type[Any], ...]:
    dsl = sys.modules.get("milepost.dsl")  # not loaded: then there is no workflow either
    return (Dag,) if dsl is None else (Dag, dsl.Workflow)


def _opened(found: Any) -> Flow:
    """Return what is run, submitted and drawn as a Dag is."""
    if isinstance(found, Dag):
        return found
    if isinstance(found, type) and issubclass(found, Pipeline):
        return found.runnable()
    from milepost.dsl.running import RunnableWorkflow  # only where there is a workflow

    return RunnableWorkflow(found)


def _find_dag(module: ModuleType, name: str, place: str) -> tuple[Any, str]:
    dags = _dags_of(module)
    if not name:
        distinct = _distinct(module)
        if len(distinct) == 1:
            ((key, dag),) = distinct.items()
            return _opened(dag), key
        if not dags:
            raise TargetNotFound(
                f"{place!r} has no Dag at the top of the module. Make one: dag = Dag(...); or name a function "
                f"that returns one: {place}:build."
            )
        raise TargetNotFound(f"{place!r} has several Dags: {_listed(place, dags)}. Name one of them.")
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part, None)
        if value is None:
            known = f" It has: {_listed(place, dags)}." if dags else " It has no Dag at the top of the module."
            raise TargetNotFound(f"{place!r} has no {name!r}.{did_you_mean(name, dags) or known}")
    if _is_flow(value):
        return _opened(value), name
    near = f" Its Dags: {_listed(place, dags)}." if dags else " Make one: dag = Dag(...)."
    if not inspect.isroutine(value):
        raise ConfigurationError(f"{name!r} in {place!r} is of type {type(value).__name__}, not a Dag.{near}")
    return _build_dag(value, name, place, near), name


def _build_dag(factory: Callable[[], Any], name: str, place: str, near: str) -> Flow:
    """Call a function that returns a Dag, and return that. One that cannot be such a function is not called."""
    try:
        signature = inspect.signature(factory, eval_str=True)
    except (NameError, TypeError, ValueError):
        signature = inspect.Signature()  # annotations nobody can look up, or a function in C
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = [p.name for p in signature.parameters.values() if p.default is p.empty and p.kind not in variadic]
    if required:
        raise ConfigurationError(
            f"{name!r} in {place!r} needs {', '.join(map(repr, required))}; as a target, a function is called without "
            "arguments. Give its parameters defaults, or name a function that calls it."
        )
    promised = signature.return_annotation
    classes = (*_classes(), type)  # a pipeline is a class
    is_other = isinstance(promised, type) and not any(
        issubclass(promised, kind) or issubclass(kind, promised) for kind in classes
    )
    if promised is None or (is_other and promised is not signature.empty) or inspect.iscoroutinefunction(factory):
        raise ConfigurationError(f"{name!r} in {place!r} is a function that returns no Dag.{near}")
    try:
        found = factory()
    except (Exception, SystemExit) as error:
        raise _broken(f"{place}:{name}", error) from error
    if not _is_flow(found):
        raise ConfigurationError(f"{name!r} in {place!r} returned {type(found).__name__}, not a Dag.{near}")
    return _opened(found)


def _listed(place: str, names: Iterable[str]) -> str:
    return ", ".join(f"{place}:{name}" for name in names)


def _lasting(module: ModuleType, place: str, *, is_file: bool) -> str:
    """Return the place as it can be found again from any folder.

    A module that was found from the working directory is stored as its file. One that is installed, or
    that its file would lead to under another name (a package without ``__init__.py``), stays a name.
    """
    file = getattr(module, "__file__", None)
    if is_file:
        return os.path.abspath(place)
    if not file:
        return place
    path = Path(file).absolute()
    root, name = _module_name(path)
    return str(path) if name == place and root == Path.cwd() else place
