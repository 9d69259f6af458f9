"""The names of the notes: JSON documents that the service keeps in the store with `remember`.

A name that ends with a slash is the beginning of several notes' names.
"""

ALERTS = "alerts"  # the state of every alert
OUTBOX = "outbox"  # the notices that wait to be delivered
MUTE = "mute"  # the end of the latest mute, until that end was announced
SUMMARY = "summary"  # the day of the last daily summary
ANNOUNCED = "announced/"  # by host: the last announced start of a service
BOT_MEMORY = "memory/"  # by company: the last memory report of a bot
WENT_BACK = "went-back/"  # by company: a bot has acknowledged writes that the database hasn't
UNREADABLE = "unreadable/"  # by company and key: a value that can't be read (keystore.sealing.quarantine writes it)
INSTANCE = "instance/"  # by host and port: the last look of a service, and its role
TELEGRAM_OFFSET = "telegram/"  # by bot: the next update to handle
TELEGRAM_CHATS = "telegram-chats/"  # by bot: the chats whose number Telegram has changed, with the new number
PAGE_SESSION = "page-session/"  # by the hash of its cookie: a session of the status page
READINESS = "http/ready"  # never written: the readiness probe reads it, to ask the database something small
