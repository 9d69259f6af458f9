"""Lines become messages that Telegram accepts: short enough, escaped, every tag closed, and no text lost."""

from hypothesis import given
from hypothesis import strategies as st

from monitor.telegram.messages import LIMIT, Line, messages, pairs, plain, table
from rig.fixtures.telegram import plain_text, text_refusal

STYLES = st.sampled_from(["plain", "bold", "pre"])
TEXTS = st.text(max_size=80) | st.sampled_from(["<", "&", "<b>", "</pre>", "a" * 300, "🔑&" * 100, "`a`", "` < `", ""])
LINES = st.lists(st.builds(Line, TEXTS.flatmap(lambda text: st.integers(1, 40).map(lambda n: text * n)), STYLES))


def shown(text: str) -> str:
    """A text with unprintable characters replaced and without white space, which a split may change. Backquotes are
    left out: they become tags."""
    return "".join(text.replace("\0", "�").replace("`", "").encode(errors="replace").decode().split())


@given(lines=LINES)
def test_any_lines_become_acceptable_messages_without_loss(lines: list[Line]) -> None:
    parts = messages(lines)
    for part in parts:
        assert text_refusal(part) is None, "Telegram accepts it"
        assert len(part.encode("utf-16-le")) // 2 <= LIMIT
    assert shown("".join(plain_text(part) for part in parts)) == shown("".join(line.text for line in lines))


def test_a_long_text_is_split_at_line_ends_into_few_messages() -> None:
    lines = [Line(f"line {n} <&>", "pre") for n in range(600)]
    parts = messages(lines)
    assert len(parts) == 4
    assert [line for part in parts for line in plain_text(part).splitlines()] == [line.text for line in lines]
    for part in parts:
        assert part.startswith("<pre>")
        assert part.endswith("</pre>")
        assert part.count("<pre>") == 1


def test_a_line_longer_than_a_message_is_split_between_characters() -> None:
    parts = messages([Line("🔑<" * 3_000)])
    assert "".join(plain_text(part) for part in parts) == "🔑<" * 3_000
    assert all("&lt" not in part.replace("&lt;", "") for part in parts)


def test_html_is_escaped_in_every_style() -> None:
    assert messages([Line("<b>&", "bold"), Line("<i>", "pre"), Line("</i>")]) == [
        "<b>&lt;b&gt;&amp;</b>\n<pre>&lt;i&gt;</pre>\n&lt;/i&gt;"
    ]


def test_a_command_between_backquotes_is_shown_as_code() -> None:
    lines = [Line("run `a <b>`, then `c`"), Line("`bold` too", "bold"), Line("`x`  1", "pre"), Line("a ` alone")]
    assert messages(lines) == [
        "run <code>a &lt;b&gt;</code>, then <code>c</code>\n<b>bold too</b>\n<pre>x  1</pre>\na ` alone"
    ]


def test_blank_lines_make_no_message() -> None:
    assert messages([]) == []
    assert messages(plain("\n \n")) == []


def test_columns_are_aligned() -> None:
    assert [line.text for line in table(("type", "keys"), ("pre-key", "1,234"))] == ["type      keys", "pre-key  1,234"]
    assert [line.text for line in pairs(("a", "1"), ("long", ""))] == ["a     1", "long"]
