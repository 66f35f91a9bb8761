"""The table of benchmarks/detector.py."""

from types import SimpleNamespace

import numpy as np

from benchmarks.detector import SCORES, table


def test_a_score_that_nobody_gave_is_left_out():
    """Without a world model there were NaNs in the results, which is no JSON."""
    curves = [np.random.default_rng(i).random((len(SCORES), 12)) for i in range(8)]
    for curve in curves:
        curve[SCORES.index("imagined")] = np.nan
    band = SimpleNamespace(reached=lambda rows: rows[0])
    found = table(band, curves, np.arange(8) % 2 == 0, [0])
    for when in ("end", "early"):
        assert set(found[when]) == {*SCORES, "vote"} - {"imagined"}
        assert np.isfinite([value for row in found[when].values() for value in row]).all()
