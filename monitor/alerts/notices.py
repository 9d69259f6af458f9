"""The texts of alert notices, and of the list of firing alerts. Pure."""

from collections.abc import Sequence
from datetime import datetime

from keystore.invocation import as_started
from monitor.alerts.decisions import AlertState, Kind, Notice
from monitor.alerts.rules import RULES, Rule
from monitor.remedies import REMEDIES
from monitor.reports.formatting import duration
from monitor.severity import Severity

MOST_LINES_OF_A_RULE = 5
"""Notices of one rule that a message lists; the others are given as a number."""

_HEADS: dict[Kind, str] = {
    "raised": "alert",
    "recovered": "recovered",
    "ended": "ended without a recovery",
    "information": "for information",
}
"""The head of each kind, in the order of a message."""

_END_MARKS: dict[Kind, str] = {"recovered": "🟢", "ended": "⚪"}
_MARKS: dict[Severity, str] = {"critical": "🔴", "warning": "🟡", "information": "🔵"}


def message(notices: Sequence[Notice], name: str) -> str:
    """Several notices of the installation of this name as one text: alerts, ends of alerts, information.
    The alerts of a rule end with the first step against them."""
    parts = []
    for kind, head in _HEADS.items():
        of_kind = [notice for notice in notices if notice.kind == kind]
        if not of_kind:
            continue
        lines = [f"{name}, {head}:"]
        for rule in dict.fromkeys(notice.rule for notice in of_kind):
            of_rule = [notice for notice in of_kind if notice.rule == rule]
            lines += [_line(notice) for notice in of_rule[:MOST_LINES_OF_A_RULE]]
            if len(of_rule) > MOST_LINES_OF_A_RULE:
                lines.append(f"… and {len(of_rule) - MOST_LINES_OF_A_RULE:,} more: {rule.title}")
            if kind == "raised":
                lines.append(f"→ {as_started(REMEDIES[rule.id])}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def firing_lines(state: AlertState, now: datetime) -> list[str]:
    """A line for each firing alert, critical ones first; of many, the last line says how many more there are."""
    firing = [(RULES[rule], subject, standing) for (rule, subject), standing in state.firing().items() if rule in RULES]
    firing.sort(key=lambda item: item[0].severity != "critical")
    lines = [
        f"{_MARKS[rule.severity]} {_title(rule, subject)}: {alert.detail} "
        f"(for {duration((now - (alert.above_since or alert.raised_at or now)).total_seconds())})"
        for rule, subject, alert in firing[: 2 * MOST_LINES_OF_A_RULE]
    ]
    left = len(firing) - len(lines)
    return [*lines, f"… and {left:,} more"] if left else lines


def unmuted_line(name: str, firing: Sequence[str]) -> str:
    """The line above the firing alerts, if there are any, when notices are sent again."""
    return f"{name}: notices are on again. {'Still firing:' if firing else 'Nothing fires.'}"


def _line(notice: Notice) -> str:
    mark = _END_MARKS.get(notice.kind, _MARKS[notice.rule.severity])
    lasted = "" if notice.lasted_s is None else f" (after {duration(notice.lasted_s)})"
    # The subject of an information is an event's name, which means nothing to a reader.
    title = notice.rule.title if notice.kind == "information" else _title(notice.rule, notice.subject)
    return f"{mark} {title}: {notice.detail}{lasted}"


def _title(rule: Rule, subject: str) -> str:
    return f"{rule.title}, {subject}" if subject else rule.title
