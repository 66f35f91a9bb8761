"""Recordings whose messages are not as the policy node makes them."""

import pytest
from recordings import Attempt

from vla_mbpo.nodes import qos
from vla_mbpo.training.episodes import find

pytestmark = pytest.mark.usefixtures("interfaces")


@pytest.mark.parametrize("number", [200, 0], ids=["beyond the set", "twice"])
def test_a_candidate_out_of_its_place_passes_over_its_recording_alone(spec, tmp_path, number):
    """Incident: a number beyond the set was an IndexError that ended the training on the whole folder."""
    whole, odd = Attempt(spec), Attempt(spec)
    message = [message for _, topic, message in odd._said if topic is qos.ACTION_CHUNKS][2]
    message.chunks[1].candidate = number
    kept, passed = (attempt.record(tmp_path) for attempt in (whole, odd))
    found = find([tmp_path])
    assert found.files == (kept / f"{kept.name}.npz",)
    reason = f"candidate: '{number} in set {odd.set_id(2)}' is not valid; 1, its place in the set"
    assert found.passed_over == {str(passed): reason}
