"""A row of numbers as a row of bars: the past of a number on one line."""

from collections.abc import Sequence
from itertools import pairwise

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 30


def sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """The values as `▁▂▅█`, oldest first, on a scale from the lowest to the highest bar.

    More values than `width` share bars; a bar shows the mean of its values. Equal values make a flat line.
    """
    if not values:
        return ""
    count = min(width, len(values))
    edges = [round(n * len(values) / count) for n in range(count + 1)]
    parts = [values[begin:end] for begin, end in pairwise(edges)]
    means = [sum(part) / len(part) for part in parts]
    least, most = min(means), max(means)
    if most == least:
        return BARS[0] * count
    return "".join(BARS[round((mean - least) / (most - least) * (len(BARS) - 1))] for mean in means)
