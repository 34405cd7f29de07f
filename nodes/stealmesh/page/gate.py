"""Who may look: which names this page answers to, and how a visitor proves a token.

Decides three things. The Host header has to be a name or an address of ours, or a site whose name was rebound to our
address could read the page through a visitor's browser. A browser that says that another site asks is refused. And a
page that others than this host can reach wants a view token, once: then a cookie stands for it. Refuses to know what
is shown.

A token is proved without the mesh: its seal is one that only a holder of the mesh key can have made. So this process
needs the secret of seals, and not the mesh key. All comparisons take the same time for right and wrong.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from stealmesh.host.guest_key import GuestKey
from stealmesh.host.security import JoinToken, TokenRefused
from stealmesh.page.requests import Request, RequestRefused
from stealmesh_protocol.passes import PassSecrets, sealed

SESSIONS_MAX = 256
SESSION_SECONDS_MAX = 12 * 3600.0
TOKEN_CHARS_MAX = 4096
LATE_SECONDS = 300.0
"""As much as nodes allow: clocks differ."""
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")
_OWN_SITES = ("", "same-origin", "none")
NEEDED = "this page needs a view token: `stealmesh token --role view` prints one"


@dataclass(slots=True)
class _Session:
    digest: bytes
    """Of the cookie: who reads our memory has no cookie."""
    name: str
    until: float


@dataclass(slots=True)
class PageGate:
    """What one page asks of its visitors."""

    names: Collection[str]
    """Of this page's host, in small letters, without port and brackets."""
    cookie: str
    """Browsers share cookies between the ports of a host, so the name has the port in it."""
    locked: bool = False
    secrets: PassSecrets = ()
    own: GuestKey | None = None
    """The token that this process itself came with: its holder may look."""
    _revoked: frozenset[str] = frozenset()
    _sessions: list[_Session] = field(default_factory=list)

    def check_origin(self, request: Request, *, data: bool) -> None:
        """Raises RequestRefused. `data`: no link of another site leads there."""
        host = host_of(request.headers.get("host", ""))
        if host not in self.names:
            raise RequestRefused(
                421, "this page is known by its own names and addresses only, not by this Host"
            )
        if data and request.headers.get("sec-fetch-site", "") not in _OWN_SITES:
            raise RequestRefused(403, "another site has asked for this")

    def check_visitor(self, request: Request, now: float) -> None:
        """Raises RequestRefused if the visitor has to prove a token and has not."""
        if not self.locked or self._knows(request.cookies().get(self.cookie, ""), now):
            return
        token = request.bearer()
        if not token:
            raise RequestRefused(401, NEEDED)
        self._holder(token, now)

    def enter(self, token: str, now: float) -> str:
        """The value of a new cookie for the holder of this token. Raises RequestRefused."""
        key = self._holder(token, now)
        value = secrets.token_urlsafe(32)
        until = now + SESSION_SECONDS_MAX
        until = min(until, key.told.expires + LATE_SECONDS) if key.told.expires else until
        self._sessions.append(_Session(_digest(value), key.told.name, until))
        del self._sessions[:-SESSIONS_MAX]
        return value

    def revoke(self, names: Iterable[str]) -> None:
        """Tokens of these names count no more: the mesh says so."""
        self._revoked = self._revoked.union(names)
        self._sessions = [each for each in self._sessions if each.name not in self._revoked]

    def _knows(self, value: str, now: float) -> bool:
        self._sessions = [each for each in self._sessions if each.until > now]
        digest = _digest(value)
        return sum(hmac.compare_digest(each.digest, digest) for each in self._sessions) > 0

    def _holder(self, token: str, now: float) -> GuestKey:
        """What the token says, if it is a good one."""
        try:
            key = JoinToken.decode(token[:TOKEN_CHARS_MAX]).key
        except TokenRefused:
            raise RequestRefused(401, f"this is no token; {NEEDED}") from None
        if not isinstance(key, GuestKey):
            raise RequestRefused(401, f"the mesh key has no business in a browser: {NEEDED}")
        good = (
            sum(hmac.compare_digest(sealed(each, key.told), key.seal) for _, each in self.secrets)
            > 0
        )
        if self.own is not None:
            good |= key.told == self.own.told and hmac.compare_digest(self.own.seal, key.seal)
        if not good:
            raise RequestRefused(401, f"this token is of another mesh; {NEEDED}")
        if key.told.expires and key.told.expires + LATE_SECONDS < now:
            raise RequestRefused(401, f"this token has expired; {NEEDED}")
        if key.told.name in self._revoked:
            raise RequestRefused(401, f"this token was revoked; {NEEDED}")
        return key


def host_of(header: str) -> str:
    """The name or address in a Host header; empty: it is none."""
    header = header.strip().lower()
    if header.startswith("["):
        address, mark, port = header[1:].partition("]")
        fits = bool(mark) and (not port or (port[0] == ":" and port[1:].isdecimal()))
        return address if fits else ""
    name, mark, port = header.partition(":")
    return name.rstrip(".") if not mark or port.isdecimal() else ""


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode()).digest()
