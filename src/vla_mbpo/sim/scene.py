"""The MuJoCo model of the table-top: the robot's URDF plus table, objects, servos and cameras."""

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.errors import require
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.sim.layout import CUBE_HALF, Layout, sample_layout
from vla_mbpo.sim.tasks import Task, find_task

LEAST_MUJOCO = 4  # with 3.8 some tests of the cameras fail, with 3.6 and before nothing works
STEP_NS = 2_000_000  # physics step
CAMERAS = {"head": 50.0, "wrist": 75.0}  # name -> vertical field of view, degrees
BIN_HALF, BIN_WALL, PLATE_RADIUS, MARK_RADIUS = 0.080, 0.045, 0.075, 0.045  # m
BUTTON_TRAVEL, DRAWER_TRAVEL = 0.012, 0.14  # m

_BOX, _CYL = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER
_SERVO_KP = (4500.0, 4500.0, 3500.0, 3500.0, 2000.0, 2000.0, 1500.0)
_SERVO_TORQUE = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)
_STILL = (("panda_link0", "panda_link1"), ("button", "button_cap"), ("cabinet", "drawer"))  # pairs without contact
_SERVO_DAMPING = 0.05  # s; velocity gain per position gain: the lag of the servo behind a ramp


@dataclass(frozen=True)
class Scene:
    """A compiled scene and where it starts.

    Attributes:
        task: what is to be done.
        seed: scene seed.
        layout: what was drawn from the seed.
        model: compiled MuJoCo model.
        qpos0: generalised positions at the start.
        instruction: the task's instruction.
    """

    task: Task
    seed: int
    layout: Layout
    model: mujoco.MjModel
    qpos0: NDArray[np.float64]
    instruction: str

    @classmethod
    def build(cls, spec: RobotSpec, task: str, seed: int) -> "Scene":
        """Build the scene of (task, seed). Raises ConfigError for an unknown task, or another arm."""
        check_arm(spec)
        chosen = find_task(task)
        layout = sample_layout(chosen, seed)
        model = _compile(spec, layout)
        data = mujoco.MjData(model)
        start = spec.home + layout.home_noise[: len(spec.home)]
        for joint, value in zip(spec.joints, start, strict=True):
            data.joint(joint).qpos[0] = value
        for joint in spec.gripper_joints:
            data.joint(joint).qpos[0] = spec.gripper_range[1] / len(spec.gripper_joints)
        return cls(chosen, seed, layout, model, data.qpos.copy(), chosen.instruction)


def check_arm(spec: RobotSpec) -> None:
    """ConfigError: the tabletop is not made for the robot's arm."""
    require(spec.base_frame == _STILL[0][0], "robot", spec.name, "one with sim_panda's arm: the tabletop has no other")


def _compile(spec: RobotSpec, layout: Layout) -> mujoco.MjModel:
    major = int(mujoco.__version__.split(".")[0])
    require(major >= LEAST_MUJOCO, "mujoco", mujoco.__version__, f"{LEAST_MUJOCO} or later for these scenes")
    world = mujoco.MjSpec.from_file(str(spec.urdf))
    world.option.timestep = STEP_NS / 1e9
    world.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    world.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    world.option.impratio = 10
    dress_robot(world, spec, _STILL)
    _add_room(world, layout)
    _add_fixtures(world, layout)
    for colour, (x, y, yaw) in layout.cubes.items():
        quat = [np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
        body = world.worldbody.add_body(name=f"{colour}_cube", pos=[x, y, CUBE_HALF], quat=quat)
        body.add_freejoint(name=f"{colour}_cube")
        _geom(body, f"{colour}_cube", _BOX, [CUBE_HALF] * 3, layout.colours[colour], mass=0.06, friction=0.5)
    for i, (x, y) in enumerate(layout.distractors):
        body = world.worldbody.add_body(name=f"distractor{i}", pos=[x, y, 0.015])
        body.add_freejoint(name=f"distractor{i}")
        _geom(body, f"distractor{i}", _CYL, [0.014, 0.015, 0], (0.55, 0.55, 0.58), mass=0.05)
    _add_cameras(world, layout)
    return world.compile()


def _geom(body, name, kind, size, rgb, pos=(0, 0, 0), mass=None, friction=0.5, solid=True) -> None:
    """Add one geometry; ``solid=False`` is only drawn."""
    geom = body.add_geom(name=name, type=kind, size=size, pos=pos, rgba=[*rgb, 1.0], friction=[friction, 0.01, 0.0002])
    geom.condim = 4
    geom.solref = [0.006, 1.0]
    if mass is not None:
        geom.mass = mass
    if not solid:  # a bit no other geometry has: with both zero MuJoCo's URDF reader would discard it
        geom.contype, geom.conaffinity = 0, 2


def dress_robot(world: mujoco.MjSpec, spec: RobotSpec, still: tuple[tuple[str, str], ...]) -> None:
    """Gravity compensation, position servos, finger friction; no contact between the bodies of the pairs ``still``."""
    shades = ((0.92, 0.92, 0.90, 1.0), (0.35, 0.38, 0.42, 1.0))
    for body in world.bodies:
        if body.name != "world":
            body.gravcomp = 1.0
        finger = "finger" in body.name
        digits = "".join(c for c in body.name if c.isdigit())
        for geom in body.geoms:
            geom.rgba = shades[1 if finger or (digits and int(digits) % 2) else 0]
            geom.condim = 4 if finger else 3
            geom.friction = [1.5, 0.02, 0.0005] if finger else [0.6, 0.005, 0.0001]
            geom.solref = [0.006, 1.0]
    for pair in still:
        world.add_exclude(bodyname1=pair[0], bodyname2=pair[1])
    for joint, kp, torque in zip(spec.joints, _SERVO_KP, _SERVO_TORQUE, strict=True):
        _servo(world, joint, kp, kp * _SERVO_DAMPING, torque)
    for joint in spec.gripper_joints:
        _servo(world, joint, 1500.0, 40.0, 12.0)
    for joint in world.joints:
        if joint.name in spec.joints:
            joint.armature = 0.1


def _servo(world: mujoco.MjSpec, joint: str, kp: float, kv: float, force: float) -> None:
    """A position servo with velocity damping: force = kp (ctrl - q) - kv dq, clipped."""
    servo = world.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    servo.gaintype, servo.biastype = mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE
    servo.gainprm[0], servo.biasprm[1], servo.biasprm[2] = kp, -kp, -kv
    servo.forcelimited, servo.forcerange = True, [-force, force]


def _add_room(world: mujoco.MjSpec, layout: Layout) -> None:
    """Table (its top is z = 0), back wall and two lights without shadows."""
    _geom(world.worldbody, "table", _BOX, [0.6, 0.75, 0.02], layout.table, pos=(0.45, 0, -0.02))
    wall = (0.30, 0.32, 0.36)
    _geom(world.worldbody, "floor", _BOX, [3, 3, 0.01], wall, pos=(0, 0, -0.8), solid=False)
    x, y, brightness = layout.light
    for name, direction, level in (("key", (x, y, -1.0), brightness), ("fill", (-0.6, -y, -0.5), 0.15)):
        light = world.worldbody.add_light(name=name, pos=[0.5, 0, 2.0], dir=direction, castshadow=False)
        light.type = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
        light.diffuse, light.specular, light.ambient = [level] * 3, [0.05] * 3, [0.10] * 3


def _add_fixtures(world: mujoco.MjSpec, layout: Layout) -> None:
    """Bin, plate, mark, button and drawer. All are bolted to the table; button and drawer slide."""
    tray = world.worldbody.add_body(name="bin", pos=[*layout.bin, 0])
    orange = (0.90, 0.55, 0.10)
    _geom(tray, "bin_floor", _BOX, [BIN_HALF, BIN_HALF, 0.003], orange, pos=(0, 0, 0.003))
    for i, (sx, sy) in enumerate(((1, 0), (-1, 0), (0, 1), (0, -1))):
        size = [0.004 if sx else BIN_HALF, 0.004 if sy else BIN_HALF, BIN_WALL / 2]
        _geom(tray, f"bin_wall{i}", _BOX, size, orange, pos=(sx * BIN_HALF, sy * BIN_HALF, BIN_WALL / 2))
    plate = world.worldbody.add_body(name="plate", pos=[*layout.plate, 0])
    _geom(plate, "plate", _CYL, [PLATE_RADIUS, 0.004, 0], (0.95, 0.95, 0.98), pos=(0, 0, 0.004))
    mark = world.worldbody.add_body(name="mark", pos=[*layout.mark, 0.001])
    _geom(mark, "mark", _CYL, [MARK_RADIUS, 0.001, 0], (0.80, 0.15, 0.75), solid=False)

    button = world.worldbody.add_body(name="button", pos=[*layout.button, 0])
    _geom(button, "button_base", _CYL, [0.042, 0.012, 0], (0.15, 0.15, 0.17), pos=(0, 0, 0.012))
    cap = button.add_body(name="button_cap", pos=[0, 0, 0.030])
    _slide(cap, "button", (0, 0, -1), BUTTON_TRAVEL, stiffness=250.0, damping=4.0)
    _geom(cap, "button_cap", _CYL, [0.028, 0.010, 0], (0.95, 0.85, 0.10), mass=0.03)

    cabinet = world.worldbody.add_body(name="cabinet", pos=[*layout.drawer, 0])
    teal, front = (0.10, 0.45, 0.45), (0.20, 0.70, 0.68)
    _geom(cabinet, "cabinet_top", _BOX, [0.08, 0.07, 0.005], teal, pos=(0.02, 0, 0.077))
    for i, y in enumerate((0.066, -0.066)):
        _geom(cabinet, f"cabinet_side{i}", _BOX, [0.08, 0.005, 0.036], teal, pos=(0.02, y, 0.036))
    box = cabinet.add_body(name="drawer", pos=[0, 0, 0])
    _slide(box, "drawer", (-1, 0, 0), DRAWER_TRAVEL, stiffness=0.0, damping=12.0)
    _geom(box, "drawer_box", _BOX, [0.066, 0.054, 0.026], front, pos=(0.018, 0, 0.036), mass=0.25)
    _geom(box, "drawer_front", _BOX, [0.005, 0.060, 0.033], front, pos=(-0.055, 0, 0.036), mass=0.1)
    _geom(box, "drawer_handle", _BOX, [0.024, 0.009, 0.026], (0.08, 0.08, 0.10), (-0.084, 0, 0.058), 0.05, 1.5)


def _slide(body, name: str, axis, travel: float, stiffness: float, damping: float) -> None:
    joint = body.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis, range=[0, travel])
    joint.limited, joint.frictionloss = True, 0.3
    joint.stiffness[0], joint.damping[0] = stiffness, damping


def _add_cameras(world: mujoco.MjSpec, layout: Layout) -> None:
    """Cameras at the URDF's optical frames, which look along +z; MuJoCo cameras look along -z."""
    for name, fovy in CAMERAS.items():
        offset, turn = layout.camera_jitter[name]
        angle = float(np.linalg.norm(turn))
        jitter, flip, quat = np.zeros(4), np.array([0.0, 1.0, 0.0, 0.0]), np.zeros(4)
        mujoco.mju_axisAngle2Quat(jitter, turn / angle, angle)
        mujoco.mju_mulQuat(quat, jitter, flip)
        world.body(f"{name}_camera_optical_frame").add_camera(name=name, fovy=fovy, pos=offset, quat=quat)
