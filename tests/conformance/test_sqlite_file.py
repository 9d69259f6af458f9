"""What only a file shows: several stores and processes on one SQLite file lose nothing to each other."""

import subprocess
import sys
from pathlib import Path

from keystore import open_store
from tests.conformance.worker import ROOT

OPEN_AND_CLOSE = "import sys; from keystore import open_store; open_store(sys.argv[1]).close()"


def in_another_process(url: str) -> None:
    """Another process opens the file and closes it again."""
    subprocess.run([sys.executable, "-c", OPEN_AND_CLOSE, url], cwd=ROOT, check=True)


def test_a_second_store_of_this_process_costs_the_first_no_acknowledged_write(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'keystore.db'}"
    with open_store(url) as first, open_store(url):
        first.set("1", {"session": {"before": b"1"}})
        in_another_process(url)
        first.set("1", {"session": {"after": b"2"}})
        with open_store(url) as fresh:
            assert fresh.load("1").keys == {"session": {"before": b"1", "after": b"2"}}
