"""Time windows as policies write them."""

import pytest

from sluice_crds.hours import Hours, check_time_zone, parse_hours


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("Mon-Fri 08:00-18:00", Hours((0, 1, 2, 3, 4), 480, 1080)),
        ("22:00-06:00", Hours((0, 1, 2, 3, 4, 5, 6), 1320, 360)),
        ("Sat,Sun 00:00-24:00", Hours((5, 6), 0, 1440)),
        ("Fri-Mon 12:30-13:00", Hours((0, 4, 5, 6), 750, 780)),
        ("Mon-Tue,Sat 09:00-10:00", Hours((0, 1, 5), 540, 600)),
    ],
)
def test_windows_are_read(text, hours):
    assert parse_hours(text) == hours


@pytest.mark.parametrize(
    "text",
    ["", "always", "08:00", "8:00-18:00", "08:60-18:00", "25:00-26:00", "24:00-01:00", "24:01-01:00",
     "08:00-08:00", "Mo 08:00-18:00", "Mon- 08:00-18:00", "Mon 08:00-18:00 ", "\u0660\u0668:\u0660\u0660-18:00"],
)  # fmt: skip
def test_malformed_window_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        parse_hours(text)


@pytest.mark.parametrize(
    "name", ["Europe/Atlantis", "../etc/passwd", "/etc/localtime", "", "CEST!"]
)
def test_unknown_time_zone_is_refused(name):
    with pytest.raises(ValueError, match="unknown time zone"):
        check_time_zone(name)
