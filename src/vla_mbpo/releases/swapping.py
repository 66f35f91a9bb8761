"""How a whole stack comes to use another release: all nodes or none. The order of it; no rclpy."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """What a node says: whether it did what it was asked to, why not, and the version of its part in use."""

    accepted: bool
    message: str = ""
    version: str = ""


# (node, release, now): asked as soon as it is called, awaited for the answer. now: use it, otherwise only load it.
Ask = Callable[[str, str, bool], Awaitable[Answer]]


async def swap(
    release: str,
    live: str,
    nodes: Sequence[str],
    expected: Mapping[str, str],
    ask: Ask,
    boundary: Callable[[], Awaitable[str]],
) -> str:
    """Have all ``nodes`` use ``release`` in place of ``live``. Returns why they do not, or an empty string.

    All load it beside the one in use; then ``boundary`` waits until no attempt is running, or says why that takes too
    long; then all switch. If one does not, or states another version than ``expected`` of it, all switch back.
    """
    refused = await _all(nodes, release, False, ask)
    if refused:
        return refused
    late = await boundary()
    if late:
        return late
    refused = await _all(nodes, release, True, ask, expected)
    if not refused:
        return ""
    left = await _all(nodes, live, True, ask)
    return f"{refused}; and not back: {left}" if left else refused


async def _all(nodes: Sequence[str], release: str, now: bool, ask: Ask, expected: Mapping[str, str] = {}) -> str:
    """Ask all at once; who did not do it, and why, or an empty string."""
    pending = [(node, ask(node, release, now)) for node in nodes]
    faults = []
    for node, asked in pending:
        answer = await asked
        if not answer.accepted:
            faults.append(f"{node}: {answer.message}")
        elif now and node in expected and answer.version != expected[node]:
            faults.append(f"{node}: uses {answer.version!r}, expected {expected[node]!r}")
    return "; ".join(faults)
