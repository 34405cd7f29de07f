"""The little of HTTP/1.1 that the page needs: what a request may be, and how an answer is written.

Decides that there are only GETs without a body, in a head of bounded size and time, and that each connection carries
one request: nothing is left in it that could be read as another. Every answer has the headers that keep a browser
from running, framing or fetching what is not ours. Refuses to know which paths there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

HEAD_OCTETS_MAX = 8 << 10
HEAD_SECONDS_MAX = 5.0
HEADERS_MAX = 64
QUERY_FIELDS_MAX = 16

REASONS = {
    200: "OK", 204: "No Content", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
    404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout", 421: "Misdirected Request",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 503: "Service Unavailable",
    504: "Gateway Timeout",
}  # fmt: skip

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
GUARDS = (
    f"Content-Security-Policy: {_POLICY}",
    "X-Content-Type-Options: nosniff",
    "X-Frame-Options: DENY",
    "Referrer-Policy: no-referrer",
    "Cross-Origin-Resource-Policy: same-origin",
    "Cross-Origin-Opener-Policy: same-origin",
    "Cache-Control: no-store",
    "Connection: close",
)
"""In every answer. There is no Access-Control header: no other site may read what we say."""


class RequestRefused(Exception):
    """What came is answered with this status and one line of text."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    """Names in small letters; of several with one name the last."""

    def cookies(self) -> dict[str, str]:
        found = {}
        for each in self.headers.get("cookie", "").split(";"):
            name, mark, value = each.strip().partition("=")
            if mark:
                found[name] = value
        return found

    def bearer(self) -> str:
        """The token in the Authorization header; empty: none."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The request; None: the connection ended before one was there. The reader's limit is HEAD_OCTETS_MAX. Raises
    RequestRefused."""
    try:
        async with asyncio.timeout(HEAD_SECONDS_MAX):
            head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError:
        raise RequestRefused(431, f"a request has at most {HEAD_OCTETS_MAX} octets") from None
    except TimeoutError:
        raise RequestRefused(
            408, f"a request has to be complete within {HEAD_SECONDS_MAX:g} s"
        ) from None
    return parsed(head)


def parsed(head: bytes) -> Request:
    """Raises RequestRefused."""
    try:
        first, *lines = head.decode("ascii").removesuffix("\r\n\r\n").split("\r\n")
    except UnicodeDecodeError:
        raise RequestRefused(400, "a request is ASCII") from None
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise RequestRefused(400, "not a request of HTTP/1.1")
    if words[0] != "GET":
        raise RequestRefused(405, "GET is all that there is: this page changes nothing")
    headers = _headers(lines)
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise RequestRefused(400, "a GET has no body here")
    try:
        target = urlsplit(words[1])
        pairs = parse_qsl(
            target.query, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX, errors="strict"
        )
    except ValueError:
        raise RequestRefused(400, "not a path that this page can have") from None
    if not words[1].startswith("/") or target.netloc:
        raise RequestRefused(400, "not a path that this page can have")
    return Request(target.path, dict(pairs), headers)


def head_of(status: int, kind: str, length: int | None, *extra: str) -> bytes:
    """The head of an answer; without a length it lasts as long as the connection."""
    lines = [f"HTTP/1.1 {status} {REASONS[status]}", *GUARDS, *extra]
    if kind:
        lines.append(f"Content-Type: {kind}")
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def answer(status: int, kind: str, body: bytes, *extra: str) -> bytes:
    return head_of(status, kind, len(body), *extra) + body


def _headers(lines: list[str]) -> dict[str, str]:
    if len(lines) > HEADERS_MAX:
        raise RequestRefused(431, f"a request has at most {HEADERS_MAX} headers")
    headers: dict[str, str] = {}
    for line in lines:
        name, mark, value = line.partition(":")
        if not mark or not name or name != name.strip() or line[0] in " \t":
            raise RequestRefused(400, "a header has a name and a value")
        if name.lower() == "host" and "host" in headers:
            raise RequestRefused(400, "two Host headers")
        headers[name.lower()] = value.strip()
    return headers
