"""Camera calibration against known truth: intrinsics, and the camera's place on the robot and beside it.

Each set-up draws a lens, a place of camera and board, and postures; pictures of the board are rendered, and
the corners found in them get noise. Intrinsics are found first, from as many views as the command asks for, and used
for the rest.
"""

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from benchmarks.boards import (
    Studio,
    Truth,
    free_boards,
    joint_positions,
    noisy,
    pictured,
    random_lens,
    random_truth,
    random_turn,
)
from benchmarks.common import parser, write
from vla_mbpo.calibrate.board import Board, View
from vla_mbpo.calibrate.intrinsics import Lens
from vla_mbpo.calibrate.poses import FloatArray, apart, pose
from vla_mbpo.calibrate.session import HandEyeSession, LensSession
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.paths import robot_dir

ROBOTS = ("sim_panda", "franka_fr3", "ur5e", "xarm7")  # in turns
EYES = {"in_hand": True, "to_hand": False}
MOST = 120  # views of the camera
ALOFT = pose(Rotation.identity(), np.array([0.0, 0.0, 5.0]))  # a camera there sees no robot
ARM_TURN, ARM_PLACE = (
    0.1,
    0.0005,
)  # deg at most, m per axis (standard deviation): what a robot's tool poses err by, for a second figure


def lens_trial(
    studio: Studio, board: Board, truth: Lens, noise: float, rng: np.random.Generator, most: int
) -> LensSession:
    """A board held before the camera until there are enough views, or ``most`` pictures were taken."""
    session = LensSession(board)
    for number in range(most):
        at = free_boards(rng, board, truth, 1)[0]
        view = board.detect(studio.picture(ALOFT, ALOFT @ at))
        if view is not None:
            session.take(str(number), noisy(view, noise, rng))
            if not session.wanting():
                break
    return session


def lens_errors(session: LensSession, truth: Lens) -> dict[str, float]:
    """What was found against what is."""
    solved = session.solve()
    ratios = solved.lens.matrix[[0, 1], [0, 1]] / truth.matrix[[0, 1], [0, 1]] - 1.0
    focal, centre = 100 * float(np.abs(ratios).max()), solved.lens.matrix[:2, 2] - truth.matrix[:2, 2]
    return {
        "focal_percent": focal,
        "centre_px": float(np.linalg.norm(centre)),
        "centre_percent_of_width": 100 * float(np.abs(centre).max()) / truth.size[0],
        "focal_error_by_sigma": focal / (100 * solved.focal_sigma),
        "views": float(session.count),
        "enough": float(not session.wanting()),
        "rms_px": solved.rms,
    }


def place_errors(
    board: Board, lens: Lens, placed: Truth, views: list[View], tools: FloatArray, sigmas: tuple[float, float]
) -> dict[str, float]:
    """The camera's place found with ``lens`` against the truth; ``sigmas``: of its focal length and axis [deg]."""
    session = HandEyeSession(board, lens, placed.in_hand)
    for number, (view, tool) in enumerate(zip(views, tools, strict=True)):
        session.take(str(number), view, tool)
    solved = session.solve()
    said = solved.sigma_with(*sigmas)
    turn, distance = apart(solved.camera, placed.camera)
    return {
        "rotation_deg": turn,
        "translation_mm": 1e3 * distance,
        "rotation_error_by_sigma": turn / said[0],
        "translation_error_by_sigma": distance / said[1],
        "views": float(session.count),
        "enough": float(not session.wanting()),
        "rms_px": solved.rms,
    }


def setup(
    seed: int, spec: RobotSpec, board: Board, noise: float, postures: int, most: int = MOST
) -> dict[str, dict[str, float]]:
    """One random set-up: intrinsics, then both kinds of hand-eye calibration with them."""
    rng = np.random.default_rng(seed)
    truth = random_lens(rng)
    studio = Studio(spec, board, truth, grain=seed)
    try:
        session = lens_trial(studio, board, truth, noise, rng, most)
        solved = session.solve()
        lens, sigmas = solved.lens, (solved.focal_sigma, solved.axis_sigma)
        found = {"intrinsics": lens_errors(session, truth)}
        for eye, in_hand in EYES.items():
            placed = random_truth(rng, spec, board, truth, in_hand)
            views, tools = pictured(studio, spec, board, placed, joint_positions(rng, spec, board, placed, postures))
            shaken = [noisy(view, noise, rng) for view in views]
            found[eye] = place_errors(board, lens, placed, shaken, tools, sigmas)
            wrong = np.array([tool @ _slip(rng) for tool in tools])
            found[f"{eye}_arm_errs"] = place_errors(board, lens, placed, shaken, wrong, sigmas)
            found[f"{eye}_true_lens"] = place_errors(board, truth, placed, shaken, tools, (0.0, 0.0))
    finally:
        studio.close()
    return found


def _slip(rng: np.random.Generator) -> FloatArray:
    return pose(random_turn(rng, ARM_TURN), ARM_PLACE * rng.standard_normal(3))


def summary(samples: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Median, quartiles and worst of each number."""
    found = {}
    for key in samples[0]:
        values = np.array([sample[key] for sample in samples])
        low, middle, high = np.percentile(values, (25, 50, 75))
        numbers = {"median": middle, "p25": low, "p75": high, "max": values.max()}
        found[key] = {name: round(float(value), 4) for name, value in numbers.items()}
    return found


def main() -> None:
    """Measure and write."""
    cli = parser(__doc__ or "")
    cli.add_argument("--setups", type=int, default=20)
    cli.add_argument("--seed", type=int, default=0)
    cli.add_argument("--noise", type=float, default=0.3, help="of x and y of each corner [px]")
    cli.add_argument("--postures", type=int, default=20, help="views of each hand-eye calibration")
    args = cli.parse_args()
    board, specs = Board(), [RobotSpec.load(robot_dir(name)) for name in ROBOTS]
    runs = []
    for number in range(args.setups):
        runs.append(setup(args.seed + number, specs[number % len(specs)], board, args.noise, args.postures))
        print(f"set-up {number + 1} of {args.setups}", flush=True)
    metrics: dict[str, Any] = {
        "setups": len(runs),
        "robots": list(ROBOTS),
        "noise_px": args.noise,
        "picture": list(random_lens(np.random.default_rng(0)).size),
        "board": [board.columns, board.rows, board.square, board.marker],
        "arm_errs": {"rotation_deg_max": ARM_TURN, "translation_mm_per_axis": 1e3 * ARM_PLACE},
        **{part: summary([run[part] for run in runs]) for part in runs[0]},
        "samples": {
            part: {key: [round(run[part][key], 4) for run in runs] for key in runs[0][part]} for part in runs[0]
        },
    }
    write("calibration", metrics, args.json)


if __name__ == "__main__":
    main()
