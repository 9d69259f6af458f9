"""Posted notices are delivered in order, grouped and bounded, through failures, and posting never waits."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from time import monotonic

import pytest
from structlog.testing import capture_logs

from monitor.alerts.outbox import MOST_CHARS, MOST_PENDING, TRIES_OF_UNKNOWN, NotDelivered, Outbox, Undeliverable
from monitor.running.backoff import Backoff, no_jitter
from rig.fixtures.clock import Clock
from rig.waiting import eventually

A, B = 11, -22


class Ticks:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Post:
    """Delivers into a list for each chat, or raises the error set for that chat."""

    def __init__(self) -> None:
        self.got: dict[int, list[str]] = defaultdict(list)
        self.failing: dict[int, Exception] = {}
        self.tries = 0

    def __call__(self, chat: int, text: str) -> None:
        self.tries += 1
        if chat in self.failing:
            raise self.failing[chat]
        self.got[chat].append(text)


@pytest.fixture
def post() -> Post:
    return Post()


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def outbox(post: Post, ticks: Ticks, clock: Clock) -> Outbox[int]:
    """An outbox without a thread: each `deliver_due` is one round of the thread."""
    # Without jitter, a failure waits for 2 s, then 4 s, up to 300 s.
    return Outbox(post, (A, B), clock=clock, ticks=ticks, backoff=lambda: Backoff(2, 300, no_jitter))


def test_a_posted_notice_goes_to_every_chat(outbox: Outbox[int], post: Post) -> None:
    outbox.post("one")
    assert outbox.deliver_due() is None
    assert post.got == {A: ["one"], B: ["one"]}
    assert outbox.pending == 0
    assert outbox.deliver_due() is None
    assert post.tries == 2


def test_several_notices_at_once_are_one_message_in_order(outbox: Outbox[int], post: Post) -> None:
    outbox.post("one", "two")
    outbox.post("three")
    outbox.deliver_due()
    assert post.got[A] == ["one\n\ntwo\n\nthree"]


def test_long_notices_go_in_several_messages_and_a_giant_is_cut(outbox: Outbox[int], post: Post) -> None:
    outbox.post("x" * 2_000, "y" * 2_000, "z" * (2 * MOST_CHARS))
    outbox.deliver_due()
    assert [text[0] for text in post.got[A]] == ["x", "y", "z"]
    assert all(len(text) <= MOST_CHARS for text in post.got[A])
    assert post.got[A][2].endswith(" …")


def test_notices_wait_while_delivery_fails_and_come_later_in_order(
    outbox: Outbox[int], post: Post, ticks: Ticks
) -> None:
    post.failing[A] = NotDelivered()
    waits = []
    for n in range(10):
        outbox.post(f"notice {n}")
        wait_s = outbox.deliver_due()
        assert wait_s is not None
        waits.append(wait_s)
        ticks.now += wait_s
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    del post.failing[A]
    assert outbox.deliver_due() is None
    assert post.got[A] == ["\n\n".join(f"notice {n}" for n in range(10))]
    assert post.got[B] == [f"notice {n}" for n in range(10)], "the other chat had each at once"


def test_a_chat_gets_the_pause_that_it_asks_for(outbox: Outbox[int], post: Post, ticks: Ticks) -> None:
    post.failing[A] = NotDelivered(retry_after_s=37)
    outbox.post("one")
    assert outbox.deliver_due() == 37
    tries = post.tries
    ticks.now += 36.5
    outbox.post("two")
    assert outbox.deliver_due() == 0.5
    assert post.tries == tries + 1, "only the other chat was sent something"
    del post.failing[A]
    ticks.now += 0.5
    assert outbox.deliver_due() is None
    assert post.got[A] == ["one\n\ntwo"]


def test_after_a_success_the_pauses_begin_again(outbox: Outbox[int], post: Post, ticks: Ticks) -> None:
    for _ in range(2):
        post.failing[A] = NotDelivered()
        outbox.post("one")
        assert outbox.deliver_due() == 2
        ticks.now += 2
        assert outbox.deliver_due() == 4
        ticks.now += 4
        del post.failing[A]
        assert outbox.deliver_due() is None


def test_a_refused_notice_is_dropped_for_that_chat_alone(outbox: Outbox[int], post: Post) -> None:
    post.failing[A] = Undeliverable("403 bot was blocked by the user")
    outbox.post("one")
    with capture_logs() as logs:
        assert outbox.deliver_due() is None
    assert post.got == {B: ["one"]}
    assert outbox.pending == 0
    assert [(entry["event"], entry["text"]) for entry in logs] == [("notice_refused", "one")]
    assert outbox.refusals() == [f"chat {A} refuses notices (1 lost): 403 bot was blocked by the user"]
    del post.failing[A]
    outbox.post("two")
    outbox.deliver_due()
    assert post.got[A] == ["(1 older notice was dropped: 403 bot was blocked by the user.)\n\ntwo"]
    assert outbox.refusals() == []


def test_a_notice_that_fails_unexpectedly_is_given_up_after_some_tries(
    outbox: Outbox[int], post: Post, ticks: Ticks
) -> None:
    post.failing[A] = RuntimeError("a bug")
    outbox.post("poison")
    with capture_logs() as logs:
        while outbox.pending:
            ticks.now += outbox.deliver_due() or 0
    events = [entry["event"] for entry in logs]
    assert events == ["notice_not_delivered"] * (TRIES_OF_UNKNOWN - 1) + ["notice_given_up"]
    del post.failing[A]
    outbox.post("well")
    outbox.deliver_due()
    assert post.got[A] == ["(1 older notice was dropped: sending failed (RuntimeError).)\n\nwell"]


def test_too_many_notices_drop_the_oldest_and_say_how_many(outbox: Outbox[int], post: Post, ticks: Ticks) -> None:
    post.failing[A] = NotDelivered()
    for n in range(MOST_PENDING + 70):
        outbox.post(f"notice {n:03}")
    outbox.deliver_due()
    assert outbox.pending == MOST_PENDING
    del post.failing[A]
    ticks.now += 300
    outbox.deliver_due()
    lines = "\n\n".join(post.got[A]).split("\n\n")
    assert lines[0] == "(70 older notices were dropped: too many waited to be delivered.)"
    assert lines[1:] == [f"notice {n:03}" for n in range(70, MOST_PENDING + 70)]
    outbox.post("later")
    outbox.deliver_due()
    assert post.got[A][-1] == "later", "dropped notices are mentioned once"


def test_notices_dropped_during_a_delivery_are_counted_right(ticks: Ticks, clock: Clock) -> None:
    got: list[str] = []

    def deliver(_: int, text: str) -> None:
        if not got:
            box.post(*(f"new {n}" for n in range(MOST_PENDING)))  # As another thread might, just now.
        got.append(text)

    box = Outbox(deliver, [A], clock=clock, ticks=ticks)
    box.post("old")
    box.deliver_due()
    texts = "\n\n".join(got).split("\n\n")
    assert texts == ["old", *(f"new {n}" for n in range(MOST_PENDING))], "the old one was dropped, but it had gone out"


def test_a_late_notice_states_its_time(outbox: Outbox[int], post: Post, ticks: Ticks, clock: Clock) -> None:
    post.failing[A] = NotDelivered()
    outbox.post("one")
    outbox.deliver_due()
    clock.advance(timedelta(minutes=2))
    ticks.now += 120
    del post.failing[A]
    outbox.deliver_due()
    assert post.got[A] == ["[2025-10-08 09:41 UTC] one"]
    assert post.got[B] == ["one"]


class Slow:
    """Holds every delivery until `release` is set."""

    def __init__(self) -> None:
        self.began, self.release = threading.Event(), threading.Event()
        self.got: list[str] = []

    def __call__(self, _: int, text: str) -> None:
        self.began.set()
        self.release.wait(20)
        self.got.append(text)


@pytest.fixture
def slow() -> Iterator[Slow]:
    slow = Slow()
    yield slow
    slow.release.set()
    eventually(lambda: all(thread.name != "outbox" for thread in threading.enumerate()), "the outbox's thread ends")


def test_posting_never_waits_for_a_delivery(slow: Slow) -> None:
    outbox = Outbox(slow, [A])
    outbox.start()
    outbox.post("first")
    assert slow.began.wait(10)
    began = monotonic()
    for n in range(10_000):
        outbox.post(f"{n}")
    assert monotonic() - began < 5
    assert outbox.pending == MOST_PENDING
    slow.release.set()
    assert outbox.stop(10)


def test_the_thread_delivers_by_itself_and_again_after_a_failure(post: Post) -> None:
    outbox = Outbox(post, [A], backoff=lambda: Backoff(0.01, 0.02))
    post.failing[A] = NotDelivered()
    outbox.start()
    outbox.post("one")
    eventually(lambda: post.tries >= 3, "it is tried again")
    del post.failing[A]
    eventually(lambda: post.got[A] == ["one"], "it is delivered")
    assert outbox.stop(10)
    assert post.got[A] == ["one"]


def test_stopping_tries_once_more_despite_the_pauses(post: Post) -> None:
    outbox = Outbox(post, (A, B), backoff=lambda: Backoff(600, 600, no_jitter))
    post.failing = {A: NotDelivered(), B: NotDelivered(3_600)}
    outbox.start()
    outbox.post("goodbye")
    eventually(lambda: post.tries == 2, "both are tried")
    del post.failing[A]
    began = monotonic()
    assert outbox.stop(10)
    assert monotonic() - began < 5
    assert (post.got[A], post.got[B], post.tries) == (["goodbye"], [], 4)


def test_stopping_waits_no_longer_than_its_limit(slow: Slow) -> None:
    outbox = Outbox(slow, [A])
    outbox.start()
    outbox.post("one")
    assert slow.began.wait(10)
    began = monotonic()
    assert not outbox.stop(0.05)
    assert monotonic() - began < 5


def test_an_outbox_that_never_started_stops() -> None:
    assert Outbox(Post(), [A]).stop(0.01)


def test_an_outbox_without_chats_delivers_nothing() -> None:
    outbox: Outbox[int] = Outbox(Post(), [])
    outbox.post("one")
    assert outbox.deliver_due() is None
    assert outbox.pending == 0
