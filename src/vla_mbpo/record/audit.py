"""What is missing from a recording, as far as that can be known.

A writer of the middleware numbers its messages. From the first message of a writer on, every gap in its numbers is a
message that did not come: that is exact, whatever the rate. Not known is what a writer said before its first message
came, what it said after the last one that came, and, where the middleware gives no numbers, anything at all.
"""

from collections.abc import Mapping, Sequence

from vla_mbpo.record.message import Counts, Message, TopicInfo


class Sequences:
    """Follows the numbers of every writer of every topic. One thread."""

    def __init__(self) -> None:
        self._last: dict[tuple[int, bytes], int] = {}

    def missed(self, topic: int, writer: bytes, sequence: int) -> int:
        """How many messages of this writer are missing before the one with this number. 0 numbers nothing."""
        if sequence <= 0:
            return 0
        last = self._last.get((topic, writer))
        if last is None or sequence > last:
            self._last[topic, writer] = sequence
        return 0 if last is None else max(0, sequence - last - 1)


class Audit:
    """Counts of one episode. One thread."""

    def __init__(self, topics: Sequence[TopicInfo]) -> None:
        self._topics = topics
        self.counts = [Counts() for _ in topics]

    def add(self, message: Message) -> None:
        """A message that came, written or not."""
        counts = self.counts[message.topic]
        counts.lost += message.lost
        if counts.last:
            counts.gap = max(counts.gap, message.received - counts.last)
        counts.last = message.received

    def drop(self, dropped: Mapping[int, int]) -> None:
        """Messages per topic that the recorder had no room for."""
        for topic, count in dropped.items():
            self.counts[topic].dropped += count

    def written(self, recorded: Sequence[int], offered: Sequence[int]) -> None:
        """What is in the file, and what was to be."""
        for counts, done, all_ in zip(self.counts, recorded, offered, strict=True):
            counts.recorded, counts.unwritten = done, all_ - done

    def reasons(self, whole: bool) -> list[str]:
        """Why the episode is not complete; empty: nothing is known to be missing. ``whole``: it is an attempt."""
        found = []
        for name, what in (("lost", "on the way"), ("dropped", "by the recorder"), ("unwritten", "by the disk")):
            by_topic = {
                topic.name: getattr(counts, name) for topic, counts in zip(self._topics, self.counts, strict=True)
            }
            missing = {topic: count for topic, count in by_topic.items() if count}
            if missing:
                listed = ", ".join(f"{topic} {count}" for topic, count in missing.items())
                found.append(f"{sum(missing.values())} messages lost {what}: {listed}")
        if whole:
            silent = [t.name for t, c in zip(self._topics, self.counts, strict=True) if t.required and not c.recorded]
            found += [f"no message of {', '.join(silent)}"] if silent else []
        return found

    def report(self) -> dict[str, dict[str, object]]:
        """Per topic with any message: what the counts say."""
        return {
            topic.name: {
                "type": topic.type,
                "recorded": counts.recorded,
                "lost": counts.lost,
                "dropped": counts.dropped,
                "unwritten": counts.unwritten,
                "longest_gap_s": round(counts.gap / 1e9, 4),
            }
            for topic, counts in zip(self._topics, self.counts, strict=True)
            if counts.recorded or counts.lost or counts.dropped or counts.unwritten
        }
