"""Training curves as PNG."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the backend must be chosen first)


def plot(history: list[dict[str, float]], out: Path, title: str) -> None:
    """Plot every recorded quantity except speed over the step, one axis each, five in a row."""
    names = [key for key in history[0] if key not in ("step", "samples_per_s")] if history else []
    columns, rows = max(1, min(5, len(names))), max(1, -(-len(names) // 5))
    figure, axes = pyplot.subplots(rows, columns, figsize=(4.4 * columns, 3.2 * rows), squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        values = [row[name] for row in history]
        axis.plot([row["step"] for row in history], values, linewidth=1)
        axis.set_yscale("log" if any(value > 0 for value in values) else "linear")
        axis.set_xlabel("optimiser step")
        axis.set_ylabel(f"{name} loss")
        axis.grid(alpha=0.3)
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(out, dpi=110)
    pyplot.close(figure)
