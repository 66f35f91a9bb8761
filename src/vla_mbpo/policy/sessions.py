"""The session of a policy's bundle, whoever made the policy: this package's own graphs, or a foreign one's adapter."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.engines.sessions import CPU, Place
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.policy.runtime import Candidates, FloatArray, PolicySession


class Policy(Protocol):
    """What proposes chunks. One thread at a time, but for ``trouble`` and ``facts``."""

    bundle: Bundle
    version: str
    image_size: int
    horizon: int

    @property
    def trouble(self) -> str:
        """What is wrong at the moment, or an empty string."""

    def facts(self) -> dict[str, object]:
        """Values for /diagnostics."""

    def check_instruction(self, text: str) -> None:
        """Raise UnknownInstruction for what the policy does not know."""

    def try_out(self, joints: int, horizon: int) -> None:
        """Sample once. ConfigError: nothing that could be proposed to this arm."""

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
        """See PolicySession.infer; a foreign policy may give fewer than ``k``, or raise NoChunk."""


def load_policy(path: Path, spec: RobotSpec, **options: Any) -> Policy:
    """The session of the bundle in ``path``, see ``open_policy``."""
    return open_policy(Bundle.load(path), spec, **options)


def open_policy(
    bundle: Bundle, spec: RobotSpec, threads: int = 1, steps: int = 5, patient: bool = False, place: Place = CPU
) -> Policy:
    """The session of a verified bundle.

    Args:
        bundle: of kind ``policy``; its manifest may name an ``adapter``.
        spec: the robot that is to be moved.
        threads: of a session that runs here.
        steps: of the flow of this package's own policies.
        patient: time stands still while the policy thinks, so that it may take long.
        place: where this package's own graphs run; foreign ones run on the CPU.

    Raises:
        ConfigError: the bundle is not a policy's or another robot's, its description is wrong, or a package of the
            extra is missing.
    """
    if bundle.adapter is None:
        _require_robot(bundle, spec)
        return PolicySession(bundle, threads, steps, place, spec.gripper_speed)
    place.require_cpu(f"bundle {bundle.path.name} is a foreign policy's")
    made_for = bundle.manifest.get("robot")
    require(made_for == spec.name, f"bundle {bundle.path.name}: robot", made_for, f"the robot is {spec.name}")
    try:
        from vla_mbpo.policy.foreign.reading import read_description

        description = read_description(bundle.path, spec)
        if description.adapter == "openpi":
            from vla_mbpo.policy.foreign.openpi import OpenpiSession

            return OpenpiSession(bundle, description, spec, patient)
        from vla_mbpo.policy.foreign.onnx_pair import OnnxSession

        return OnnxSession(bundle, description, spec, threads)
    except ModuleNotFoundError as error:
        field = f"bundle {bundle.path.name}: adapter"
        raise ConfigError(field, bundle.adapter, f"needs {error.name}: pip install -e '.[openpi]'") from error


def _require_robot(bundle: Bundle, spec: RobotSpec) -> None:
    """Nothing in a chunk says for which arm it was thought: the node writes its own robot's joint names on it."""
    made, name = bundle.manifest, f"bundle {bundle.path.name}"
    require(made["kind"] == "policy", name, f"a {made['kind']}", "a policy's bundle")
    require(made["joints"] == list(spec.joints), f"{name}: joints", made["joints"],
            f"those of {spec.name}, {list(spec.joints)}: a policy drives the robot that it was trained on")  # fmt: skip
    same = round(made["row_period"] * 1e9) == spec.row_period
    require(same, f"{name}: row_period", made["row_period"], f"{spec.row_period / 1e9:g} s, as {spec.name} has it")
