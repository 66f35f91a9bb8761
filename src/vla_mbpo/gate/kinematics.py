"""Where the links are for a row of joint positions, and how close they come to the table and to each other.

MuJoCo reads the same URDF as the simulator and RViz. Which link pairs are checked is computed, see ``_checked_pairs``.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.core.robot import RobotSpec

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SAMPLES = 256  # poses that tell a structural pair from one that can collide
STRUCTURAL = 0.95  # share of sampled poses above which ...
STRUCTURAL_DISTANCE = 0.005  # ... a pair closer than this [m] is so by construction. Not the margin: see below
SAMPLE_SEED = 20240
OBSTACLE = "obstacle "  # before an obstacle's name, so that it cannot be a link's


@dataclass(frozen=True)
class _Pairs:
    """Pairs of bodies, their names, and their pairs of geometries: ids, index of the pair, bounding radii [m], (G,)."""

    bodies: list[tuple[int, int]]
    names: tuple[tuple[str, str], ...]
    first: IntArray
    second: IntArray
    index: IntArray
    reach: FloatArray


class Kinematics:
    """Forward kinematics and distances for rows of joint positions. Buffers are reused: one thread.

    The fingers are taken fully open, the widest shape of the hand, so that no verdict depends on a gripper command.

    Attributes:
        pairs: pairs of link names whose distance is checked, (P,).
        obstacle_pairs: pairs of a link and a declared obstacle, (Q,).
    """

    def __init__(
        self,
        spec: RobotSpec,
        world: mujoco.MjSpec | None = None,
        wanted: Callable[[str, str], bool] | None = None,
    ) -> None:
        """Load the URDF.

        Args:
            spec: the robot.
            world: its model in place of the URDF's; then without declared obstacles.
            wanted: of a pair of links that can move towards each other, whether its distance is checked; None: all.

        Raises:
            ConfigError: the URDF cannot be loaded, or lacks a joint or link that the spec names.
        """
        try:
            self.model = (_with_obstacles(spec) if world is None else world).compile()
        except (ValueError, OSError) as error:
            raise ConfigError("urdf", str(spec.urdf), f"MuJoCo cannot load it: {error}") from error
        self.data = mujoco.MjData(self.model)
        self._spec, self._wanted = spec, wanted
        self._columns = np.array([self._joint_address(name) for name in spec.joints])
        for name in spec.gripper_joints:
            address = self._joint_address(name)
            self.data.qpos[address] = self.model.jnt_range[self.model.joint(name).id][1]
        self._base = self._body(spec.base_frame)
        if world is None:
            self._check_base()
        self._tool_body = self._body(spec.tool_link)
        self._prepare_geometry()
        self._allocate(spec.horizon)
        self._count = 0
        self._bounds: tuple[FloatArray, FloatArray] | None = None
        self._corners: tuple[FloatArray, FloatArray] | None = None
        self._self = self._pairs_of(self._movable_pairs())
        self._self = self._pairs_of(self._checked_pairs())
        self._obstacles = self._pairs_of(self._obstacle_pairs())
        self.pairs, self.obstacle_pairs = self._self.names, self._obstacles.names

    def _check_base(self) -> None:
        """Table, boxes and obstacles are declared in the base frame and looked for in the URDF's: they must agree."""
        mujoco.mj_kinematics(self.model, self.data)
        place, turn = self.data.xpos[self._base], self.data.xmat[self._base].reshape(3, 3)
        same = np.allclose(place, 0.0, atol=1e-6) and np.allclose(turn, np.eye(3), atol=1e-6)
        valid = f"the URDF's root, or a frame at its place: {self._spec.base_frame} is at {np.round(place, 4).tolist()}"
        require(same, "base_frame", self._spec.base_frame, f"{valid}, or turned against it")

    @property
    def links(self) -> tuple[str, ...]:
        """Names of links with geometry that may not touch the table: all but those fixed to the base, (L,)."""
        return self._links

    @property
    def tool(self) -> FloatArray:
        """Tool positions of the placed rows, base frame [m], (H, 3)."""
        return self._tool[: self._count]

    @property
    def tool_rotation(self) -> FloatArray:
        """Tool orientations of the placed rows, world frame, (H, 3, 3)."""
        return self._tool_mat[: self._count].reshape(-1, 3, 3)

    def place(self, rows: FloatArray) -> None:
        """Compute link poses of ``rows`` [rad], (H, n). The other methods answer for the rows placed last."""
        if len(rows) > len(self._tool):
            self._allocate(len(rows))
        self._count = count = len(rows)
        self._bounds = self._corners = None
        model, data, columns = self.model, self.data, self._columns
        qpos, geom_xpos, geom_xmat = data.qpos, data.geom_xpos, data.geom_xmat
        tool, tool_mat = data.xpos[self._tool_body], data.xmat[self._tool_body]
        for k, row in enumerate(rows):
            qpos[columns] = row
            mujoco.mj_kinematics(model, data)
            self._xpos[k], self._xmat[k] = geom_xpos, geom_xmat
            self._tool[k], self._tool_mat[k] = tool, tool_mat
        self._tool[:count] -= data.xpos[self._base]
        self._tool[:count] @= data.xmat[self._base].reshape(3, 3)

    def tool_at(self, joints: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Tool position [m] (3,) and rotation (3, 3) at ``joints`` [rad]; the rows placed stay placed."""
        self.data.qpos[self._columns] = joints
        mujoco.mj_kinematics(self.model, self.data)
        return self.data.xpos[self._tool_body].copy(), self.data.xmat[self._tool_body].reshape(3, 3).copy()

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest coordinates of each link in the placed rows, world frame [m], (H, L, 3) each."""
        if self._bounds is None:
            low, high = (corner[:, self._movable] for corner in self._boxes())
            start = self._link_start
            self._bounds = np.minimum.reduceat(low, start, axis=1), np.maximum.reduceat(high, start, axis=1)
        return self._bounds

    def _boxes(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest coordinates of each geometry, (H, G, 3) each; endless for what stands on the base."""
        if self._corners is None:
            shape = self._count, self.model.ngeom, 3
            self._corners = np.full(shape, -np.inf), np.full(shape, np.inf)
            for corner, value in zip(self._corners, self._compute_boxes(), strict=True):
                corner[:, self._movable] = value
            for geom, low, high in self._standing:
                self._corners[0][:, geom], self._corners[1][:, geom] = low, high
        return self._corners

    def _compute_boxes(self) -> tuple[FloatArray, FloatArray]:
        rows, geoms = slice(self._count), self._movable
        centre = self._xpos[rows, geoms].copy()
        axis = self._xmat[rows, geoms, 2::3]  # a cylinder's, world frame, (H, G, 3)
        axial = np.abs(axis)
        reach = axial * self._length[:, None] + self._radius[:, None]
        flat, boxed = self._flat, self._boxed
        slant = np.sqrt(np.clip(1.0 - axial[:, flat] ** 2, 0.0, None))
        reach[:, flat] = axial[:, flat] * self._length[flat, None] + slant * self._radius[flat, None]
        axes = self._xmat[rows, geoms][:, boxed].reshape(self._count, -1, 3, 3)  # [..., a, i]: component a of axis i
        reach[:, boxed] = (np.abs(axes) @ self._half[..., None])[..., 0]
        centre[:, boxed] += (axes @ self._centre[..., None])[..., 0]
        return centre - reach, centre + reach

    def table_clearance(self) -> FloatArray:
        """Signed distance of each link's lowest point above the table plane [m], (H, L)."""
        return self.bounds()[0][:, :, 2] - self._spec.table_height

    def self_clearance(self, cutoff: float) -> FloatArray:
        """Smallest distance of each link pair, at most ``cutoff`` [m], (H, P); below 0: they overlap."""
        return self._clearance(self._self, cutoff)

    def obstacle_clearance(self, cutoff: float) -> FloatArray:
        """Smallest distance of each pair of link and obstacle, at most ``cutoff`` [m], (H, Q)."""
        return self._clearance(self._obstacles, cutoff)

    def _clearance(self, pairs: "_Pairs", cutoff: float) -> FloatArray:
        result = np.full((self._count, len(pairs.names)), cutoff)
        if not pairs.names:
            return result
        centres = np.ascontiguousarray(self._xpos[: self._count].transpose(1, 2, 0))  # geometries first: fast to pick
        gap = centres[pairs.first] - centres[pairs.second]
        # Bounding spheres and boxes first: an exact distance costs microseconds and most pairs are far apart.
        near = (np.einsum("gih,gih->gh", gap, gap) < (pairs.reach[:, None] + cutoff) ** 2).T
        model, data, placed = self.model, self.data, -1
        rows, geoms = np.nonzero(near)
        (low, high), first, second = self._boxes(), pairs.first[geoms], pairs.second[geoms]
        apart = np.maximum(low[rows, first] - high[rows, second], low[rows, second] - high[rows, first]).max(1)
        rows, geoms = rows[apart < cutoff], geoms[apart < cutoff]
        candidates = (array[geoms].tolist() for array in (pairs.first, pairs.second, pairs.index))
        for k, first, second, pair in zip(rows.tolist(), *candidates, strict=True):
            if k != placed:
                data.geom_xpos[:], data.geom_xmat[:], placed = self._xpos[k], self._xmat[k], k
            distance = mujoco.mj_geomDistance(model, data, first, second, cutoff, self._segment)
            if distance < result[k, pair]:
                result[k, pair] = distance
        return result

    def _joint_address(self, name: str) -> int:
        index = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_JOINT, name)
        if index < 0:
            raise ConfigError("joints", name, "must be a joint of the URDF")
        return int(self.model.jnt_qposadr[index])

    def _body(self, name: str) -> int:
        index = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_BODY, name)
        if index < 0:
            raise ConfigError("tool_link or base_frame", name, "must be a link of the URDF")
        return int(index)

    def _prepare_geometry(self) -> None:
        """Shape of each geometry that can move, in MuJoCo's order, which groups geometries by link."""
        model = self.model
        body = model.geom_bodyid
        movable = np.flatnonzero(model.body_weldid[body] != 0)  # fixed to the base: may stand on the table
        # A slice is a view; with several arms there may be fixed geometries between the moving ones.
        together = len(movable) == movable[-1] + 1 - movable[0]
        self._movable: slice | IntArray = slice(movable[0], movable[-1] + 1) if together else movable
        bodies = body[self._movable]
        self._link_start = np.flatnonzero(np.r_[True, bodies[1:] != bodies[:-1]])
        self._links = tuple(model.body(int(b)).name for b in bodies[self._link_start])
        types, size = model.geom_type[self._movable], model.geom_size[self._movable]
        kind = mujoco.mjtGeom
        round_ = (kind.mjGEOM_SPHERE, kind.mjGEOM_CAPSULE, kind.mjGEOM_CYLINDER)
        self._flat = np.flatnonzero(types == int(kind.mjGEOM_CYLINDER))
        self._boxed = np.flatnonzero(~np.isin(types, [int(one) for one in round_]))
        self._radius = size[:, 0]
        self._length = np.where(types == int(kind.mjGEOM_SPHERE), 0.0, size[:, 1])
        # Boxes, and the bounding boxes of meshes and ellipsoids, which contain them.
        box = model.geom_aabb[self._movable][self._boxed]
        self._centre, self._half = box[:, :3], box[:, 3:]
        self._segment = np.zeros(6)
        obstacles = {OBSTACLE + o.name: o for o in self._spec.obstacles}
        names = [model.body(int(b)).name for b in body]
        self._standing = [(g, obstacles[n].lower, obstacles[n].upper) for g, n in enumerate(names) if n in obstacles]

    def _allocate(self, rows: int) -> None:
        geoms = self.model.ngeom
        self._xpos, self._xmat = np.zeros((rows, geoms, 3)), np.zeros((rows, geoms, 9))
        self._tool, self._tool_mat = np.zeros((rows, 3)), np.zeros((rows, 9))

    def _pairs_of(self, bodies: list[tuple[int, int]]) -> "_Pairs":
        """Expand pairs of bodies to pairs of geometries."""
        model = self.model
        rows = [
            (first, second, index)
            for index, (a, b) in enumerate(bodies)
            for first in np.flatnonzero(model.geom_bodyid == a)
            for second in np.flatnonzero(model.geom_bodyid == b)
        ]
        table = np.array(rows, dtype=np.int64).reshape(-1, 3)
        reach = model.geom_rbound[table[:, 0]] + model.geom_rbound[table[:, 1]]
        names = tuple((model.body(a).name, model.body(b).name.removeprefix(OBSTACLE)) for a, b in bodies)
        return _Pairs(bodies, names, table[:, 0], table[:, 1], table[:, 2], reach)

    def _arm_joints_above(self, body: int) -> frozenset[int]:
        """Arm joints between ``body`` and the world."""
        model, found = self.model, set()
        while body:
            start = model.body_jntadr[body]
            for joint in range(start, start + model.body_jntnum[body]):
                if model.jnt_qposadr[joint] in self._columns:
                    found.add(joint)
            body = int(model.body_parentid[body])
        return frozenset(found)

    def _movable_pairs(self) -> list[tuple[int, int]]:
        """Pairs of links with at least two arm joints between them.

        Links across one joint meet at that joint by construction. Gripper joints do not count: hand and fingers
        touch by design, and the gripper limits its own travel.
        """
        solid = [b for b in self._solid() if b not in self._obstacle_bodies()]
        above = {b: self._arm_joints_above(b) for b in solid}
        pairs = [(a, b) for a, b in itertools.combinations(solid, 2) if len(above[a] ^ above[b]) >= 2]
        wanted = self._wanted or (lambda first, second: True)
        return [(a, b) for a, b in pairs if wanted(self.model.body(a).name, self.model.body(b).name)]

    def _obstacle_pairs(self) -> list[tuple[int, int]]:
        """Every link that an arm joint moves, with every declared obstacle."""
        return [(a, b) for a in self._solid() if self._arm_joints_above(a) for b in self._obstacle_bodies()]

    def _solid(self) -> list[int]:
        return [int(b) for b in np.unique(self.model.geom_bodyid) if b]

    def _obstacle_bodies(self) -> list[int]:
        return [self.model.body(OBSTACLE + o.name).id for o in self._spec.obstacles]

    def _checked_pairs(self) -> list[tuple[int, int]]:
        """Movable pairs without those that nearly touch in nearly all of a fixed set of valid poses.

        Such a pair is close because of how the arm is built (two short links around a wrist), and checking it would
        refuse every chunk. A pair that is never close in the sample stays: a sample is no proof. The distance is a
        constant, so that a large margin cannot switch off the pairs it is meant for.
        """
        spec, rng = self._spec, np.random.default_rng(SAMPLE_SEED)
        self.place(rng.uniform(spec.lower, spec.upper, (SAMPLES, len(spec.joints))))
        close = (self.self_clearance(STRUCTURAL_DISTANCE) < STRUCTURAL_DISTANCE).mean(axis=0)
        self._allocate(spec.horizon)
        return [pair for pair, share in zip(self._self.bodies, close, strict=True) if share < STRUCTURAL]


def _with_obstacles(spec: RobotSpec) -> mujoco.MjSpec:
    """The URDF and a box for each declared obstacle."""
    world = mujoco.MjSpec.from_file(str(spec.urdf))
    for obstacle in spec.obstacles:
        centre, half = 0.5 * (obstacle.lower + obstacle.upper), 0.5 * (obstacle.upper - obstacle.lower)
        body = world.worldbody.add_body(name=OBSTACLE + obstacle.name, pos=centre)
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=half)
    return world
