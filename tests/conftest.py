"""What several folders of tests share."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import robot_dir

# Before torch is imported: on a busy machine its threads wait for each other in a loop otherwise, for minutes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
settings.register_profile("pure", max_examples=150, deadline=None, derandomize=True)
settings.load_profile("pure")

REAL_TIME = ("nodes", "faults", "system")  # folders


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for processes and the middleware gets a second try, and the summary says so.

    On a machine that others use, one of some 500 such tests missed a time limit in three of four full runs, each time
    another one. A fault that shows every other time still shows.
    """
    for item in items:
        if item.path.parent.name in REAL_TIME:
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope="session")
def spec() -> RobotSpec:
    return RobotSpec.load(robot_dir("sim_panda"))


@pytest.fixture(scope="session")
def tiny_net():
    """An untrained policy network of the smallest useful size, whose output layer is not zero."""
    return _tiny_policy(32)


def _tiny_policy(image_size: int):
    torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")
    from vla_mbpo.policy.network import FlowPolicy, PolicyConfig
    from vla_mbpo.policy.vocabulary import Vocabulary
    from vla_mbpo.sim.tasks import TASKS

    torch.set_num_threads(1)
    torch.manual_seed(0)
    vocabulary = Vocabulary.of([task.instruction for task in TASKS.values()])
    sizes = {"width": 32, "layers": 1, "heads": 2, "channels": (8, 8, 8), "keypoints": 8}
    net = FlowPolicy(PolicyConfig(len(vocabulary.words), vocabulary.length, image_size=image_size, **sizes)).eval()
    torch.nn.init.normal_(net.leave.weight, std=0.3)
    return net


@pytest.fixture(scope="session")
def tiny_bundle(tiny_net, spec, tmp_path_factory) -> Path:
    """The bundle exported from ``tiny_net``. Read only: copy it before breaking it."""
    from vla_mbpo.policy.export import export_bundle
    from vla_mbpo.policy.vocabulary import Vocabulary
    from vla_mbpo.sim.tasks import TASKS

    horizon, action, proprio = tiny_net.config.horizon, tiny_net.config.action, tiny_net.config.proprio
    mean = np.zeros((horizon, action))
    mean[:, -1] = 0.04
    state = {
        "words": Vocabulary.of([task.instruction for task in TASKS.values()]).words,
        "normalisation": {
            "action_mean": mean.tolist(),
            "action_std": np.full((horizon, action), 0.05).tolist(),
            "proprio_mean": [0.0] * proprio,
            "proprio_std": [1.0] * proprio,
            "action_low": [-1.0] * action,
            "action_high": [1.0] * action,
        },
        "rounds": [],
    }
    json.dumps(state)  # as it comes from a run's state.json
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    export_bundle(tiny_net, state, spec, folder, "tiny")
    return folder


@pytest.fixture(scope="session")
def tiny_world_model(tiny_net, tiny_bundle, spec, tmp_path_factory) -> Path:
    """An untrained world-model bundle for ``tiny_bundle``'s policy. Read only: copy it before breaking it."""
    return _write_world_model(tmp_path_factory.mktemp("bundles") / "tiny_world_model", tiny_net, spec, tiny_bundle)


@pytest.fixture(scope="session")
def world_model_for(spec):
    """Makes an untrained world model for 96 px cameras that vets the chunks of a policy bundle."""
    return lambda folder, policy: _write_world_model(folder, _tiny_policy(96), spec, policy)


@pytest.fixture(scope="session")
def tiny_detector(tiny_net, tiny_bundle, tmp_path_factory) -> Path:
    """An untrained failure-detector bundle for ``tiny_bundle``'s policy; its bands are in ``bands.json`` beside it.

    Read only: copy it before breaking it.
    """
    return _write_detector(tmp_path_factory.mktemp("bundles") / "tiny_detector", tiny_bundle, tiny_net.config.width)


@pytest.fixture(scope="session")
def detector_for():
    """Makes an untrained failure detector for a policy bundle with so many features."""
    return _write_detector


def _write_detector(folder: Path, policy: Path, size: int) -> Path:
    """Export an untrained failure detector, and bands from attempts that are made up."""
    torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")
    from made_up import calm_attempt

    from vla_mbpo.failure.attempts import curve
    from vla_mbpo.failure.calibration import write
    from vla_mbpo.failure.detector import Parts
    from vla_mbpo.policy.bundle import Bundle
    from vla_mbpo.training.detector import DetectorNet
    from vla_mbpo.training.detector_export import export_detector

    torch.manual_seed(2)
    state = {"detector": {"features": size, "width": 8}, "recipe": {"seed": 0}, "step": 0, "attempts": 0, "failures": 0}
    attempts = [calm_attempt(seed, size, looks=8 + seed % 9) for seed in range(80)]  # a clock is among the members
    bundle = export_detector(DetectorNet(size, 8).eval(), state, attempts[:20], Bundle.load(policy), folder)
    scores = Parts(bundle).scores(bundle.manifest["members"])
    write(folder.with_name("bands.json"), bundle, [curve(a, scores) for a in attempts[20:]], 0.1, {})
    return folder


def _write_world_model(folder: Path, policy_net, spec: RobotSpec, policy: Path) -> Path:
    """Export an untrained world model that sees with the eyes of ``policy_net`` and knows one policy bundle."""
    torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")
    from vla_mbpo.imagination.autoencoder import Autoencoder, AutoencoderConfig
    from vla_mbpo.imagination.export import export_world_model
    from vla_mbpo.imagination.familiar import Familiar
    from vla_mbpo.imagination.network import WorldModel, WorldModelConfig
    from vla_mbpo.imagination.perception import Perception
    from vla_mbpo.policy.bundle import Bundle
    from vla_mbpo.policy.vocabulary import Vocabulary
    from vla_mbpo.sim.tasks import TASKS

    torch.manual_seed(1)
    vocabulary = Vocabulary.of([task.instruction for task in TASKS.values()])
    sizes = {"latent": 8, "eye": 4 * policy_net.config.keypoints, "width": 32, "layers": 2, "heads": 2}
    net = WorldModel(WorldModelConfig(len(vocabulary.words), vocabulary.length, **sizes)).eval()
    torch.nn.init.normal_(net.leave.weight, std=0.1)
    size = policy_net.config.image_size
    seeing = Perception(policy_net, Autoencoder(AutoencoderConfig(image_size=size, latent=8, channels=(8, 8, 8))))
    state = {
        "words": vocabulary.words, "step": 0, "recipe": {}, "rollouts": 0, "observations": 0, "failures": 0.0,
        "normalisation": {"proprio_mean": [0.0] * 18, "proprio_std": [1.0] * 18},
        "action_bins": {"low": [-0.3] * 7 + [0.0] + [-0.2] * 3, "high": [0.3] * 7 + [0.08] + [0.2] * 3},
    }  # fmt: skip
    same, none = [[1.0] * 4, [0.0] * 4], [1.0, 0.0]
    calibration = {"outcome": same, "cost": none, "slow_outcome": same, "slow_cost": none}
    calibration |= {"uncertainty_limit": 1.0, "strange_limit": [1e9, 1e9]}
    extra = {"policies": [Bundle.load(policy).version], "calibration": calibration}
    export_world_model(net, seeing, Familiar(2, 16 * 8), state, spec, folder, extra)
    return folder


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB at ``tmp_path / "episodes"``."""
    folder = tmp_path / "episodes"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system: run the tests as root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
