"""The figures of `bench.targets` as one HTML page: the targets, charts, and the machine.

Files of `bench.scale` and `bench.seat` may be given too. Sections that were not measured are left out. The page needs
no script, font or request, and is light or dark as the reader's screen is.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from msgspec.structs import replace

from bench.command import errors_in_one_line, read_json
from bench.limits import missed
from bench.report.sections import sections
from bench.scale.figures import Scale
from bench.seat.figures import Seat
from bench.targets import Run, with_seat
from keystore.errors import KeystoreError

TITLE = "Signal Keystore: performance"

VERDICTS = {True: ("met", "✓ met"), False: ("missed", "✗ missed"), None: ("open", "–")}
"""The class and the text of each verdict; None means not measured."""


def read(files: Sequence[Path]) -> Run:
    """The run of `bench.targets` in these files, with the figures of `bench.scale` and `bench.seat` if a file has them.

    Raises KeystoreError for another file, for two of a kind, and for no run.
    """
    by_writer: dict[str, Path] = {}
    for file in files:
        by_writer.setdefault(_writer(file), file)
    if "bench.targets" not in by_writer or len(by_writer) < len(files):
        raise KeystoreError("one file of bench.targets is wanted, and one each of bench.scale and bench.seat at most")
    run = read_json(by_writer["bench.targets"], Run, "bench.targets")
    if scale := by_writer.get("bench.scale"):
        run = replace(run, figures=replace(run.figures, scale=read_json(scale, Scale, "bench.scale")))
    if seat := by_writer.get("bench.seat"):
        run = with_seat(run, read_json(seat, Seat, "bench.seat"))
    return run


def _writer(file: Path) -> str:
    """The measurement that wrote this file, by a field that only its figures have at their top."""
    text = file.read_bytes()
    if b'"targets"' not in text:
        for writer, field in (("bench.scale", b'"sizes"'), ("bench.seat", b'"rows"')):
            if field in text:
                return writer
    return "bench.targets"


def html(run: Run) -> str:
    """The page from its sections and the template `page.html`, in which Jinja escapes every text.

    Raises KeystoreError if matplotlib is not installed.
    """
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
    return templates.get_template("page.html").render(
        title=TITLE,
        run=run,
        taken_at=run.taken_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        judged=[target for target in run.targets if target.met is not None],
        missed=missed(run.targets),
        verdicts=VERDICTS,
        sections=list(sections(run)),
    )


@errors_in_one_line
def main(args: Sequence[str] | None = None) -> int:
    """Write the page; return 1 if a file can't be read or is not one of these figures."""
    parser = argparse.ArgumentParser("python -m bench.report", description=__doc__)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="of bench.targets, bench.scale, bench.seat")
    parser.add_argument("--out", type=Path, required=True, metavar="HTML", help="the page to write")
    options = parser.parse_args(args)
    options.out.write_text(html(read(options.files)), encoding="utf-8")
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
