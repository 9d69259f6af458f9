"""docs/scaling.md shows what `bench.scale.run` measured: its tables are those that the committed figures give."""

import json

import pytest

from bench.scale.tables import targets, with_tables
from keystore.errors import KeystoreError
from rig.paths import PROJECT

DOCS = PROJECT / "docs"


def test_the_tables_are_what_the_figures_give() -> None:
    figures = json.loads((DOCS / "figures" / "scale.json").read_text(encoding="utf-8"))
    text = (DOCS / "scaling.md").read_text(encoding="utf-8")
    assert with_tables(text, figures) == text
    assert text.count("| met |") + text.count("**missed**") >= len(targets(figures))


def test_a_document_without_a_place_for_them_is_refused() -> None:
    for text in ("", "<!-- scale:begin -->", "<!-- scale:end -->"):
        with pytest.raises(KeystoreError, match="no place"):
            with_tables(text, {})
