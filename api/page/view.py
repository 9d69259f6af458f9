"""The part of the status page that a reader asks for: its query string, read and written. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self
from urllib.parse import urlencode

from keystore.records import CompanyOrder

MAX_SEARCH_CHARS = 64
MAX_PAGE = 1_000_000
REFRESH_S = 30
"""Interval at which the page loads itself again."""

MIN_REFRESH_S, MAX_REFRESH_S = 5, 3_600
ORDERS: tuple[CompanyOrder, ...] = ("id", "keys", "latest", "oldest")


@dataclass(frozen=True)
class View:
    """The search, page and order of the list of companies, and the refresh interval; None means no refresh.

    `again` changes with each refresh of a chosen part of the list: a browser doesn't load an address again that differs
    only after the `#`.
    """

    search: str = ""
    page: int = 1
    order: CompanyOrder = "id"
    refresh_s: int | None = REFRESH_S
    again: bool = False

    @classmethod
    def read(cls, param: Callable[[str], str | None]) -> Self:
        """Return the view of a query string; a parameter that can't be used counts as absent."""
        orders: dict[str | None, CompanyOrder] = {order: order for order in ORDERS}
        order = orders.get(param("order"), "id")
        refresh = param("refresh")
        refresh_s = None if refresh == "off" else _number(refresh, REFRESH_S, MIN_REFRESH_S, MAX_REFRESH_S)
        search = (param("search") or "").strip()[:MAX_SEARCH_CHARS].removeprefix("company_")
        return cls(search, _number(param("page"), 1, 1, MAX_PAGE), order, refresh_s, param("again") == "1")

    @property
    def params(self) -> dict[str, str]:
        """The parameters that differ from their defaults."""
        refresh = "off" if self.refresh_s is None else str(self.refresh_s)
        params = {"search": self.search, "page": str(self.page), "order": self.order, "refresh": refresh}
        params["again"] = "1" if self.again else ""
        defaults = {"search": "", "page": "1", "order": "id", "refresh": str(REFRESH_S), "again": ""}
        return {name: value for name, value in params.items() if value != defaults[name]}

    @property
    def next_load(self) -> str:
        """The address that the page loads after its interval: the list, for a reader who chose a part of it."""
        if replace(self, refresh_s=REFRESH_S, again=False) == View():
            return self.link()
        return self.link("companies", again=not self.again)

    def link(self, fragment: str = "", **changes: Any) -> str:
        """Return the relative address of this view with changes; the page may be served under a path prefix."""
        params = replace(self, **{"again": False, **changes}).params
        return f"./{f'?{urlencode(params)}' if params else ''}{f'#{fragment}' if fragment else ''}"


def _number(text: str | None, default: int, least: int, most: int) -> int:
    """Return the number in a parameter, within bounds; the default if it is none."""
    if not text or not text.isascii() or not text.isdigit() or len(text) > 7:
        return default
    return min(max(least, int(text)), most)
