"""A thousand updates through everything that Telegram and the way to it can do, with the database away now and then."""

from collections import Counter
from datetime import timedelta

from monitor.telegram.bot import CONFLICT_PAUSE_S, BotCounts
from rig.fixtures.clock import START, Clock, eventually
from rig.fixtures.telegram import PASSING, RETRY_AFTER_S, TOKEN, Failure, FakeTelegram, in_turn, plain_text
from tests.monitor.sample_reports import SampleQueries
from tests.monitor.telegram.bots import Kept, Waits, bot_at

UPDATES = 1_000
AT_ONCE = 25
PRESS_EVERY = 10
RESTART_EVERY = 250
FAIL_EVERY = 4
DEADLINE_S = 0.2
WITHIN_S = 120.0


def test_a_thousand_updates_survive_every_failure_with_no_command_lost_or_repeated(
    telegram: FakeTelegram, clock: Clock
) -> None:
    telegram.clock = clock
    asked, kept, waits = SampleQueries(), Kept(), Waits()
    kept.clock = clock
    met: Counter[Failure] = Counter()
    failing = in_turn((*PASSING, Failure.CONFLICT), FAIL_EVERY)

    def script(method: str) -> Failure | None:
        failure = failing(method)
        if failure is Failure.CONFLICT and method != "getUpdates":
            failure = Failure.SERVER_ERROR  # Only a poll can meet another poll.
        if failure is not None:
            met[failure] += 1
        return failure

    telegram.script = script
    total = BotCounts()
    numbers = range(1, UPDATES + 1)
    for restart in range(0, UPDATES, RESTART_EVERY):
        with bot_at(telegram, asked, kept=kept, wait=waits, clock=clock, deadline_s=DEADLINE_S, poll_s=1) as bot:
            for first in range(restart, restart + RESTART_EVERY, AT_ONCE):
                kept.away = first % (4 * AT_ONCE) == 3 * AT_ONCE
                for number in numbers[first : first + AT_ONCE]:
                    if number % PRESS_EVERY == 0:
                        telegram.press("run:types")
                    else:
                        telegram.say(f"/mute {number}m")
                eventually(lambda: telegram.idle, f"the updates from {first} on are handled", WITHIN_S)
            kept.away = False
        total = BotCounts(*(getattr(total, name) + getattr(bot.counts, name) for name in vars(total)))
    spoken = [number for number in numbers if number % PRESS_EVERY]
    assert asked.mutes == [START + timedelta(minutes=number) for number in spoken], "each once, and in order"
    assert asked.calls.count("types") == UPDATES // PRESS_EVERY
    told = {plain_text(text) for text in telegram.texts() if "No notices" in text}
    assert len(told) == len(spoken), "each was answered"
    assert len([text for text in telegram.texts() if "pre-key" in text]) >= UPDATES // PRESS_EVERY
    assert (total.updates, total.run) == (UPDATES, UPDATES)
    assert (total.unanswered, total.failed, total.late) == (0, 0, 0)
    assert met.keys() == {*PASSING, Failure.CONFLICT}
    assert min(met.values()) >= 10, met
    assert {float(RETRY_AFTER_S), CONFLICT_PAUSE_S} <= set(waits.seconds)
    assert TOKEN not in "".join(telegram.texts())
