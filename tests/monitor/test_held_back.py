"""Which companies a scheduled sweep holds back."""

import pytest

from keystore.records import DueSessions
from monitor.held_back import FEWEST_SESSIONS, in_words, losing_most


@pytest.mark.parametrize(
    ("due", "total", "held"),
    [
        (20, 39, True),
        (20, 40, False),
        (21, 41, True),
        (19, 19, False),
        (600, 600, True),
        (100, 1_000, False),
    ],
)
def test_a_company_is_held_back_from_20_due_sessions_and_more_than_half(due: int, total: int, held: bool) -> None:
    company, busy = DueSessions("1", due, total), DueSessions("busy", 1, 5_000)
    assert losing_most([company, busy]) == ((company,) if held else ())


def test_many_small_companies_are_held_back_together() -> None:
    small = [DueSessions(f"{n}", 2, 3) for n in range(FEWEST_SESSIONS // 2)]
    assert losing_most(small) == tuple(small)
    assert losing_most(small[1:]) == (), "too few to mean anything"
    assert losing_most([*small, DueSessions("busy", 1, 100)]) == (), "the others go on as always"


def test_the_message_names_the_largest_losses() -> None:
    companies = losing_most([DueSessions(f"c{n}", 20 + n, 40) for n in range(1, 8)])
    assert in_words(companies, "lost") == (
        "7 companies lost most of their sessions at once: c7 (27 of 40), c6 (26 of 40), c5 (25 of 40), "
        "c4 (24 of 40), c3 (23 of 40), and 2 more"
    )
    assert in_words(companies[:1], "would lose") == "1 company would lose most of its sessions at once: c7 (27 of 40)"
