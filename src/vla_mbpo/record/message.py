"""What passes through the recorder: serialised messages, and what some of them say."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TopicInfo:
    """One recorded topic.

    Attributes:
        name, type: as in ROS, ``pkg/msg/Name``.
        qos: offered profile, YAML as rosbag2 keeps it.
        latched: its last message is state that every episode has to begin with.
        required: an attempt without a message of it is bad.
    """

    name: str
    type: str
    qos: str = ""
    latched: bool = False
    required: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it came.

    Attributes:
        topic: index in the recorder's list of topics.
        received, published: system time [ns]; ``published`` by its writer, 0: unknown.
        sequence: of its writer, from 1; 0: unknown.
        data: CDR.
        lost: messages of the same writer before it that never came.
        note: what it says, for the labels; None: nothing that they need.
    """

    topic: int
    received: int
    published: int
    sequence: int
    data: bytes
    lost: int = 0
    note: object = None


@dataclass(frozen=True)
class Attempt:
    """An attempt has begun or ended. ``stamp`` [ns]; ``outcome``: succeeded, failed or aborted; empty: none known."""

    stamp: int
    number: int
    running: bool
    instruction: str
    outcome: str = ""
    message: str = ""
    cost_events: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proposed:
    """A chunk set of the policy."""

    set_id: int
    policy_version: str


@dataclass(frozen=True)
class Decided:
    """A decision of the gate; ``checks`` that refused it, none: accepted."""

    set_id: int
    candidate: int
    accepted: bool
    checks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Approved:
    """Rows that the arm may execute."""

    set_id: int
    candidate: int


@dataclass(frozen=True)
class Person:
    """Whether a person has the arm; ``stamp`` [ns]."""

    stamp: int
    intervention: bool


@dataclass(frozen=True)
class Rows:
    """The arm driver's counters since it was activated, and the chunk set that it executes (0: none)."""

    set_id: int
    executed: int
    dropped_late: int
    executed_late: int


@dataclass(frozen=True)
class Release:
    """The release in use."""

    version: str


@dataclass
class Counts:
    """Of one topic in one episode.

    Attributes:
        recorded: messages in the file.
        lost: missing before they came here, by the writers' sequence numbers.
        dropped: here, because the disk was slower than they came.
        unwritten: the file could not take them.
        gap: longest time between two messages [ns].
    """

    recorded: int = 0
    lost: int = 0
    dropped: int = 0
    unwritten: int = 0
    gap: int = 0
    last: int = field(default=0, repr=False)
