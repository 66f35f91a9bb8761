"""The slow mode: chunk after chunk into pictures, the head view first, then the wrist view given it. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.observation import Observation
from vla_mbpo.imagination.session import WorldModelSession

FloatArray = NDArray[np.float64]

HEAD, WRIST = 0, 1


@dataclass(frozen=True)
class Dream:
    """What the world model expects to see, one entry per chunk.

    Attributes:
        head, wrist: (C, s, s, 3) uint8.
        joints: (C, n) [rad]; gripper: (C,) [m].
        done, success, cost: (C,) probabilities: done by then, done in the end, a cost event in the chunk.
    """

    head: NDArray[np.uint8]
    wrist: NDArray[np.uint8]
    joints: FloatArray
    gripper: FloatArray
    done: FloatArray
    success: FloatArray
    cost: FloatArray


def dream(
    session: WorldModelSession,
    observation: Observation,
    instruction: str,
    chunks: Sequence[tuple[FloatArray, FloatArray]],
    rng: np.random.Generator,
    flow_steps: int = 4,
) -> Dream:
    """Imagine what follows chunks (H, n) [rad] with openings (H,) [m], each from what the one before led to.

    Args:
        session: with ``pixels``.
        observation: where the dream begins.
        instruction: words of the vocabulary.
        chunks: absolute joint positions and openings.
        rng: the flow's noise.
        flow_steps: Euler steps per view.
    """
    seen = []
    for positions, gripper in chunks:
        context = session.observe(observation, instruction)
        ways = session.tool_ways(positions[None])
        bins, _ = session.bins(positions[None], gripper[None], ways, observation.joints)
        x = rng.standard_normal((1, 2, *context["latents"].shape[2:])).astype(np.float32)
        for view in (HEAD, WRIST):  # the one that is not at work is unknown first, then known
            for step in range(flow_steps):
                before, after = 1.0 - step / flow_steps, 1.0 - (step + 1) / flow_steps
                time = np.array([[before, 1.0]] if view == HEAD else [[0.0, before]], np.float32)
                answer = session.step(context, bins, x, time)
                # Euler along v = (x_t - x_0) / t.
                x[:, view] = (after / before) * x[:, view] + (1.0 - after / before) * answer["images"][:, 0, view]
        answer = session.step(context, bins, x, np.zeros((1, 2), np.float32))
        pictures = session.pictures((context["latents"] + x)[0])
        joints, velocities, opening = session.body(context["proprio"] + answer["body"][0, 0])
        observation = Observation(
            observation.stamp + session.horizon * session.row_period, pictures[0], pictures[1], joints, velocities,
            opening,
        )  # fmt: skip
        done, success, cost = session.outcomes(answer["outcome"][:, :, 0], answer["cost"][:, :, 0])
        seen.append((*pictures, joints, opening, done[0], success[0], cost[0]))
    columns = [np.array(column) for column in zip(*seen, strict=True)]
    return Dream(*columns)
