"""From bytes to a message that is almost a good one: a valid chunk, state and set point, then a few mutations of them.

Bytes 0 to 2 choose how many mutations, the pose the arm rests in, and the action type. Each mutation is a record of 12
bytes: operation, two parameters, a float64. Missing bytes are zeros, so every byte string is an input.
"""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.robot import RobotSpec

NOW = 1_000_000_120_000_000  # [ns]; observation 120 ms before
RECORD = struct.Struct("<BBHd")
MAX_RECORDS = 5
POSES = 64  # 0 to 31: home; the others anywhere within the limits
SPECIAL = (np.nan, np.inf, -np.inf, 5e-324, 1e-301, 1e308, -1e308, 1e6, -0.0, 3.0)
ARRAYS = ("positions", "gripper", "reference", "measured", "velocities", "commanded")
STAMPS = ("stamp", "expiry", "state_stamp", "row_period")
NUMBERS = {"horizon": 16, "committed_rows": 16, "candidate": 16, "action_type": 8, "set_id": 63}  # bits
LENGTHS = (0, 1, 6, 15, 17, 112, 4096, 65535)


@dataclass
class Fields:
    """Everything that goes into the messages. ``commanded`` empty: no set point yet."""

    positions: NDArray[np.float64]
    gripper: NDArray[np.float64]
    reference: NDArray[np.float64]
    measured: NDArray[np.float64]  # fingers at the end
    velocities: NDArray[np.float64]
    commanded: NDArray[np.float64]
    names: list[str]
    state_names: list[str]
    stamp: int = NOW - 120_000_000
    expiry: int = NOW + 680_000_000
    state_stamp: int = NOW - 5_000_000
    row_period: int = 50_000_000
    horizon: int = 16
    committed_rows: int = 3
    candidate: int = 0
    action_type: int = 0
    set_id: int = 1


class Mutator:
    """Makes fields from bytes. The same bytes give the same fields."""

    def __init__(self, spec: RobotSpec) -> None:
        """Fix the poses."""
        self._spec = spec
        rng = np.random.default_rng(7)
        poses = rng.uniform(spec.lower, spec.upper, (POSES, len(spec.joints)))
        poses[: POSES // 2] = spec.home
        self._poses = poses
        self._operations = (
            self._set, self._special, self._nudge, self._nudge, self._flip, self._scale, self._step, self._ramp,
            self._ramp, self._rows, self._stamp, self._number, self._name, self._resize, self._rest, self._set_point,
        )  # fmt: skip

    def fields(self, data: bytes) -> Fields:
        """The fields that ``data`` stands for."""
        data = data[: 3 + MAX_RECORDS * RECORD.size].ljust(3 + MAX_RECORDS * RECORD.size, b"\0")
        made = self._valid(self._poses[data[1] % POSES], data[2] % 2)
        for k in range(data[0] % (MAX_RECORDS + 1)):
            operation, small, large, value = RECORD.unpack_from(data, 3 + k * RECORD.size)
            self._operations[operation % len(self._operations)](made, small, large, value)
        return made

    def wire(self, data: bytes, message: bytes) -> bytes | None:
        """The serialised message with some bytes replaced, for one input in eight; None for the others."""
        if len(data) < 3 or data[2] < 224:
            return None
        changed = bytearray(message)
        for at, value in struct.iter_unpack("<HB", data[3 : 3 + len(data[3:15]) // 3 * 3]):
            changed[at % min(len(changed), 260 if value & 1 else len(changed))] = value
        return bytes(changed[: len(changed) - data[1] if data[2] & 16 else len(changed)])

    def _valid(self, pose: NDArray[np.float64], delta: int) -> Fields:
        n, fingers = len(self._spec.joints), len(self._spec.gripper_joints)
        return Fields(
            positions=np.tile(pose * (1 - delta), (16, 1)),
            gripper=np.full(16, 0.04),
            reference=pose.copy(),
            measured=np.r_[pose, np.full(fingers, 0.02)],
            velocities=np.zeros(n + fingers),
            commanded=pose.copy(),
            names=list(self._spec.joints),
            state_names=[*self._spec.joints, *self._spec.gripper_joints],
            action_type=delta,
        )

    def _set(self, made: Fields, small: int, large: int, value: float) -> None:
        array = getattr(made, ARRAYS[small % len(ARRAYS)])
        if array.size:
            array.flat[large % array.size] = value

    def _special(self, made: Fields, small: int, large: int, value: float) -> None:
        self._set(made, small, large, SPECIAL[small // len(ARRAYS) % len(SPECIAL)])

    def _nudge(self, made: Fields, small: int, large: int, value: float) -> None:
        array = getattr(made, ARRAYS[small % len(ARRAYS)])
        if array.size:
            array.flat[large % array.size] += _amount(large) * 10.0 ** -(small // len(ARRAYS) % 4)

    def _flip(self, made: Fields, small: int, large: int, value: float) -> None:
        array = getattr(made, ARRAYS[small % len(ARRAYS)])
        if array.size:
            array.view(np.uint8).flat[large % array.nbytes] ^= 1 << (small // len(ARRAYS) % 8)

    def _scale(self, made: Fields, small: int, large: int, value: float) -> None:
        name = ARRAYS[small % len(ARRAYS)]
        with np.errstate(all="ignore"):
            setattr(made, name, getattr(made, name) * (value if small & 128 else 1.0 + 0.2 * _amount(large)))

    def _step(self, made: Fields, small: int, large: int, value: float) -> None:
        if made.positions.ndim == 2:
            made.positions[small % 16 :, small // 16 % made.positions.shape[1]] += 0.2 * _amount(large)
        else:
            made.gripper[small % 16 :] += 0.1 * _amount(large)

    def _ramp(self, made: Fields, small: int, large: int, value: float) -> None:
        """A motion from rest to rest, as an expert would make it: of some joints fast, of one joint, of the gripper."""
        t = np.arange(1, 17) / 16
        curve = _amount(large) * t**2 * (3 - 2 * t)
        if small & 128 and made.positions.shape == (16, 7):
            made.positions[:, [bool(small & 1 << joint) for joint in range(7)]] += 1.3 * curve[:, None]
        elif small & 8 or made.positions.shape != (16, 7):
            made.gripper[:16] += 0.1 * curve[: len(made.gripper)]
        else:
            made.positions[:, small % 7] += (0.6 if small & 16 else 0.2) * curve

    def _rows(self, made: Fields, small: int, large: int, value: float) -> None:
        """Fewer or more rows, everywhere or (``large`` odd) only in one of the fields."""
        count = small % 20
        if made.positions.ndim == 2:
            made.positions = np.resize(made.positions, (count, 7))
        if not large & 1:
            made.gripper = np.resize(made.gripper, count if large & 2 else 0)
        if not large & 4:
            made.horizon = count

    def _stamp(self, made: Fields, small: int, large: int, value: float) -> None:
        """Shift by up to +-0.6 s, or set to anything the message can hold."""
        name = STAMPS[small % len(STAMPS)]
        shifted = getattr(made, name) + round(0.6e9 * _amount(large))
        anything = int.from_bytes(RECORD.pack(0, 0, 0, value)[4:], "little") % 4_294_967_296_000_000_000
        setattr(made, name, anything - 2_147_483_648_000_000_000 if small & 128 else shifted)

    def _number(self, made: Fields, small: int, large: int, value: float) -> None:
        name = tuple(NUMBERS)[small % len(NUMBERS)]
        setattr(made, name, (large % 8 if small & 128 else large) % (1 << NUMBERS[name]))

    def _name(self, made: Fields, small: int, large: int, value: float) -> None:
        names = made.names if small & 1 else made.state_names
        at = large % (len(names) + 1)
        if small & 2:
            names.insert(at, ("", "x", "panda_joint1", "\N{GREEK SMALL LETTER ALPHA}" * 300)[small // 4 % 4])
        elif small & 4:
            names.reverse()
        else:
            del names[at:]

    def _resize(self, made: Fields, small: int, large: int, value: float) -> None:
        name = ARRAYS[small % len(ARRAYS)]
        setattr(made, name, np.resize(getattr(made, name), LENGTHS[large % len(LENGTHS)]))

    def _rest(self, made: Fields, small: int, large: int, value: float) -> None:
        """Move arm, set point, reference and rows together, so that only the pose itself can be wrong."""
        offset, joint = 3.0 * _amount(large), small % 7
        for name in ("reference", "measured", "commanded"):
            array = getattr(made, name)
            if array.size > joint:
                array[joint] += offset
        if made.action_type == 0 and made.positions.ndim == 2 and made.positions.shape[1] > joint:
            made.positions[:, joint] += offset

    def _set_point(self, made: Fields, small: int, large: int, value: float) -> None:
        made.commanded = made.commanded + 0.3 * _amount(large) if small & 1 else np.zeros(0)


def _amount(large: int) -> float:
    """From -1 to 1."""
    return large / 32767.5 - 1.0
