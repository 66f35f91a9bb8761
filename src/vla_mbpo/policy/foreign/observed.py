"""An observation as a foreign policy reads it: pictures in its size and layout, measured numbers in its order."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation

from vla_mbpo.core.errors import require
from vla_mbpo.core.observation import Observation
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.gate.kinematics import Kinematics
from vla_mbpo.policy.foreign.description import Description, Numbers, Picture


class Observed:
    """Makes the policy's inputs. One thread."""

    def __init__(self, description: Description, spec: RobotSpec) -> None:
        """ConfigError: normalisation that does not fit the arm's numbers."""
        self._reads, self._size, self._spec = description.reads, description.image_size, spec
        self._open, self._closed = description.actions.open, description.actions.closed
        tool = any("tool" in numbers.parts for numbers in self._reads.numbers.values())
        self._kinematics = Kinematics(spec) if tool else None
        still = np.zeros(len(spec.joints))
        dark = np.zeros((self._size, self._size, 3), np.uint8)
        for key, numbers in self._reads.numbers.items():
            width = len(self._measured(numbers, Observation(0, dark, dark, spec.home, still, 0.0)))
            for name, value in (("mean", numbers.mean), ("std", numbers.std)):
                fits = value.shape in ((), (width,))
                require(fits, f"observation.state.{key}.{name}", f"shape {value.shape}", f"one number, or {width}")

    def inputs(self, observation: Observation) -> dict[str, NDArray[Any]]:
        """Arrays by name, without a batch dimension: pictures uint8 or float32, measured numbers float32."""
        for view in ("head", "wrist"):
            shape, size = getattr(observation, view).shape, self._size
            require(shape == (size, size, 3), f"{view} image", shape, f"expected ({size}, {size}, 3)")
        found: dict[str, NDArray[Any]] = {
            key: _picture(getattr(observation, picture.view), picture) for key, picture in self._reads.pictures.items()
        }
        for key, numbers in self._reads.numbers.items():
            found[key] = ((self._measured(numbers, observation) - numbers.mean) / numbers.std).astype(np.float32)
        return found

    def _measured(self, numbers: Numbers, observation: Observation) -> NDArray[np.float64]:
        parts = {
            "joints": lambda: observation.joints,
            "velocities": lambda: observation.velocities,
            "gripper": lambda: [self._gripper(observation.gripper)],
            "tool": lambda: self._tool(observation.joints),
        }
        return np.concatenate([parts[name]() for name in numbers.parts])

    def _gripper(self, opening: float) -> float:
        """The opening [m] as the policy's own actions give it: ``closed`` to ``open``."""
        low, high = self._spec.gripper_range
        return self._closed + (opening - low) / (high - low) * (self._open - self._closed)

    def _tool(self, joints: NDArray[np.float64]) -> NDArray[np.float64]:
        """Position [m] and rotation vector [rad] of the tool, base frame, (6,)."""
        assert self._kinematics is not None
        position, rotation = self._kinematics.tool_at(joints)
        return np.r_[position, Rotation.from_matrix(rotation).as_rotvec()]


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """``{"a.b": x}`` as ``{"a": {"b": x}}``: openpi's servers read either, by robot."""
    found: dict[str, Any] = {}
    for key, value in flat.items():
        *above, last = key.split(".")
        place = found
        for name in above:
            place = place.setdefault(name, {})
        place[last] = value
    return found


def _picture(image: NDArray[np.uint8], wanted: Picture) -> NDArray[Any]:
    if image.shape[0] != wanted.size:
        image = np.asarray(Image.fromarray(image).resize((wanted.size, wanted.size), Image.Resampling.BILINEAR))
    made: NDArray[Any] = image
    if wanted.float32:
        made = ((image / 255.0 - wanted.mean) / wanted.std).astype(np.float32)
    return np.ascontiguousarray(made if wanted.layout == "hwc" else made.transpose(2, 0, 1))
