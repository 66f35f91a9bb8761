"""What a foreign policy reads and writes, and who runs it: the content of its bundle's `policy.yaml`.

The file is described in docs/foreign_policies.md, and read by `reading.py`.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILE = "policy.yaml"
ADAPTERS = ("openpi", "onnx")
VIEWS = ("head", "wrist")
STATES = ("joints", "velocities", "gripper", "tool")
JOINT_TYPES = ("joint_position", "joint_delta", "joint_step")
TOOL_TYPES = ("cartesian_delta", "cartesian_step")


@dataclass(frozen=True)
class Picture:
    """One image input: ``view``, edge ``size`` [px], ``layout``; float32 ``(pixel / 255 - mean) / std`` or uint8."""

    view: str
    size: int
    layout: str
    float32: bool
    mean: NDArray[np.float64]
    std: NDArray[np.float64]


@dataclass(frozen=True)
class Numbers:
    """One input of measured numbers: ``parts`` one after the other, less ``mean``, by ``std``."""

    parts: tuple[str, ...]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]


@dataclass(frozen=True)
class Reads:
    """What a policy is told. ``instruction``: the input for it, or empty; ``known``: its numbers by instruction."""

    pictures: dict[str, Picture]
    numbers: dict[str, Numbers]
    instruction: str
    known: dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Actions:
    """What it answers.

    Attributes:
        key: of the answer, or the output's name.
        rows, columns: its shape.
        row_period: between rows [s].
        type: of JOINT_TYPES or TOOL_TYPES.
        motion: columns of the arm, n or 6.
        scale, offset: ``value = raw * scale + offset``, per column or (rows, columns).
        gripper: column of the gripper; -1: the gripper stays as it is.
        open, closed: that column's values for the open and the closed gripper.
        join_rows: rows over which a chunk is led from the committed rows to the policy's own.
    """

    key: str
    rows: int
    columns: int
    row_period: float
    type: str
    motion: tuple[int, ...]
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]
    gripper: int
    open: float
    closed: float
    join_rows: int


@dataclass(frozen=True)
class Server:
    """Where an openpi server is, and how far it is trusted. Times in s.

    Attributes:
        url: ws:// or wss://.
        answer_within: from the look at the scene on; for all candidates together.
        candidates: how often it is asked, time permitting.
        largest: answer that is taken [bytes].
        headers: of the request to connect.
        expect: what its metadata must say.
    """

    url: str
    answer_within: float
    candidates: int
    largest: int
    headers: dict[str, str] = field(repr=False)
    expect: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graphs:
    """An ONNX pair: ``encoder`` once per look, then ``steps`` Euler steps of ``step`` from time ``begin`` to ``end``.

    ``carry``: input of the step by output of the encoder; ``noise``, ``time``, ``velocity``: names of the step's inputs
    and output; ``features``: output of the encoder for a failure detector, or empty. Without ``step`` the encoder
    itself writes the actions.
    """

    encoder: str
    step: str
    carry: dict[str, str]
    noise: str
    time: str
    velocity: str
    begin: float
    end: float
    steps: int
    features: str


@dataclass(frozen=True)
class Description:
    """All of the file. ``instructions``: those that are taken; empty: any."""

    name: str
    adapter: str
    image_size: int
    instructions: tuple[str, ...]
    reads: Reads
    actions: Actions
    server: Server | None
    graphs: Graphs | None
