"""Types that hang on sessions follow them, and a rate can't be lower than another one."""

from dataclasses import replace

import pytest

from monitor.forecast.type_forecast import HORIZON_DAYS, ProjectedType, TypeForecast, expected_rate, following


def projected(key_type: str, path: list[float], life: int | None = 7) -> ProjectedType:
    """A projection with this beginning, which stays at its last value."""
    path = path + [path[-1]] * (HORIZON_DAYS + 1 - len(path))
    forecast = TypeForecast(
        key_type, round(path[0]), 1.0, 0.0, 0.0, life, round(path[7]), round(path[30]), round(path[-1]), 40, None
    )
    return ProjectedType(forecast, path, [3.0] * len(path), [4.0] * len(path))


SESSIONS = projected("session", [100.0, 110.0, 120.0, 150.0])


def test_mappings_change_as_the_sessions_do() -> None:
    mappings = following(projected("lid-mapping", [300.0, 900.0]), SESSIONS)
    assert mappings.path[:4] == [300, 330, 360, 450]
    assert (mappings.forecast.key_type, mappings.forecast.now, mappings.forecast.in_30_days) == (
        "lid-mapping",
        300,
        450,
    )
    assert (mappings.forecast.equilibrium, mappings.forecast.from_arrivals, mappings.forecast.kept_by_use) == (
        450,
        40,
        410,
    )
    assert (mappings.sd_of_arrivals[0], mappings.other_variance[0]) == (9, 36)


@pytest.mark.parametrize(
    ("follower", "sessions"),
    [
        (projected("device-list", [300.0], life=14), SESSIONS),
        (projected("lid-mapping", [300.0], life=None), SESSIONS),
        (projected("lid-mapping", [300.0]), projected("session", [100.0], life=None)),
        (projected("lid-mapping", [300.0]), projected("session", [10.0])),
        (projected("lid-mapping", [10.0]), SESSIONS),
    ],
)
def test_a_type_with_a_longer_life_or_few_keys_has_its_own_projection(
    follower: ProjectedType, sessions: ProjectedType
) -> None:
    assert following(follower, sessions) == follower


def test_without_an_equilibrium_of_sessions_a_follower_has_none() -> None:
    growing = replace(SESSIONS, forecast=replace(SESSIONS.forecast, equilibrium=None))
    assert following(projected("lid-mapping", [300.0]), growing).forecast.equilibrium is None


def test_a_rate_far_above_its_least_value_is_the_one_seen() -> None:
    assert expected_rate(2.0, 100.0, 0.1) == pytest.approx(2.0, rel=0.02)


def test_a_rate_near_its_least_value_is_above_it() -> None:
    assert 0.17 < expected_rate(0.14, 14.0, 0.16) < 0.3
    assert 0.16 < expected_rate(0.0, 14.0, 0.16) < expected_rate(0.14, 14.0, 0.16)
    assert expected_rate(0.0, 0.0, 0.16) > 0.16
    assert expected_rate(0.14, 10_000.0, 0.16) == pytest.approx(0.16, rel=0.02)
