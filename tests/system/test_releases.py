"""Promotion, refusal and rollback on a running stack: real processes, attempts one after the other."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "releases"))

from promotion import Bench  # noqa: E402
from scripted_bundle import write_bundle  # noqa: E402

from vla_mbpo.bringup import Options  # noqa: E402
from vla_mbpo.eval.realtime import running_stack  # noqa: E402
from vla_mbpo.nodes import qos  # noqa: E402
from vla_mbpo.policy.bundle import Bundle  # noqa: E402

pytestmark = pytest.mark.slow  # real stacks, one after the other: minutes

SAY, LIMIT = "press the button", 3.0  # s; this policy never presses it
PARITY = {"encoder": 5e-6, "step": 3e-6}
STOPPED, TIMED_OUT = 2, 3
GENEROUS = {"policy": {"max_age": 1.0}, "gate": {"checks.max_chunk_age": 1.0, "input_timeout": 1.0}}


class Session:
    """Attempts without a pause on a stack that uses the live release, and what was heard."""

    def __init__(self, stack):
        self.stack, self.client = stack, stack.client
        self.instruction, self.attempts, self.outcomes, self.releases = "", [], [], []
        self.pending = None
        for topic, callback in (
            (qos.INSTRUCTION, self.on_instruction),
            (qos.ACTION_CHUNKS, self.on_chunks),
            (qos.RELEASE, lambda message: self.releases.append(message)),
        ):
            self.client.node.create_subscription(topic.type, topic.name, callback, topic.qos)

    def on_instruction(self, message):
        self.instruction = message.data
        if message.data:
            self.attempts.append([])

    def on_chunks(self, message):
        if message.instruction and self.attempts:
            self.attempts[-1].append(message.policy_version)

    def until(self, condition, limit):
        """Attempt after attempt until ``condition``."""
        end = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < end, "condition not met in time"
            self.client.spin(0.05)
            if self.pending is not None and self.pending.done():
                self.outcomes.append(self.pending.result())
                self.pending = None
            if self.pending is None:
                self.pending = self.client.execute(SAY, LIMIT)

    def run(self, *words):
        """`vla-mbpo` beside the attempts: exit code, output and seconds."""
        begin = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "vla_mbpo.cli", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(os.environ),
        )
        self.until(lambda: process.poll() is not None, 120.0)
        return process.returncode, process.stdout.read(), time.monotonic() - begin

    def until_proposed(self, version):
        self.until(lambda: bool(self.attempts) and version in self.attempts[-1], 60.0)


@pytest.fixture(scope="module")
def told(tmp_path_factory, spec):
    """All that happened: a broken candidate, a good one, a policy that dies, a rollback."""
    folder = tmp_path_factory.mktemp("system")
    kinds = {"old": {}, "new": {}, "bad": {"spoil": lambda rows: rows.fill(float("nan"))}}
    policies = {
        name: Bundle.load(write_bundle(folder / name, spec, name=name, parity=PARITY, **kind))
        for name, kind in kinds.items()
    }
    bench, told = Bench(folder, policies, alone=False), {"versions": {n: p.version for n, p in policies.items()}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", "0")  # put back afterwards; the stack takes a domain of its own
        assert bench.first() == 0
        bench.evaluated(bench.store.release("live").policy.path, lambda task, seed: seed >= 8)
        for name in ("new", "bad"):
            bench.evaluated(policies[name].path, lambda task, seed: True)
        options = Options(
            scene="button", page=False, release="live", store=str(bench.store.folder), k=2, overrides=GENEROUS
        )
        with running_stack("sim_panda", options) as stack:
            session = told["session"] = Session(stack)
            told["live"] = [bench.live]
            session.until_proposed(policies["old"].version)
            for step, words in (("bad", bench.words("bad")), ("good", bench.words("new"))):
                told[step] = session.run(*words)
                told["live"].append(bench.live)
            session.until_proposed(policies["new"].version)
            told["before_death"] = len(session.attempts)
            os.kill(stack.supervisor.pid("policy"), signal.SIGKILL)
            alive = len(session.attempts)
            session.until(lambda: bool(stack.supervisor.poll()) or len(session.attempts) > alive + 1, 60.0)
            session.until_proposed(policies["new"].version)
            told["before_rollback"] = len(session.attempts)
            told["rollback"] = session.run("rollback", "--store", str(bench.store.folder))
            told["live"].append(bench.live)
            session.until_proposed(policies["old"].version)
    return told


def test_a_candidate_that_fails_to_load_leaves_the_incumbent_live_and_says_why(told):
    code, output, _ = told["bad"]
    assert code == 1 and "policy: bundle policy" in output and "NaN" in output, output
    assert told["live"][1] == told["versions"]["old"]


def test_a_better_candidate_goes_live_in_the_running_stack(told):
    code, output, _ = told["good"]
    assert code == 0 and "running stack: in use: new@" in output, output
    assert told["live"][2] == told["versions"]["new"]


def test_no_attempt_sees_two_versions(told):
    """Not even the one in which the policy is killed: it was started with another one, and waits to be told."""
    assert all(len(set(versions)) <= 1 for versions in told["session"].attempts)


def test_versions_follow_one_another(told):
    found = [versions[0] for versions in told["session"].attempts if versions]
    order = [version for i, version in enumerate(found) if not i or found[i - 1] != version]
    old, new = told["versions"]["old"], told["versions"]["new"]
    assert order == [old, new, old]


def test_no_attempt_ends_early_but_by_the_rollback(told):
    outcomes = [(result.outcome, result.message) for result in told["session"].outcomes]
    ended = [message for outcome, message in outcomes if outcome != TIMED_OUT]
    assert all("release" in message for message in ended) and len(ended) <= 1, outcomes


def test_a_policy_that_is_started_again_follows_what_the_stack_uses(told):
    later = told["session"].attempts[told["before_death"] + 1 : told["before_rollback"]]
    assert {version for versions in later for version in versions} == {told["versions"]["new"]}


def test_the_rollback_is_done_within_ten_seconds(told):
    code, output, seconds = told["rollback"]
    assert code == 0 and seconds < 10.0, (seconds, output)
    assert told["live"][3] == told["versions"]["old"]


def test_each_change_is_an_event(told):
    events = [(event.policy, event.reason) for event in told["session"].releases]
    names = [policy.split("@")[0] for policy, _ in events]
    assert names[0] == "old" and names[-2:] == ["new", "old"]
    assert any("NaN" in reason for _, reason in events)
