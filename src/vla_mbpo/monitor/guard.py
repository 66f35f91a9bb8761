"""Who may give orders through the page: the right address, the page's own origin, and the token of this start."""

import hmac
import secrets
from collections.abc import Mapping
from email.message import Message

HEADER = "X-Token"


class Guard:
    """Judges the headers of a request. Any thread.

    Without the check of Host a foreign site could read the page under a name of its own that it lets point here (DNS
    rebinding); without the check of Origin it could send orders from the operator's browser.

    Attributes:
        token: made anew at every start; whoever has it may give orders.
    """

    def __init__(self, host: str, port: int) -> None:
        self.token = secrets.token_urlsafe(16)
        names = {host, "localhost"} if host.startswith("127.") else {host}
        self._hosts = {f"{name}:{port}" for name in names}

    def misaddressed(self, headers: Mapping[str, str] | Message) -> str:
        """Why nothing is told to this request, or an empty string."""
        host = headers.get("Host") or ""
        if host.lower() in self._hosts:
            return ""
        return f"this page is not {host!r}: open it as {' or '.join(sorted(self._hosts))}"

    def refusal(self, headers: Mapping[str, str] | Message) -> str:
        """Why an order is not taken, or an empty string. A browser names the origin of every POST."""
        why = self.misaddressed(headers)
        if why:
            return why
        origin = headers.get("Origin")
        if origin is not None and origin.lower() not in {f"http://{host}" for host in self._hosts}:
            return f"orders are taken from this page only, not from {origin!r}"
        given = (headers.get(HEADER) or "").encode()
        if not hmac.compare_digest(given, self.token.encode()):
            return "the token is missing or wrong: open the address that was printed at the start"
        return ""
