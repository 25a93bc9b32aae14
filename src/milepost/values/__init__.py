"""Typed values: Python values as JSON text and back, each with the type it had.

What JSON has natively is stored as it is: `None`, `bool`, `int`, finite `float`, `str`, `list`, and `dict`
with text keys. Everything else is a tagged object, `{"$": "<tag>", ...}`; a plain `dict` with the key `"$"`
is stored as the tagged list of its pairs, so no user's data is ever taken for a tag.

Three rules hold:

* Types match exactly. A subclass of a builtin is refused, never stored as its base.
* Stored data decides nothing but data. A class is found by name among the classes the caller knows and the
  modules that are already imported, and must be of the tagged kind; nothing is imported, called by name or
  evaluated.
* Whatever cannot be restored is refused when it is stored, while the step can still say so.
"""

from milepost.values.classes import alias_main, classes_in
from milepost.values.plain import decode_plain
from milepost.values.text import content_hash, decode, encode

__all__ = ["alias_main", "classes_in", "content_hash", "decode", "decode_plain", "encode"]
