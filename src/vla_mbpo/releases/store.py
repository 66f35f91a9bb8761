"""The store: a folder of releases, and ``live.json``, which says which of them is live and which was before.

Whatever a writer is killed at, ``live.json`` is the old one or the new one, and names folders that are complete: a
release is written beside its place and renamed, and only then named. One writer at a time. No rclpy, no torch.
"""

import datetime
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vla_mbpo.core.disk import sync
from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.releases.release import Release

FILE, LOCK, PARTIAL = "live.json", ".lock", ".partial-"
PROMOTE, ROLLBACK = "promote", "rollback"
Entry = dict[str, str]  # name, date, action, reason


@dataclass(frozen=True)
class State:
    """What happened so far; the rest follows from it. Times are UTC.

    Attributes:
        history: each promotion, and each rollback with the name of the release that became live again.
    """

    history: tuple[Entry, ...] = ()

    @property
    def chain(self) -> tuple[str, ...]:
        """Releases that a rollback may still come back to, the live one last."""
        names: list[str] = []
        for entry in self.history:
            if entry["action"] == PROMOTE:
                names.append(entry["name"])
            else:
                names.pop()
        return tuple(names)

    @property
    def live(self) -> str:
        """Name of the live release; empty: none is."""
        return self.chain[-1] if self.chain else ""

    @property
    def previous(self) -> str:
        """Name of the release that a rollback makes live; empty: there is none."""
        return self.chain[-2] if len(self.chain) > 1 else ""

    def promoted(self, name: str, date: str, reason: str) -> "State":
        """``name`` becomes live. ConfigError if it is."""
        require(name != self.live, "release", name, "is live already")
        return State((*self.history, {"name": name, "date": date, "action": PROMOTE, "reason": reason}))

    def rolled_back(self, date: str, reason: str) -> "State":
        """The one before becomes live. ConfigError if there is none."""
        require(bool(self.previous), "rollback", self.live or "nothing live", "no release was live before it")
        return State((*self.history, {"name": self.previous, "date": date, "action": ROLLBACK, "reason": reason}))


class Store:
    """A folder of releases. Reading needs no lock; what writes is called inside ``locked``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def state(self) -> State:
        """As on the disk. ConfigError: live.json is damaged."""
        file = self.folder / FILE
        if not file.exists():
            return State()
        try:
            found = json.loads(file.read_text())
            state = State(
                tuple({key: str(e[key]) for key in ("name", "date", "action", "reason")} for e in found["history"])
            )
            said = found["live"], found["previous"]
            chain = state.chain
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise ConfigError("store", str(file), f"cannot be read: {type(error).__name__}: {error}") from error
        ok = bool(chain) and said == (state.live, state.previous)
        require(ok, f"store {file}", said, f"its history says {(state.live, state.previous)}")
        return state

    def release(self, name: str) -> Release:
        """A verified release: ``live``, a name in the store, or any folder. ConfigError: unknown or damaged."""
        return Release.load(self.find(name))

    def find(self, name: str) -> Path:
        """Its folder, not verified."""
        if name == "live":
            live = self.state().live
            require(
                bool(live), "release", "live", f"no release is live in {self.folder}; see `vla-mbpo promote --help`"
            )
            return self.folder / live
        if name in self.names():
            return self.folder / name
        path = Path(name).expanduser()
        choices = ", ".join(["live", *self.names()])
        require((path / "manifest.json").is_file(), "release", name, f"choose one of: {choices}; or a folder")
        return path.resolve()

    def names(self) -> list[str]:
        """All releases, live or not."""
        return sorted(file.parent.name for file in self.folder.glob("[!.]*/manifest.json"))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only writer. ConfigError: there is another. The lock goes with the process, whatever ends it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ConfigError("store", str(self.folder), "another process is writing to it; try again") from None
            for left in self.folder.glob(f"{PARTIAL}*"):  # of a writer that was killed
                shutil.rmtree(left)
            yield

    def add(self, build: Callable[[Path], Release]) -> Release:
        """Have ``build`` write a release into an empty folder, and give it its place. It is not live by that."""
        partial = self.folder / f"{PARTIAL}{os.getpid()}"
        partial.mkdir()
        try:
            made = build(partial)
            for file in (*partial.rglob("*"), partial):
                sync(file)
            place = self.folder / made.version.replace("@", "-")
            if place.exists():
                shutil.rmtree(partial)
            else:
                partial.rename(place)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        sync(self.folder)
        return Release.load(place)

    def promote(self, name: str, reason: str) -> State:
        """Make a release of this store live."""
        require(name in self.names(), "release", name, f"one of {', '.join(self.names()) or 'none'}")
        return self._write(self.state().promoted(name, _now(), reason))

    def rollback(self, reason: str) -> State:
        """Make the one before live again."""
        return self._write(self.state().rolled_back(_now(), reason))

    def _write(self, state: State) -> State:
        partial = self.folder / f"{FILE}.partial"
        content = {"live": state.live, "previous": state.previous, "history": list(state.history)}
        with partial.open("w") as file:
            file.write(json.dumps(content, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.rename(self.folder / FILE)
        sync(self.folder)
        return state


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
