"""The look of pictures: the same bytes every time, colours that a page may replace."""

from __future__ import annotations

import re
from collections import namedtuple

import matplotlib
import pytest

from hasim.report import style

Fault = namedtuple("Fault", "start_s repair_s")


@style.used()
def picture():
    figure, (above, below) = style.figure(5, 3, rows=(2, 1))
    style.shade_faults(above, [Fault(2.0, 4.0), Fault(6.0, float("nan"))], end_s=9.0)
    above.plot([0, 1, 2, 9], [1, 2, 3, 4], color=style.OK, label="a<b & c 1.2345 s")
    below.plot([0, 9], [1, 2], color=style.CYCLE[1])
    above.legend()
    return figure


def test_the_same_picture_is_the_same_bytes():
    assert style.svg(picture(), "alt") == style.svg(picture(), "alt")
    assert style.png(picture()) == style.png(picture())


def test_text_stays_text_and_no_colour_of_text_is_fixed():
    svg = style.svg(picture(), "a < b")
    assert "a&lt;b &amp; c 1.2345 s" in svg
    assert 'aria-label="a &lt; b"' in svg
    for role in (style.INK, style.QUIET, style.GRID, style.SHADE):
        assert not re.search(rf"(?<!, ){role}", svg), "a colour that the page cannot replace"
    assert "currentColor" in svg
    assert "var(--hue0, #0072b2)" in svg
    assert not re.search("http|<style|<!--|script", svg)


def test_two_pictures_on_a_page_share_no_id():
    one, two = style.svg(picture(), "", "a-"), style.svg(picture(), "", "b-")
    ids = [set(re.findall(r' id="([^"]+)"', text)) for text in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', one))
    assert used == ids[0], "every id is used, every use has its id"


def test_faults_are_shaded_from_start_to_repair_or_end():
    above = picture().axes[0]
    spans = [(p.get_x(), p.get_x() + p.get_width()) for p in above.patches]
    assert spans == [(2.0, 4.0), (6.0, 9.0)]


def _luminance(colour):
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in matplotlib.colors.to_rgb(colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", style.CYCLE[:3] + (style.INK,))
def test_lines_that_matter_stand_out_on_white(colour):
    assert 1.05 / (_luminance(colour) + 0.05) >= 3


def test_the_look_of_the_users_own_pictures_stays():
    before = dict(matplotlib.rcParams)
    picture()
    assert dict(matplotlib.rcParams) == before
