"""A company's quota over HTTP: the write is refused with words, and everybody else goes on."""

from pathlib import Path

import pytest

from keystore import Quota
from tests.api.service import serving_api

pytestmark = pytest.mark.slow


def test_a_write_over_the_quota_is_refused_with_words(tmp_path: Path) -> None:
    with serving_api(f"sqlite:///{tmp_path}/k.db", quota=Quota(keys=5)) as api:
        keys = api.company("1") + "/keys"
        assert api.ask("POST", keys, {"session": {f"{n}": n for n in range(5)}}).status == 204
        refusal = api.ask("POST", keys, {"session": {"5": 5}})
        assert (refusal.status, refusal.problem) == (413, "over-quota")
        assert "it would have 6 keys, and its quota is 5 (KEYSTORE_COMPANY_KEYS)" in refusal.json["detail"]
        too_many = api.ask("POST", keys, {f"type {n}": {"a": 1} for n in range(25)})
        assert (too_many.status, too_many.problem) == (413, "over-quota")
        assert api.ask("POST", api.company("2") + "/keys", {"session": {"5": 5}}).status == 204
        assert api.ask("POST", keys, {"session": {"0": None, "5": 5}}).status == 204
