"""Reads all companies that match a search, page by page, with their counts and leases."""

from collections.abc import Iterator

from keystore.records import CompanySummary
from keystore.upkeep import Upkeep

PAGE = 1_000
"""Companies that are read at once: as many as the store gives."""


def company_summaries(store: Upkeep, search: str = "") -> Iterator[CompanySummary]:
    """Yield every company whose id contains `search`, by id. Raises what the store raises."""
    offset = 0
    while companies := store.company_page(search, PAGE, offset).companies:
        yield from companies
        offset += PAGE
