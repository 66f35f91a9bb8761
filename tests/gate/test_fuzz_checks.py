"""Whatever arrives, the gate answers: rows inside the limits, or reasons; and no check breaks down over it."""

import warnings

import numpy as np
from gate_samples import NOW, STAMP, gate, spec
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_mbpo.core.chunk import ActionChunk, ActionType, JointRows
from vla_mbpo.core.state import RobotState
from vla_mbpo.core.verdict import Reason

NAMES = spec().joints
ODD = st.sampled_from([np.nan, np.inf, -np.inf, 5e-324, 1e-301, 1e308, -1e308, 1e6, -0.0])
NUMBER = st.one_of(st.floats(-4, 4), ODD, st.floats())
SHAPES = st.sampled_from([(), (0,), (7,), (16,), (112,), (0, 7), (1, 7), (16, 0), (16, 6), (17, 7), (2, 2, 7)])
KINDS = st.sampled_from([np.float64, np.float64, np.float64, np.float32, np.int64, np.dtype(">f8")])
STAMPS = st.one_of(st.integers(-(10**9), 10**9).map(lambda ns: NOW + ns), st.integers(-(2**63), 2**63))
FIELDS = {
    "observation_stamp": STAMPS,
    "expiry": STAMPS,
    "action_type": st.sampled_from(ActionType),
    "joint_names": st.lists(st.sampled_from([*NAMES, "", "x"])).map(tuple),
    "row_period": st.integers(-(2**63), 2**63),
    "committed_rows": st.integers(-1, 70_000),
    "stamp": STAMPS,
    "opening": NUMBER,
}
ARRAYS = ("positions", "gripper", "reference", "measured", "velocities", "commanded")


@st.composite
def arrays(draw, good: np.ndarray) -> np.ndarray:
    """Any array, or ``good`` with one or two numbers changed, or with motion in it."""
    way = draw(st.sampled_from(["numbers", "motion", "other"]))
    array = good.copy()
    with np.errstate(all="ignore"):
        if way == "other":
            return np.full(draw(SHAPES), draw(NUMBER)).astype(draw(KINDS), casting="unsafe")
        if way == "motion":
            t = np.linspace(0, 1, len(array))
            return array + draw(st.one_of(st.floats(-1, 1), NUMBER)) * (t[:, None] if array.ndim == 2 else t) ** 2
    for _ in range(draw(st.integers(1, 2))):
        if array.size:
            array.flat[draw(st.integers(0, array.size - 1))] = draw(NUMBER)
    return array


@st.composite
def inputs(draw):
    """A chunk, a measured state and a set point that are all right but for up to three things."""
    share = draw(st.one_of(st.none(), st.lists(st.floats(0, 1), min_size=7, max_size=7)))
    pose = spec().home if share is None else spec().lower + np.array(share) * (spec().upper - spec().lower)
    horizon = draw(st.one_of(st.just(16), st.integers(0, 18)))
    made = {
        "observation_stamp": STAMP, "expiry": NOW, "action_type": ActionType.JOINT_POSITION, "joint_names": NAMES,
        "row_period": spec().row_period, "committed_rows": 3, "stamp": NOW, "opening": 0.04,
        "positions": np.tile(pose, (horizon, 1)), "gripper": np.full(horizon, 0.04), "reference": pose.copy(),
        "measured": pose.copy(), "velocities": np.zeros(7), "commanded": pose.copy(),
    }  # fmt: skip
    for name in draw(st.lists(st.sampled_from([*FIELDS, *ARRAYS, *ARRAYS]), max_size=3, unique=True)):
        made[name] = draw(FIELDS[name] if name in FIELDS else arrays(made[name]))
    state = RobotState(made.pop("stamp"), made.pop("measured"), made.pop("velocities"), made.pop("opening"))
    commanded = made.pop("commanded")
    return ActionChunk(chunk_set_id=1, candidate=0, **made), state, draw(st.sampled_from([commanded, None]))


@given(inputs())
@settings(max_examples=400)
def test_whatever_arrives_is_judged(given_inputs):
    chunk, state, commanded = given_inputs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # overflow of what is refused for it
        verdict = gate().vet(chunk, state, commanded, NOW)
    if isinstance(verdict, JointRows):
        assert verdict.positions.shape == (chunk.horizon, 7) and np.isfinite(verdict.positions).all()
        assert ((verdict.positions >= spec().lower) & (verdict.positions <= spec().upper)).all()
        assert np.isfinite(verdict.gripper).all() and len(verdict.gripper) in (0, chunk.horizon)
        return
    assert isinstance(verdict, tuple) and verdict and all(isinstance(reason, Reason) for reason in verdict)
    assert not [str(reason) for reason in verdict if "failed:" in str(reason)], "a check broke down"
