"""How a calibrated failure detector does on other rollouts, as one picture: ROC curves, detection times, bands."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the backend must be chosen first)
from matplotlib.axes import Axes  # noqa: E402

from vla_mbpo.failure.bands import Band  # noqa: E402
from vla_mbpo.failure.scores import FloatArray  # noqa: E402
from vla_mbpo.training.judge import roc_auc  # noqa: E402

SHOWN = 25  # attempts of each outcome in a band's panel
WELL, FAILS = "#2a7ab8", "#c8442d"


def report(
    band: Band, members: Sequence[str], curves: list[FloatArray], fails: NDArray[np.bool_], alpha: float, look: float,
    out: Path,
) -> None:  # fmt: skip
    """Write the picture for curves (members, looks) of attempts that were not calibrated on.

    ``look``: from one look to the next [s].
    """
    figure, axes = pyplot.subplots(2, 3, figsize=(15, 8))
    highest, reached = [band.highest(one) for one in curves], [band.reached(one) for one in curves]
    width = band.width(alpha)
    _roc(axes[0, 0], {name: np.array([h[i, -1] for h in highest]) for i, name in enumerate(members)}, reached, fails)
    _moments(axes[0, 1], reached, fails, width)
    _vote(axes[0, 2], reached, fails, width, alpha, look)
    for axis, i in zip(axes[1], range(len(members)), strict=False):
        _band(axis, band, members[i], i, curves, fails, width, look)
    figure.suptitle(f"{int(fails.sum())} failures and {int((~fails).sum())} successes, alpha {alpha:g}")
    figure.tight_layout()
    figure.savefig(out, dpi=100)
    pyplot.close(figure)


def _roc(axis: Axes, ends: dict[str, FloatArray], reached: list[FloatArray], fails: NDArray[np.bool_]) -> None:
    for name, values in {**ends, "vote": np.array([r[-1] for r in reached])}.items():
        order = np.argsort(-values, kind="stable")
        hits, false = np.cumsum(fails[order]) / fails.sum(), np.cumsum(~fails[order]) / (~fails).sum()
        axis.plot(false, hits, label=f"{name} {roc_auc(values, fails):.3f}", linewidth=2 if name == "vote" else 1)
    axis.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
    axis.set(xlabel="false alarms", ylabel="failures found", title="ROC by the end of the attempt")
    axis.legend()


def _moments(axis: Axes, reached: list[FloatArray], fails: NDArray[np.bool_], width: float) -> None:
    found = [
        int(np.argmax(r > width)) / len(r) for r, failed in zip(reached, fails, strict=True) if failed and r[-1] > width
    ]
    axis.hist(found, bins=20, range=(0, 1), color=FAILS)
    missed = int(fails.sum()) - len(found)
    axis.set(xlabel="share of the attempt", ylabel="failures", title=f"when the alarm came ({missed} missed)")


def _vote(
    axis: Axes, reached: list[FloatArray], fails: NDArray[np.bool_], width: float, alpha: float, look: float
) -> None:
    for r, failed in list(zip(reached, fails, strict=True))[: 4 * SHOWN]:
        axis.plot(look * np.arange(len(r)), r, color=FAILS if failed else WELL, alpha=0.4, linewidth=0.8)
    axis.axhline(width, color="black", linestyle="--", label=f"band, alpha {alpha:g}")
    axis.set(xlabel="s", ylabel="modulations above the mean", title="vote (blue: attempts that go well)")
    axis.set_ylim(-2, 4 * width)
    axis.legend()


def _band(
    axis: Axes, band: Band, name: str, i: int, curves: list[FloatArray], fails: NDArray[np.bool_], width: float,
    look: float,
) -> None:  # fmt: skip
    for failed, colour in ((False, WELL), (True, FAILS)):
        for curve in [c for c, f in zip(curves, fails, strict=True) if f == failed][:SHOWN]:
            axis.plot(look * np.arange(curve.shape[1]), curve[i], color=colour, alpha=0.4, linewidth=0.8)
    time = look * np.arange(band.shape.mean.shape[1])
    axis.plot(time, band.shape.mean[i], color="black", linewidth=1)
    axis.plot(time, band.shape.mean[i] + width * band.shape.modulation[i], color="black", linestyle="--")
    axis.set(xlabel="s", ylabel=name, title=f"{name} and its share of the band")
