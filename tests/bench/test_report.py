"""The report page: one file, complete and escaped, with all that was measured and nothing else."""

import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from bench.distance import Distance, Took
from bench.gates.operations import Compared
from bench.limits import Target
from bench.report.__main__ import main
from bench.targets import Figures, Run
from tests.bench.sample_figures import FIGURES, MACHINE, TAKEN_AT, scale, sized

VOID = {"meta"}

EVIL = "<script>alert('x')</script> & co"

TARGETS = (
    Target("load", "load, split by type", "≤ 2 ×", 1.57, "1.57 ×", True),
    Target("burst", "burst 250", "≤ 1.3 ×", 1.4, "1.40 ×", False),
    Target("memory", EVIL, "≤ 90 MB", None, "–", None, EVIL),
)

RUN = Run(
    taken_at=TAKEN_AT,
    commit="abc123",
    machine=MACHINE,
    targets=TARGETS,
    figures=replace(
        FIGURES,
        compared=(Compared("postgresql", "get 20", 0.44, 0.17, 2.588),),
        distance=(
            Distance(0, Took(0.8, 1), Took(4.6, 2), Took(5, 10)),
            Distance(100, Took(104.5, 1), Took(210.5, 2), Took(1016.9, 10)),
        ),
        memory=None,
        scale=None,
    ),
)

SCALE = scale(*(sized(companies, 1.25, partitions=partitions) for partitions in (0, 16) for companies in (10, 1_000)))


class Page(HTMLParser):
    """The text, headings and ids of a page; asserts that every element is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.pieces: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    @property
    def text(self) -> str:
        """All text, with single spaces."""
        return " ".join(" ".join(self.pieces).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if "style" not in self.open:
            self.pieces.append(data)


def written(tmp_path: Path, *runs: object) -> str:
    """The page that the command writes for these documents."""
    files = []
    for number, run in enumerate(runs):
        file = tmp_path / f"{number}.json"
        file.write_bytes(msgspec.json.encode(run))
        files.append(str(file))
    out = tmp_path / "report.html"
    assert main([*files, "--out", str(out)]) == 0
    return out.read_text(encoding="utf-8")


def test_all_figures_are_on_the_page_after_the_verdict(tmp_path: Path) -> None:
    page = Page(written(tmp_path, RUN, SCALE))
    assert page.text.index("1 of 2 targets met. Missed: burst 250.") < page.text.index("Targets")
    for target in TARGETS:
        for text in (target.what, target.target, target.shown):
            assert text in page.text
    assert (page.text.count("✓ met"), page.text.count("✗ missed")) == (1, 1)
    assert page.headings == [
        "Targets",
        "Against the drivers alone",
        "Far from the database",
        "From the bot’s seat",
        "Against other stores for bots",
        "Storms",
        "Many companies",
        "Rewrites of sessions",
        "Sweeping",
        "Sealed values",
        "The machine",
    ]
    for figure in (
        "2.59 ×",
        "104.5 ms in 1",
        "1,017 ms in 10",
        "12.50 ×",
        "40.00 ×",
        "141/s",
        "1.10 s",
        "99.7",
        "1.25",
    ):
        assert figure in page.text
    assert "1,000, 16 partitions" in page.text
    assert "abc123" in page.text
    assert "EPYC" in page.text


def test_the_page_loads_nothing_and_escapes_every_text(tmp_path: Path) -> None:
    text = written(tmp_path, RUN, SCALE)
    page = Page(text)
    assert not re.search(r"https?:|//\w|@import|url\((?!#)", text)
    assert page.tags.isdisjoint({"script", "link", "img", "iframe"})
    assert EVIL in page.text
    assert "prefers-color-scheme: dark" in text
    assert len(page.ids) == len(set(page.ids))
    assert text.count("<svg") == text.count('<svg role="img" aria-label="') == 3
    assert not re.search(r"#0[1-5]0[1-5]0[1-5]", text), "a colour that is not one of the page's"


def test_sections_that_were_not_measured_are_left_out(tmp_path: Path) -> None:
    page = Page(written(tmp_path, replace(RUN, figures=Figures(), targets=TARGETS[:1], commit=None)))
    assert page.headings == ["Targets", "The machine"]
    assert "1 of 1 targets met." in page.text
    assert "Missed" not in page.text
    some = replace(RUN, figures=Figures(storms=FIGURES.storms))
    assert Page(written(tmp_path, some)).headings == ["Targets", "Storms", "The machine"]
    without_figures = msgspec.to_builtins(RUN) | {"figures": {}}
    assert Page(written(tmp_path, without_figures)).headings == ["Targets", "The machine"]


@pytest.mark.parametrize(
    ("document", "error"),
    [
        (b"{", "is not what bench.targets writes: Input data was truncated"),
        (b"[]", "is not what bench.targets writes: Expected `object`, got `array`"),
        (
            msgspec.json.encode(msgspec.to_builtins(RUN) | {"targets": [{"name": "x"}]}),
            "is not what bench.targets writes: Object missing required field `what` - at `$.targets[0]`",
        ),
        (
            msgspec.json.encode(msgspec.to_builtins(RUN) | {"figures": {"storms": {}}}),
            "is not what bench.targets writes: Object missing required field `reconnect_storm`",
        ),
        (msgspec.json.encode(SCALE), "one file of bench.targets is wanted"),
    ],
)
def test_another_file_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], document: bytes, error: str
) -> None:
    file, out = tmp_path / "x.json", tmp_path / "report.html"
    file.write_bytes(document)
    assert main([str(file), "--out", str(out)]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert error in message
    assert not out.exists()


def test_a_missing_file_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "no.json"
    assert main([str(missing), "--out", str(tmp_path / "report.html")]) == 1
    assert capsys.readouterr().err == f"error: {missing}: No such file or directory\n"
