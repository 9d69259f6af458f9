"""Expiry of keys: pure functions of a policy, a key type and a time.

The default policy, `CAREFUL`, keeps every key for more than the 30 days during which WhatsApp's servers may hold an
undelivered message, so that the keys which that message needs are still there when it arrives. `DIARY` is the original
operator's rule: `lid-mapping`, `pre-key`, `session` and `sender-key` live 7 days after their last use, others 14.

An expiry is rounded up to a coarse step, so that most rewrites of a key leave `expires_at` unchanged. Postgres can then
update the row without touching an index (heap-only). Of 30,000 session rewrites, 100 % were heap-only against 0 %, and
they ran 1.7 times as fast.
"""

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from keystore.errors import InvalidInput

NEVER = math.inf
"""The lifetime, in seconds, of a key that never expires."""

UNDELIVERED_DAYS = 30
"""Days for which WhatsApp's servers keep messages that they could not deliver: "up to 30 days", says WhatsApp. (14 days
are the time after which it unlinks the devices of a phone that isn't used.)"""

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d+)\s*([smhdw])")
_STEPS_S = (86_400, 21_600, 3_600, 600, 60, 10, 1)
_STEPS_PER_LIFE = 7
"""Least number of steps in a lifetime, so that rounding lengthens a life by at most a seventh."""

_DAY_S = 86_400.0


GUARDS: Mapping[str, str] = {
    "app-state-sync-key": "always",
    "app-state-sync-version": "always",
    "sender-key": "group",
    "sender-key-memory": "group",
    "pre-key": "newest",
    "lid-mapping": "pair",
    "identity-key": "contact",
    "device-list": "contact",
}
"""The guard that keeps keys of a type past their expiry; docs/expiry.md explains each."""

PRE_KEYS_KEPT = 1_000
"""The number of a company's newest pre-keys that a guard keeps."""


@dataclass(frozen=True)
class Policy:
    """The lifetimes of keys, in seconds after their last use.

    A type's lifetime is its entry in `by_type`, else that of the first part in `containing` that its name contains,
    else `default_s`.
    """

    by_type: Mapping[str, float] = field(default_factory=dict)
    containing: tuple[tuple[str, float], ...] = ()
    default_s: float = 14 * _DAY_S

    def ttl_s(self, key_type: str) -> float:
        """Return the lifetime of a key of this type in seconds; `NEVER` when it never expires."""
        if key_type in self.by_type:
            return self.by_type[key_type]
        return next((ttl_s for part, ttl_s in self.containing if part in key_type), self.default_s)

    def __str__(self) -> str:
        """Say it as KEYSTORE_TTL does, with stars around a part of a name: `session=7d,*mapping*=7d,default=14d`."""
        lifetimes = [
            *sorted(self.by_type.items()),
            *((f"*{part}*", ttl_s) for part, ttl_s in self.containing),
            ("default", self.default_s),
        ]
        return ",".join(f"{name}={duration_text(ttl_s)}" for name, ttl_s in lifetimes)


DIARY = Policy(
    by_type={"pre-key": 7 * _DAY_S, "session": 7 * _DAY_S, "sender-key": 7 * _DAY_S},
    containing=(("lid-mapping", 7 * _DAY_S),),
    default_s=14 * _DAY_S,
)
"""The original operator's rule."""

CAREFUL = Policy(
    by_type={
        "pre-key": 90 * _DAY_S,
        "session": 90 * _DAY_S,
        "sender-key": 90 * _DAY_S,
        "sender-key-memory": 90 * _DAY_S,
        "device-list": 90 * _DAY_S,
        "tctoken": 35 * _DAY_S,
        "identity-key": NEVER,
        "app-state-sync-key": NEVER,
        "app-state-sync-version": NEVER,
    },
    containing=(("lid-mapping", NEVER),),
    default_s=90 * _DAY_S,
)
"""The default: no key lives less than 35 days, and keys that a bot doesn't make again never expire.

Signal-Android keeps replaced one-time pre-keys for 90 days (`PreKeyUtil.cleanOneTimePreKeys`). A tctoken is valid for
28 days.
"""

DEFAULT = CAREFUL

PRESETS: Mapping[str, Policy] = {"diary": DIARY, "careful": CAREFUL}


def parse_policy(text: str, based_on: Policy = DEFAULT) -> Policy:
    """Return the policy of a setting: a preset's name, overrides, or both (`careful,session=30d,default=never`).

    Without a preset's name, the overrides apply to `based_on`. Raises InvalidInput with the part that can't be read.
    """
    policy = based_on
    overrides: dict[str, float] = {}
    for position, part in enumerate(piece.strip() for piece in text.split(",")):
        name, equals, duration = (side.strip() for side in part.partition("="))
        if not part:
            continue
        if not equals:
            if part not in PRESETS or position:
                names = " or ".join(sorted(PRESETS))
                close = difflib.get_close_matches(part, PRESETS, n=1)
                expected = f"expected type=duration (pre-key=7d), or {names} first"
                advice = f"did you mean {close[0]}?" if close else expected
                raise InvalidInput(f"TTL policy: can't read {part!r}; {advice}")
            policy = PRESETS[part]
        elif not name:
            raise InvalidInput(f"TTL policy: no key type before '=' in {part!r}")
        elif name in overrides:
            raise InvalidInput(f"TTL policy: {name!r} is set twice")
        else:
            overrides[name] = NEVER if duration == "never" else parse_duration(duration, f"TTL policy, {name}")
    default_s = overrides.pop("default", policy.default_s)
    return Policy({**policy.by_type, **overrides}, policy.containing, default_s)


def parse_duration(text: str, setting: str = "duration") -> float:
    """Return the seconds of a duration such as `90s`, `15m`, `6h`, `7d`, `2w`. Raises InvalidInput with `setting`."""
    match = _DURATION.fullmatch(text.strip().lower())
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < seconds <= 100 * 365 * _DAY_S:
        raise InvalidInput(
            f"{setting}: can't read {text!r}; expected a whole number above 0 and one of s m h d w (90s, 6h, 7d)"
        )
    return float(seconds)


def duration_text(ttl_s: float) -> str:
    """Return a lifetime in the longest unit that divides it: `7d`, `90s`, `never`."""
    if ttl_s == NEVER:
        return "never"
    unit = next(unit for unit in "dhms" if ttl_s % _UNITS[unit] == 0 or unit == "s")
    return f"{ttl_s / _UNITS[unit]:g}{unit}"


def step_s(ttl_s: float) -> int:
    """Return the step, in seconds, to which an expiry with this lifetime is rounded up."""
    return next((step for step in _STEPS_S if step * _STEPS_PER_LIFE <= ttl_s), 1)


def expires_at(policy: Policy, key_type: str, now: datetime) -> datetime | None:
    """Return the expiry of a key of this type that is used now; None when it never expires."""
    ttl_s = policy.ttl_s(key_type)
    if ttl_s == NEVER:
        return None
    step = step_s(ttl_s)
    return datetime.fromtimestamp(math.ceil((now.timestamp() + ttl_s) / step) * step, UTC)


def renewed_before(policy: Policy, key_type: str, now: datetime) -> datetime | None:
    """Return the time half a life from now: a use renews an earlier expiry. None: a use renews any expiry."""
    ttl_s = policy.ttl_s(key_type)
    return None if ttl_s == NEVER else now + timedelta(seconds=ttl_s / 2)
