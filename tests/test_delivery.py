"""What a lab installs from: container files, locks, package.xml and the bill of materials fit the code."""

import json
import os
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from functools import cache
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
# Python packages in rosdep's index (rosdep/python.yaml of ros/rosdistro, August 2026), for Ubuntu 24.04 and Debian.
ROSDEP = {
    "python3-cryptography",
    "python3-hypothesis",
    "python3-numpy",
    "python3-pil",
    "python3-pytest",
    "python3-rich",
    "python3-scipy",
    "python3-yaml",
}


@cache
def stages() -> dict[str, list[tuple[str, str]]]:
    """Dockerfile: stage -> its instructions with their arguments, FROM first."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            name = rest.split()[-1]
            found[name] = []
        if name:
            found[name].append((word, " ".join(rest.split())))
    return found


def arguments(stage: str, word: str) -> list[str]:
    return [rest for what, rest in stages()[stage] if what == word]


def ancestry(stage: str) -> list[str]:
    """The stage and those that it is built from."""
    base = arguments(stage, "FROM")[0].split()[0]
    return [stage, *(ancestry(base) if base in stages() else [])]


def locked(name: str) -> dict[str, tuple[list[Version], int]]:
    """Package -> its locked versions and number of hashes."""
    found: dict[str, tuple[list[Version], int]] = {}
    current = ""
    for line in (ROOT / "requirements" / name).read_text().splitlines():
        if match := re.match(r"([a-z0-9][a-z0-9._-]*)==(\S+)", line):
            current = canonicalize_name(match[1])
            versions, hashes = found.get(current, ([], 0))
            found[current] = [*versions, Version(match[2])], hashes
        elif line.strip().startswith("--hash=sha256:"):
            versions, hashes = found[current]
            found[current] = versions, hashes + 1
        else:
            assert line.startswith("#") or not line.strip(), line
    return found


def wanted(extra: str = "") -> list[Requirement]:
    """This package's own requirements."""
    own = [Requirement(text) for text in requires("vla_mbpo") or []]
    return [r for r in own if r.marker is None or extra and r.marker.evaluate({"extra": extra})]


def test_every_folder_with_code_is_installed():
    """Incident: a folder without __init__.py was there in an editable install and in no other."""
    code = {file.parent for file in (ROOT / "src/vla_mbpo").rglob("*.py")}
    assert [str(folder) for folder in sorted(code) if not (folder / "__init__.py").is_file()] == []


def test_what_the_dockerfile_copies_is_there_and_not_ignored():
    kept = {line[1:].split("/")[0] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    for name in stages():
        for rest in arguments(name, "COPY"):
            words = shlex.split(rest)
            if words[0].startswith("--from="):
                assert words[0].removeprefix("--from=") in stages(), rest
                continue
            for source in words[:-1]:
                assert (ROOT / source).exists(), rest
                assert source.split("/")[0] in kept, f"{source} is kept out by .dockerignore"


def test_the_image_of_the_robot_has_no_torch():
    runtime = ancestry("runtime")
    copied = [rest for name in runtime for rest in arguments(name, "COPY") if rest.startswith("--from=")]
    made_by = {rest.split()[0].removeprefix("--from=") for rest in copied}
    files = {
        word
        for made in made_by
        for name in ancestry(made)
        for rest in arguments(name, "RUN")
        for word in rest.split()
        if word.endswith((".lock", ".txt"))
    }
    assert files == {"requirements/apt.lock"}
    names = set(locked("apt.lock"))
    assert "onnxruntime" in names and not {n for n in names if n.startswith(("torch", "nvidia-", "triton"))}
    assert "torch" in locked("train.lock")


@pytest.mark.parametrize("stage", ["runtime", "trainer"])
def test_the_images_that_run_do_not_run_as_root(stage):
    users = [rest for name in reversed(ancestry(stage)) for rest in arguments(name, "USER")]
    assert users and users[-1] == "robot"


def test_health_is_what_the_stack_says_of_itself():
    checks = arguments("runtime", "HEALTHCHECK")
    assert len(checks) == 1 and json.loads(checks[0].partition("CMD ")[2])[1:] == ["vla-mbpo", "doctor", "--stack"]
    told = subprocess.run([sys.executable, "-m", "vla_mbpo.cli", "doctor", "--help"], capture_output=True, text=True)
    assert "--stack" in told.stdout


def test_nothing_is_installed_by_pip_without_hashes():
    lines = [rest for name in stages() for rest in arguments(name, "RUN") if "pip install" in rest]
    assert len(lines) == 2 and all("--require-hashes" in line for line in lines)


def test_compose_starts_stages_of_the_dockerfile_unprivileged():
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert {"sim", "robot", "trainer"} == set(compose["services"])
    for name, service in compose["services"].items():
        assert service["build"]["target"] in stages() and service["profiles"] == [name]
        assert service["cap_drop"] == ["ALL"] and not service.get("privileged") and not service.get("cap_add")
        assert "ports" not in service  # the page stays on the machine's loopback
    assert compose["services"]["robot"]["devices"]
    assert compose["services"]["trainer"]["deploy"]["resources"]["reservations"]["devices"][0]["driver"] == "nvidia"


@pytest.mark.parametrize(("file", "extra"), [("wheels.lock", ""), ("apt.lock", ""), ("train.lock", "train")])
def test_locks_hold_every_requirement_with_hashes_and_a_version_in_its_range(file, extra):
    found = locked(file)
    assert all(hashes for _, hashes in found.values())
    for need in wanted(extra):
        versions, _ = found[canonicalize_name(need.name)]
        assert all(version in need.specifier for version in versions), f"{need}: {versions}; run scripts/lock.sh"


def test_the_system_packages_are_those_of_the_python_that_is_used(tmp_path):
    """Incident (review): with an old python3 beside it, python3-venv was installed, and that Python lacked its own."""
    stubs = {
        "python3": 'case "$2" in *print*) echo python3.10;; *) exit 1;; esac',
        "python3.11": 'case "$2" in *print*) echo python3.11;; *ensurepip*|*Python.h*) exit 1;; esac',
        "dpkg-query": 'case "$*" in *python3*) exit 1;; *) echo installed;; esac',
        "apt-get": "exit 1",
        "sudo": "exit 1",
        **dict.fromkeys(("python3.12", "python3.13", "python3.14"), "exit 1"),
    }
    for name, text in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "VENV": str(tmp_path / "none")}
    path.pop("PYTHON", None)
    ended = subprocess.run(["bash", "scripts/setup.sh"], cwd=ROOT, env=path, capture_output=True, text=True)
    assert ended.returncode and "installing system packages: python3.11-venv python3.11-dev\n" in ended.stdout


def test_package_xml_has_the_keys_of_rosdep_and_the_packages_of_setup():
    root = ElementTree.parse(ROOT / "package.xml").getroot()
    keys = {element.text for element in root if element.tag in ("exec_depend", "test_depend")}
    assert {key for key in keys if key and key.startswith("python3-")} == ROSDEP
    by_key = {"pillow": "python3-pil", "pyyaml": "python3-yaml"}
    own = {by_key.get(name, f"python3-{name}") for name in (canonicalize_name(need.name) for need in wanted())}
    from_lock = {"mcap", "mink", "mujoco", "onnxruntime", "pygame-ce", "ruckig"}
    assert own - keys == {f"python3-{name}" for name in from_lock}


def test_the_bill_of_materials_is_complete_and_repeatable(tmp_path):
    texts = []
    for name in ("a.json", "b.json"):
        run = [sys.executable, str(ROOT / "scripts/sbom.py"), "--json", str(tmp_path / name)]
        subprocess.run(run, check=True, capture_output=True)
        texts.append((tmp_path / name).read_text())
    assert texts[0] == texts[1]
    bill = json.loads(texts[0])
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    packages = {c["name"]: c for c in bill["components"] if c["type"] == "library"}
    assert {canonicalize_name(need.name) for need in wanted()} <= set(packages)
    assert packages["onnxruntime"]["licenses"] and packages["onnxruntime"]["purl"].startswith("pkg:pypi/onnxruntime@")
    models = {c["name"] for c in bill["components"] if c["type"] == "machine-learning-model"}
    assert {"sft_full", "world_model", "detector_full"} <= models
    refs = {c["bom-ref"] for c in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    assert all(set(row["dependsOn"]) <= refs for row in bill["dependencies"])


def test_the_list_of_licences_names_every_requirement():
    text = (ROOT / "docs/licenses.md").read_text()
    listed = {canonicalize_name(line.split("|")[1].strip()) for line in text.splitlines() if line.startswith("| ")}
    extras = ("train", "export", "calibrate", "cameras", "realsense", "engines", "openpi")
    missing = {canonicalize_name(need.name) for extra in ("", *extras) for need in wanted(extra)} - listed
    assert not missing, "run scripts/sbom.py, see docs/licenses.md"
