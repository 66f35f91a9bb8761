"""One episode on disk: a rosbag2 folder with episode.json, which says what it is and whether it is complete."""

import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vla_mbpo.core.errors import require
from vla_mbpo.record.audit import Audit
from vla_mbpo.record.bag import Bag
from vla_mbpo.record.labels import OUTCOMES, Labels
from vla_mbpo.record.message import Message, TopicInfo
from vla_mbpo.record.metadata import write_json

LABELS = "episode.json"
RECORDING, COMPLETE, BAD = "recording", "complete", "bad"
ATTEMPT, MANUAL, SAVED = "attempt", "manual", "saved"


class Episode:
    """Being recorded. One thread. Errors of the disk are kept as the reason why it is bad, and raised nowhere."""

    def __init__(self, root: Path, kind: str, instruction: str, topics: Sequence[TopicInfo], begin: int) -> None:
        """Make its folder below ``root``. ``begin`` [ns]. OSError: it cannot be made."""
        self.kind, self._topics, self.begin = kind, topics, begin
        self.labels, self._audit = Labels(instruction, kind == ATTEMPT), Audit(topics)
        self._offered = [0] * len(topics)
        self._faults: list[str] = []
        self._broken = False
        self.closing: int | None = None  # when to close it [ns]
        folder = _free_folder(root, begin, instruction or kind)
        try:
            self._bag = Bag(folder, topics)
            write_json(folder / LABELS, self._report(RECORDING, []))
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)  # it has no message yet
            raise

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self._bag.folder

    @property
    def fault(self) -> str:
        """What is wrong with it by now, or an empty string."""
        return "; ".join(self._faults)

    def add(self, message: Message) -> None:
        """Record a message."""
        self._audit.add(message)
        self.labels.add(message)
        self._offered[message.topic] += 1
        if not self._broken:
            self._try(lambda: self._bag.write(message))

    def state_before(self, messages: Sequence[Message], received: int) -> None:
        """Latched state from before the begin, as if it had come at ``received`` [ns]: what was lost then is not."""
        for message in messages:
            self.add(replace(message, received=received, lost=0))

    def drop(self, dropped: Mapping[int, int]) -> None:
        """Note messages per topic for which there was no room."""
        self._audit.drop(dropped)

    def blame(self, reason: str) -> None:
        """The episode is bad, for this reason."""
        if reason not in self._faults:
            self._faults.append(reason)

    def give_up(self, reason: str) -> None:
        """Write no more: what comes from here on is counted as unwritten."""
        self.blame(reason)
        self._broken = True

    def flush(self, sync: bool) -> None:
        """What has come until now outlives this process; with ``sync`` also the machine, and the labels follow."""
        if not self._broken:
            self._try(self._bag.flush)
        if sync and not self._broken:
            self._try(self._bag.sync)
            self._audit.written(self._bag.counts, self._bag.counts)
            self._try(lambda: write_json(self.folder / LABELS, self._report(RECORDING, self._faults), sync=False))

    def close(self) -> dict[str, Any]:
        """End it. Returns the content of episode.json, which lacks on disk if the disk is full to the last byte."""
        self.labels.close(time.time_ns())
        try:
            self._bag.close()
        except OSError as error:
            self.blame(f"{error.strerror or error}: the file has no index; `vla-mbpo record repair` makes one")
        self._audit.written(self._bag.counts, self._offered)
        reasons = [*self._faults, *self._audit.reasons(self.kind == ATTEMPT), *self.labels.unexplained()]
        report = self._report(BAD if reasons else COMPLETE, reasons)
        try:
            write_json(self.folder / LABELS, report)
        except OSError as error:
            report["reasons"].append(f"episode.json: {error.strerror or error}")
        return report

    def _try(self, action: Any) -> None:
        try:
            action()
        except OSError as error:
            self.give_up(f"writing failed: {error.strerror or error}")

    def _report(self, state: str, reasons: list[str]) -> dict[str, Any]:
        bag = self._bag
        return {
            "format": 1,
            "state": state,
            "reasons": reasons,
            "kind": self.kind,
            **self.labels.report(),
            "begin_ns": bag.begin or self.begin,
            "end_ns": bag.end,
            "duration_s": round(max(0, bag.end - bag.begin) / 1e9, 3),
            "bag": bag.file,
            "bytes": bag.size,
            "topics": self._audit.report(),
        }


def check_outcome(outcome: str) -> None:
    """Raise ConfigError unless it is one, or empty."""
    require(outcome in ("", *OUTCOMES), "outcome", outcome, f"choose one of: {', '.join(OUTCOMES)}; or none")


def _free_folder(root: Path, begin: int, words: str) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(begin / 1e9))
    slug = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:40] or "episode"
    name, number = f"{stamp}_{slug}", 1
    while (root / name).exists():
        number += 1
        name = f"{stamp}_{slug}_{number}"
    return root / name
