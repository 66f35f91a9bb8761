"""Waiting in a coroutine of the executor, with a limit."""

from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future


async def within(node: Node, future: Future, seconds: float) -> Any:
    """The future's result, or None after ``seconds``."""
    first: Future = Future(executor=node.executor)

    def settle(result: Any) -> None:
        if not first.done():
            first.set_result(result)

    timer = node.create_timer(seconds, lambda: settle(None), clock=Clock(clock_type=ClockType.STEADY_TIME))
    future.add_done_callback(lambda done: settle(done.result()))
    try:
        return await first
    finally:
        node.destroy_timer(timer)


async def sleep(node: Node, seconds: float) -> None:
    """Wait for so long."""
    await within(node, Future(), seconds)
