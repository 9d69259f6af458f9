"""The figures of `bench.targets` as one HTML page: the targets, charts, and the machine.

A file of `bench.scale` may be given too. Sections that were not measured are left out.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.command import errors_in_one_line
from bench.report.page import html, read


@errors_in_one_line
def main(args: Sequence[str] | None = None) -> int:
    """Write the page; return 1 if a file can't be read or is not one of these figures."""
    parser = argparse.ArgumentParser("python -m bench.report", description=__doc__)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="of bench.targets, and of bench.scale")
    parser.add_argument("--out", type=Path, required=True, metavar="HTML", help="the page to write")
    options = parser.parse_args(args)
    options.out.write_text(html(read(options.files)), encoding="utf-8")
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
