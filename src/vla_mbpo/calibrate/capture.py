"""Pictures into a session: from a folder, or from a running camera with advice."""

import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_mbpo.calibrate import captured
from vla_mbpo.calibrate.board import FloatArray, View
from vla_mbpo.calibrate.guide import Guide
from vla_mbpo.calibrate.poses import ToolPoses
from vla_mbpo.calibrate.session import Session
from vla_mbpo.core.errors import require
from vla_mbpo.core.robot import RobotSpec

SILENCE = 10.0  # s without a picture that can be used before it is given up

Taken = list[tuple[View, FloatArray | None]]


def read(folder: Path, session: Session, spec: RobotSpec | None) -> Taken:
    """Fill the session from a folder; ``spec``: of the robot whose tool poses are needed.

    Raises:
        ConfigError: no picture in which the board is seen, or poses that cannot be read.
    """
    tools = None if spec is None else captured.tool_poses(folder, ToolPoses(spec))
    taken: Taken = []
    for name, image in captured.pictures(folder):
        view = session.board.detect(image)
        if view is None:
            print(f"{name}: no board")
        elif tools is not None and name not in tools:
            print(f"{name}: no robot pose")
        else:
            tool = None if tools is None else tools[name]
            print(f"{name}: {session.take(name, view, tool)}")
            taken.append((view, tool))
    require(session.count > 0, "--pictures", str(folder), "pictures of the board with poses: is it the board declared?")
    return taken


def live(folder: Path, session: Session, spec: RobotSpec | None, topic: str, most: int) -> None:
    """Take pictures from a topic into a folder until there are enough, ``most``, or SIGINT; goes on with what is there.

    Raises:
        ConfigError: nothing comes, or the folder cannot be used.
    """
    from vla_mbpo.nodes.pictures import Pictures

    keep = captured.Folder(folder)
    guide = Guide(session, keep)
    for view, tool in read(folder, session, spec) if keep.used else []:
        guide.note(view, tool)
    kinematics = None if spec is None else ToolPoses(spec)
    stream, said, heard, missing = Pictures(topic, spec), "", time.monotonic(), session.wanting()
    try:
        print(f"{topic}: hold still until a view is taken, then move on. Ctrl-C: no more.", flush=True)
        while missing and session.count < most:
            picture = stream.next(0.2)
            if picture is None:
                silent = time.monotonic() - heard < SILENCE
                require(silent, "--topic", topic, f"{stream.lacking}, but none came for {SILENCE:g} s")
                continue
            heard = time.monotonic()
            tool = None if kinematics is None else kinematics.at(picture.joints)
            taken, text = guide.offer(grey(picture.image), picture.joints, tool)
            if taken:
                missing = session.wanting()
                text = f"{text}; {'missing: ' + '; '.join(missing) if missing else 'enough'}"
            if text != said:
                print(text, flush=True)
            said = text
    except KeyboardInterrupt:
        print(f"{session.count} views", flush=True)
    finally:
        stream.close()


def grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w), of an RGB picture (h, w, 3)."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY), dtype=np.uint8)
