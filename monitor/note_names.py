"""The names of the notes: JSON documents that the service keeps in the store with `remember`.

A name that ends with a slash is the beginning of several notes' names.
"""

ALERTS = "alerts"  # the state of every alert
OUTBOX = "outbox"  # the notices that wait to be delivered
MUTE = "mute"  # the end of the latest mute, until that end was announced
SUMMARY = "summary"  # the day of the last daily summary
ANNOUNCED = "announced/"  # by host: the last announced start of a service
BOT_MEMORY = "memory/"  # by company: the last memory report of a bot
TELEGRAM_OFFSET = "telegram/"  # by bot: the next update to handle
PAGE_SESSION = "page-session/"  # by the hash of its cookie: a session of the status page
