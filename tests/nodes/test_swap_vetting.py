"""A release with world model and failure detector in the running nodes: their versions change together."""

import shutil

import pytest
from made_up import tapes
from test_swap import OFF, Bench

from vla_mbpo.nodes import imagination
from vla_mbpo.nodes.failure_detector import FailureDetectorNode
from vla_mbpo.nodes.imagination import ImaginationNode
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.releases.parts import adopted
from vla_mbpo.releases.release import Release, adopt, assemble

ON = dict.fromkeys(OFF, "on")
ALL = "[gate, policy, imagination, failure_detector]"


@pytest.fixture(scope="session")
def full(tiny_bundle, tiny_world_model, tiny_detector, tmp_path_factory):
    """Two releases with every part. Read only."""
    folder, made = tmp_path_factory.mktemp("full"), {}
    for name in ("old", "new"):
        policy = adopt(
            Bundle.load(tiny_bundle), folder / f"policy_{name}", [], name
        )  # another manifest, another version
        data = str(tapes(folder / f"data_{name}", policy.version, range(200, 240)))
        parts = adopted(policy, str(tiny_world_model), str(tiny_detector), [data], 0.1, folder / f"work_{name}")
        (folder / name).mkdir()
        made[name] = assemble(folder / name, policy, {}, parts.world_model, parts.detector, parts.bands).path
    return made


class Dreamer:
    """In the place of the dreaming process."""

    running: list[str] = []

    def __init__(self, bundle, robot, flow_steps):
        self.bundle, self.idle, self.fault, self.seconds = str(bundle), True, "", 0.0
        self.running.append(self.bundle)

    def close(self):
        self.running.remove(self.bundle)


class FullBench(Bench):
    """The nodes that vet, too."""

    makers = (
        *Bench.makers,
        lambda: ImaginationNode("imagination"),
        lambda: FailureDetectorNode("failure_detector"),
    )

    @property
    def vetting(self):
        """Versions in use by the nodes that vet, and those that the gate listens to."""
        join, vetting = self.gate._join, self.graph.nodes[3]._vetting
        watch = self.graph.nodes[4]._calibration
        return (vetting.session.version, watch.id), (join._version, join._calibration)


@pytest.fixture
def bench(graph, full, monkeypatch):
    monkeypatch.setattr(imagination, "Dreamer", Dreamer)
    Dreamer.running.clear()
    made = FullBench(graph, full["old"], **ON, **{"task.swap_nodes": ALL})
    yield made
    made.client.destroy()


def parts_of(folder):
    release = Release.load(folder)
    return release.world_model.version, release.bands.id


def test_gate_imagination_and_detector_speak_of_the_same_versions_before_and_after(bench, full):
    assert bench.vetting == (parts_of(full["old"]), parts_of(full["old"]))
    answer = bench.swap(full["new"])
    assert answer.accepted, answer.message
    assert bench.vetting == (parts_of(full["new"]), parts_of(full["new"]))
    assert Release.load(full["new"]).policy.version in bench.graph.nodes[3]._vetting.session.policies


def test_one_process_dreams_by_the_world_model_in_use(bench, full):
    assert Dreamer.running == [str(full["old"] / "world_model")]
    bench.swap(full["new"])
    assert Dreamer.running == [str(full["new"] / "world_model")]


@pytest.mark.parametrize("file", ["world_model/imagine.int8.onnx", "failure_detector/safe_mlp.onnx", "bands.json"])
def test_a_part_that_does_not_load_leaves_all_as_it_was(bench, full, tmp_path, file):
    broken = shutil.copytree(full["new"], tmp_path / "broken")
    (broken / file).write_bytes(b"something else")
    answer = bench.swap(broken)
    assert not answer.accepted and file.rpartition("/")[2].removesuffix(".json") in answer.message
    assert bench.vetting == (parts_of(full["old"]), parts_of(full["old"]))


def test_a_release_without_what_the_gate_asks_for_is_refused(bench, full, tmp_path):
    (tmp_path / "alone").mkdir()
    alone = assemble(tmp_path / "alone", Release.load(full["new"]).policy, {}).path
    answer = bench.swap(alone)
    assert not answer.accepted and "without world_model" in answer.message
    assert bench.vetting == (parts_of(full["old"]), parts_of(full["old"]))
