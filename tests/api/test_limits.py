"""Bodies that are too large, too slow, cut off or not JSON are refused, and the worker goes on."""

import json
import socket
from collections.abc import Iterable

import pytest

from api.bodies import MAX_BODY_BYTES, MAX_IDS, MAX_TYPES
from rig.waiting import eventually
from tests.api.service import Api, serving_api

pytestmark = pytest.mark.xdist_group("api")


def send(api: Api, path: str, pieces: Iterable[bytes], *, length: int | None, finish: bool = True) -> bytes:
    """Send a body in pieces, chunked if `length` is None, and return the first bytes of the answer."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {api.admin}\r\n"
        f"Content-Type: application/json\r\n{framing}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as connection:
        connection.sendall(head.encode())
        try:
            for piece in pieces:
                connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if length is None else piece)
            if length is None and finish:
                connection.sendall(b"0\r\n\r\n")
            if not finish:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # The body was refused before all of it was sent.
        return connection.recv(65_536)


def document(size_bytes: int) -> bytes:
    """A write of one key with a body of this size."""
    frame = len(b'{"session":{"x":""}}')
    return b'{"session":{"x":"' + b"A" * (size_bytes - frame) + b'"}}'


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_may_have_16_mib_and_no_more(api: Api, company: str, chunked: bool) -> None:
    for size_bytes, status in ((MAX_BODY_BYTES, b"204"), (MAX_BODY_BYTES + 1, b"413")):
        body = document(size_bytes)
        pieces = [body[first : first + 700_000] for first in range(0, len(body), 700_000)]
        answer = send(api, f"{api.company(company)}/keys", pieces, length=None if chunked else len(body))
        assert answer.split(b" ", 2)[1] == status
    assert len(api.store.get(company, "session", ["x"])["x"]) == MAX_BODY_BYTES - len(b'{"session":{"x":}}')


def test_a_body_that_is_cut_off_writes_nothing(api: Api, company: str) -> None:
    path = f"{api.company(company)}/keys"
    for length, sent in ((30, b'{"session":{"x":1}}'), (None, b'{"session":{"x"')):
        answer = send(api, path, [sent], length=length, finish=False)
        assert answer.split(b" ", 2)[1] == b"400"
    assert api.store.load(company).total == 0


@pytest.mark.parametrize(
    ("end", "body"),
    [
        ("/keys", {"session": {f"{n}": 1 for n in range(MAX_IDS)}, "pre-key": {"1": None}}),
        ("/state", {"keys": {"session": {f"{n}": 1 for n in range(MAX_IDS + 1)}}}),
        ("/keys/get", {"type": "session", "ids": [f"{n}" for n in range(MAX_IDS + 1)]}),
        ("/keys/used", {"session": [f"{n}" for n in range(MAX_IDS + 1)]}),
    ],
)
def test_a_request_may_name_10_000_ids(api: Api, company: str, end: str, body: object) -> None:
    answer = api.ask("POST", api.company(company) + end, body)
    assert (answer.status, answer.problem) == (413, "too-large")
    assert api.store.load(company).total == 0


@pytest.mark.parametrize("padding", [0, 70_000])
def test_a_request_may_name_100_types(api: Api, company: str, padding: int) -> None:
    """A longer body is counted before it is decoded, a shorter one afterwards."""
    for types, status, answered in ((MAX_TYPES, 204, 200), (MAX_TYPES + 1, 413, 413)):
        keys: dict[str, dict[str, object]] = {f"t{number}": {} for number in range(types)}
        keys["t0"] = {"x": "x" * padding}
        assert api.ask("POST", f"{api.company(company)}/keys", keys).status == status
        assert api.ask("POST", f"{api.company(company)}/state", {"keys": keys}).status == status
        used = {f"t{number}": ["x" * (1 + padding // 400)] for number in range(types)}
        assert api.ask("POST", f"{api.company(company)}/keys/used", used).status == answered


@pytest.mark.parametrize("end", ["/keys", "/state", "/keys/get", "/keys/used", "/lease", "/heartbeat"])
def test_unexpected_json_is_refused_and_not_shown(api: Api, company: str, end: str) -> None:
    for body in (
        b"",
        b"S3CRET",
        b"[1]",
        b'{"S3CRET"',
        b"\xff\xfe",
        b'{"session":5}',
        b"1" * 200,
        b"[" * 100_000,
        b"null",
    ):
        answer = api.ask("POST", api.company(company) + end, body)
        assert (answer.status, answer.problem) == (400, "invalid-input")
        assert b"S3CRET" not in answer.body


def test_creds_are_one_document(api: Api, company: str) -> None:
    for body in (b"", b"null", b" null ", b"{} {}", b"{", b'"\xff"'):
        assert api.ask("PUT", f"{api.company(company)}/creds", body).problem == "invalid-input"
    assert api.store.get_creds(company) is None


def test_a_body_needs_the_content_type_of_json(api: Api, company: str) -> None:
    path = f"{api.company(company)}/keys"
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""):
        answer = api.ask("POST", path, b"{}", Content_Type=content_type)
        assert (answer.status, answer.problem) == (415, "unsupported-media-type")
    assert api.ask("POST", path, b"{}", Content_Type="Application/JSON; charset=utf-8").status == 204


@pytest.mark.parametrize("company_id", ["b@d", "a" * 65, "%2e%2e", "%00", "%C3%A9", "company_", "a%2Fb", "a%0ab"])
def test_an_invalid_company_is_refused(api: Api, company_id: str) -> None:
    answer = api.ask("GET", f"/v1/companies/{company_id}/state")
    assert answer.status in (400, 404)
    assert answer.problem in ("invalid-input", "not-found")


def test_bodies_that_do_not_arrive_block_no_other_token(tmp_path: object) -> None:
    with serving_api(f"sqlite:///{tmp_path}/k.db") as api:
        slow, other = api.token("slow"), api.token("other")
        head = (
            f"POST /v1/companies/slow/keys HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {slow}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        held = [socket.create_connection(("127.0.0.1", api.port), timeout=10) for _ in range(60)]
        try:
            for connection in held:
                connection.sendall(head.encode())
            eventually(
                lambda: api.ask("GET", "/v1/companies/slow/state", token=slow).status == 429, "its limit is reached"
            )
            assert api.ask("GET", "/v1/companies/other/state", token=other).status == 200
            assert api.ask("GET", "/healthz").status == 200
        finally:
            for connection in held:
                connection.close()
        eventually(
            lambda: api.ask("GET", "/v1/companies/slow/state", token=slow).status == 200, "its requests have ended"
        )


def test_deep_json_is_stored_or_refused_but_never_a_500(api: Api, company: str) -> None:
    for depth in (100, 10_000):
        body = json.dumps({"session": {}})[:-2].encode() + b'{"x":' + b"[" * depth + b"]" * depth + b"}}"
        assert api.ask("POST", f"{api.company(company)}/keys", body).status in (204, 400)
