"""The report page: one file, whole, escaped, with what was measured and nothing that wasn't."""

import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bench.distance import Distance, Took
from bench.gates.operations import Compared
from bench.peers.measure import Act, Peers
from bench.report.document import main
from bench.storms.reconnect import ReconnectStorm
from bench.storms.run import Restart, Steady

VOID = {"meta"}

EVIL = "<script>alert('x')</script> & co"

TARGETS: list[dict[str, Any]] = [
    {
        "name": "load",
        "what": "load, split by type",
        "target": "≤ 2 ×",
        "measured": 1.57,
        "shown": "1.57 ×",
        "met": True,
    },
    {"name": "burst", "what": "burst 250", "target": "≤ 1.3 ×", "measured": 1.4, "shown": "1.40 ×", "met": False},
    {"name": "memory", "what": EVIL, "target": "≤ 90 MB", "measured": None, "shown": "–", "met": None, "note": EVIL},
]

ACT = Act(store_ms=1.0, diary_ms=12.5, files_ms=40.0, json_ms=4.0)

FIGURES: dict[str, Any] = {
    "compared": [asdict(Compared("postgresql", "get 20", 0.44, 0.17, 2.588))],
    "distance": [
        asdict(Distance(0, Took(0.8, 1), Took(4.6, 2), Took(5, 10))),
        asdict(Distance(100, Took(104.5, 1), Took(210.5, 2), Took(1016.9, 10))),
    ],
    "peers": asdict(Peers(721, "00", 15, "20.1.0", "7.0.0", "8.1.0", 100, ACT, ACT, ACT)) | {"met": True},
    "storms": {
        "reconnect_storm": asdict(ReconnectStorm(8, 100, 5, 141.0, 170.0, 0.83, 40.0, 80.0, 30.0, 60.0)),
        "restart": asdict(Restart(90, 64_890, 22_500, 1.1, 1_050.0)),
        "steady": asdict(Steady(1_000, 20_000, 2_000.0, 1.2, 1.1, 2.2, 8, 0)),
    },
    "rewrites": {"heap_only_percent": 99.7, "pages_before": 190.0},
    "sweeping": {"gets": {"p99_ms": 1.25}},
    "memory": None,
    "scale": None,
}

RUN: dict[str, Any] = {
    "taken_at": "2026-11-25T10:00:00+00:00",
    "commit": "abc123",
    "machine": {"cpu": "EPYC", "cores": 2, "memory_gb": 23.5, "postgres": "18.0", "node": None},
    "targets": TARGETS,
    "figures": FIGURES,
}

TIMES = {"times": 100, "p50_ms": 1.25, "p99_ms": 2.75}
LOADS = {"load": TIMES, "bare": TIMES, "pages": 192.0, "read_pages": 0.0, "plan": "Index Scan"}
SCALE = {
    "machine": {"cpus": 2},
    "sizes": [
        {"companies": companies, "partitions": parts, "keys": 721, "loads_before": LOADS, "loads_after": LOADS}
        for companies, parts in ((10, 0), (1_000, 0), (10, 16), (1_000, 16))
    ],
}


class Page(HTMLParser):
    """What is in a page: its text, its headings, its ids; and that every element ends where it should."""

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
        """All of it, with single spaces."""
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
    """The page that the command makes of these documents."""
    files = []
    for number, run in enumerate(runs):
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps(run), encoding="utf-8")
        files.append(str(file))
    out = tmp_path / "report.html"
    assert main([*files, "--out", str(out)]) == 0
    return out.read_text(encoding="utf-8")


def test_everything_measured_is_on_the_page_and_the_verdict_is_first(tmp_path: Path) -> None:
    page = Page(written(tmp_path, RUN, SCALE))
    assert page.text.index("1 of 2 targets met. Missed: burst 250.") < page.text.index("Targets")
    for target in TARGETS:
        for told in ("what", "target", "shown"):
            assert target[told] in page.text
    assert (page.text.count("✓ met"), page.text.count("✗ missed")) == (1, 1)
    assert page.headings == [
        "Targets",
        "Against the bare driver",
        "Far from the database",
        "Against what bots use",
        "Storms",
        "Many companies",
        "Rewrites of sessions",
        "Sweeping",
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


def test_the_page_needs_nothing_else_and_nobody_writes_tags_into_it(tmp_path: Path) -> None:
    text = written(tmp_path, RUN, SCALE)
    page = Page(text)
    assert not re.search(r"https?:|//\w|@import|url\((?!#)", text)
    assert page.tags.isdisjoint({"script", "link", "img", "iframe"})
    assert EVIL in page.text
    assert "prefers-color-scheme: dark" in text
    assert len(page.ids) == len(set(page.ids))
    assert text.count("<svg") == text.count('<svg role="img" aria-label="') == 3
    assert not re.search(r"#0[1-5]0[1-5]0[1-5]", text), "a colour that isn't the page's"


def test_what_was_not_measured_is_left_out(tmp_path: Path) -> None:
    page = Page(written(tmp_path, RUN | {"figures": {}, "targets": TARGETS[:1], "commit": None}))
    assert page.headings == ["Targets", "The machine"]
    assert "1 of 1 targets met." in page.text
    assert "Missed" not in page.text
    some = {"storms": {"restart": FIGURES["storms"]["restart"]}, "peers": None}
    assert Page(written(tmp_path, RUN | {"figures": some})).headings == ["Targets", "Storms", "The machine"]


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ("{", "is not what bench.targets writes: the file: Invalid JSON"),
        ("[]", "is not what bench.targets writes: the file: "),
        (json.dumps(RUN | {"targets": [{"name": "x"}]}), "is not what bench.targets writes: targets.0.what: "),
        (json.dumps(SCALE), "one file of bench.targets is wanted"),
    ],
)
def test_another_file_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], document: str, error: str
) -> None:
    file, out = tmp_path / "x.json", tmp_path / "report.html"
    file.write_text(document, encoding="utf-8")
    assert main([str(file), "--out", str(out)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert error in told
    assert not out.exists()


def test_a_file_that_is_not_there_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "no.json"
    assert main([str(missing), "--out", str(tmp_path / "report.html")]) == 1
    assert capsys.readouterr().err == f"error: {missing}: No such file or directory\n"
