"""What dream RL is told is checked before a run begins."""

import pytest

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.training.dream_recipe import RECAP, DreamRlRecipe


@pytest.mark.parametrize(
    ("numbers", "valid"),
    [
        ({"branchings": 6}, "1 to 5"),
        ({"branchings": 0}, "1 to 5"),
        ({"branchings": 3, "steps": 2}, "1 to 2"),
        ({"warmup": 0}, "1 or more"),
        ({"batch": 0}, "1 or more"),
        ({"states": 0}, "1 or more"),
        ({"updates": 0}, "1 or more"),
        ({"executed": 0}, "1 or more"),
        ({"group": 1}, "2 or more"),
        ({"group": 0, "policy_weight": 0.0}, "1 or more"),
        ({"noise": float("nan")}, "finite"),
        ({"kl": float("inf")}, "finite"),
    ],
)
def test_a_number_that_no_run_can_use_is_refused_with_its_range(numbers, valid):
    """Incident: more branchings than steps ended a run in its middle, a warm-up of 0 at once; one of 1 chunk learned
    nothing."""
    name, value = next(iter(numbers.items()))
    with pytest.raises(ConfigError, match=f"{name}: {value} is not valid; .*{valid}"):
        DreamRlRecipe((), **numbers)


@pytest.mark.parametrize(
    "numbers",
    [
        {"modes": 0, "branchings": 3},
        {"steps": 1, "branchings": 1},
        {"group": 1, "policy_weight": 0.0},  # nothing is dreamed
        {"group": 1, "method": RECAP},  # beside the chunk that was driven
    ],
)
def test_numbers_that_a_run_can_use_are_taken(numbers):
    assert DreamRlRecipe((), **numbers)
