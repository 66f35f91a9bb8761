"""What an operator has open beside the running stack: the page in a viewer, RViz's topics."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import urlopen

READ = 65536  # bytes


class Stream:
    """Reads one of the page's streams until the page ends it. ``read``: bytes so far."""

    def __init__(self, url: str) -> None:
        self.read = 0
        self._url = url
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            with urlopen(self._url, timeout=10.0) as answer:
                while data := answer.read1(READ):
                    self.read += len(data)
        except OSError:  # the stack has ended
            return


@contextmanager
def watched(port: int) -> Iterator[dict[str, int]]:
    """Page and RViz's topics are looked at for the block; afterwards the dict says what came, in bytes and messages."""
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node

    from vla_mbpo.nodes import qos

    found: dict[str, int] = {}
    streams = {path: Stream(f"http://127.0.0.1:{port}/{path}") for path in ("events", "picture")}
    node, executor = Node("rviz_in_its_place", enable_rosout=False), SingleThreadedExecutor()

    def counter(name: str):
        def count(_message: bytes) -> None:
            found[name] = found.get(name, 0) + 1

        return count

    for topic in (qos.MARKERS, qos.VOLUMES, qos.OVERLAY):
        node.create_subscription(topic.type, topic.name, counter(topic.name), topic.qos, raw=True)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    begin = time.monotonic()
    try:
        yield found
    finally:
        executor.shutdown()
        thread.join(2.0)
        node.destroy_node()
        found |= {f"{path}_bytes_per_s": int(s.read / (time.monotonic() - begin)) for path, s in streams.items()}
