"""What a world model imagines of chunks, for a report: by the bundle that is named, or by the one that spoke then."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.chunk import ActionChunk, ActionType
from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.imagination.dream import Dream, dream
from vla_mbpo.imagination.session import WorldModelSession
from vla_mbpo.paths import bundle_dir
from vla_mbpo.policy.vocabulary import UnknownInstruction

FLOW_STEPS = 4  # Euler steps per view


class Imagination:
    """World models that are at hand, each loaded once. One thread."""

    def __init__(self, spec: RobotSpec, chosen: str | Path = "") -> None:
        """``chosen``: bundle, a name or a folder; empty: the one that is named as a version says, if it is the same."""
        self._spec, self._chosen = spec, chosen
        self._loaded: dict[str, WorldModelSession | str] = {}

    def session(self, version: str) -> WorldModelSession | str:
        """The world model for what ``version`` (name@digits, may be empty) spoke of, or why there is none."""
        key = str(self._chosen) or version
        if key not in self._loaded:
            self._loaded[key] = self._load(version)
        return self._loaded[key]

    def _load(self, version: str) -> WorldModelSession | str:
        if not (self._chosen or version):
            return "no world model vetted here, and none was named"
        try:
            found = WorldModelSession.load(bundle_dir(self._chosen or version.split("@")[0]), self._spec, pixels=True)
        except ConfigError as error:
            return f"the world model is not at hand: {error}"
        if not self._chosen and found.version != version:
            return f"the world model at hand is {found.version}, and the one that vetted was {version}"
        return found

    def of(self, chunk: ActionChunk, observation: Observation, instruction: str, version: str) -> Dream | str:
        """What is imagined of the chunk, or why nothing is. The same noise every time."""
        session = self.session(version)
        if isinstance(session, str):
            return session
        if chunk.action_type != ActionType.JOINT_POSITION or {len(chunk.positions), len(chunk.gripper)} != {
            session.horizon
        }:
            return f"the world model imagines chunks of {session.horizon} rows of joint positions and openings"
        rows: tuple[NDArray[np.float64], NDArray[np.float64]] = (chunk.positions, chunk.gripper)
        if not all(np.isfinite(part).all() for part in rows):
            return "the chunk holds numbers that are not finite"
        try:
            return dream(session, observation, instruction, [rows], np.random.default_rng(0), FLOW_STEPS)
        except (ConfigError, UnknownInstruction) as error:  # cameras of another size, words that it does not know
            return f"nothing is imagined: {error}"
