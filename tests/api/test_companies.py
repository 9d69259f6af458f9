"""A bot's operations over HTTP: values come back unchanged, and a write is done as a whole or not at all."""

import base64
import gzip
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from rig.baileys_state import pre_keys, real_keys
from tests.api.service import Api

pytestmark = pytest.mark.xdist_group("api")

CREDS = b'{"registered" : true,"n":1.0e5}'

NO_LEASE = {"epoch": 0, "seq": 0}
"""The numbers in the state of a company that never had a lease."""

EMPTY: dict[str, object] = {"creds": None, "keys": {}, **NO_LEASE}


def test_the_state_of_an_unknown_company_is_empty(api: Api, company: str) -> None:
    answer = api.ask("GET", f"/v1/companies/{company}/state")
    assert (answer.status, answer.json) == (200, EMPTY)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"


def test_creds_and_keys_are_written_and_read_together(api: Api, company: str) -> None:
    path = api.company(company)
    written = api.ask("POST", f"{path}/state", {"creds": {"a": 1}, "keys": {"session": {"x": [1], "y": "two"}}})
    assert (written.status, written.body) == (204, b"")
    state = {"creds": {"a": 1}, "keys": {"session": {"x": [1], "y": "two"}}, **NO_LEASE}
    assert api.ask("GET", f"{path}/state").json == state
    assert api.ask("GET", f"{api.company('company_' + company)}/state").json == state, "one company, two spellings"
    assert api.ask("GET", f"{path}/creds").json == {"a": 1}


def test_null_deletes_and_absent_ids_are_absent(api: Api, company: str) -> None:
    path = api.company(company)
    api.ask("POST", f"{path}/keys", {"session": {"x": 1, "y": 2}, "pre-key": {"1": {"k": True}}})
    assert api.ask("POST", f"{path}/keys", {"session": {"x": None, "z": 3}}).status == 204
    got = api.ask("POST", f"{path}/keys/get", {"type": "session", "ids": ["x", "y", "z", "nobody"]})
    assert got.json == {"y": 2, "z": 3}
    assert api.ask("POST", f"{path}/keys/get", {"type": "session", "ids": []}).json == {}


def test_absent_or_null_creds_leave_the_creds_unchanged(api: Api, company: str) -> None:
    path = api.company(company)
    api.ask("PUT", f"{path}/creds", {"a": 1})
    for body in ({"keys": {"session": {"x": 1}}}, {"creds": None}, {}):
        assert api.ask("POST", f"{path}/state", body).status == 204
    assert api.ask("GET", f"{path}/creds").json == {"a": 1}


def test_missing_creds_are_a_404(api: Api, company: str) -> None:
    answer = api.ask("GET", f"{api.company(company)}/creds")
    assert (answer.status, answer.problem) == (404, "not-found")


def test_a_deleted_company_is_empty(api: Api, company: str) -> None:
    path = api.company(company)
    api.ask("POST", f"{path}/state", {"creds": {"a": 1}, "keys": {"session": {"x": 1}}})
    assert api.ask("DELETE", path).status == 204
    assert api.ask("GET", f"{path}/state").json == EMPTY


def test_values_are_kept_in_the_bytes_they_came_in(api: Api, company: str) -> None:
    path = api.company(company)
    spelled = b'{ "b":1.50 ,"a":[1e2,"\\u00e9","\xc3\xa9"], "a":2}'
    api.ask("POST", f"{path}/keys", b'{"session":{"x": ' + spelled + b" }}")
    api.ask("PUT", f"{path}/creds", b" " + CREDS + b"\n")
    assert api.store.get(company, "session", ["x"]) == {"x": spelled}
    assert api.ask("GET", f"{path}/creds").body == CREDS
    got = api.ask("POST", f"{path}/keys/get", {"type": "session", "ids": ["x"]})
    assert got.body == b'{"x":' + spelled + b"}"
    state = b'{"creds":' + CREDS + b',"keys":{"session":{"x":' + spelled + b'}},"epoch":0,"seq":0}'
    assert api.ask("GET", f"{path}/state").body == state


@pytest.mark.parametrize(
    "value",
    [
        b"\x00\xff",
        b"not json",
        b'"\xff"',
        b'"half a pair \\ud800"',
        b"1,2",
        b'1},"session":{"forged":2',
        b'{"$base64":"AAEC"}',
        b' { "$base64" : "AAEC"}',
        b"[" * 5_000 + b"]" * 5_000,
    ],
)
def test_bytes_that_are_no_json_travel_as_base64(api: Api, company: str, value: bytes) -> None:
    path = api.company(company)
    api.store.set(company, {"session": {"x": value, "y": b'"plain"'}}, creds=value)
    wrapped = {"$base64": base64.b64encode(value).decode()}
    for _ in range(2):
        state = api.ask("GET", f"{path}/state").json
        assert state == {"creds": wrapped, "keys": {"session": {"x": wrapped, "y": "plain"}}, **NO_LEASE}
        assert api.ask("GET", f"{path}/creds").json == wrapped
        assert api.ask("POST", f"{path}/state", state).status == 204
        assert api.store.load(company).keys["session"]["x"] == api.store.get_creds(company) == value


def test_a_value_that_only_contains_the_mark_is_kept(api: Api, company: str) -> None:
    path = api.company(company)
    for value in ({"$base64": 1}, {"$base64": "AAEC", "more": 1}, ["$base64"], {"deep": {"$base64": "AAEC"}}):
        assert api.ask("POST", f"{path}/keys", {"session": {"x": value}}).status == 204
        stored = api.store.get(company, "session", ["x"])["x"]
        assert json.loads(stored) == value


def test_a_state_is_compressed_if_the_client_accepts_it(api: Api, company: str) -> None:
    path = api.company(company)
    api.store.set(company, real_keys(), creds=CREDS)
    plain = api.ask("GET", f"{path}/state")
    compressed = api.ask("GET", f"{path}/state", Accept_Encoding="br, gzip;q=0.5")
    assert "content-encoding" not in plain.headers
    assert compressed.headers["content-encoding"] == "gzip"
    assert plain.headers["vary"] == compressed.headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(compressed.body) == plain.body
    assert len(compressed.body) < len(plain.body) / 2
    assert "content-encoding" not in api.ask("GET", f"{path}/state", Accept_Encoding="gzip;q=0").headers
    read = {
        key_type: {key_id: json.loads(value) for key_id, value in keys.items()}
        for key_type, keys in real_keys().items()
    }
    assert plain.json == {"creds": json.loads(CREDS), "keys": read, **NO_LEASE}


def test_a_write_with_an_invalid_key_writes_nothing(api: Api, company: str) -> None:
    path = api.company(company)
    for bad in ({"": 1}, {"x" * 256: 1}, {"a\u0000b": 1}, {"ok": {"$base64": "?"}}, {"ok": {"$base64": ""}}):
        answer = api.ask("POST", f"{path}/state", {"creds": {"a": 1}, "keys": {"session": {"first": 1}, "z": bad}})
        assert (answer.status, answer.problem) == (400, "invalid-input")
    assert api.ask("GET", f"{path}/state").json == EMPTY


def test_deleting_the_keys_leaves_the_creds(api: Api, company: str) -> None:
    path = api.company(company)
    api.ask("POST", f"{path}/state", {"creds": {"a": 1}, "keys": {"session": {"x": 1}}})
    assert api.ask("DELETE", f"{path}/keys").status == 204
    assert api.ask("GET", f"{path}/state").json == {**EMPTY, "creds": {"a": 1}}
    assert [deletion.keys for deletion in api.store.deletions(company)] == [1]


def test_a_burst_of_812_pre_keys_is_one_write(api: Api, company: str) -> None:
    burst = {key_id: json.loads(value) for key_id, value in pre_keys(812).items()}
    assert api.ask("POST", f"{api.company(company)}/keys", {"pre-key": burst}).status == 204
    assert len(api.store.load(company).keys["pre-key"]) == 812


def test_used_keys_are_accepted_and_unknown_ones_ignored(api: Api, company: str) -> None:
    path = api.company(company)
    api.ask("POST", f"{path}/keys", {"session": {"x": 1}})
    used = api.ask("POST", f"{path}/keys/used", {"session": ["x", "nobody"], "pre-key": []})
    assert (used.status, used.json) == (200, {"missing": {"session": ["nobody"]}})
    assert api.ask("POST", f"{path}/keys/used", {"session": "x"}).problem == "invalid-input"


def test_a_heartbeat_is_stored_for_the_memory_alert(api: Api, company: str) -> None:
    sample = {"rss_bytes": 4, "heap_used_bytes": 2, "heap_limit_bytes": 3, "external_bytes": 7}
    assert api.ask("POST", f"{api.company(company)}/heartbeat", sample).status == 204
    note = api.store.recall(f"memory/{company}")
    assert note is not None
    assert json.loads(note.document) == {
        "heap_used_bytes": 2,
        "heap_total_bytes": 2,
        "heap_limit_bytes": 3,
        "rss_bytes": 4,
    }
    for bad in (
        {**sample, "rss_bytes": -1},
        {**sample, "heap_limit_bytes": 0},
        {"rss_bytes": 4},
        {**sample, "rss_bytes": 1.5},
    ):
        assert api.ask("POST", f"{api.company(company)}/heartbeat", bad).problem == "invalid-input"


def test_a_bot_that_ends_its_lease_is_not_missed_and_another_holder_s_bot_is(api: Api, company: str) -> None:
    path, sample = api.company(company), {"rss_bytes": 4, "heap_used_bytes": 2, "heap_limit_bytes": 3}
    lease = api.ask("POST", f"{path}/lease", {"holder": "a", "ttl_s": 60})
    api.ask("POST", f"{path}/heartbeat", sample)
    taken = api.ask("POST", f"{path}/lease", {"holder": "b", "ttl_s": 60, "force": True})
    assert api.ask("DELETE", f"{path}/lease?holder=a&epoch={lease.json['epoch']}").status == 204
    assert api.store.recall(f"memory/{company}") is not None
    assert api.ask("DELETE", f"{path}/lease?holder=b&epoch={taken.json['epoch']}").status == 204
    assert api.store.recall(f"memory/{company}") is None


def test_concurrent_writes_leave_the_whole_of_one_write(api: Api, company: str) -> None:
    path, began = api.company(company), threading.Barrier(6)

    def write(number: int) -> int:
        began.wait(10)
        body = {"creds": {"by": number}, "keys": {"session": {f"{n}": number for n in range(20)}}}
        return api.ask("POST", f"{path}/state", body).status

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(write, range(6))) == {204}
    state = api.ask("GET", f"{path}/state").json
    assert set(state["keys"]["session"].values()) == {state["creds"]["by"]}


class TestLeases:
    """The right to write, over HTTP."""

    def lease(self, api: Api, company: str, holder: str, **more: object) -> int:
        answer = api.ask("POST", f"{api.company(company)}/lease", {"holder": holder, "ttl_s": 60, **more})
        assert answer.status == 200, answer.body
        assert answer.json["expires_at"].endswith("Z")
        return int(answer.json["epoch"])

    def test_writes_need_its_epoch(self, api: Api, company: str) -> None:
        path, epoch = api.company(company), self.lease(api, company, "bot-1")
        for method, end, body in [
            ("POST", "/keys", {"session": {"x": 1}}),
            ("POST", "/state", {"creds": {"a": 1}, "keys": {}}),
            ("PUT", "/creds", {"a": 1}),
            ("DELETE", "", None),
            ("DELETE", "/keys", None),
        ]:
            for headers in ({}, {"Keystore_Epoch": str(epoch + 1)}):
                refused = api.ask(method, path + end, body, **headers)
                assert (refused.status, refused.problem) == (409, "lease-lost")
                assert refused.json["detail"].count("nothing was written") == 1
            state = api.ask("GET", f"{path}/state").json
            assert (state["creds"], state["keys"]) == (None, {}), "nothing is written"
        assert api.ask("POST", f"{path}/keys", {"session": {"x": 1}}, Keystore_Epoch=str(epoch)).status == 204

    def test_a_numbered_write_is_written_once_and_a_late_one_never(self, api: Api, company: str) -> None:
        path, epoch = api.company(company), self.lease(api, company, "bot-1")
        numbered = {"Keystore_Epoch": str(epoch)}
        for seq, value in ((1, "first"), (2, "second"), (2, "repeated"), (1, "late")):
            body = {"session": {"x": value}}
            assert api.ask("POST", f"{path}/keys", body, **numbered, Keystore_Seq=str(seq)).status == 204
        assert api.ask("PUT", f"{path}/creds", {"a": 3}, **numbered, Keystore_Seq="3").status == 204
        assert api.ask("DELETE", path, **numbered, Keystore_Seq="2").status == 204
        state = api.ask("GET", f"{path}/state").json
        assert state == {"creds": {"a": 3}, "keys": {"session": {"x": "second"}}, "epoch": epoch, "seq": 3}
        renewal = {"holder": "bot-1", "ttl_s": 60, "epoch": epoch}
        assert api.ask("POST", f"{path}/lease", renewal).json["seq"] == 3
        assert api.ask("POST", f"{path}/lease", {"holder": "bot-1", "ttl_s": 60}).json["seq"] == 0

    def test_a_bot_that_was_acknowledged_more_than_the_database_has_is_answered_so(
        self, api: Api, company: str
    ) -> None:
        path = api.company(company)

        def behind(epoch: int, seq: int, **renewal: int) -> object:
            body = {"holder": "h", "ttl_s": 60, "acknowledged": {"epoch": epoch, "seq": seq}}
            body |= {"epoch": renewal["of"]} if renewal else {}
            return api.ask("POST", f"{path}/lease", body).json["behind"]

        assert not behind(0, 0)
        api.ask("POST", f"{path}/keys", {"session": {"x": 1}}, Keystore_Epoch="1", Keystore_Seq="5")
        assert not behind(1, 5, of=1)
        assert behind(1, 6, of=1)
        assert behind(1, 6), "a lease that is taken again shows the state before it"
        assert not behind(2, 0)
        assert behind(9, 0)
        renewal = {"holder": "h", "ttl_s": 60, "epoch": 12, "acknowledged": {"epoch": 12, "seq": 1}}
        assert api.ask("POST", f"{path}/lease", renewal).problem == "lease-lost"
        incomplete = {"holder": "h", "ttl_s": 60, "acknowledged": {"epoch": 1}}
        assert api.ask("POST", f"{path}/lease", incomplete).problem == "invalid-input"
        assert api.ask("POST", f"{path}/lease", {"holder": "h", "ttl_s": 60}).json["behind"] is False

    def test_a_number_without_an_epoch_is_refused(self, api: Api, company: str) -> None:
        written = api.ask("POST", f"{api.company(company)}/keys", {"session": {"x": 1}}, Keystore_Seq="1")
        assert (written.status, written.problem) == (400, "invalid-input")

    def test_another_holder_can_force_it_and_the_first_is_refused(self, api: Api, company: str) -> None:
        path, first = api.company(company), self.lease(api, company, "bot-1")
        held = api.ask("POST", f"{path}/lease", {"holder": "bot-2", "ttl_s": 60})
        assert (held.status, held.problem, held.json["holder"]) == (409, "lease-held", "bot-1")
        assert held.json["expires_at"].endswith("Z")
        assert held.json["detail"].count("wait") == held.json["detail"].count("force") == 1
        second = self.lease(api, company, "bot-2", force=True)
        assert second > first
        assert api.ask("POST", f"{path}/keys", {"session": {"x": 1}}, Keystore_Epoch=str(first)).problem == "lease-lost"
        renewed = api.ask("POST", f"{path}/lease", {"holder": "bot-1", "ttl_s": 60, "epoch": first})
        assert renewed.problem == "lease-lost"
        assert self.lease(api, company, "bot-2", epoch=second) == second

    def test_the_holder_gets_it_back_and_others_after_its_end(self, api: Api, company: str) -> None:
        path, first = api.company(company), self.lease(api, company, "bot-1")
        second = self.lease(api, company, "bot-1")
        assert second > first
        assert api.ask("DELETE", f"{path}/lease?holder=bot-1&epoch={first}").status == 204, "a stale one: left alone"
        assert api.ask("POST", f"{path}/lease", {"holder": "bot-2", "ttl_s": 60}).problem == "lease-held"
        assert api.ask("DELETE", f"{path}/lease?holder=bot-1&epoch={second}").status == 204
        assert self.lease(api, company, "bot-2") > second

    @pytest.mark.parametrize(
        "body",
        [
            {"holder": "", "ttl_s": 60},
            {"holder": "a\nb", "ttl_s": 60},
            {"holder": "a", "ttl_s": 4.9},
            {"holder": "a", "ttl_s": 3601},
            {"holder": "a", "ttl_s": "60"},
            {"holder": "a", "ttl_s": 60, "epoch": -1},
            {"holder": "a", "ttl_s": 60, "forced": True},
        ],
    )
    def test_an_invalid_lease_is_refused(self, api: Api, company: str, body: dict[str, object]) -> None:
        assert api.ask("POST", f"{api.company(company)}/lease", body).problem == "invalid-input"

    @pytest.mark.parametrize("epoch", ["-1", "x", "", "1.0", "99999999999999999999", "²"])
    def test_an_epoch_that_is_not_a_number_is_refused(self, api: Api, company: str, epoch: str) -> None:
        path = api.company(company)
        written = api.ask("DELETE", path, Keystore_Epoch=epoch.encode().decode("latin-1"))
        assert written.problem == "invalid-input"
