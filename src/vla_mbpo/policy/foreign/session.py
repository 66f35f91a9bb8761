"""What the sessions of foreign policies have in common: instructions, one try, answers to candidates."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.policy.foreign.actions import Decoder
from vla_mbpo.policy.foreign.description import FILE, Description
from vla_mbpo.policy.foreign.errors import NoChunk
from vla_mbpo.policy.foreign.observed import Observed
from vla_mbpo.policy.runtime import Candidates
from vla_mbpo.policy.vocabulary import Instructions

FloatArray = NDArray[np.float64]
NO_FEATURES = np.zeros(0, np.float32)


class ForeignSession(ABC):
    """As PolicySession: one bundle, candidates from one observation. One thread at a time.

    Attributes:
        version: the bundle's; it does not cover what a server has loaded.
        image_size: edge of the pictures that it is given [px].
        horizon: rows of a candidate.
    """

    def __init__(self, bundle: Bundle, description: Description, spec: RobotSpec) -> None:
        """ConfigError: the description does not fit the robot, or is not the one that the manifest was made of."""
        stated = (bundle.adapter, bundle.instructions)
        made = (description.adapter, Instructions(description.instructions))
        require(stated == made, f"bundle {bundle.path.name}: manifest", stated, f"{FILE} says {made}")
        self.bundle, self.version = bundle, bundle.version
        self.description, self._spec = description, spec
        self._decoder, self._observed = Decoder(description.actions, spec), Observed(description, spec)
        self.image_size, self.horizon = description.image_size, self._decoder.horizon

    @property
    def trouble(self) -> str:
        """What is wrong at the moment, or an empty string. Any thread."""
        return ""

    def facts(self) -> dict[str, object]:
        """Values for /diagnostics. Any thread."""
        return {}

    def check_instruction(self, text: str) -> None:
        """Raise UnknownInstruction for one that this policy is not told of, that is empty or too long."""
        self.bundle.instructions.check(text)

    def try_out(self, joints: int, horizon: int) -> None:
        """Ask once, from black pictures. ConfigError: no answer that could be proposed, or one for another arm."""
        field, fits = f"bundle {self.bundle.path.name}", joints == len(self._spec.joints) and self.horizon <= horizon
        require(fits, field, f"chunks of shape {(self.horizon, joints)}", f"at most {(horizon, joints)}")
        dark, still = np.zeros((self.image_size, self.image_size, 3), np.uint8), np.zeros(joints)
        seen = Observation(0, dark, dark, self._spec.home, still, self._spec.gripper_range[1])
        instruction, none = (self.description.instructions or ("hold still",))[0], np.zeros((0, joints))
        try:
            self.infer(seen, instruction, none, none[:, 0], 1, np.random.default_rng(0))
        except NoChunk as error:
            raise ConfigError(field, error.reason, error.text) from error

    def infer(
        self,
        observation: Observation,
        instruction: str,
        prefix: FloatArray,
        prefix_gripper: FloatArray,
        k: int,
        rng: np.random.Generator,
        noise: float = 1.0,
        spread: float = 1.0,
    ) -> Candidates:
        """As PolicySession.infer; ``k`` is the most: a policy may give fewer.

        Raises:
            NoChunk: nothing that may be proposed, and why. One answer that is not sound spoils all of the look.
        """
        self.check_instruction(instruction)
        scale = noise * np.linspace(1.0, spread, k)
        self._features = NO_FEATURES
        made = [
            self._decoder.decode(answer, observation, prefix, prefix_gripper)
            for answer in self._answers(observation, instruction, scale, rng)
        ]
        positions, gripper = (np.stack(parts) for parts in zip(*made, strict=True))
        return Candidates(positions, gripper, self._features)

    @abstractmethod
    def _answers(
        self, observation: Observation, instruction: str, scale: FloatArray, rng: np.random.Generator
    ) -> Iterator[Any]:
        """At least one answer, at most one per entry of ``scale`` (k,), the noise's standard deviations.

        May set ``_features`` (F,) float32.
        """
