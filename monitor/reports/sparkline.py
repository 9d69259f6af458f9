"""A row of numbers as a row of bars: what a report shows of the past in one line."""

from collections.abc import Sequence
from itertools import pairwise

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 30


def sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """`▁▂▅█`: the values, oldest first, between their least and their most; each bar the mean of its share of them.

    All alike make a flat line; none, an empty one.
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
