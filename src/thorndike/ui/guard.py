"""Who may look and who may act: the Host header, the token, the origin of what is posted, and headers of answers.

A page from elsewhere that a browser has open must neither read nor do anything here. Under a name that it had resolve
to this machine (DNS rebinding) the Host header gives it away; without the token nothing is shown; what acts needs the
Origin of this page and a word that only this page contains.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
POSTED = "x-thorndike"  # the header with the word
Answer = Callable[[Request], Awaitable[Response]]


class Guard:
    """What a request has to bring."""

    def __init__(self, token: str | None = None, host: str = "127.0.0.1"):
        """`token` is a new one by default; `host` is the address that is listened on."""
        self.token = token or secrets.token_urlsafe(24)
        self.word = hmac.new(self.token.encode(), b"post", hashlib.sha256).hexdigest()
        self.host, self.local = host.lower(), is_loopback(host)
        # of a host all ports share their cookies, so that each server has a name of its own for it
        self.cookie = f"thorndike-{hashlib.sha256(self.token.encode()).hexdigest()[:12]}"

    async def __call__(self, request: Request, answer: Answer) -> Response:
        """The answer of the page, or a refusal."""
        response = self._refusal(request) or await answer(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    def _refusal(self, request: Request) -> Response | None:
        if not self.knows(request.headers.get("host", "")):
            return PlainTextResponse("this host name is not that of this page: use the address that was printed", 421)
        given = request.query_params.get("token")
        if given is not None and request.method == "GET":
            return self._enter(request) if _same(given, self.token) else _no_token()
        if not _same(request.cookies.get(self.cookie, ""), self.token):
            return _no_token()
        if request.method not in ("GET", "HEAD"):
            origin = urlsplit(request.headers.get("origin", ""))
            here = origin.scheme in ("http", "https") and origin.netloc == request.headers.get("host")
            if not here or not _same(request.headers.get(POSTED, ""), self.word):
                return PlainTextResponse("only this page itself may ask for that: load it again", 403)
        return None

    def _enter(self, request: Request) -> Response:
        """The same address without the token, which the browser keeps in a cookie."""
        rest = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
        path = "/" + request.url.path.lstrip("/")  # never another host's: //name
        response = RedirectResponse(f"{path}?{urlencode(rest)}" if rest else path, 303)
        response.set_cookie(self.cookie, self.token, httponly=True, samesite="strict", path="/")
        return response

    def knows(self, header: str) -> bool:
        """Whether a Host header names this machine: an address, which cannot be rebound, or a name of its own."""
        try:
            name = urlsplit(f"//{header}").hostname or ""
        except ValueError:
            return False
        if name == "localhost":
            return True
        if is_address(name):
            return is_loopback(name) or not self.local
        return not self.local and name in {self.host, socket.gethostname().lower(), socket.getfqdn().lower()}


def is_address(host: str) -> bool:
    """Whether it is an IP address, and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    return host.lower() == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _no_token() -> Response:
    return PlainTextResponse("open the address with ?token=... that `thorndike ui` has printed", 403)
