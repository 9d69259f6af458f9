"""When an alert is raised and when it is over: decisions as a function of (thresholds, state, samples, now). Pure.

A rule raises once a value has stood at its threshold for a while, and clears at a lower one. So a value that trembles
around one number sends nothing twice, and after a raise the rule stays silent for its cooldown. Each raise is followed
by exactly one end. That is a recovery, or the news that there is nothing left to measure: a bot that was killed at its
memory limit has not recovered. (The original operator's bot wrote every 15 minutes that a heap was at 83 %: after a day
nobody read it.)
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from monitor.alerts.rules import Rule, Thresholds

MOST_SUBJECTS = 1_000
"""Subjects of one rule that the state holds at most, so that it stays small. Further ones aren't judged."""

Kind = Literal["raised", "recovered", "ended", "information"]
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Sample:
    """One value of one subject ("" where the rule has only one), and the same in words. The value is None once the
    subject isn't measured any more."""

    rule: Rule
    subject: str
    value: float | None
    detail: str


@dataclass(frozen=True)
class Standing:
    """The state of one subject: above its threshold since, firing or not, last raised at, and with which words."""

    above_since: datetime | None = None
    firing: bool = False
    raised_at: datetime | None = None
    detail: str = ""


Key: TypeAlias = tuple[str, str]
"""A rule's id and a subject."""


@dataclass(frozen=True)
class AlertState:
    """Everything that the decision on the next samples needs to know."""

    standings: Mapping[Key, Standing] = field(default_factory=dict)

    def firing(self) -> dict[Key, Standing]:
        """The firing alerts, oldest first."""
        firing = [(key, standing) for key, standing in self.standings.items() if standing.firing]
        return dict(sorted(firing, key=lambda item: (item[1].raised_at or _LONG_AGO, item[0])))

    def firing_subjects(self, rule: Rule) -> set[str]:
        """The subjects of a rule whose alerts fire."""
        return {subject for rule_id, subject in self.firing() if rule_id == rule.id}

    def subjects(self, rule: Rule) -> set[str]:
        """The subjects of a rule that were raised, or are about to be."""
        return {subject for rule_id, subject in self.standings if rule_id == rule.id}


@dataclass(frozen=True)
class Notice:
    """Something to report. `lasted_s` is how long an alert that is over had stood at its threshold or above.
    An alert that has `ended` is over because there is nothing left to measure; a `recovered` one is well again."""

    kind: Kind
    rule: Rule
    subject: str
    detail: str
    lasted_s: float | None = None


def decide(
    thresholds: Mapping[str, Thresholds], state: AlertState, samples: Iterable[Sample], now: datetime
) -> tuple[AlertState, tuple[Notice, ...]]:
    """The state after these samples, and the notices to send. A subject without a sample stays as it was."""
    standings = {
        key: standing
        for key, standing in state.standings.items()
        if key[0] in thresholds and _matters(thresholds[key[0]], standing, now)
    }
    subjects = Counter(rule_id for rule_id, _ in standings)
    notices = []
    for sample in samples:
        limits, key = thresholds[sample.rule.id], (sample.rule.id, sample.subject)
        before = standings.pop(key, None)
        subjects[sample.rule.id] -= before is not None
        after, notice = _judge(limits, _not_ahead(before or Standing(), now), sample, now)
        # A subject that is well takes up no room: thousands of such bots leave it to the one that isn't.
        if _matters(limits, after, now):
            if subjects[sample.rule.id] >= MOST_SUBJECTS:
                continue
            standings[key] = after
            subjects[sample.rule.id] += 1
        if notice is not None:
            notices.append(notice)
    return AlertState(standings), tuple(notices)


def after_clock_step(state: AlertState, step: timedelta) -> AlertState:
    """The state after the wall clock was set forward by `step`, or back where it is negative.

    A subject has stood at its threshold for as long as before. A cooldown may end early, but never late.
    """

    def moved(standing: Standing) -> Standing:
        above_since, raised_at = standing.above_since, standing.raised_at
        return replace(
            standing,
            above_since=None if above_since is None else above_since + step,
            raised_at=None if raised_at is None else raised_at + min(step, timedelta(0)),
        )

    return AlertState({key: moved(standing) for key, standing in state.standings.items()})


def _judge(limits: Thresholds, before: Standing, sample: Sample, now: datetime) -> tuple[Standing, Notice | None]:
    if sample.value is None:
        return _end(before, sample, now)
    above = sample.value >= limits.raise_at
    if sample.rule.severity == "information":
        if before.raised_at is not None or not above:
            return before, None
        return Standing(raised_at=now), Notice("information", sample.rule, sample.subject, sample.detail)
    if before.firing:
        if not sample.value <= limits.clear_at or before.raised_at is None:
            return before, None
        return _over("recovered", before, sample, now)
    if not above:
        return replace(before, above_since=None), None
    above_since = before.above_since or now
    cooled = before.raised_at is None or now - before.raised_at >= timedelta(seconds=limits.cooldown_s)
    if cooled and now - above_since >= timedelta(seconds=limits.for_s):
        raised = Standing(above_since, firing=True, raised_at=now, detail=sample.detail)
        return raised, Notice("raised", sample.rule, sample.subject, sample.detail)
    return replace(before, above_since=above_since), None


def _end(before: Standing, sample: Sample, now: datetime) -> tuple[Standing, Notice | None]:
    """The end of an alert whose subject isn't measured any more."""
    return _over("ended", before, sample, now) if before.firing else (replace(before, above_since=None), None)


def _over(kind: Kind, before: Standing, sample: Sample, now: datetime) -> tuple[Standing, Notice]:
    began = before.above_since or before.raised_at or now
    over = Standing(raised_at=before.raised_at)
    return over, Notice(kind, sample.rule, sample.subject, sample.detail, (now - began).total_seconds())


def _not_ahead(standing: Standing, now: datetime) -> Standing:
    """The standing with no time later than now: after the clock was set back, such a time would silence the rule."""
    return replace(
        standing,
        above_since=None if standing.above_since is None else min(standing.above_since, now),
        raised_at=None if standing.raised_at is None else min(standing.raised_at, now),
    )


def _matters(limits: Thresholds, standing: Standing, now: datetime) -> bool:
    """True when a standing makes a difference to the next decision."""
    cools = standing.raised_at is not None and now - standing.raised_at < timedelta(seconds=limits.cooldown_s)
    return standing.firing or standing.above_since is not None or cools
