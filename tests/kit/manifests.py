"""What `kubectl kustomize` and Helm make of deploy/, as plain objects."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from ruamel.yaml import YAML

from tests.kit.servers import kubectl, module

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "agent-gateway"
_RENDER_S = 30.0

Manifest = dict[str, Any]


class Refused(Exception):
    """What Helm has against the values."""


def kustomized(folder: Path) -> list[Manifest]:
    done = kubectl("kustomize", str(folder))
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr, done.stderr
    return documents(done.stdout)


def from_chart(values: Mapping[str, Any]) -> list[Manifest]:
    """Released as `agent-gateway`. Helm's linter must have nothing against it. Raises `Refused`."""
    module("helm_python")
    command = [sys.executable, "-m", "tests.kit.chart", str(CHART), "default"]
    given = msgspec.json.encode(values)
    done = subprocess.run(command, input=given, capture_output=True, cwd=ROOT, timeout=_RENDER_S, check=False)
    assert done.returncode == 0, done.stderr.decode()
    told = msgspec.json.decode(done.stdout)
    if "refused" in told:
        raise Refused(told["refused"])
    assert told["lint"] == []
    return [found for name, text in sorted(told["manifests"].items()) if name.endswith(".yaml") for found in documents(text)]


def chart_values(name: str) -> dict[str, Any]:
    """One of the values files that come with the chart."""
    values: dict[str, Any] = read(CHART / name)
    return values


def read(file: Path) -> Any:
    return YAML(typ="safe", pure=True).load(file.read_text())


def documents(text: str) -> list[Manifest]:
    return [document for document in YAML(typ="safe", pure=True).load_all(text) if document]


def only(manifests: list[Manifest], kind: str) -> Manifest:
    (found,) = [manifest for manifest in manifests if manifest["kind"] == kind and not manifest["metadata"]["name"].endswith("-dashboard")]
    return found


def schema_mistakes(manifest: Manifest, kubernetes: str) -> list[str]:
    """By Kubernetes' own schema of that version; what is no object of Kubernetes' is one of the Prometheus operator's."""
    validator = module("kubernetes_validate")
    try:
        validator.validate(manifest, kubernetes, strict=True)
    except validator.SchemaNotFoundError:
        return [] if manifest["apiVersion"] == "monitoring.coreos.com/v1" else [f"there is no {manifest['apiVersion']} {manifest['kind']}"]
    except validator.ValidationError as error:
        return [f"{manifest['kind']} {'.'.join(map(str, error.path))}: {error.message}"]
    return []
