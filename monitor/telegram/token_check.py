"""The check of the bot's token for the `doctor` report."""

import re
from contextlib import closing

from monitor.reports.doctor import Result
from monitor.telegram.client import TelegramAccess, TelegramClient
from monitor.telegram.errors import TelegramError, TelegramUnavailable

WITHIN_S = 8.0
_TOKEN = re.compile(r"\d{5,}:[A-Za-z0-9_-]{30,}")


def check_token(telegram: TelegramAccess | None) -> Result:
    """Ask Telegram for the name of the bot; None means that no bot is set up."""
    if telegram is None:
        return "ok", "not set up"
    if not _TOKEN.fullmatch(telegram.token):
        return "failed", "TELEGRAM_BOT_TOKEN doesn't look like a token; copy it again from @BotFather"
    with closing(TelegramClient(telegram.token, telegram.api_url, deadline_s=WITHIN_S)) as api:
        try:
            name = api.get_me()
        except TelegramUnavailable as error:
            return "warning", f"Telegram wasn't reached, so the token was not tried: {error}"
        except TelegramError as error:
            return "failed", str(error)
    if not telegram.chats:
        return "warning", f"@{name} answers nobody and alerts nobody: TELEGRAM_CHAT_ID is not set"
    return "ok", f"@{name} answers and alerts {len(telegram.chats)} chats"
