"""A thousand updates through every failure of Telegram and the network, with the database down now and then."""

from collections import Counter
from datetime import timedelta

import pytest

from monitor.telegram.bot import CONFLICT_PAUSE_S, BotCounts
from rig.fixtures.clock import START, Clock
from rig.fixtures.telegram import RETRY_AFTER_S, TOKEN, TRANSIENT, Failure, FakeTelegram, in_turn, plain_text
from rig.waiting import eventually
from tests.monitor.sample_reports import SampleQueries
from tests.monitor.telegram.bots import MemoryOffset, Waits, running_bot

pytestmark = pytest.mark.slow

UPDATES = 1_000
AT_ONCE = 25
PRESS_EVERY = 10
RESTART_EVERY = 250
FAIL_EVERY = 4
DEADLINE_S = 0.2
WITHIN_S = 120.0


def test_a_thousand_updates_lose_and_repeat_no_command(telegram: FakeTelegram, clock: Clock) -> None:
    telegram.clock = clock
    queries, offset, waits = SampleQueries(), MemoryOffset(), Waits()
    offset.clock = clock
    failures: Counter[Failure] = Counter()
    failing = in_turn((*TRANSIENT, Failure.CONFLICT), FAIL_EVERY)

    def script(method: str) -> Failure | None:
        failure = failing(method)
        if failure is Failure.CONFLICT and method != "getUpdates":
            failure = Failure.SERVER_ERROR  # Only a poll can meet another poll.
        if failure is not None:
            failures[failure] += 1
        return failure

    telegram.script = script
    total = BotCounts()
    numbers = range(1, UPDATES + 1)
    for restart in range(0, UPDATES, RESTART_EVERY):
        with running_bot(
            telegram, queries, offset=offset, wait=waits, clock=clock, deadline_s=DEADLINE_S, poll_s=1
        ) as bot:
            for first in range(restart, restart + RESTART_EVERY, AT_ONCE):
                offset.database_down = first % (4 * AT_ONCE) == 3 * AT_ONCE
                for number in numbers[first : first + AT_ONCE]:
                    if number % PRESS_EVERY == 0:
                        telegram.press("run:types")
                    else:
                        telegram.say(f"/mute {number}m")
                eventually(lambda: telegram.idle, f"the updates from {first} on are handled", WITHIN_S)
            offset.database_down = False
        total = BotCounts(*(getattr(total, name) + getattr(bot.counts, name) for name in vars(total)))
    written = [number for number in numbers if number % PRESS_EVERY]
    assert queries.mutes == [START + timedelta(minutes=number) for number in written], "each once, and in order"
    assert queries.calls.count("types") == UPDATES // PRESS_EVERY
    answers = {plain_text(text) for text in telegram.texts() if "No notices" in text}
    assert len(answers) == len(written), "each was answered"
    assert len([text for text in telegram.texts() if "pre-key" in text]) >= UPDATES // PRESS_EVERY
    assert (total.updates, total.run) == (UPDATES, UPDATES)
    assert (total.unanswered, total.failed, total.expired) == (0, 0, 0)
    assert failures.keys() == {*TRANSIENT, Failure.CONFLICT}
    assert min(failures.values()) >= 10, failures
    assert {float(RETRY_AFTER_S), CONFLICT_PAUSE_S} <= set(waits.seconds)
    assert TOKEN not in "".join(telegram.texts())
