"""Time windows: ``Mon-Fri 08:00-18:00`` in a time zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MINUTES_PER_DAY = 24 * 60

_WINDOW = re.compile(
    r"(?:(?P<days>[A-Za-z,-]+) )?(?P<start>[0-9]{2}:[0-9]{2})-(?P<end>[0-9]{2}:[0-9]{2})"
)


@dataclass(frozen=True, slots=True)
class Hours:
    """Days (0 = Monday) on which the window begins, and minutes of the day: [start, end).

    An end at or before the start is on the following day.
    """

    days: tuple[int, ...]
    start_minute: int
    end_minute: int


def _day(name: str) -> int:
    try:
        return DAYS.index(name)
    except ValueError:
        raise ValueError(f"unknown day {name!r}; days are {' '.join(DAYS)}") from None


def _days(text: str | None) -> tuple[int, ...]:
    if text is None:
        return tuple(range(7))
    days: set[int] = set()
    for item in text.split(","):
        first, dash, last = item.partition("-")
        start = _day(first)
        length = (_day(last) - start) % 7 if dash else 0
        days.update((start + step) % 7 for step in range(length + 1))
    return tuple(sorted(days))


def _minute(text: str) -> int:
    hour, minute = int(text[:2]), int(text[3:])
    if minute > 59 or hour > 24 or (hour == 24 and minute):
        raise ValueError(f"{text} is no time of day")
    return hour * 60 + minute


def parse_hours(text: str) -> Hours:
    """Read ``[days ]HH:MM-HH:MM``; days are names, ranges and lists of both (``Mon-Thu,Sat``).

    Raises:
        ValueError: It is not of that form.
    """
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise ValueError('write hours as "Mon-Fri 08:00-18:00" or "22:00-06:00"')
    start, end = _minute(match["start"]), _minute(match["end"])
    if start == MINUTES_PER_DAY:
        raise ValueError("a window cannot begin at 24:00; write 00:00")
    if start == end:
        raise ValueError("the window is empty; a whole day is 00:00-24:00")
    return Hours(days=_days(match["days"]), start_minute=start, end_minute=end)


def check_time_zone(name: str) -> str:
    """Return the name of an IANA time zone unchanged.

    Raises:
        ValueError: There is no such time zone.
    """
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"unknown time zone {name!r}; write an IANA name: Europe/Berlin") from None
    return name
