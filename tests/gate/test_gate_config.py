"""A gate that cannot do its work does not start."""

from dataclasses import fields, replace

import numpy as np
import pytest
from gate_samples import spec
from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.gate.config import RANGES, GateConfig, check_spec
from vla_mbpo.gate.gate import Gate

LIMITS = ("lower", "upper", "velocity", "acceleration", "jerk", "workspace_lower", "workspace_upper", "home")
SCALARS = ("gripper_speed", "table_height", "table_margin", "self_collision_margin")


@given(st.sampled_from(LIMITS), st.integers(0, 6), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_a_limit_that_is_no_number_is_refused(name, index, bad):
    limit = getattr(spec(), name).copy()
    limit[index % len(limit)] = bad
    with pytest.raises(ConfigError, match=name):
        check_spec(replace(spec(), **{name: limit}))


@pytest.mark.parametrize("name", SCALARS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_scalar_limit_that_is_no_number_is_refused(name, bad):
    with pytest.raises(ConfigError, match=name):
        check_spec(replace(spec(), **{name: bad}))


def test_a_gripper_range_with_nan_is_refused():
    with pytest.raises(ConfigError, match="gripper_range"):
        check_spec(replace(spec(), gripper_range=(0.0, float("nan"))))


@given(st.sampled_from(sorted(RANGES)), st.sampled_from([float("nan"), float("inf"), -1.0, 1e9, "0.1", None]))
def test_a_setting_outside_its_range_is_refused_by_name(name, bad):
    with pytest.raises(ConfigError, match=f"gate.{name}"):
        GateConfig(**{name: bad})


def test_every_setting_has_a_range():
    assert {field.name for field in fields(GateConfig)} == {"action_types", *RANGES}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("workspace", {"workspace_upper": np.array([0.8, 0.5, 0.1])}),
        ("table", {"table_height": 0.2, "workspace_lower": np.array([0.2, -0.5, 0.0])}),
        ("self_collision_margin", {"self_collision_margin": 0.1}),
    ],
)
def test_a_limit_that_home_breaks_is_refused(name, changes):
    with pytest.raises(ConfigError, match=name):
        Gate(replace(spec(), **changes))


def test_a_missing_joint_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="joints"):
        Gate(replace(spec(), joints=("no_such_joint", *spec().joints[1:])))
    with pytest.raises(ConfigError, match="urdf"):
        Gate(replace(spec(), urdf=tmp_path / "none.urdf"))
