"""Whom the gate asks about a chunk set before it looks at it: its parameters, and the join that they make."""

from pathlib import Path

from vla_mbpo.core.errors import require
from vla_mbpo.failure.calibration import Calibration, calibration_file
from vla_mbpo.nodes.join import VettingJoin
from vla_mbpo.nodes.models import RELEASE
from vla_mbpo.nodes.parameters import Param, Parameters
from vla_mbpo.paths import bundle_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.releases.release import stated_versions

VETTING = ("imagination", "failure_detector")
ON_ALARM = ("hold", "human", "note")
PARAMETERS = (
    RELEASE,
    Param("vetting.imagination", "", "whether to ask it; must be stated", choices=("off", "on")),
    Param("vetting.failure_detector", "", "whether to ask it; must be stated", choices=("off", "on")),
    Param("vetting.world_model", "world_model", "bundle whose verdicts count"),
    Param("vetting.detector", "detector_full", "failure-detector bundle whose risks count"),
    Param("vetting.calibration", "", "file of its conformal bands; empty: the bundle's in calibration/"),
    Param("vetting.deadline", 0.15, "longest time from a set to all answers, then it is UNKNOWN, s", 0.01, 1.0),
    Param("vetting.on_unknown", "hold", "what UNKNOWN does: hold, or go on slowly", choices=("hold", "slow")),
    Param("vetting.slow", 0.3, "share of the speed limits that chunks may use under slow", 0.05, 1.0),
    Param(
        "vetting.on_alarm", "hold", "an alarm: end the attempt, wait for a person, or only note it", choices=ON_ALARM
    ),
)


def switched_off(parameters: Parameters) -> list[str]:
    """Who is not asked."""
    return [name for name in VETTING if parameters[f"vetting.{name}"] == "off"]


def join_of(parameters: Parameters, release: str) -> tuple[VettingJoin | None, str]:
    """For whom is asked, None: nobody; and whose answers count, as one line.

    Of a release its manifest says whose: what others answer is UNKNOWN. ConfigError if the release lacks who is asked,
    or if a bundle or its calibration cannot be read.
    """
    off = switched_off(parameters)
    if len(off) == len(VETTING):
        return None, "nobody's answers"
    version = calibration = ""
    ends = parameters["vetting.on_alarm"] != "note"
    if release:
        stated = stated_versions(Path(release))
        for name, needed in (("imagination", "world_model"), ("failure_detector", "bands")):
            there = name in off or needed in stated
            require(there, f"release {Path(release).name}", f"without {needed}", f"vetting.{name} is on")
        version = "" if "imagination" in off else stated["world_model"]
        calibration = "" if "failure_detector" in off else stated["bands"]
        return VettingJoin(parameters["vetting.deadline"], version, calibration, ends), f"{version} {calibration}"
    if "imagination" not in off:
        version = Bundle.load(bundle_dir(parameters["vetting.world_model"])).version
    if "failure_detector" not in off:
        name = parameters["vetting.detector"]
        file = parameters["vetting.calibration"] or calibration_file(name)
        calibration = Calibration.load(Path(file).expanduser(), Bundle.load(bundle_dir(name))).id
    return VettingJoin(parameters["vetting.deadline"], version, calibration, ends), f"{version} {calibration}"
