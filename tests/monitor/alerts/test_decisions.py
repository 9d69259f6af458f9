"""Alerts are raised and end at their thresholds, and no storm of samples sends more than the thresholds allow."""

import itertools
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.alerts.decisions import MOST_SUBJECTS, AlertState, Notice, Sample, decide
from monitor.alerts.notices import firing_lines, message
from monitor.alerts.rules import BOT_MEMORY, DISK, PRE_KEYS, RULES, Rule, Thresholds
from monitor.alerts.stored_state import from_json, to_json
from monitor.remedies import REMEDIES
from monitor.reports.formatting import duration
from monitor.telegram.messages import messages, plain
from rig.fixtures.clock import START

SECOND = timedelta(seconds=1)
HEAP, BURST = Rule("heap", "heap"), Rule("burst", "reconnect", "information")
HEAP_AT = Thresholds(raise_at=90, clear_at=85, for_s=120, cooldown_s=3_600)
THRESHOLDS = {"heap": HEAP_AT, "burst": Thresholds(1, 0, 0, 7_200)}


class Watched:
    """One subject of a rule, looked at again and again."""

    def __init__(self, rule: Rule = HEAP, thresholds: Thresholds | None = None) -> None:
        self.rule = rule
        self.thresholds = {rule.id: thresholds or THRESHOLDS[rule.id]}
        self.state = AlertState()
        self.now = START
        self.notices: list[Notice] = []

    def look(self, value: float, after_s: float = 60, subject: str = "a") -> list[str]:
        self.now += after_s * SECOND
        sample = Sample(self.rule, subject, value, f"{value} %")
        self.state, notices = decide(self.thresholds, self.state, [sample], self.now)
        self.notices += notices
        return [notice.kind for notice in notices]

    def raised(self) -> "Watched":
        assert [self.look(95), self.look(95), self.look(95)] == [[], [], ["raised"]]
        return self


def test_an_alert_is_raised_once_the_value_was_high_for_its_time() -> None:
    heap = Watched()
    assert heap.look(90) == []
    assert heap.look(91, 119) == []
    assert heap.look(90, 1) == ["raised"]
    assert heap.look(99) == []
    assert heap.notices[0].detail == "90 %"


def test_a_value_that_falls_meanwhile_starts_the_time_again() -> None:
    heap = Watched()
    heap.look(95)
    heap.look(89.9)
    assert heap.look(95) == []
    assert heap.look(95, 119) == []
    assert heap.look(95, 1) == ["raised"]


def test_an_alert_is_over_at_the_lower_threshold_and_recovers_once() -> None:
    heap = Watched().raised()
    assert [heap.look(value) for value in (89, 85.1, 91)] == [[], [], []]
    assert heap.look(85) == ["recovered"]
    assert heap.look(10) == []
    assert heap.notices[-1].lasted_s == 360, "since it began, not since it was raised"
    assert not heap.state.firing()


def test_an_alert_is_raised_again_only_after_the_cooldown() -> None:
    heap = Watched().raised()
    heap.look(10)
    assert heap.look(95) == []
    assert heap.look(95, 3_600 - 121) == []
    assert heap.look(95, 1) == ["raised"]


def test_a_rule_without_a_wait_raises_at_once() -> None:
    assert Watched(HEAP, Thresholds(1, 0, 0, 60)).look(1) == ["raised"]


def test_without_a_sample_nothing_changes() -> None:
    heap = Watched().raised()
    state, notices = decide(THRESHOLDS, heap.state, [], heap.now + timedelta(days=30))
    assert (state, notices) == (heap.state, ())


def test_a_value_that_is_no_number_raises_and_ends_nothing() -> None:
    heap = Watched()
    assert [heap.look(float("nan")) for _ in range(5)] == [[]] * 5
    heap = Watched().raised()
    assert heap.look(float("nan")) == []
    assert heap.state.firing()


def test_subjects_are_judged_separately() -> None:
    heap = Watched()
    heap.look(95, subject="a")
    heap.look(95, subject="b")
    assert heap.look(95, subject="a") == ["raised"]
    assert list(heap.state.firing()) == [("heap", "a")]


def test_each_event_is_reported_once() -> None:
    burst = Watched(BURST)
    assert [burst.look(1, subject="a 09h"), burst.look(1, subject="a 09h")] == [["information"], []]
    assert burst.look(1, subject="a 10h") == ["information"]
    assert burst.look(0, subject="a 11h") == []
    assert not burst.state.firing()


def test_a_standing_that_no_longer_matters_is_forgotten() -> None:
    heap = Watched().raised()
    heap.look(10)
    assert len(heap.state.standings) == 1
    heap.look(10, 3_600)
    assert not heap.state.standings


def test_the_state_holds_a_bounded_number_of_subjects_that_are_ill() -> None:
    now = START
    well = [Sample(HEAP, f"w{n}", 50, "") for n in range(3 * MOST_SUBJECTS)]
    state, _ = decide(THRESHOLDS, AlertState(), [*well, Sample(HEAP, "ill", 95, "")], now)
    assert list(state.standings) == [("heap", "ill")]
    ill = [Sample(HEAP, f"i{n}", 95, "") for n in range(3 * MOST_SUBJECTS)]
    state, _ = decide(THRESHOLDS, state, [*ill, Sample(BURST, "a 09h", 1, "")], now)
    assert len(state.standings) == MOST_SUBJECTS + 1, "another rule has its own room"
    state, notices = decide(THRESHOLDS, state, ill, now + 200 * SECOND)
    assert len(notices) == MOST_SUBJECTS - 1


def test_a_clock_set_back_silences_no_rule_for_long() -> None:
    heap = Watched()
    heap.look(95)
    heap.now -= timedelta(days=1)
    assert heap.look(95) == []
    assert heap.look(95, 120) == ["raised"]
    heap.now -= timedelta(days=1)
    assert heap.look(10) == ["recovered"]
    assert (heap.notices[-1].lasted_s or 0) >= 0
    heap.look(95)
    assert heap.look(95, 3_600) == ["raised"]


def test_thresholds_that_could_not_clear_are_refused() -> None:
    with pytest.raises(ValueError, match="below its threshold"):
        Thresholds(1, 1, 0, 0)


def test_the_state_survives_its_document() -> None:
    heap = Watched().raised()
    heap.look(95, subject="ü 💥")
    assert from_json(to_json(heap.state)) == heap.state
    assert from_json(to_json(AlertState())) == AlertState()


@pytest.mark.parametrize(
    "document",
    [
        "",
        "{",
        "7",
        "[1]",
        '[["heap","a"]]',
        '[["heap","a",null,true,null,""]]',
        '[["h","a","2025-10-08",false,null,""]]',
    ],
)
def test_a_document_that_is_no_state_is_refused(document: str) -> None:
    with pytest.raises(ValueError, match="not a state of alerts"):
        from_json(document)


def test_the_state_of_a_removed_rule_is_forgotten() -> None:
    heap = Watched().raised()
    state, notices = decide({"burst": THRESHOLDS["burst"]}, heap.state, [], heap.now)
    assert (state, notices) == (AlertState(), ())


def test_several_notices_are_one_message_and_many_of_a_rule_a_number() -> None:
    text = message(
        [
            *(Notice("raised", PRE_KEYS, f"bot{n}", "4 left") for n in range(8)),
            Notice("recovered", DISK, "", "half of it is free", 7_200),
            Notice("ended", BOT_MEMORY, "bot9", "it has stopped reporting", 7_200),
            Notice("information", BURST, "a 09h", "a wrote 250 new pre-keys"),
        ],
        "vm1",
    )
    assert text.split("\n") == [
        "vm1, alert:",
        *(f"🟡 pre-keys, bot{n}: 4 left" for n in range(5)),
        "… and 3 more: pre-keys",
        f"→ {REMEDIES['pre-keys']}",
        "",
        "vm1, recovered:",
        "🟢 disk of the database: half of it is free (after 2 h)",
        "",
        "vm1, ended without a recovery:",
        "⚪ memory of a bot, bot9: it has stopped reporting (after 2 h)",
        "",
        "vm1, for information:",
        "🔵 reconnect: a wrote 250 new pre-keys",
    ]


def test_a_subject_that_is_no_longer_measured_ends_its_alert_without_a_recovery() -> None:
    heap = Watched().raised()
    state, (notice,) = decide(THRESHOLDS, heap.state, [Sample(HEAP, "a", None, "it is gone")], heap.now)
    assert (notice.kind, notice.detail, notice.lasted_s) == ("ended", "it is gone", 120)
    assert not state.firing()
    assert decide(THRESHOLDS, state, [Sample(HEAP, "a", None, "it is gone")], heap.now)[1] == ()


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_alert_ends_with_a_command_and_shows_no_backquote_in_a_chat(rule: Rule) -> None:
    text = message([Notice("raised", rule, "962302", "92 %")], "vm1")
    if rule.severity != "information":
        assert re.search(r"`[^`]+`$", text), "the command to run"
    (shown,) = messages(plain(text))
    assert "`" not in shown
    words = re.findall(r"\w+", shown.replace("python run.py", ""))
    assert not [word for word, following in itertools.pairwise(words) if word == following], "no word stands twice"


def test_firing_alerts_are_listed_worst_first_and_bounded() -> None:
    thresholds = {PRE_KEYS.id: HEAP_AT, DISK.id: Thresholds(1, 0, 0, 60)}
    samples = [Sample(PRE_KEYS, f"{n:02}", 95, "95 %") for n in range(20)]
    state, _ = decide(thresholds, AlertState(), samples, START)
    state, _ = decide(thresholds, state, [*samples, Sample(DISK, "", 1, "full")], START + 120 * SECOND)
    lines = firing_lines(state, START + 7_320 * SECOND)
    assert lines[0] == "🔴 disk of the database: full (for 2 h)"
    assert lines[1] == "🟡 pre-keys, 00: 95 % (for 2 h)"
    assert (len(lines), lines[-1]) == (11, "… and 11 more")


def test_durations_read_as_people_say_them() -> None:
    assert [duration(s) for s in (-1, 0, 119, 120, 7_199, 7_200, 172_800)] == [
        "0 s", "0 s", "119 s", "2 min", "120 min", "2 h", "2 days",
    ]  # fmt: skip


def most_raises(limits: Thresholds, values: Sequence[tuple[datetime, float]]) -> int:
    """The raises that cooldown and hysteresis allow: one a cooldown, and one for each swing from clear to high."""
    span_s = (values[-1][0] - values[0][0]).total_seconds()
    swings, low = 0, True
    for _, value in values:
        if low and value >= limits.raise_at:
            swings, low = swings + 1, False
        elif value <= limits.clear_at:
            low = True
    by_cooldown = int(span_s // limits.cooldown_s) + 1 if limits.cooldown_s else len(values)
    return min(swings, by_cooldown)


SAMPLES = 10_000
values = st.one_of(
    # Trembling around the thresholds, and jumping from end to end.
    st.lists(st.floats(80, 95), min_size=10, max_size=200),
    st.lists(st.sampled_from([0.0, 84.9, 85.0, 85.1, 89.9, 90.0, 90.1, 100.0, float("nan")]), min_size=2, max_size=200),
)


@given(
    values=values,
    step_s=st.sampled_from([1, 15, 60, 900]),
    for_s=st.sampled_from([0, 1, 60, 120, 3_600]),
    cooldown_s=st.sampled_from([1, 60, 3_600, 86_400]),
)
@settings(max_examples=25, deadline=None)
def test_flapping_values_raise_no_more_than_the_thresholds_allow(
    values: list[float], step_s: int, for_s: int, cooldown_s: int
) -> None:
    limits = Thresholds(90, 85, for_s, cooldown_s)
    state, now, firing, high_since = AlertState(), datetime(2025, 10, 8, tzinfo=UTC), False, None
    raises: list[datetime] = []
    timed_values = []
    for n in range(SAMPLES):
        value, now = values[n % len(values)], now + step_s * SECOND
        timed_values.append((now, value))
        high_since = (high_since or now) if value >= limits.raise_at else None
        state, notices = decide({"heap": limits}, state, [Sample(HEAP, "", value, "")], now)
        for notice in notices:
            assert notice.kind == ("recovered" if firing else "raised"), "raised and recovered take turns"
            if notice.kind == "raised":
                assert high_since is not None
                assert now - high_since >= for_s * SECOND, "raised before its time"
                assert not raises or now - raises[-1] >= cooldown_s * SECOND, "raised within its cooldown"
                raises.append(now)
            else:
                assert value <= limits.clear_at
            firing = not firing
    assert len(raises) <= most_raises(limits, timed_values)
    assert firing == bool(state.firing())


def test_flapping_that_deserves_an_alert_gets_one() -> None:
    """The bound of the test before would hold for silence as well."""
    heap = Watched()
    kinds = [kind for n in range(SAMPLES) for kind in heap.look(95 if n % 6 < 4 else 80)]
    span_s = SAMPLES * 60
    assert kinds.count("raised") == kinds.count("recovered")
    # The first chance after each cooldown lies at most one turn (6 minutes) and one wait (2 minutes) away.
    assert span_s / (HEAP_AT.cooldown_s + 8 * 60) - 1 <= kinds.count("raised") <= span_s / HEAP_AT.cooldown_s + 1
