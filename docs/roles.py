"""Our docstrings as the site reads them: no roles of reStructuredText, and examples as code."""

from __future__ import annotations

import re
from typing import Any, Final

import griffe

_ROLE: Final = re.compile(r":(?:class|meth|func|mod|attr|data):`~?(?:[\w.]+\.)?([\w.]+)`")
_EXAMPLE: Final = re.compile(r"^( *)Example:$", re.MULTILINE)


class Roles(griffe.Extension):
    """Turns ``:meth:`run``` into ``run`` in code type, and "Example:" into the section that shows code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one docstring when its object is loaded."""
        if obj.name == "__init__":
            obj.docstring = None  # ours say what happens inside; the class says what its arguments are
        elif obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub(r"\1Examples:", _ROLE.sub(r"`\1`", obj.docstring.value))
