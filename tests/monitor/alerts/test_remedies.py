"""Every alert has a severity, a first step, and a section in the guide."""

import re

import pytest

from monitor.alerts.rules import RULES
from monitor.remedies import REMEDIES
from monitor.severity import SEVERITIES
from rig.paths import PROJECT

GUIDE = (PROJECT / "docs" / "alerts.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_an_alert_has_its_severity_from_the_table_and_a_first_step(rule: object) -> None:
    known = RULES[getattr(rule, "id", "")]
    assert known.severity == SEVERITIES[known.id]
    assert REMEDIES[known.id]


def test_the_guide_has_a_section_for_each_alert_with_its_severity() -> None:
    sections = dict(re.findall(r"^## ([a-z-]+)$\n+^\*\*(\w+)\.\*\*", GUIDE, re.M))
    assert sections == {fact: SEVERITIES[fact].capitalize() for fact in REMEDIES}
