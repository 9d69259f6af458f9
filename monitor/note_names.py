"""The names of the notes: JSON documents that the service keeps in the store with `remember`.

A name that ends with a slash is the beginning of several notes' names.
"""

ALERTS = "alerts"
"""The state of every alert, written by the process that alerts."""

OUTBOX = "outbox"
"""The notices that wait to be delivered."""

MUTE = "mute"
"""The end of the latest mute, until that end was announced."""

SUMMARY = "summary"
"""The day of the last daily summary."""

ANNOUNCED = "announced/"
"""The last announced start of a service, by host."""

BOT_MEMORY = "memory/"
"""The last memory report of a bot, by company."""

TELEGRAM_OFFSET = "telegram/"
"""The next update to handle, by the bot's id."""

PAGE_SESSION = "page-session/"
"""A session of the status page, by the hash of its cookie."""

READINESS = "http/ready"
"""Never written: `/ready` looks for it, to ask the database something small."""
