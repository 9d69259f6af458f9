"""Where the bot is, as whom, and whom it answers."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TelegramAccess:
    """The bot's token, the chats that it answers and alerts, and the address of the Bot API."""

    token: str = field(repr=False)
    chats: tuple[int, ...]
    api_url: str
