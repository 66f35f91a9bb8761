"""Fuzz the way of a chunk into the gate: bytes, messages (some damaged on the wire), `convert`, `Gate.vet`, decision.

Guided by coverage of the gate and of `convert` when atheris is installed (`pip install atheris`), else random bytes.
A ValueError from decoding is the documented refusal. Anything else that is raised, a check that breaks down, or an
approval outside the limits is a crash. `python -m tests.fuzz.fuzz_gate --runs N --seed S --json FILE`; exit 1: crash.
"""

import argparse
import contextlib
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from rclpy._rclpy_pybind11 import RMWError
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from vla_mbpo_msgs import msg as ours

try:
    import atheris
except ImportError:  # blind then
    atheris = None


def instrumented() -> contextlib.AbstractContextManager:
    """Branches only: atheris.instrument_imports also traces comparisons, and 3.0.0 leaks the result of each.

    With numpy that is 4 KB per judged chunk. Without atheris, or when told so on the command line: nothing.
    """
    if atheris is None or "--blind" in sys.argv:
        return contextlib.nullcontext()
    return atheris.import_hook.HookManager({"vla_mbpo"}, set(), False, trace_dataflow=False)


with instrumented():
    from tests.fuzz.mutations import MAX_RECORDS, NOW, RECORD, Fields, Mutator
    from vla_mbpo.core.chunk import JointRows
    from vla_mbpo.core.robot import Obstacle, RobotSpec
    from vla_mbpo.gate.checks import REQUIRED
    from vla_mbpo.gate.gate import Gate
    from vla_mbpo.nodes import convert
    from vla_mbpo.paths import robot_dir
    from vla_mbpo.teleop.jog import Jogger

SIZE = 3 + MAX_RECORDS * RECORD.size
GROWTH_MB = 100.0  # allowed between a tenth of the runs and their end; atheris keeps its corpus in memory
JOGGED = 128  # one input in so many is a person's command, too
KEPT = 10  # crashes written out


def rss_mb() -> float:
    """Resident memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 2**20, 1)


class Harness:
    """Feeds inputs to one gate, as the node does, and counts what becomes of them."""

    def __init__(self, runs: int, out: Path | None, corpus: Path | None) -> None:
        post = Obstacle("post", np.array([0.35, 0.25, 0.0]), np.array([0.45, 0.35, 0.4]))
        self._spec = replace(RobotSpec.load(robot_dir("sim_panda")), obstacles=(post,))
        self._mutator, self._gate = Mutator(self._spec), Gate(self._spec)
        self._reader, self._jogger = convert.JointStateReader(self._spec), Jogger(self._spec)
        self._wanted, self._out, self._corpus = runs, out, corpus
        self.runs = self.approved = self.crashed = 0
        self.refused: Counter[str] = Counter()
        self.undecodable: Counter[str] = Counter()
        self.crashes: list[dict[str, str]] = []
        self.rss = {"start": rss_mb()}
        self._begin = time.monotonic()

    def one(self, data: bytes) -> None:
        """One input. Never raises; ends the process after the last one."""
        self.runs += 1
        try:
            made = self._mutator.fields(data)
            message = _chunk_message(made)
            wire = self._mutator.wire(data, serialize_message(message))
            self._judge(made, message if wire is None else self._received(wire))
            if zlib.crc32(data) % JOGGED == 0:  # not a byte of its own: coverage would make it most of the inputs
                self._jog(made)
        except Exception as error:
            self.crashed += 1
            if len(self.crashes) < KEPT:
                self.crashes.append({"error": repr(error), "input": data.hex()})
        if self.runs == max(self._wanted // 10, 1):
            self.rss["tenth"] = rss_mb()
        if self.runs == self._wanted:
            self._finish()

    def _received(self, wire: bytes) -> ours.ActionChunk | None:
        try:
            return deserialize_message(wire, ours.ActionChunk)
        except RMWError:
            return None

    def _judge(self, made: Fields, message: ours.ActionChunk | None) -> None:
        self._decode_others(made)
        if message is None:
            self.refused["wire"] += 1
            return
        state = self._reader.read(_state_message(made))
        if state is None:
            self.refused["joint_states"] += 1
            return
        try:
            chunk = convert.from_chunk(message)
        except ValueError:
            self.refused["message"] += 1
            return
        commanded = made.commanded if made.commanded.size else None
        verdict = self._gate.vet(chunk, state, commanded, NOW, 1)
        if isinstance(verdict, JointRows):
            self._check_approval(verdict)
            return
        assert isinstance(verdict, tuple) and verdict, f"no reason: {verdict!r}"
        stamp = message.observation_stamp
        serialize_message(convert.to_decision(1, stamp, message.candidate, ours.GateState(), verdict, NOW, 1))
        self.refused.update({reason.check for reason in verdict})
        assert all("failed:" not in reason.note for reason in verdict), f"a check broke down: {verdict}"

    def _jog(self, made: Fields) -> None:
        """A person's command with the same numbers; it goes through inverse kinematics, so not for every input."""
        message = ours.TeleopCommand(
            deadman=True, joint_velocities=convert.to_doubles(made.commanded[made.candidate :])
        )
        message.header.frame_id = self._spec.base_frame if made.horizon & 1 else self._spec.tool_link
        linear, angular = message.twist.linear, message.twist.angular
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = np.resize(made.velocities, 6).tolist()
        message.gripper_velocity = float(np.resize(made.gripper, 1)[0])
        state = self._reader.read(_state_message(made))
        q, v = np.resize(made.reference, 7), np.resize(made.velocities, 7)
        if state is None:
            return
        try:
            chunks = self._jogger.chunks(convert.from_teleop(message, self._spec), q, v, state, NOW)
        except ValueError:
            self.undecodable["from_teleop"] += 1
            return
        for chunk in chunks:
            verdict = self._gate.vet(chunk, state, q, NOW, 1)
            if isinstance(verdict, JointRows):
                self._check_approval(verdict)
            else:
                assert all("failed:" not in reason.note for reason in verdict), f"a check broke down: {verdict}"

    def _check_approval(self, rows: JointRows) -> None:
        spec = self._spec
        assert np.isfinite(rows.positions).all() and np.isfinite(rows.gripper).all(), "not finite"
        assert ((rows.positions >= spec.lower) & (rows.positions <= spec.upper)).all(), "outside limits"
        assert rows.positions.shape[1:] == (len(spec.joints),) and len(rows.gripper) in (0, len(rows.positions))
        back = convert.from_approved(convert.to_approved(rows, NOW, spec.base_frame, "gate", ""))
        assert np.array_equal(back.positions, rows.positions), "another chunk than was approved"
        self.approved += 1

    def _decode_others(self, made: Fields) -> None:
        """The messages with the same fields that other nodes decode."""
        approved = _fill(ours.ApprovedChunk(epoch=made.set_id), made)
        commitment = ours.Commitment(joint_names=made.names, row_period=_duration(made.row_period))
        commitment.positions = convert.to_doubles(made.positions)
        commitment.gripper = convert.to_doubles(made.gripper)
        commitment.commanded_positions = convert.to_doubles(made.commanded)
        points = [made.reference, made.measured[: len(made.reference)], made.commanded]
        trajectory = JointTrajectory(joint_names=made.names)
        trajectory.points = [JointTrajectoryPoint(positions=convert.to_doubles(p)) for p in points]
        for decode, message in (
            (convert.from_approved, approved),
            (convert.from_commitment, commitment),
            (convert.from_trajectory, trajectory),
        ):
            try:
                decode(message)
            except ValueError:
                self.undecodable[decode.__name__] += 1

    def _finish(self) -> None:
        took = time.monotonic() - self._begin
        self.rss["end"] = rss_mb()
        grown = self.rss["end"] - self.rss["tenth"]
        result = {
            "guided": self._corpus is not None, "runs": self.runs, "seconds": round(took, 1),
            "runs_per_second": round(self.runs / took, 1), "approved": self.approved, "crashed": self.crashed,
            "refused": dict(self.refused.most_common()), "undecodable": dict(self.undecodable),
            "never_reached": sorted(REQUIRED - set(self.refused)), "rss_mb": self.rss, "grown_mb": round(grown, 1),
            "bounded": grown <= GROWTH_MB, "crashes": self.crashes,
        }  # fmt: skip
        text = json.dumps(result, indent=1)
        print(text, flush=True)
        if self._out:
            self._out.write_text(text + "\n")
        if self._corpus:
            shutil.rmtree(self._corpus, ignore_errors=True)
        sys.stdout.flush()
        os._exit(int(self.crashed > 0 or grown > GROWTH_MB))  # libFuzzer has no other way out


def _duration(ns: int) -> convert.Duration:
    return convert.to_duration(int(np.clip(ns, -(2**31) * 10**9, 2**31 * 10**9 - 1)))


def _time(ns: int) -> convert.Time:
    return convert.to_time(int(np.clip(ns, -(2**31) * 10**9, 2**31 * 10**9 - 1)))


def _fill(message: ours.ActionChunk | ours.ApprovedChunk, made: Fields) -> ours.ActionChunk | ours.ApprovedChunk:
    message.chunk_set_id, message.candidate = made.set_id, made.candidate
    message.observation_stamp, message.expiry = _time(made.stamp), _time(made.expiry)
    message.joint_names, message.row_period = made.names, _duration(made.row_period)
    message.horizon, message.committed_rows = made.horizon, made.committed_rows
    message.positions, message.gripper = convert.to_doubles(made.positions), convert.to_doubles(made.gripper)
    return message


def _chunk_message(made: Fields) -> ours.ActionChunk:
    message = ours.ActionChunk(action_type=made.action_type)
    message.reference = convert.to_doubles(made.reference)
    return _fill(message, made)


def _state_message(made: Fields) -> JointState:
    message = JointState(name=made.state_names)
    message.header.stamp = _time(made.state_stamp)
    message.position, message.velocity = convert.to_doubles(made.measured), convert.to_doubles(made.velocities)
    return message


def _seed_corpus(rng: np.random.Generator) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fuzz_gate_"))
    for k in range(200):
        (folder / f"seed{k}").write_bytes(bytes([k % 3]) + rng.bytes(SIZE - 1))
    return folder


def main() -> None:
    """Entry point. Ends the process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--blind", action="store_true", help="random bytes even if atheris is installed")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs: expected at least 1")
    warnings.simplefilter("ignore", RuntimeWarning)  # overflow of what is refused anyway
    rng = np.random.default_rng(options.seed)
    if atheris and not options.blind:
        corpus = _seed_corpus(rng)
        harness = Harness(options.runs, options.json, corpus)
        flags = ["-runs=-1", f"-max_len={SIZE}", f"-seed={options.seed}", "-rss_limit_mb=0", "-close_fd_mask=2"]
        atheris.Setup([sys.argv[0], *flags, "-verbosity=0", str(corpus)], harness.one)
        atheris.Fuzz()
    harness = Harness(options.runs, options.json, None)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # Fast CDR reports every damaged message there
    while True:
        harness.one(rng.bytes(SIZE))


if __name__ == "__main__":
    main()
