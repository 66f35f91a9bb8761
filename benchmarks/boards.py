"""A robot with a board and a camera in random places, rendered: for `benchmarks/calibration.py` and the tests."""

from dataclasses import dataclass

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vla_mbpo.calibrate.board import Board, View
from vla_mbpo.calibrate.intrinsics import Lens
from vla_mbpo.calibrate.poses import FloatArray, ToolPoses, inverse, pose
from vla_mbpo.core.robot import RobotSpec

OVERSAMPLED = 2  # rendered pixels per picture's pixel
MARGIN = 1.15  # of the rendered field of view, for what distortion draws in
REACH = 0.6  # rad that joints are away from home at most
FLIP = np.diag([1.0, -1.0, -1.0])  # MuJoCo's cameras look along -z, and a plane's picture has y up


@dataclass(frozen=True)
class Truth:
    """One random set-up.

    Attributes:
        lens: the camera's.
        in_hand: whether the camera is on the tool and the board in the room, or the reverse.
        camera: optical frame in the tool's or base frame, (4, 4).
        target: board in the base or the tool's frame, (4, 4).
    """

    lens: Lens
    in_hand: bool
    camera: FloatArray
    target: FloatArray

    def board(self, tool: FloatArray) -> FloatArray:
        """Board, camera frame, (4, 4), at a tool pose, base frame."""
        carrier = tool if self.in_hand else inverse(tool)
        return inverse(carrier @ self.camera) @ self.target


def random_lens(rng: np.random.Generator, size: tuple[int, int] = (640, 480)) -> Lens:
    """Horizontal field of view 50 to 75 degrees, off-centre by up to 2 %, fx and fy by 1 %, a little distortion."""
    width, height = size
    focal = width / 2 / np.tan(np.radians(rng.uniform(50, 75)) / 2)
    centre = 0.5 * (np.array(size) - 1) + rng.uniform(-0.02, 0.02, 2) * width
    matrix = np.array([[focal, 0, centre[0]], [0, focal * rng.uniform(0.99, 1.01), centre[1]], [0, 0, 1]])
    distortion = np.r_[rng.uniform(-0.15, 0.10), rng.uniform(-0.05, 0.05), rng.uniform(-1e-3, 1e-3, 2), 0.0]
    return Lens(matrix, distortion, size)


def random_turn(rng: np.random.Generator, degrees: float) -> Rotation:
    """About a random axis by up to so much."""
    axis = rng.standard_normal(3)
    return Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.radians(rng.uniform(0, degrees)))


def random_truth(rng: np.random.Generator, spec: RobotSpec, board: Board, lens: Lens, in_hand: bool) -> Truth:
    """Camera and board such that the one is before the other when the robot is near home."""
    home = ToolPoses(spec).at(spec.home)
    middle = _about_centre(board)
    far = board.extent[0] * lens.matrix[0, 0] / lens.size[0] * rng.uniform(1.3, 1.8)
    seen = pose(random_turn(rng, 25), np.array([*rng.uniform(-0.04, 0.04, 2), far])) @ middle
    if in_hand:
        # Beside the hand and looking along the tool, wherever the mount has turned it.
        turn = Rotation.from_euler("z", rng.uniform(-np.pi, np.pi)) * random_turn(rng, 20)
        camera = pose(turn, rng.uniform((-0.09, -0.09, -0.10), (0.09, 0.09, 0.0)))
        return Truth(lens, True, camera, home @ camera @ seen)
    # On the tool, faced away from the hand and seen from in front of it: as z points into a board, against the tool's.
    held = pose(random_turn(rng, 20) * Rotation.from_rotvec([np.pi, 0, 0]), np.array([0, 0, rng.uniform(0.03, 0.08)]))
    target = held @ middle
    return Truth(lens, False, home @ target @ inverse(seen), target)


def joint_positions(rng: np.random.Generator, spec: RobotSpec, board: Board, truth: Truth, n: int) -> list[FloatArray]:
    """``n`` postures near home in which the whole board is in the picture, faced by the camera, and not far off."""
    kinematics, found = ToolPoses(spec), []
    for _ in range(400_000):
        joints = np.clip(spec.home + rng.uniform(-REACH, REACH, len(spec.joints)), spec.lower, spec.upper)
        at = truth.board(kinematics.at(joints))
        if at[2, 2] > 0.5 and share_in_picture(truth.lens, at, board.corners) > 0.9:
            found.append(joints)
            if len(found) == n:
                return found
    raise RuntimeError(f"{len(found)} of {n} postures in which the board is seen")


def free_boards(rng: np.random.Generator, board: Board, lens: Lens, n: int) -> list[FloatArray]:
    """``n`` poses of a board held before the camera, camera frame: all over the picture, tilted, near and far.

    Parts of it may be out of sight.
    """
    found: list[FloatArray] = []
    middle = _about_centre(board)
    near = board.extent[0] * lens.matrix[0, 0] / lens.size[0]  # distance at which it is as wide as the picture
    while len(found) < n:
        place = lens.size * rng.uniform(0.15, 0.85, 2)
        ray = np.linalg.solve(lens.matrix, np.r_[place, 1.0])
        tilt = Rotation.from_euler("zyx", [rng.uniform(-180, 180), *rng.uniform(-40, 40, 2)], degrees=True)
        at = pose(tilt, ray * near * rng.uniform(0.9, 2.2)) @ middle
        if at[2, 2] > 0.6 and share_in_picture(lens, at, board.corners) > 0.6:
            found.append(at)
    return found


def share_in_picture(lens: Lens, at: FloatArray, corners: FloatArray) -> float:
    """Share of a board's corners that is seen, the board at (4, 4), camera frame."""
    points = corners @ at[:3, :3].T + at[:3, 3]
    if points[:, 2].min() < 0.05:
        return 0.0
    pixels, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), lens.matrix, lens.distortion)
    flat = np.asarray(pixels).reshape(-1, 2)
    return float(((flat > 8) & (flat < np.array(lens.size) - 9)).all(axis=1).mean())


class Studio:
    """Renders the robot, the board and the camera. Holds a GL context: one thread."""

    def __init__(self, spec: RobotSpec, board: Board, lens: Lens, grain: int = 0) -> None:
        """``grain``: seed of the sensor's noise, one grey level."""
        world = mujoco.MjSpec.from_file(str(spec.urdf))
        world.compiler.discardvisual = False  # materials go with it
        _add_board(world, board)
        self._lens, self._rng = lens, np.random.default_rng(grain)
        width, height = (OVERSAMPLED * edge for edge in lens.size)
        world.visual.global_.offwidth, world.visual.global_.offheight = width, height
        world.visual.quality.offsamples = world.visual.quality.shadowsize = 0
        world.visual.map.znear = 0.01
        # A pinhole that sees a little more than the lens, focal length the same for x and y, centred.
        focal = OVERSAMPLED * min(lens.matrix[0, 0], lens.matrix[1, 1]) / MARGIN
        fovy = np.degrees(2 * np.arctan(height / 2 / focal))
        world.worldbody.add_body(name="eye", mocap=True).add_camera(name="eye", fovy=fovy)
        light = world.worldbody.add_light(name="light", pos=[0, 0, 3], dir=[0, 0, -1], castshadow=False)
        light.type = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
        light.ambient, light.diffuse, light.specular = [0.5] * 3, [0.2] * 3, [0.0] * 3
        self._model = world.compile()
        self._data = mujoco.MjData(self._model)
        self._extent = np.array([*board.extent, 0.0])
        self._columns = [int(self._model.joint(name).qposadr[0]) for name in spec.joints]
        self._renderer = mujoco.Renderer(self._model, height, width)
        self._map = _lens_map(lens, focal, (width, height))

    def picture(self, camera: FloatArray, board: FloatArray, joints: FloatArray | None = None) -> NDArray[np.uint8]:
        """Grey (h, w) of what the camera sees; both poses in the world's frame. Without joints: no robot in sight."""
        self._place("eye", camera[:3, :3] @ FLIP, camera[:3, 3])
        centre = board @ np.r_[0.5 * self._extent, 1.0]
        self._place("board", board[:3, :3] @ FLIP, centre[:3])
        if joints is not None:
            self._data.qpos[self._columns] = joints
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        self._renderer.update_scene(self._data, "eye")
        grey = cv2.cvtColor(self._renderer.render(), cv2.COLOR_RGB2GRAY)
        bent = cv2.remap(grey, *self._map, cv2.INTER_LINEAR)
        width, height = self._lens.size
        small = bent.reshape(height, OVERSAMPLED, width, OVERSAMPLED).astype(np.float32).mean(axis=(1, 3))
        return np.clip(np.rint(small + self._rng.standard_normal(small.shape)), 0, 255).astype(np.uint8)

    def close(self) -> None:
        """Free the GL context."""
        self._renderer.close()

    def _place(self, name: str, turn: FloatArray, place: FloatArray) -> None:
        index = self._model.body(name).mocapid[0]
        self._data.mocap_pos[index] = place
        self._data.mocap_quat[index] = Rotation.from_matrix(turn).as_quat(scalar_first=True)


def pictured(
    studio: Studio, spec: RobotSpec, board: Board, truth: Truth, postures: list[FloatArray]
) -> tuple[list[View], FloatArray]:
    """Views of the board and tool poses (n, 4, 4); postures without a view are left out."""
    kinematics = ToolPoses(spec)
    views, tools = [], []
    for joints in postures:
        tool = kinematics.at(joints)
        camera, at = (tool @ truth.camera, truth.target) if truth.in_hand else (truth.camera, tool @ truth.target)
        view = board.detect(studio.picture(camera, at, joints))
        if view is not None:
            views.append(view)
            tools.append(tool)
    return views, np.array(tools)


def noisy(view: View, noise: float, rng: np.random.Generator) -> View:
    """With Gaussian noise [px] on x and y of each corner."""
    return View(view.ids, view.pixels + noise * rng.standard_normal(view.pixels.shape), view.size)


def _about_centre(board: Board) -> FloatArray:
    """The board's frame in one at its centre."""
    return pose(Rotation.identity(), -0.5 * np.array([*board.extent, 0.0]))


def _add_board(world: mujoco.MjSpec, board: Board) -> None:
    """A plane with the board's picture, seen from one side."""
    image = board.image(80)
    texture = world.add_texture(
        name="board", type=mujoco.mjtTexture.mjTEXTURE_2D, width=image.shape[1], height=image.shape[0], nchannel=3
    )
    texture.data = np.repeat(image[:, :, None], 3, axis=2).tobytes()
    material = world.add_material(name="board", reflectance=0.0, specular=0.0, texrepeat=[1, 1])
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "board"
    body = world.worldbody.add_body(name="board", mocap=True)
    half = [board.extent[0] / 2, board.extent[1] / 2, 0.01]
    kind = mujoco.mjtGeom.mjGEOM_PLANE
    body.add_geom(name="board", type=kind, size=half, material="board", contype=0, conaffinity=0)


def _lens_map(lens: Lens, focal: float, size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """For each pixel of the oversampled picture: where it is in the rendered one."""
    columns, rows = size
    y, x = np.mgrid[:rows, :columns].astype(np.float64)
    # The centre of oversampled pixel i is at (i + 0.5) / OVERSAMPLED - 0.5 of the picture's.
    pixels = (np.stack([x.ravel(), y.ravel()], axis=1) + 0.5) / OVERSAMPLED - 0.5
    enough = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 1e-9)
    points = pixels.reshape(-1, 1, 2)
    rays = cv2.undistortPointsIter(points, lens.matrix, lens.distortion, np.eye(3), np.eye(3), enough)
    flat = focal * np.asarray(rays).reshape(-1, 2) + (np.array(size) - 1) / 2
    maps = flat.reshape(rows, columns, 2).astype(np.float32)
    return maps[..., 0], maps[..., 1]
