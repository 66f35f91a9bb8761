"""The graph of a running stack, read by rclpy, held against permissions."""

import time
from collections.abc import Mapping

from rclpy.node import Node, NodeNameNonExistentError

from vla_mbpo.nodes.client import BRIEFLY, NAME
from vla_mbpo.security.rights import Rights

SETTLED, PATIENCE = 1.0, 20.0  # s without a change in the graph; s that discovery may take a busy machine


def read(node: Node) -> dict[str, Rights]:
    """What each node of the domain does, but for ``node`` itself."""
    found: dict[str, Rights] = {}
    for name, space in node.get_node_names_and_namespaces():
        if name == node.get_name():
            continue
        asked = (
            node.get_publisher_names_and_types_by_node,
            node.get_subscriber_names_and_types_by_node,
            node.get_service_names_and_types_by_node,
            node.get_client_names_and_types_by_node,
        )
        try:
            parts = [frozenset(topic for topic, _ in ask(name, space)) for ask in asked]
        except NodeNameNonExistentError:  # it has just left
            continue
        full = name if space == "/" else f"{space}/{name}"
        found[full] = found.get(full, Rights()) | Rights(*parts)
    return found


def compare(node: Node, granted: Mapping[str, Rights], patience: float = PATIENCE) -> tuple[int, list[str]]:
    """Number of nodes, and ``differences`` once the graph is as granted for a second, or ``patience`` is over."""
    until, since, seen = time.monotonic() + patience, time.monotonic(), read(node)
    while time.monotonic() < until:
        if not differences(granted, seen) and time.monotonic() - since >= SETTLED:
            break
        time.sleep(0.1)
        now = read(node)
        if now != seen:
            seen, since = now, time.monotonic()
    return len(seen), differences(granted, seen)


def differences(granted: Mapping[str, Rights], seen: Mapping[str, Rights]) -> list[str]:
    """One line for each right that is used and not granted, or granted and not used; empty: exactly as granted."""
    lines = [f"{name}: runs without an enclave" for name in sorted(set(seen) - set(granted))]
    for name, allowed in sorted(granted.items()):
        if name not in seen:
            if name != NAME:  # nobody has to look at the stack from a terminal
                lines.append(f"{name}: has an enclave and does not run")
            continue
        lines += [f"{name}: {what}, which it may not" for what in seen[name].beyond(allowed)]
        unused = allowed.beyond(seen[name])
        if name == NAME:  # its questions whether a name is taken are over
            unused = [what for what in unused if not what.endswith(f"/{BRIEFLY}")]
        lines += [f"{name}: may and does not: {what}" for what in unused]
    return lines
