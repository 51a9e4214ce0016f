"""Charts as inline SVG: columns by label, one or two series, perhaps a bound.

Decided here: how a chart looks. It is of a fixed size that its frame scrolls, so that its texts can
be read on a phone too. Of a row of moments some are named; of things each is, a long name by its
beginning. Whoever shows one shows the same numbers in a table beside it. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from gateway.web.ui.rendering import units

COLUMNS_MAX: Final = 400  # a chart of more says nothing
_HEIGHT: Final = 220
_TOP: Final = 12
_BOTTOM: Final = 44  # below the axis: labels and the legend
_LEFT: Final = 76
_RIGHT: Final = 12
_PLOT_MIN: Final = 480
_LABEL_WIDTH: Final = 84  # of a label and the space after it
_LABEL_CHARS: Final = 12  # of a label, in most letters
_NAMED_MAX: Final = 60  # things that are each named
_GROUP_MIN: Final = 12
_CLASSES: Final = ("first", "second")


@dataclass(frozen=True, slots=True)
class Series:
    """The columns of one colour; as many values as there are labels."""

    name: str
    values: Sequence[int]


def columns(
    title: str,
    labels: Sequence[str],
    series: Sequence[Series],
    bound: tuple[str, int] | None = None,
    *,
    things: bool = False,
) -> Markup:
    """Draw columns, one or two beside each other at each label, and a line at a named bound.
    `things`: the labels are names, not a row of moments.

    Raises ValueError for more than COLUMNS_MAX labels, or more than two series.
    """
    if len(labels) > COLUMNS_MAX or not 1 <= len(series) <= len(_CLASSES):
        raise ValueError(f"{len(labels)} labels of {len(series)} series cannot be drawn")
    values = [value for each in series for value in each.values]
    if bound is not None:
        values.append(bound[1])
    low, high, step = _scale(min(values, default=0), max(values, default=0))
    group = max(_GROUP_MIN * len(series), _PLOT_MIN / max(1, len(labels)))
    if things and len(labels) <= _NAMED_MAX:
        group = max(group, _LABEL_WIDTH)
    width = math.ceil(_LEFT + group * len(labels) + _RIGHT)

    def y(value: float) -> float:
        return round(_TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low), 1)

    parts = [
        Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
            _LEFT, width - _RIGHT, y(tick), y(tick)
        )
        + Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(
            _LEFT - 8, y(tick) + 4, units(tick)
        )
        for tick in range(low, high + 1, step)
    ]
    bar = group * 0.8 / len(series)
    for place, each in enumerate(series):
        for count, (label, value) in enumerate(zip(labels, each.values, strict=True)):
            left = _LEFT + group * (count + 0.1) + bar * place
            top, base = sorted((y(value), y(0)))
            told = f"{label}: {units(value)} {each.name}"
            parts.append(
                Markup(
                    '<rect class="{}" x="{:.1f}" y="{}" width="{:.1f}" height="{:.1f}">'
                    "<title>{}</title></rect>"
                ).format(_CLASSES[place], left, top, bar, base - top, told)
            )
    every = max(1, math.ceil(_LABEL_WIDTH / group))
    parts += [
        Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            _LEFT + group * (count + 0.5), _HEIGHT - _BOTTOM + 18, _short(label)
        )
        for count, label in enumerate(labels)
        if count % every == 0 and _LEFT + group * (count + 0.5) + _LABEL_WIDTH / 2 < width
    ]
    if bound is not None:
        parts.append(
            Markup('<line class="bound" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                _LEFT, width - _RIGHT, y(bound[1]), y(bound[1])
            )
        )
    parts += _legend(series, bound)
    return Markup(
        '<div class="chart scroll" tabindex="0" role="group" aria-label="{title}">'
        '<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img"'
        ' aria-label="{title}">{parts}</svg></div>'
    ).format(title=title, width=width, height=_HEIGHT, parts=Markup("").join(parts))


def meter(share: float | None, words: str) -> Markup:
    """Draw how full something is, 0 to 1; None: there is no bound, and nothing to draw."""
    if share is None:
        return Markup("")
    filled = min(1.0, max(0.0, share))
    return Markup(
        '<svg class="meter" viewBox="0 0 100 12" preserveAspectRatio="none" role="img"'
        ' aria-label="{}"><rect class="track" width="100" height="12"/>'
        '<rect class="{}" width="{:.1f}" height="12"/></svg>'
    ).format(words, "full" if share >= 1 else "fill", 100 * filled)


def _short(label: str) -> str:
    """Cut a label that would be written over the next one; its column's title has all of it."""
    return label if len(label) <= _LABEL_CHARS else f"{label[: _LABEL_CHARS - 1]}\u2026"


def _scale(least: int, greatest: int) -> tuple[int, int, int]:
    """Choose where an axis begins and ends, and its steps: whole numbers that people like."""
    low, high = min(0, least), max(0, greatest)
    rough = max(1, high - low) / 4
    power = 10 ** max(0, math.floor(math.log10(rough)))
    step = next((power * each for each in (1, 2, 5, 10) if power * each >= rough), power * 10)
    return step * math.floor(low / step), max(step, step * math.ceil(high / step)), step


def _legend(series: Sequence[Series], bound: tuple[str, int] | None) -> list[Markup]:
    parts, left = [], _LEFT
    for place, each in enumerate(series):
        parts.append(
            Markup('<rect class="{}" x="{}" y="{}" width="12" height="12"/>').format(
                _CLASSES[place], left, _HEIGHT - 14
            )
            + Markup('<text x="{}" y="{}">{}</text>').format(left + 18, _HEIGHT - 4, each.name)
        )
        left += 18 + 9 * len(each.name) + 24
    if bound is not None:
        parts.append(
            Markup('<line class="bound" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(
                left, left + 24, y=_HEIGHT - 8
            )
            + Markup('<text x="{}" y="{}">{} {}</text>').format(
                left + 30, _HEIGHT - 4, bound[0], units(bound[1])
            )
        )
    return parts
