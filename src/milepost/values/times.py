"""Dates, times, durations and time zones.

A zone is part of a value's type here: a `ZoneInfo` comes back as that zone, never as the offset it had that
day. The offset is still in the text of a datetime, for people; what counts is the wall time, the zone and the
fold.
"""

from __future__ import annotations

import sys
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from milepost.values.scalars import int_of, text_of
from milepost.values.walk import Reader, Refused, Shower, Tree, Unreadable, Writer, register


def _write_date(_: Writer, value: date) -> Tree:
    return {"$": "date", "v": value.isoformat()}


def _write_datetime(_: Writer, value: datetime) -> Tree:
    return _zoned({"$": "datetime", "v": value.isoformat()}, value)


def _write_time(_: Writer, value: time) -> Tree:
    return _zoned({"$": "time", "v": value.isoformat()}, value)


def _zoned(tree: dict[str, Tree], value: datetime | time) -> Tree:
    zone = value.tzinfo
    if zone is not None:
        if type(zone) is timezone:
            name = _zone_name(zone)
            if name is not None:
                tree["name"] = name
        elif type(zone) is ZoneInfo and zone.key is not None:
            tree["zone"] = zone.key
        elif type(zone) is _pydantic_offset():
            tree["offset"] = "pydantic"
        else:
            refused = Refused(type(zone), "only datetime.timezone and a ZoneInfo with a key come back as they were")
            refused.inside(value, ".tzinfo")
            raise refused
    if value.fold:
        tree["fold"] = 1
    return tree


def _read_datetime(_: Reader, tree: dict[str, Tree]) -> datetime:
    value = datetime.fromisoformat(text_of(tree))
    return value.replace(tzinfo=_zone_of(tree, value.tzinfo), fold=tree.get("fold", 0))


def _read_time(_: Reader, tree: dict[str, Tree]) -> time:
    value = time.fromisoformat(text_of(tree))
    return value.replace(tzinfo=_zone_of(tree, value.tzinfo), fold=tree.get("fold", 0))


def _zone_of(tree: dict[str, Tree], offset: tzinfo | None) -> Any:
    if "zone" in tree:
        return _zone(tree["zone"])
    if "name" in tree and offset is not None:
        delta = offset.utcoffset(None)
        assert delta is not None  # the type of a parsed offset is always timezone
        return timezone(delta, text_of(tree, "name"))
    if "offset" in tree and offset is not None:
        delta, make = offset.utcoffset(None), _pydantic_offset()
        assert delta is not None  # the type of a parsed offset is always timezone
        if make is None:
            raise Unreadable("pydantic_core:TzInfo", "pydantic is not imported", "import pydantic before reading")
        return make(delta.total_seconds())
    return offset


def _pydantic_offset() -> Any:
    """Return the class of the fixed offsets that pydantic parses from text, None while nobody can hold one."""
    return getattr(sys.modules.get("pydantic_core"), "TzInfo", None)


def _show_moment(_: Shower, tree: dict[str, Tree]) -> Tree:
    return f"{tree['v']}[{tree['zone']}]" if "zone" in tree else tree["v"]


def _write_timedelta(_: Writer, value: timedelta) -> Tree:
    return {"$": "timedelta", "v": [value.days, value.seconds, value.microseconds]}


def _read_timedelta(reader: Reader, tree: dict[str, Tree]) -> timedelta:
    days, seconds, microseconds = (int_of(reader, part) for part in tree["v"])
    return timedelta(days, seconds, microseconds)


def _show_timedelta(_: Shower, tree: dict[str, Tree]) -> Tree:
    return str(timedelta(*tree["v"]))


def _write_timezone(writer: Writer, value: timezone) -> Tree:
    tree = {"$": "timezone", "v": _write_timedelta(writer, value.utcoffset(None))["v"]}
    name = _zone_name(value)
    return tree if name is None else {**tree, "name": name}


def _read_timezone(reader: Reader, tree: dict[str, Tree]) -> timezone:
    offset = _read_timedelta(reader, tree)
    return timezone(offset, text_of(tree, "name")) if "name" in tree else timezone(offset)


def _show_timezone(_: Shower, tree: dict[str, Tree]) -> Tree:
    return str(_read_timezone(Reader(), tree))


def _zone_name(zone: timezone) -> str | None:
    """Return the name a fixed offset was given, None when its name is made from the offset."""
    # The name made from the offset is the same for all of them, so comparing with a nameless twin tells.
    name = zone.tzname(None)
    return None if name == timezone(zone.utcoffset(None)).tzname(None) else name


def _write_zone(_: Writer, value: ZoneInfo) -> Tree:
    if value.key is None:
        raise Refused(ZoneInfo, "it was read from a file and has no key")
    return {"$": "zone", "v": value.key}


def _zone(key: Any) -> ZoneInfo:
    try:
        return ZoneInfo(key)
    except ZoneInfoNotFoundError as error:
        raise Unreadable(f"zone {key}", "this system has no such time zone", "pip install tzdata") from error


register("date", [date], _write_date, lambda _, tree: date.fromisoformat(text_of(tree)))
register("datetime", [datetime], _write_datetime, _read_datetime, _show_moment)
register("time", [time], _write_time, _read_time, _show_moment)
register("timedelta", [timedelta], _write_timedelta, _read_timedelta, _show_timedelta)
register("timezone", [timezone], _write_timezone, _read_timezone, _show_timezone)
register("zone", [ZoneInfo], _write_zone, lambda _, tree: _zone(text_of(tree)))
