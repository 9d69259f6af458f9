"""What can go wrong with a call to Telegram, told apart by what the caller should do next.

TelegramError
├── TelegramUnavailable  no usable answer (network, time, 5xx, 429, nonsense): repeat it, later
├── TelegramRefused      this call is wrong for this chat: never repeat it
├── BadToken             Telegram knows no bot with this token: somebody has to mend the settings
└── PollConflict         another program asks for the same bot's updates: only one of them gets each

(python-telegram-bot has a bad request *be* a network error there; whoever retries the one then retries the other.)
No message shows the token, which is part of every address.
"""


class TelegramError(Exception):
    """A call to Telegram did not do what it should."""


class TelegramUnavailable(TelegramError):  # noqa: N818  named for what the caller learns, as in keystore.errors
    """There was no usable answer. Telegram may have done what was asked all the same; repeating is what is left.

    `retry_after_s` is how long Telegram wants to be left alone, None when it didn't say.
    """

    def __init__(self, told: str, retry_after_s: float | None = None) -> None:
        super().__init__(told)
        self.retry_after_s = retry_after_s


class TelegramRefused(TelegramError):  # noqa: N818
    """Telegram won't do this: a chat that is gone, a bot that was blocked, a query that is too old."""


class BadToken(TelegramError):  # noqa: N818
    """Telegram knows no bot with this token."""


class PollConflict(TelegramError):  # noqa: N818
    """Another program polls for this bot, or a webhook is set."""
