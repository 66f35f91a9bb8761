"""What the probe counts of the gate's decisions."""

from vla_mbpo_msgs.msg import GateDecision, Reason

from vla_mbpo.eval.probe import Probe


class Silent:
    """In a node's place: nothing is ever heard."""

    def create_subscription(self, *_):
        pass


def decision(set_id, accepted=False, check="imagination", text=""):
    reasons = [] if accepted else [Reason(check=check, text=text)]
    return GateDecision(chunk_set_id=set_id, accepted=accepted, reasons=reasons)


def test_a_set_is_late_once_and_what_imagination_refuses_is_not_late():
    probe = Probe(Silent())
    probe.decisions += [
        decision(1, accepted=True),
        decision(2, text="UNKNOWN: no verdict within 0.15 s (0.160 s)"),
        decision(3, text="UNKNOWN: the world model did not answer in time"),
        decision(4, text="UNKNOWN: uncertainty 0.40 (limit 0.35)"),
        decision(5, text="cost probability 0.60 (limit 0.40)"),
        decision(5, accepted=True),
        decision(6, check="mode", text="HOLD"),
    ]
    assert probe.verdicts() == {"sets": 5, "late": 2, "share_late": 0.4, "unknown_otherwise": 1}
