"""A bot's three operations over the HTTP API, with values as bytes."""

from collections.abc import Iterable, Mapping

import msgspec
import urllib3

from keystore.errors import KeystoreError
from keystore.records import AuthState, Keys

TIMEOUT_S = 45.0
CONNECTIONS = 256
NULL = msgspec.Raw(b"null")


class HttpBot:
    """A client for every company, with an admin's token and connections that stay open."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._pool = urllib3.PoolManager(maxsize=CONNECTIONS, block=True, timeout=TIMEOUT_S, retries=False)

    def load(self, company_id: str) -> AuthState:
        """Return creds and all keys."""
        state = msgspec.json.decode(self._request("GET", f"{company_id}/state"), type=_State)
        return AuthState(
            None if state.creds == NULL else bytes(state.creds),
            {key_type: _bytes(by_id) for key_type, by_id in state.keys.items()},
        )

    def get(self, company_id: str, key_type: str, key_ids: Iterable[str]) -> dict[str, bytes]:
        """Return these keys, without those that don't exist."""
        wanted = msgspec.json.encode({"type": key_type, "ids": list(key_ids)})
        answer = self._request("POST", f"{company_id}/keys/get", wanted)
        return _bytes(msgspec.json.decode(answer, type=dict[str, msgspec.Raw]))

    def set(self, company_id: str, keys: Keys, creds: bytes | None = None) -> None:
        """Write keys, and creds unless None."""
        written = {
            key_type: {key_id: None if value is None else msgspec.Raw(value) for key_id, value in by_id.items()}
            for key_type, by_id in keys.items()
        }
        body = {"creds": None if creds is None else msgspec.Raw(creds), "keys": written}
        self._request("POST", f"{company_id}/state", msgspec.json.encode(body))

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Send a request and return the body of its answer. Raises KeystoreError unless it succeeds."""
        url = f"{self._url}/v1/companies/{path}"
        try:
            answer = self._pool.request(method, url, body=body, headers=self._headers)
        except urllib3.exceptions.HTTPError as error:
            raise KeystoreError(f"{method} {path}: {type(error).__name__}") from error
        if answer.status >= 300:
            raise KeystoreError(f"{method} {path}: answered {answer.status}")
        return answer.data


class _State(msgspec.Struct):
    creds: msgspec.Raw
    keys: dict[str, dict[str, msgspec.Raw]]


def _bytes(by_id: Mapping[str, msgspec.Raw]) -> dict[str, bytes]:
    return {key_id: bytes(value) for key_id, value in by_id.items()}
