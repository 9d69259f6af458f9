"""The bare handler that the API is compared with: Falcon on Granian with one query through psycopg.

It runs either the store's own statement (`same`) or the simplest SELECT (`plain`); psycopg prepares both, as it does by
default. It looks at no token, and checks, counts and logs nothing.

The command starts it as a program, which reads the database's address and its settings from standard input.
"""

import sys

import falcon
import msgspec
from psycopg_pool import ConnectionPool

from keystore.postgres.statements import STATEMENTS

GET = """
SELECT key_id, value FROM whatsapp_keys
WHERE company_id = %(company_id)s AND key_type = %(key_type)s AND key_id = ANY (%(key_ids)s)
"""
LOAD = """
SELECT NULL, NULL, creds FROM whatsapp_auth WHERE company_id = %(company_id)s
UNION ALL
SELECT key_type, key_id, value FROM whatsapp_keys WHERE company_id = %(company_id)s
"""


class Bare:
    """The two reads of the API that are compared."""

    def __init__(self, url: str, connections: int, kind: str) -> None:
        same = kind == "same"
        self._get, self._load = (STATEMENTS["get"], STATEMENTS["load"]) if same else (GET, LOAD)
        self._pool = ConnectionPool(url, min_size=0, max_size=connections, kwargs={"autocommit": True}, open=True)

    def on_post(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Answer with keys of one type."""
        wanted = msgspec.json.decode(req.stream.read())
        params = {"company_id": company, "key_type": wanted["type"], "key_ids": wanted["ids"], "now": None}
        with self._pool.connection() as conn, conn.cursor(binary=True) as cursor:
            cursor.execute(self._get, params)
            resp.data = msgspec.json.encode({row[0]: msgspec.Raw(row[1][1:]) for row in cursor.fetchall()})

    def on_get(self, req: falcon.Request, resp: falcon.Response, company: str) -> None:
        """Answer with creds and all keys."""
        creds: msgspec.Raw | None = None
        keys: dict[str, dict[str, msgspec.Raw]] = {}
        with self._pool.connection() as conn, conn.cursor(binary=True) as cursor:
            cursor.execute(self._load, {"company_id": company, "now": None})
            for key_type, key_id, value in cursor.fetchall():
                if key_type is None and key_id is not None:
                    continue  # The numbers of the company's lease.
                if key_type is None:
                    creds = msgspec.Raw(value[1:])
                else:
                    keys.setdefault(key_type, {})[key_id] = msgspec.Raw(value[1:])
        resp.data = msgspec.json.encode({"creds": creds, "keys": keys})


def build(url: str, connections: int, kind: str) -> falcon.App[falcon.Request, falcon.Response]:
    """The application with its two routes."""
    app = falcon.App()
    bare = Bare(url, connections, kind)
    app.add_route("/v1/companies/{company}/keys/get", bare)
    app.add_route("/v1/companies/{company}/state", bare)
    return app


if __name__ == "__main__":
    from granian.constants import HTTPModes, Interfaces
    from granian.server import Server

    address, port, threads, most, which = sys.stdin.readline().split()
    Server(
        "bench.http_api.bare_handler",
        port=int(port),
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        blocking_threads=int(threads),
        log_enabled=False,
    ).serve(target_loader=lambda *_: build(address, int(most), which), wrap_loader=False)
