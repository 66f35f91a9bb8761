"""Scores that were learned on rollouts of one policy. Networks run as ONNX graphs, the others are sums of numpy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.failure.scores import FloatArray, Look

CHUNK_WEIGHT = 0.5  # of the chunk beside the features, in a neighbour's distance


class Safe:
    """SAFE-MLP: failure per look, which ``Sum`` or ``Recent`` gathers (arXiv 2506.09937, equation 3)."""

    name = "safe_mlp"

    def __init__(self, graph: Any) -> None:
        """``graph``: as ``engines.sessions`` opens it, features (1, F) -> probability (1,)."""
        self._graph = graph

    def reset(self) -> None:
        """A new attempt begins."""

    def add(self, look: Look) -> float:
        """Probability that such a look belongs to an attempt that fails."""
        return float(self._graph.run(None, {"features": look.features[None]})[0][0])


class SafeLstm:
    """SAFE-LSTM: failure, given all looks since the attempt began."""

    name = "safe_lstm"

    def __init__(self, graph: Any, width: int) -> None:
        """``graph``: features (1, F), hidden, cell (1, width) -> probability (1,), hidden, cell."""
        self._graph, self._width = graph, width
        self.reset()

    def reset(self) -> None:
        """A new attempt begins."""
        self._state = [np.zeros((1, self._width), np.float32)] * 2

    def add(self, look: Look) -> float:
        """Probability that the attempt fails."""
        inputs = {"features": look.features[None], "hidden": self._state[0], "cell": self._state[1]}
        found, *self._state = self._graph.run(None, inputs)
        return float(found[0])


class Neighbours:
    """Mean distance to the nearest looks of attempts that went well: Euclidean, or cosine."""

    def __init__(self, bank: "Bank", cosine: bool) -> None:
        self.name = "knn_cosine" if cosine else "knn_euclidean"
        self._bank, self._cosine = bank, cosine

    def reset(self) -> None:
        """A new attempt begins."""

    def add(self, look: Look) -> float:
        """0 or more; cosine at most 2."""
        return self._bank.distance(look, self._cosine)


class Bank:
    """Looks (N, D) of attempts that went well: standardised features, and the first candidate's rows beside them."""

    def __init__(
        self, looks: NDArray[np.float16], mean: NDArray[np.float32], std: NDArray[np.float32], nearest: int = 5
    ) -> None:
        """``mean``, ``std`` (D,) of features and rows before standardisation."""
        self._mean, self._std, self._nearest = mean, std, nearest
        self._looks = looks.astype(np.float32)
        self._square = np.square(self._looks).sum(1)
        self._length = np.sqrt(self._square)

    @staticmethod
    def vector(look: Look) -> NDArray[np.float32]:
        """(D,) features and rows relative to the measured pose."""
        rows = look.chunks[0].copy()
        rows[:, :-1] -= look.joints
        return np.concatenate([look.features, rows.ravel()]).astype(np.float32)

    @staticmethod
    def weights(features: int, size: int) -> NDArray[np.float32]:
        """(D,) so that features and rows count as agreed, however many there are of each."""
        rows = np.full(size - features, np.sqrt(CHUNK_WEIGHT / (size - features)))
        return np.concatenate([np.full(features, np.sqrt((1 - CHUNK_WEIGHT) / features)), rows]).astype(np.float32)

    def distance(self, look: Look, cosine: bool) -> float:
        """Mean over the nearest."""
        x = (self.vector(look) - self._mean) / self._std
        product = self._looks @ x
        if cosine:
            apart = 1.0 - product / np.maximum(self._length * np.linalg.norm(x), 1e-9)
        else:
            apart = np.sqrt(np.maximum(self._square - 2 * product + float(x @ x), 0.0))
        return float(np.partition(apart, self._nearest)[: self._nearest].mean())


class Mahalanobis:
    """Distance of the features from those of attempts that went well, by their covariance."""

    name = "mahalanobis"

    def __init__(self, mean: FloatArray, precision: FloatArray) -> None:
        """(F,) and (F, F)."""
        self._mean, self._precision = mean, precision

    def reset(self) -> None:
        """A new attempt begins."""

    def add(self, look: Look) -> float:
        """0 or more."""
        away = look.features - self._mean
        return float(np.sqrt(max(float(away @ self._precision @ away), 0.0)))


class Distilled:
    """How badly a network predicts a random one on these features: random network distillation (arXiv 1810.12894)."""

    name = "rnd"

    def __init__(self, graph: Any) -> None:
        """``graph``: features (1, F) -> error (1,)."""
        self._graph = graph

    def reset(self) -> None:
        """A new attempt begins."""

    def add(self, look: Look) -> float:
        """0 or more."""
        return float(self._graph.run(None, {"features": look.features[None]})[0][0])
