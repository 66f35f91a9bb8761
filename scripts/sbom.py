"""Bill of materials of the installed environment, without any network: packages, their licences, and the models.

    python scripts/sbom.py --json sbom.json [--extra train]     CycloneDX 1.6
    python scripts/sbom.py --licenses docs/licenses.md          the same as a table

Read are the metadata of what is installed in the environment that runs this, from this package and the ROS 2 wheels
on; and the manifests in models/. The same environment gives the same file.
"""

import argparse
import hashlib
import json
import sys
import uuid
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGE = "vla_mbpo"


def main() -> None:
    """Write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extra", action="append", default=[], help="with what this extra installs: train, export, …")
    parser.add_argument("--json", type=Path, help="CycloneDX file")
    parser.add_argument("--licenses", type=Path, help="Markdown table")
    args = parser.parse_args()
    found = installed(args.extra)
    if args.json:
        args.json.write_text(json.dumps(bill(found), indent=1) + "\n")
    if args.licenses:
        args.licenses.write_text(table(found))
    unknown = [name for name, (dist, _) in found.items() if not licence(dist)]
    print(f"{len(found)} packages; without a licence in their metadata: {', '.join(unknown) or 'none'}")


def installed(extras: list[str]) -> dict[str, tuple[Distribution, list[str]]]:
    """What is reached from this package and the ROS 2 wheels: by name, with what each needs.

    A package without metadata here (from apt, say) is left out.
    """
    ros = (ROOT / "requirements/ros.txt").read_text().splitlines()
    wanted = [Requirement(f"{PACKAGE}[{','.join(extras)}]" if extras else PACKAGE)]
    wanted += [Requirement(line) for line in ros if line and not line.startswith("#")]
    found: dict[str, tuple[Distribution, list[str]]] = {}
    seen: set[tuple[str, str]] = set()
    while wanted:
        asked = wanted.pop()
        name = canonicalize_name(asked.name)
        for extra in ("", *sorted(asked.extras)):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                dist = distribution(asked.name)
            except PackageNotFoundError:
                continue
            needs = list(_needs(dist, extra))
            wanted += needs
            before = found.get(name, (dist, []))[1]
            found[name] = dist, sorted({*before, *(canonicalize_name(need.name) for need in needs)})
    return dict(sorted(found.items()))


def _needs(dist: Distribution, extra: str) -> Iterator[Requirement]:
    for text in dist.requires or []:
        need = Requirement(text)
        if need.marker is None and not extra or need.marker is not None and need.marker.evaluate({"extra": extra}):
            yield need


def licence(dist: Distribution) -> str:
    """SPDX expression where the package states one, else its own words, its classifiers, or its ROS package.xml."""
    meta: Any = dist.metadata
    stated = str(meta.get("License-Expression") or "").strip()
    if stated:
        return stated
    kinds = [
        line.rpartition("::")[2].strip() for line in meta.get_all("Classifier") or [] if line.startswith("License")
    ]
    own = str(meta.get("License") or "").strip().splitlines()
    short = own[0].strip() if len(own) == 1 and own[0].strip().upper() != "UNKNOWN" else ""
    return short or "; ".join(kind for kind in kinds if kind != "OSI Approved") or _of_ros_package(dist)


def _of_ros_package(dist: Distribution) -> str:
    """The ROS 2 wheels state it in the package.xml that they install, and not as metadata."""
    name = canonicalize_name(dist.metadata["Name"]).removeprefix("ros-").replace("-", "_")
    file = Path(sys.prefix, "share", name, "package.xml")
    if not file.is_file():
        return ""
    stated = (element.text or "" for element in ElementTree.parse(file).getroot().findall("license"))
    return "; ".join(" ".join(text.split()) for text in stated)


def bill(found: dict[str, tuple[Distribution, list[str]]]) -> dict[str, Any]:
    """The document."""
    components = [_component(name, dist) for name, (dist, _) in found.items() if name != canonicalize_name(PACKAGE)]
    components += list(_models())
    own = found[canonicalize_name(PACKAGE)][0]
    content = {
        "metadata": {"component": _component(canonicalize_name(PACKAGE), own) | {"type": "application"}},
        "components": components,
        "dependencies": [
            {"ref": _purl(name, dist), "dependsOn": [_purl(n, found[n][0]) for n in needs if n in found]}
            for name, (dist, needs) in found.items()
        ],
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    serial = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}"
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "serialNumber": serial, **content}


def _component(name: str, dist: Distribution) -> dict[str, Any]:
    purl = _purl(name, dist)
    made: dict[str, Any] = {"type": "library", "name": name, "version": dist.version, "purl": purl, "bom-ref": purl}
    stated = licence(dist)
    if "License-Expression" in dist.metadata:
        made["licenses"] = [{"expression": stated}]
    elif stated:
        made["licenses"] = [{"license": {"name": stated}}]
    return made


def _purl(name: str, dist: Distribution) -> str:
    return f"pkg:pypi/{name}@{dist.version.replace('+', '%2B')}"


def _models() -> Iterator[dict[str, Any]]:
    """Each shipped bundle by the digest that is its identity (policy/bundle.py)."""
    from vla_mbpo.policy.bundle import Bundle

    for file in sorted((ROOT / "models").glob("*/manifest.json")):
        bundle = Bundle.read(file.parent)
        yield {
            "type": "machine-learning-model",
            "name": bundle.manifest["name"],
            "version": bundle.digest[:12],
            "bom-ref": f"model:{bundle.version}",
            "hashes": [{"alg": "SHA-256", "content": bundle.digest}],
            "licenses": [{"license": {"id": "Apache-2.0"}}],
        }


def table(found: dict[str, tuple[Distribution, list[str]]]) -> str:
    """Packages and licences, in Markdown."""
    command = "python scripts/sbom.py " + " ".join(sys.argv[1:])
    rows = [f"| {name} | {dist.version} | {licence(dist) or 'not stated'} |" for name, (dist, _) in found.items()]
    head = [
        "# Licences",
        "",
        "What the packages state about themselves; no legal advice.",
        "",
        f"Written by `{command}`.",
    ]
    return "\n".join([*head, "", "| package | version | licence |", "|---|---|---|", *rows, ""])


if __name__ == "__main__":
    main()
