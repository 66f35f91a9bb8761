"""Whether a world model may be trained in: what it says of logged attempts against how they ended."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_mbpo.core.errors import require
from vla_mbpo.training.judge import recall_at, roc_auc

FALSE_ALARMS = 0.05  # share of the looks in attempts that went well
LEAST_RECALL = 0.4  # of the looks in attempts that failed


@dataclass(frozen=True)
class Admission:
    """How a world model does on looks of attempts that it was not trained on.

    Attributes:
        looks: their number.
        failure_recall: share of the looks in failing attempts that it tells at FALSE_ALARMS.
        gap: mean predicted success less the share that there was (dream-real gap).
        auc: of success.
    """

    looks: int
    failure_recall: float
    gap: float
    auc: float

    @classmethod
    def of(cls, success: NDArray[np.float64], succeeded: NDArray[np.bool_]) -> "Admission":
        """From predicted success (N,) and how each look's attempt ended (N,); both kinds have to be there."""
        both = bool(succeeded.any() and not succeeded.all())
        require(both, "admission", f"{int(succeeded.sum())} of {len(succeeded)}", "looks of attempts of both outcomes")
        recall, _ = recall_at(-success, ~succeeded, FALSE_ALARMS)
        gap, auc = float(success.mean() - succeeded.mean()), roc_auc(success, succeeded)
        return cls(len(success), round(recall, 4), round(gap, 4), round(auc, 4))

    def check(self, gap: float) -> dict[str, Any]:
        """Itself as plain values. ConfigError where it is outside the limits, ``gap`` among them."""
        require(
            self.failure_recall >= LEAST_RECALL, "world_model.failure_recall", self.failure_recall,
            f"{LEAST_RECALL} or more of the looks in failing attempts at {FALSE_ALARMS} false alarms",
        )  # fmt: skip
        require(abs(self.gap) <= gap, "world_model.gap", self.gap, f"-{gap} to {gap}")
        return asdict(self)
