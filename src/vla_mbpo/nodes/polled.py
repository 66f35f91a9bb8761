"""Subscriptions that are looked into from time to time instead of one callback per message.

The executor's work for one message, some 0.4 ms on a busy machine, would be nine tenths of the recorder's: at 330
messages per second it came to 15 % of a core.
"""

from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.subscription import Subscription


class Unwatched(CallbackGroup):
    """A group that the executor leaves alone: it does not wake up for what comes."""

    def can_execute(self, entity: Any) -> bool:
        """Never by itself."""
        return False

    def beginning_execution(self, entity: Any) -> bool:
        """Never by itself."""
        return False

    def ending_execution(self, entity: Any) -> None:
        """Nothing was begun."""


def drain(subscription: Subscription, take: Callable[[Any, Any], None]) -> None:
    """Give all that waits to ``take(message, about)``. The executor's thread, before the subscription is destroyed."""
    with subscription.handle:
        while (found := subscription.handle.take_message(subscription.msg_type, subscription.raw)) is not None:
            take(*found)
