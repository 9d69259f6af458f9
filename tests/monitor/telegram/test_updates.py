"""Updates are parsed as commands, presses or neither, and no content of theirs raises."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.telegram.updates import Command, Moved, Other, Press, Sender, read_update

NAME = "keystore_bot"
PRIVATE = {"id": 5, "type": "private"}
GROUP = {"id": -5, "type": "group"}


def message(text: Any, chat: Any = PRIVATE, **more: Any) -> dict[str, Any]:
    return {"update_id": 7, "message": {"message_id": 1, "date": 1_000, "chat": chat, "text": text, **more}}


@pytest.mark.parametrize(
    ("text", "name", "argument"),
    [
        ("/db_health", "db_health", ""),
        ("/DB_Health", "db_health", ""),
        ("/db_health@keystore_bot", "db_health", ""),
        ("/db_health@Keystore_Bot", "db_health", ""),
        ("/mute 2h", "mute", "2h"),
        ("  /mute@keystore_bot   2h \n", "mute", "2h"),
        ("/mute\n2h", "mute", "2h"),
        ("/nonsense", "nonsense", ""),
    ],
)
def test_a_command_is_read_with_its_argument(text: str, name: str, argument: str) -> None:
    assert read_update(message(text), NAME) == Command(7, 5, name, argument, 1_000.0, True, Sender(None, True))


def test_in_a_group_only_an_addressed_command_is_surely_for_the_bot() -> None:
    for text, to_us in (("/types", False), ("/types@keystore_bot", True)):
        update = read_update(message(text, GROUP), NAME)
        assert isinstance(update, Command)
        assert update.to_us is to_us


@pytest.mark.parametrize(
    "text", ["/types@another_bot", "hello", "", "/", "/ types", "//types", "/types!", "see /types", None, 5, ["/types"]]
)
def test_other_texts_are_no_command(text: Any) -> None:
    assert read_update(message(text), NAME) == Other(7, 5)


def command(raw: dict[str, Any]) -> Command:
    update = read_update(raw, NAME)
    assert isinstance(update, Command)
    return update


def test_a_channels_post_is_a_command_of_somebody_who_is_trusted() -> None:
    post = message("/types", {"id": -100, "type": "channel"})["message"]
    assert command({"update_id": 7, "channel_post": post}).sender == Sender(None, True)


def test_the_sender_in_a_group_is_trusted_only_if_it_writes_as_the_group() -> None:
    assert command(message("/sweep", GROUP, **{"from": {"id": 3}})).sender == Sender(3, False)
    assert command(message("/sweep", GROUP, **{"from": {"id": 9}}, sender_chat={"id": -5})).sender == Sender(9, True)
    assert command(message("/sweep", GROUP, **{"from": {"id": 9}}, sender_chat={"id": -6})).sender == Sender(9, False)


def test_a_topic_is_read_and_a_thread_of_replies_is_none() -> None:
    assert command(message("/types", GROUP, message_thread_id=77, is_topic_message=True)).topic == 77
    assert command(message("/types", GROUP, message_thread_id=77)).topic is None
    pressed = {"message_id": 3, "date": 0, "chat": GROUP, "message_thread_id": 77, "is_topic_message": True}
    query = {"id": "q", "data": "run:types", "from": {"id": 3}, "message": pressed}
    assert read_update({"update_id": 7, "callback_query": query}, NAME) == Press(
        7, -5, "q", "run:types", 3, Sender(3, False), 77
    )


def test_a_groups_new_number_is_read_from_both_of_telegrams_messages() -> None:
    assert read_update(message(None, GROUP, migrate_to_chat_id=-100), NAME) == Moved(7, -5, -100)
    assert read_update(message(None, {"id": -100}, migrate_from_chat_id=-5), NAME) == Moved(7, -5, -100)


@pytest.mark.parametrize("kind", ["edited_message", "edited_channel_post", "business_message"])
def test_edited_messages_are_no_command(kind: str) -> None:
    assert read_update({"update_id": 7, kind: message("/sweep")["message"]}, NAME) == Other(7)


def test_a_press_is_read_even_under_an_inaccessible_message() -> None:
    query = {"id": "q", "data": "run:types", "message": {"message_id": 3, "date": 0, "chat": PRIVATE}}
    assert read_update({"update_id": 7, "callback_query": query}, NAME) == Press(
        7, 5, "q", "run:types", 3, Sender(None, True)
    )
    assert read_update({"update_id": 7, "callback_query": {"id": "q", "data": "x"}}, NAME) == Other(7)
    assert read_update({"update_id": 7, "callback_query": {**query, "data": None}}, NAME) == Other(7, 5)


@pytest.mark.parametrize("raw", [None, [], "update", {}, {"update_id": "7"}, {"update_id": True}, {"update_id": 2**70}])
def test_an_update_without_a_usable_id_is_ignored(raw: Any) -> None:
    assert read_update(raw, NAME) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["message", "chat", "id", "date", "text", "data", "type", "from", "sender_chat"]), inner
        )
    ),
    max_leaves=12,
)


@given(parts=st.dictionaries(st.sampled_from(["message", "callback_query", "channel_post", "edited_message"]), JSON))
def test_nothing_in_an_update_raises(parts: dict[str, Any]) -> None:
    update = read_update({"update_id": 7, **parts}, NAME)
    assert update is not None
    assert update.update_id == 7
