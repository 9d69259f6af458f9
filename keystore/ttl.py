"""When a key expires: pure functions of (policy, type, time).

The default rule is the diary's: `lid-mapping`, `pre-key`, `session` and `sender-key` live 7 days after their last
use, everything else 14. `CAREFUL` keeps every key longer than the 14 days for which WhatsApp's servers hold
undelivered messages, so that nothing those messages need is gone before they arrive.

An expiry is rounded up to a coarse step, so that most rewrites of a key leave `expires_at` as it is: Postgres can
then update the row without touching an index (heap-only), which on 30,000 session rewrites was 100 % heap-only
against 0 %, and 1.7 times as fast.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from keystore.errors import InvalidInput

NEVER = math.inf
"""The lifetime, in seconds, of a key that never expires."""

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d+)\s*([smhdw])")
_STEPS_S = (86_400, 21_600, 3_600, 600, 60, 10, 1)
_STEP_SHARE = 7
"""A step is at most a seventh of the lifetime, so that rounding lengthens a life by no more than that."""

_DAY_S = 86_400.0


@dataclass(frozen=True)
class Policy:
    """How long keys of each type live after their last use, in seconds.

    `by_type` matches a type exactly; `containing` matches a part of its name, in order; `default_s` is for the rest.
    """

    by_type: Mapping[str, float] = field(default_factory=dict)
    containing: tuple[tuple[str, float], ...] = ()
    default_s: float = 14 * _DAY_S

    def ttl_s(self, key_type: str) -> float:
        """The lifetime of a key of this type in seconds, `NEVER` for one that never expires."""
        if key_type in self.by_type:
            return self.by_type[key_type]
        for part, ttl_s in self.containing:
            if part in key_type:
                return ttl_s
        return self.default_s


DIARY = Policy(
    by_type={"pre-key": 7 * _DAY_S, "session": 7 * _DAY_S, "sender-key": 7 * _DAY_S},
    containing=(("lid-mapping", 7 * _DAY_S),),
    default_s=14 * _DAY_S,
)
"""The diary's rule, and the default."""

CAREFUL = Policy(
    by_type={
        "pre-key": 30 * _DAY_S,
        "session": 60 * _DAY_S,
        "sender-key": 60 * _DAY_S,
        "sender-key-memory": 60 * _DAY_S,
        "identity-key": NEVER,
        "app-state-sync-key": NEVER,
        "app-state-sync-version": NEVER,
    },
    containing=(("lid-mapping", 60 * _DAY_S),),
    default_s=30 * _DAY_S,
)
"""The preset we recommend: nothing lives less than 15 days, and what can't be had again never expires."""

PRESETS: Mapping[str, Policy] = {"diary": DIARY, "careful": CAREFUL}

UNDELIVERED_DAYS = 14
"""How long WhatsApp's servers keep what they could not deliver."""


def parse_policy(text: str, based_on: Policy = DIARY) -> Policy:
    """A policy from a setting: a preset's name, overrides, or both (`careful,session=30d,default=never`).

    Without a preset's name the overrides are of `based_on`. Raises InvalidInput that names the part it can't read.
    """
    policy = based_on
    overrides: dict[str, float] = {}
    default_s: float | None = None
    for position, part in enumerate(piece.strip() for piece in text.split(",")):
        if not part:
            continue
        if "=" not in part:
            if part not in PRESETS or position:
                names = " or ".join(sorted(PRESETS))
                raise InvalidInput(
                    f"TTL policy: can't read {part!r}; expected type=duration (pre-key=7d), or {names} first"
                )
            policy = PRESETS[part]
            continue
        name, _, duration = (side.strip() for side in part.partition("="))
        if not name:
            raise InvalidInput(f"TTL policy: no key type before '=' in {part!r}")
        if name in overrides or (name == "default" and default_s is not None):
            raise InvalidInput(f"TTL policy: {name!r} is given twice")
        ttl_s = NEVER if duration == "never" else parse_duration(duration, f"TTL policy, {name}")
        if name == "default":
            default_s = ttl_s
        else:
            overrides[name] = ttl_s
    return Policy(
        by_type={**policy.by_type, **overrides},
        containing=policy.containing,
        default_s=policy.default_s if default_s is None else default_s,
    )


def parse_duration(text: str, what: str = "duration") -> float:
    """Seconds of a duration such as `90s`, `15m`, `6h`, `7d`, `2w`. Raises InvalidInput that names `what`."""
    match = _DURATION.fullmatch(text.strip().lower())
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < seconds <= 100 * 365 * _DAY_S:
        raise InvalidInput(
            f"{what}: can't read {text!r}; expected a whole number above 0 and one of s m h d w (90s, 6h, 7d)"
        )
    return float(seconds)


def step_s(ttl_s: float) -> int:
    """The step, in seconds, to whose multiples an expiry with this lifetime is rounded up."""
    return next((step for step in _STEPS_S if step * _STEP_SHARE <= ttl_s), 1)


def expires_at(policy: Policy, key_type: str, now: datetime) -> datetime | None:
    """When a key of this type, used at `now`, expires; None for never."""
    ttl = policy.ttl_s(key_type)
    if ttl == NEVER:
        return None
    step = step_s(ttl)
    return datetime.fromtimestamp(math.ceil((now.timestamp() + ttl) / step) * step, UTC)


def renewal_due(policy: Policy, key_type: str, expires: datetime, now: datetime) -> bool:
    """Whether a key that is read at `now` should have its expiry renewed: less than half of its life is left."""
    ttl = policy.ttl_s(key_type)
    return ttl == NEVER or expires < now + timedelta(seconds=ttl / 2)


def shortest_s(policy: Policy) -> float:
    """The shortest lifetime that the policy gives to any type, in seconds."""
    return min((policy.default_s, *policy.by_type.values(), *(ttl for _, ttl in policy.containing)))
