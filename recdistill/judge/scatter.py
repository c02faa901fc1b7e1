"""Draws size against quality as an inline SVG. The axis of bytes is logarithmic, and names do not cover each other.

It knows nothing of judgements. The caller must escape the names.

Example:
    >>> scatter([("A", "student", 1e3, 0.1), ("B", "other", 1e6, 0.2)], str).count("<circle")
    2
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

_WIDTH, _HEIGHT = 360.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 40.0, 14.0, 12.0, 34.0
_LETTER = 6.4  # about the width of a letter at 11 px
_LINE = 13.0


def scatter(points: Sequence[tuple[str, str, float, float]], size_text: Callable[[float], str]) -> str:
    """The picture.

    Args:
        points: Name, colour class, bytes and quality of each.
        size_text: Writes a number of bytes for people.
    """
    # The x axis goes from one power of ten to another. The y axis begins at 0 and ends a little above the best point.
    decades = [math.log10(max(1.0, size)) for _, _, size, _ in points]
    first, last = math.floor(min(decades)), math.ceil(max(decades) + 1e-9)
    last += first == last
    top = max(quality for *_, quality in points) * 1.12 or 1.0
    step = _round_step(top / 4)

    def x_of(decade: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (decade - first) / (last - first)

    def y_of(quality: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * quality / top

    parts = []
    for mark in range(int(top / step) + 1):
        y = y_of(mark * step)
        parts.append(f'<line x1="{_LEFT:.0f}" x2="{_WIDTH - _RIGHT:.0f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6:.0f}" y="{y + 4:.1f}" text-anchor="end">{mark * step:.3g}</text>')
    every = max(1, (last - first + 3) // 4)
    for decade in range(first, last + 1, every):
        anchor = "end" if decade == last else "middle"
        label = size_text(10.0**decade)
        parts.append(f'<text x="{x_of(decade):.1f}" y="{_HEIGHT - 16:.0f}" text-anchor="{anchor}">{label}</text>')
    parts.append(f'<text x="{_WIDTH - _RIGHT:.0f}" y="{_HEIGHT - 2:.0f}" text-anchor="end">bytes</text>')

    spots = [(x_of(d), y_of(q), name, hue) for d, (name, hue, _, q) in zip(decades, points, strict=True)]
    # A name must not cover a point or another name. A box is: left edge, right edge, baseline. The boxes of the points
    # come first, then the names are placed from top to bottom, and each adds its box.
    boxes = [(x - 6, x + 6, y + 4) for x, y, _, _ in spots]
    for x, y, name, _ in sorted(spots, key=lambda s: s[1]):
        wide = _LETTER * len(name)
        left, at = _free(x, wide, y + 4, boxes)
        boxes.append((left, left + wide, at))
        near = left + wide + 2 if left < x else left - 2  # a name that is not level with its point gets a line to it
        if abs(at - y - 4) > 3:
            parts.append(f'<line class="lead" x1="{x:.1f}" y1="{y:.1f}" x2="{near:.1f}" y2="{at - 4:.1f}"/>')
        parts.append(f'<text class="name" x="{left:.1f}" y="{at:.1f}">{name}</text>')
    for x, y, _, hue in spots:
        parts.append(f'<circle class="{hue}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
    label = "Size against quality"
    return f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _free(x: float, wide: float, wanted: float, taken: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Left edge and baseline of a name: the nearest free place left or right of its point, inside the picture."""
    sides = [left for left in (x + 9, x - 9 - wide) if left >= _LEFT + 1 and left + wide <= _WIDTH - 2] or [x + 9]
    for distance in range(0, int(_HEIGHT), 2):
        for left in sides:
            for at in (wanted - distance, wanted + distance):
                clear = all(abs(at - other) >= _LINE or left + wide < low or left > high for low, high, other in taken)
                if clear and _TOP + 6 <= at <= _HEIGHT - _BOTTOM - 2:
                    return left, at
    return sides[0], wanted


def _round_step(rough: float) -> float:
    """The smallest step of 1, 2 or 5 times a power of ten that is not below the rough one."""
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    return next((m * power for m in (1, 2, 5) if rough <= m * power), 10 * power)
