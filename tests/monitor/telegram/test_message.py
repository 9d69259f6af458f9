"""Lines become messages that Telegram takes: short enough, escaped, every tag closed, and nothing lost."""

from hypothesis import given
from hypothesis import strategies as st

from monitor.telegram.message import LIMIT, Line, messages, pairs, plain, table
from rig.fixtures.telegram import plain_text, text_refusal

STYLES = st.sampled_from(["plain", "bold", "pre"])
TEXTS = st.text(max_size=80) | st.sampled_from(["<", "&", "<b>", "</pre>", "a" * 300, "🔑&" * 100, ""])
LINES = st.lists(st.builds(Line, TEXTS.flatmap(lambda text: st.integers(1, 40).map(lambda n: text * n)), STYLES))


def shown(text: str) -> str:
    """A text without what can't be shown and without its white space, which cuts may move."""
    return "".join(text.replace("\0", "�").encode(errors="replace").decode().split())


@given(lines=LINES)
def test_whatever_the_lines_the_messages_are_taken_and_nothing_is_lost(lines: list[Line]) -> None:
    parts = messages(lines)
    for part in parts:
        assert text_refusal(part) is None, "Telegram takes it"
        assert len(part.encode("utf-16-le")) // 2 <= LIMIT
    assert shown("".join(plain_text(part) for part in parts)) == shown("".join(line.text for line in lines))


def test_a_long_text_is_cut_at_line_ends_into_as_few_messages_as_hold_it() -> None:
    lines = [Line(f"line {n} <&>", "pre") for n in range(600)]
    parts = messages(lines)
    assert len(parts) == 4
    assert [line for part in parts for line in plain_text(part).splitlines()] == [line.text for line in lines]
    for part in parts:
        assert part.startswith("<pre>")
        assert part.endswith("</pre>")
        assert part.count("<pre>") == 1


def test_one_line_that_fills_more_than_a_message_is_cut_between_characters() -> None:
    parts = messages([Line("🔑<" * 3_000)])
    assert "".join(plain_text(part) for part in parts) == "🔑<" * 3_000
    assert all("&lt" not in part.replace("&lt;", "") for part in parts)


def test_html_is_escaped_in_every_style() -> None:
    assert messages([Line("<b>&", "bold"), Line("<i>", "pre"), Line("</i>")]) == [
        "<b>&lt;b&gt;&amp;</b>\n<pre>&lt;i&gt;</pre>\n&lt;/i&gt;"
    ]


def test_nothing_to_see_is_no_message() -> None:
    assert messages([]) == []
    assert messages(plain("\n \n")) == []


def test_columns_stand_under_each_other() -> None:
    assert [line.text for line in table(("type", "keys"), ("pre-key", "1,234"))] == ["type      keys", "pre-key  1,234"]
    assert [line.text for line in pairs(("a", "1"), ("long", ""))] == ["a     1", "long"]
