"""Distances of primitive shapes without MuJoCo's narrow phase: alternating projection.

MuJoCo's contacts of two boxes that do not touch may report too large a distance, or none. Where the gate refuses a pose
and the contacts see no reason, two points decide, one in either shape: no distance is larger than theirs.
"""

import itertools

import mujoco
import numpy as np
from numpy.typing import NDArray

from benchmarks.oracle import CLOSE, Oracle, kind_of

FloatArray = NDArray[np.float64]
STEPS = 400


class Separation:
    """Distances of the shapes of an oracle's model."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle, model = oracle, oracle.model
        excluded = {(int(s) >> 16, int(s) & 0xFFFF) for s in model.exclude_signature}
        pairs: dict[str, list[tuple[int, int]]] = {"self_collision": [], "obstacles": []}
        body, weld = model.geom_bodyid, model.body_weldid
        for first, second in itertools.combinations(range(model.ngeom), 2):
            a, b = int(body[first]), int(body[second])
            names = (min(model.body(a).name, model.body(b).name), max(model.body(a).name, model.body(b).name))
            apart = weld[a] != weld[b] and (a, b) not in excluded and (b, a) not in excluded
            if apart and names != CLOSE and kind_of(names) in pairs:
                pairs[kind_of(names)].append((first, second))
        self._pairs = {kind: np.array(found, dtype=np.int64).reshape(-1, 2) for kind, found in pairs.items()}

    def at_most(self, pose: FloatArray, kind: str) -> float:
        """Upper bound of the smallest distance of a pair of ``kind`` at ``pose`` [m], close to it."""
        pairs = self._pairs.get(kind)
        if pairs is None or not len(pairs):
            return float("inf")
        data = self._oracle.place(pose)
        first, second = pairs[:, 0], pairs[:, 1]
        there = data.geom_xpos[second].copy()
        here = self._project(data, first, there)
        for _ in range(STEPS):
            there = self._project(data, second, here)
            here = self._project(data, first, there)
        return float(np.linalg.norm(here - there, axis=1).min())

    def _project(self, data: mujoco.MjData, geoms: NDArray[np.int64], points: FloatArray) -> FloatArray:
        """Points of the shapes that are nearest to ``points`` (m, 3)."""
        model = self._oracle.model
        turn, size = data.geom_xmat[geoms].reshape(-1, 3, 3), model.geom_size[geoms]
        local = np.einsum("gji,gj->gi", turn, points - data.geom_xpos[geoms])
        radial = np.hypot(local[:, 0], local[:, 1])[:, None]
        shrink = np.minimum(1.0, size[:, :1] / np.maximum(radial, 1e-12))
        axial = np.clip(local[:, 2:], -size[:, 1:2], size[:, 1:2])
        round_ = np.concatenate([local[:, :2] * shrink, axial], axis=1)
        boxed = (model.geom_type[geoms] == mujoco.mjtGeom.mjGEOM_BOX)[:, None]
        nearest = np.where(boxed, np.clip(local, -size, size), round_)
        return np.einsum("gij,gj->gi", turn, nearest) + data.geom_xpos[geoms]
