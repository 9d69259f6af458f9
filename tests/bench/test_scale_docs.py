"""docs/scaling.md shows the committed figures of `bench.scale`."""

import pytest

from bench.command import read_json
from bench.scale.figures import Scale
from bench.scale.tables import targets, with_tables
from keystore.errors import KeystoreError
from rig.paths import PROJECT

DOCS = PROJECT / "docs"
FIGURES = DOCS / "figures" / "scale.json"


def test_the_tables_show_the_committed_figures() -> None:
    figures = read_json(FIGURES, Scale, "bench.scale")
    text = (DOCS / "scaling.md").read_text(encoding="utf-8")
    assert with_tables(text, figures) == text
    assert text.count("| met |") + text.count("**missed**") >= len(targets(figures))


def test_a_document_without_markers_is_refused() -> None:
    for text in ("", "<!-- scale:begin -->", "<!-- scale:end -->"):
        with pytest.raises(KeystoreError, match="no place"):
            with_tables(text, read_json(FIGURES, Scale, "bench.scale"))
