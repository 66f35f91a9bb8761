"""World model and failure detector of a candidate, made to belong to its policy version."""

from dataclasses import dataclass
from pathlib import Path

from vla_mbpo.core.errors import require
from vla_mbpo.failure.calibration import Calibration, calibration_file, write
from vla_mbpo.failure.command import successes
from vla_mbpo.failure.detector import Parts as Detector
from vla_mbpo.paths import bundle_dir
from vla_mbpo.policy.bundle import Bundle
from vla_mbpo.releases.release import adopt


@dataclass(frozen=True)
class Parts:
    """What becomes one release, each a verified bundle.

    Attributes:
        policy: of the release.
        world_model: names the policy's version; None: none.
        detector: names it too; ``bands``: the file of its bands for that version.
    """

    policy: Bundle
    world_model: Bundle | None = None
    detector: Bundle | None = None
    bands: Path | None = None


def policy_bundle(name: str, option: str) -> Bundle:
    """A policy by name or folder. ConfigError: something else."""
    found = Bundle.load(bundle_dir(name))
    require(found.manifest["kind"] == "policy", option, f"{name}, a {found.manifest['kind']}", "a policy's bundle")
    return found


def as_they_are(policy: Bundle, world_model: str, detector: str, bands: str = "") -> Parts:
    """Parts that name the policy's version already. ConfigError: they do not.

    ``bands``: their file; empty: the detector's in calibration/.
    """
    model = _of_kind(world_model, "world_model") if world_model else None
    watch = _of_kind(detector, "failure_detector") if detector else None
    for bundle in filter(None, (model, watch)):
        names = bundle.manifest["policies"]
        require(policy.version in names, bundle.manifest["kind"], f"for {names}", f"for {policy.version}")
    if watch is None:
        require(not bands, "--bands", bands, "together with --detector")
        return Parts(policy, model)
    file = Path(bands).expanduser() if bands else calibration_file(detector)
    found = Calibration.load(file, watch)
    found.width(policy.version, found.alpha)
    return Parts(policy, model, watch, file)


def adopted(
    policy: Bundle,
    world_model: str,
    detector: str,
    rollouts: list[str],
    alpha: float,
    work: Path,
    robot: str = "sim_panda",
) -> Parts:
    """Parts of another version of the policy, taken over in copies below ``work``.

    The world model's copy adds the version to its policies: whether it is of use to it, the paired evaluation says,
    which is made with it. The detector's copy names the version alone, and its bands are fitted anew on ``rollouts`` of
    it, attempts of ``robot``; what it has learned stays. ConfigError: too few rollouts that went well.
    """
    model, watch, bands = None, None, None
    if world_model:
        model = _of_kind(world_model, "world_model")
        names = model.manifest["policies"]
        if policy.version not in names:
            reason = "paired evaluation of the policy with this world model"
            model = adopt(model, work / "world_model", [*names, policy.version], reason)
    if detector:
        watch, bands = _of_kind(detector, "failure_detector"), work / "bands.json"
        if watch.manifest["policies"] != [policy.version]:
            watch = adopt(watch, work / "failure_detector", [policy.version], "bands fitted on its own rollouts")
        curves, facts = successes(Detector(watch), rollouts, alpha, "--rollouts", robot)
        write(bands, watch, curves, alpha, facts)
    return Parts(policy, model, watch, bands)


def _of_kind(name: str, kind: str) -> Bundle:
    found = Bundle.load(bundle_dir(name))
    require(found.manifest["kind"] == kind, kind, f"{name}, a {found.manifest['kind']}", f"a bundle of kind {kind}")
    return found
