"""What several folders of tests share."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import robot_dir

settings.register_profile("pure", max_examples=150, deadline=None, derandomize=True)
settings.load_profile("pure")


@pytest.fixture(scope="session")
def spec() -> RobotSpec:
    return RobotSpec.load(robot_dir("sim_panda"))


@pytest.fixture(scope="session")
def tiny_net():
    """An untrained policy network of the smallest useful size, whose output layer is not zero."""
    torch = pytest.importorskip("torch", reason="needs torch: `make setup-dev`")
    from vla_mbpo.policy.network import FlowPolicy, PolicyConfig
    from vla_mbpo.policy.vocabulary import Vocabulary
    from vla_mbpo.sim.tasks import TASKS

    torch.set_num_threads(1)
    torch.manual_seed(0)
    vocabulary = Vocabulary.of([task.instruction for task in TASKS.values()])
    sizes = {"image_size": 32, "width": 32, "layers": 1, "heads": 2, "channels": (8, 8, 8), "keypoints": 8}
    net = FlowPolicy(PolicyConfig(len(vocabulary.words), vocabulary.length, **sizes)).eval()
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
