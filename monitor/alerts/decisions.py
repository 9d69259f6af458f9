"""When an alert is raised and when it is over: decisions as a function of (rules, state, samples, now). Pure.

A rule raises once a value has stood at its threshold for a while, and clears at a lower one, so that a value that
trembles around one number says nothing twice; after a raise it stays silent for its cooldown. Each raise is followed by
exactly one recovery. (The operator's bot wrote every 15 minutes that a heap was at 83 %: after a day nobody read it.)
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

MOST_SUBJECTS = 1_000
"""Of one rule, kept in mind at a time: whatever goes wrong, the state stays small. What comes on top isn't judged."""

MOST_TOLD_OF_A_RULE = 5
"""In one message; a storm of them is then told as a number."""

Severity = Literal["warning", "critical", "information"]
Kind = Literal["raised", "recovered", "information"]
_ORDER: tuple[Kind, ...] = ("raised", "recovered", "information")
_HEADS: dict[Kind, str] = {"raised": "Alert", "recovered": "Recovered", "information": "For information"}
_MARKS: dict[Severity, str] = {"critical": "🔴", "warning": "🟡", "information": "🔵"}
_RECOVERED_MARK = "🟢"
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Rule:
    """One thing to watch, for each of its subjects by itself.

    Raised once a value was at `threshold` or above for `for_s` seconds, and no sooner than `cooldown_s` after it was
    raised before; over once it is at `clear` or below. One with the severity "information" is told once for each
    subject (an event) and never recovers; `cooldown_s` is then how long an event is remembered.
    """

    id: str
    title: str
    threshold: float
    clear: float
    for_s: float
    cooldown_s: float
    severity: Severity = "warning"

    def __post_init__(self) -> None:
        if not self.clear < self.threshold:
            raise ValueError(f"{self.id}: clears at {self.clear}, which isn't below its threshold {self.threshold}")


@dataclass(frozen=True)
class Sample:
    """One value of one subject ("" where there is only one), and in words."""

    rule: str
    subject: str
    value: float
    detail: str


@dataclass(frozen=True)
class Standing:
    """How it stands with one subject: above since when, firing or not, when last raised and with which words."""

    above_since: datetime | None = None
    firing: bool = False
    raised_at: datetime | None = None
    detail: str = ""


Key: TypeAlias = tuple[str, str]
"""A rule's id and a subject."""


@dataclass(frozen=True)
class AlertState:
    """Everything that has to be known to decide on the next samples."""

    standings: Mapping[Key, Standing] = field(default_factory=dict)

    def firing(self, rule: str | None = None) -> dict[Key, Standing]:
        """What fires, of one rule or of all, oldest first."""
        found = [(key, of) for key, of in self.standings.items() if of.firing and rule in (None, key[0])]
        return dict(sorted(found, key=lambda item: (item[1].raised_at or _LONG_AGO, item[0])))


@dataclass(frozen=True)
class Notice:
    """Something to tell. `lasted_s` is for how long what has recovered had stood at its threshold or above."""

    kind: Kind
    rule: Rule
    subject: str
    detail: str
    lasted_s: float | None = None


def decide(
    rules: Mapping[str, Rule], state: AlertState, samples: Iterable[Sample], now: datetime
) -> tuple[AlertState, tuple[Notice, ...]]:
    """The state after these samples, and what there is to tell. A subject without a sample stays as it was."""
    standings = {key: of for key, of in state.standings.items() if key[0] in rules and _counts(rules[key[0]], of, now)}
    subjects = Counter(rule for rule, _ in standings)
    notices = []
    for sample in samples:
        rule, key = rules[sample.rule], (sample.rule, sample.subject)
        before = standings.pop(key, None)
        subjects[rule.id] -= before is not None
        after, notice = _judge(rule, _not_ahead(before or Standing(), now), sample, now)
        # What says nothing takes up no room: thousands of bots that are well leave it to the one that isn't.
        if _counts(rule, after, now):
            if subjects[rule.id] >= MOST_SUBJECTS:
                continue
            standings[key] = after
            subjects[rule.id] += 1
        if notice is not None:
            notices.append(notice)
    return AlertState(standings), tuple(notices)


def _judge(rule: Rule, before: Standing, sample: Sample, now: datetime) -> tuple[Standing, Notice | None]:
    above = sample.value >= rule.threshold
    if rule.severity == "information":
        if before.raised_at is not None or not above:
            return before, None
        return Standing(raised_at=now), Notice("information", rule, sample.subject, sample.detail)
    if before.firing:
        if not sample.value <= rule.clear or before.raised_at is None:
            return before, None
        lasted_s = (now - (before.above_since or before.raised_at)).total_seconds()
        over = Standing(raised_at=before.raised_at)
        return over, Notice("recovered", rule, sample.subject, sample.detail, lasted_s)
    if not above:
        return replace(before, above_since=None), None
    above_since = before.above_since or now
    cooled = before.raised_at is None or now - before.raised_at >= timedelta(seconds=rule.cooldown_s)
    if cooled and now - above_since >= timedelta(seconds=rule.for_s):
        raised = Standing(above_since, firing=True, raised_at=now, detail=sample.detail)
        return raised, Notice("raised", rule, sample.subject, sample.detail)
    return replace(before, above_since=above_since), None


def _not_ahead(standing: Standing, now: datetime) -> Standing:
    """The standing with no time later than now, as where the clock was set back: else nothing would come for long."""
    return replace(
        standing,
        above_since=None if standing.above_since is None else min(standing.above_since, now),
        raised_at=None if standing.raised_at is None else min(standing.raised_at, now),
    )


def _counts(rule: Rule, standing: Standing, now: datetime) -> bool:
    """Whether a standing makes a difference to what comes next."""
    if standing.firing or standing.above_since is not None:
        return True
    return standing.raised_at is not None and now - standing.raised_at < timedelta(seconds=rule.cooldown_s)


def message(notices: Iterable[Notice]) -> str:
    """Several notices as one text: what was raised, what is over, and what is good to know."""
    given = list(notices)
    parts = []
    for kind in _ORDER:
        of_kind = [notice for notice in given if notice.kind == kind]
        if not of_kind:
            continue
        lines = [f"{_HEADS[kind]}:"]
        for rule in dict.fromkeys(notice.rule for notice in of_kind):
            of_rule = [notice for notice in of_kind if notice.rule == rule]
            lines += [_line(notice) for notice in of_rule[:MOST_TOLD_OF_A_RULE]]
            if len(of_rule) > MOST_TOLD_OF_A_RULE:
                lines.append(f"… and {len(of_rule) - MOST_TOLD_OF_A_RULE:,} more: {rule.title}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def firing_lines(rules: Mapping[str, Rule], state: AlertState, now: datetime) -> list[str]:
    """What fires, a line each, worst first; many as a number."""
    firing = [(rules[rule], subject, of) for (rule, subject), of in state.firing().items() if rule in rules]
    firing.sort(key=lambda item: item[0].severity != "critical")
    lines = [
        f"{_MARKS[rule.severity]} {_titled(rule, subject)}: {of.detail} "
        f"(for {duration((now - (of.above_since or of.raised_at or now)).total_seconds())})"
        for rule, subject, of in firing[: 2 * MOST_TOLD_OF_A_RULE]
    ]
    left = len(firing) - len(lines)
    return [*lines, f"… and {left:,} more"] if left else lines


def duration(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    for unit, length_s in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def to_json(state: AlertState) -> str:
    """The state as a document."""
    rows = [
        (rule, subject, _iso(of.above_since), of.firing, _iso(of.raised_at), of.detail)
        for (rule, subject), of in sorted(state.standings.items())
    ]
    return json.dumps(rows, ensure_ascii=False)


def from_json(document: str) -> AlertState:
    """The state in a document. Raises ValueError where it isn't one."""
    try:
        standings = {
            (str(rule), str(subject)): Standing(_moment(above_since), bool(firing), _moment(raised_at), str(detail))
            for rule, subject, above_since, firing, raised_at, detail in json.loads(document)
        }
        if any(standing.firing and standing.raised_at is None for standing in standings.values()):
            raise ValueError("something fires that was never raised")
    except (TypeError, ValueError) as error:
        raise ValueError(f"not a state of alerts: {error}") from error
    return AlertState(standings)


def _line(notice: Notice) -> str:
    mark = _RECOVERED_MARK if notice.kind == "recovered" else _MARKS[notice.rule.severity]
    lasted = "" if notice.lasted_s is None else f" (after {duration(notice.lasted_s)})"
    # The subject of an information is an event's name, which means nothing to a reader.
    title = notice.rule.title if notice.kind == "information" else _titled(notice.rule, notice.subject)
    return f"{mark} {title}: {notice.detail}{lasted}"


def _titled(rule: Rule, subject: str) -> str:
    return f"{rule.title}, {subject}" if subject else rule.title


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _moment(stored: str | None) -> datetime | None:
    moment = None if stored is None else datetime.fromisoformat(stored)
    if moment is not None and moment.tzinfo is None:
        raise ValueError(f"{stored} has no time zone")
    return moment
