import numpy as np
import pytest

from vla_mbpo.cameras.calibration import Calibration
from vla_mbpo.cameras.fit import fitted, square, unknown
from vla_mbpo.cameras.source import Frame
from vla_mbpo.core.errors import ConfigError

K = (600.0, 0.0, 330.0, 0.0, 610.0, 250.0, 0.0, 0.0, 1.0)
P = (600.0, 0.0, 330.0, -30.0, 0.0, 610.0, 250.0, 0.0, 0.0, 0.0, 1.0, 0.0)
R = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
NATIVE = Calibration("c", 640, 480, "plumb_bob", (0.1, -0.2, 0.0, 0.0, 0.0), K, R, P)


def dot(x, y, size=10):
    image = np.zeros((480, 640, 3), np.uint8)
    image[y - size // 2 : y + size // 2, x - size // 2 : x + size // 2] = 255
    return image


@pytest.mark.parametrize("size", [96, 224, 480, 640])
def test_a_point_is_where_the_fitted_calibration_says(size):
    """Seen through both calibrations, a thing in the picture lies in the same direction."""
    found = square(Frame(1, dot(400, 120)), size).image[..., 1].astype(float)
    rows, columns = np.mgrid[:size, :size]
    x, y = (found * columns).sum() / found.sum(), (found * rows).sum() / found.sum()
    k = np.reshape(fitted(NATIVE, 640, 480, size).k, (3, 3))
    ray = ((x - k[0, 2]) / k[0, 0], (y - k[1, 2]) / k[1, 1])
    before = ((399.5 - 330) / 600, (119.5 - 250) / 610)  # the middle of a block of ten pixels
    np.testing.assert_allclose(ray, before, atol=0.3 / k[0, 0])


def test_a_calibration_of_square_pictures_serves_every_size():
    once, twice = fitted(NATIVE, 640, 480, 96), fitted(fitted(NATIVE, 640, 480, 480), 640, 480, 96)
    np.testing.assert_allclose(once.k, twice.k)
    np.testing.assert_allclose(once.p, twice.p)
    assert once.p[3] == pytest.approx(-30.0 * 96 / 480) and once.d == NATIVE.d


def test_a_calibration_of_other_pictures_is_refused():
    with pytest.raises(ConfigError, match="calibration size: '640x480' is not valid; the camera delivers 1280x720"):
        fitted(NATIVE, 1280, 720, 96)


def test_an_uncalibrated_camera_says_zeros():
    found = unknown(96, 96)
    assert not any(found.k) and not any(found.p) and (found.width, found.height) == (96, 96)


def test_depth_is_cut_alike_and_never_a_mean():
    depth = np.where(np.arange(640) < 320, 500, 3000).astype(np.uint16) * np.ones((480, 1), np.uint16)
    found = square(Frame(1, dot(5, 5), depth), 96).depth
    assert found.shape == (96, 96) and set(np.unique(found)) == {500, 3000}
    assert (found[:, :48] == 500).all() and (found[:, 48:] == 3000).all()


def test_a_picture_that_fits_is_left_alone():
    frame = Frame(1, np.zeros((96, 96, 3), np.uint8))
    assert square(frame, 96) is frame
