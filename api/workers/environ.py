"""Makes a WSGI environ of a request as Granian hands it over; `api/handover.py` names the further values in it."""

import sys
from io import BytesIO
from typing import Any

_SAME_IN_ALL: dict[str, Any] = {
    "SCRIPT_NAME": "",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "80",
    "SERVER_SOFTWARE": "signal-keystore",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "wsgi.errors": sys.stderr,
    "wsgi.input_terminated": True,
    "wsgi.multiprocess": False,
    "wsgi.multithread": True,
    "wsgi.run_once": False,
    "wsgi.version": (1, 0),
}

_names = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
"""The environ's name of each header, for those that were seen; strangers can't make it grow without bound."""

MAX_NAMES = 1_000
MAX_ADDRESS_CHARS = 45


def environ_of(scope: Any, *, behind_proxy: bool) -> dict[str, Any]:
    """Return the environ of a request, without its body. Its address is the client's, also behind a proxy."""
    path: str = scope.path
    headers = scope.headers
    environ = {
        **_SAME_IN_ALL,
        "REQUEST_METHOD": scope.method,
        "PATH_INFO": path if path.isascii() else path.encode().decode("latin-1"),
        "QUERY_STRING": scope.query_string,
        "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": BytesIO(),
    }
    names = len(environ) + len(headers)
    for header, value in headers.items():
        name = _environ_name(header)
        if name in environ:
            separator = ";" if header == "cookie" else ","
            value = f"{environ[name]}{separator}{value}"
        environ[name] = value
    if len(environ) < names:  # A value that isn't ASCII is left out by Granian; its header was sent all the same.
        for header in headers:
            environ.setdefault(_environ_name(header), "")
    if "HTTP_HOST" not in environ:
        environ["HTTP_HOST"] = scope.authority or ""
    if behind_proxy:
        # Our proxy adds its client's address at the end; a client may have sent the addresses before it.
        forwarded = environ.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
        environ["REMOTE_ADDR"] = forwarded[:MAX_ADDRESS_CHARS] or environ["REMOTE_ADDR"]
    return environ


def _environ_name(header: str) -> str:
    name = _names.get(header)
    if name is None:
        name = "HTTP_" + header.upper().replace("-", "_")
        if len(_names) < MAX_NAMES:
            _names[header] = name
    return name
