"""Write the bundle's software bill of materials, CycloneDX 1.6 JSON: the same bundle gives the same bytes."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import Any

from wetread.bundle.licences import name_licence
from wetread.bundle.target import Target, import_packaging
from wetread.bundle.wheels import Wheel

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://cyclonedx.org/")


def write_sbom(
    wheels: list[Wheel],
    *,
    target: Target,
    extras: Mapping[str, frozenset[str]],
    others: Mapping[str, tuple[str, bytes]],
    title: str,
) -> bytes:
    """Describe a bundle. `others` maps names of files to a CycloneDX type and their bytes."""
    root = {"type": "application", "bom-ref": "bundle", "name": title}
    record: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": root},
        "components": [
            *(_describe_wheel(wheel) for wheel in wheels),
            *(_describe_file(name, kind, data) for name, (kind, data) in sorted(others.items())),
        ],
        "dependencies": _describe_dependencies(wheels, target, extras, sorted(others)),
    }
    # The serial number depends on the contents only, not on the time or a random number.
    content = json.dumps(record, sort_keys=True)
    record["serialNumber"] = f"urn:uuid:{uuid.uuid5(_NAMESPACE, content)}"
    return (json.dumps(record, indent=2, sort_keys=True) + "\n").encode()


def _describe_wheel(wheel: Wheel) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": _reference(wheel),
        "name": wheel.name,
        "version": wheel.version,
        "purl": _reference(wheel),
        "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
        "properties": [{"name": "wetread:file", "value": f"wheels/{wheel.path.name}"}],
    }
    if summary := wheel.metadata.get("Summary"):
        found["description"] = str(summary)
    if licence := name_licence(wheel.metadata):
        name, is_expression = licence
        found["licenses"] = [{"expression": name}] if is_expression else [{"license": {"name": name}}]
    return found


def _describe_file(name: str, kind: str, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    return {
        "type": kind,
        "bom-ref": f"file:{name}",
        "name": name,
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


def _describe_dependencies(
    wheels: list[Wheel], target: Target, extras: Mapping[str, frozenset[str]], others: list[str]
) -> list[dict[str, Any]]:
    canonicalize = import_packaging("utils").canonicalize_name
    by_name = {wheel.name: wheel for wheel in wheels}
    found = []
    for wheel in wheels:
        needed = wheel.requirements(target, extras.get(wheel.name, frozenset()))
        names = sorted({canonicalize(requirement.name) for requirement in needed} & set(by_name))
        found.append({"ref": _reference(wheel), "dependsOn": [_reference(by_name[name]) for name in names]})
    roots = [_reference(by_name[name]) for name in ("pip", "wetread") if name in by_name]
    return [{"ref": "bundle", "dependsOn": [*roots, *(f"file:{name}" for name in others)]}, *found]


def _reference(wheel: Wheel) -> str:
    return f"pkg:pypi/{wheel.name}@{wheel.version}"
