"""Everything that deploy/ renders to, each once a process."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from tests.kit.manifests import DEPLOY, Manifest, chart_values, from_chart, kustomized

KUBERNETES = DEPLOY / "kubernetes"
MONITORED = "with the Prometheus operator"

KUSTOMIZED: dict[str, str] = {
    "kustomize base": "base",
    "kustomize support": "overlays/support",
    "kustomize codegen": "overlays/codegen",
    "kustomize support-autoscaled": "overlays/support-autoscaled",
    "kustomize codegen-autoscaled": "overlays/codegen-autoscaled",
}

_ALL_ON: dict[str, Any] = {
    "autoscaling": {"enabled": True},
    "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "gateway-tls"},
    "metrics": {name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule", "dashboard")},
    "extraEnv": [{"name": "REGION", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "gateways", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "imagePullSecrets": [{"name": "registry"}],
    "priorityClassName": "high",
    "podAnnotations": {"team": "agents"},
    "podLabels": {"tier": "edge"},
    "serviceAccount": {"annotations": {"team": "agents"}},
    "service": {"annotations": {"team": "agents"}},
    "networkPolicy": {"extraEgress": [{"ports": [{"port": 4318}]}]},
    "secrets": {"gateway": "one", "providers": "other"},
}

CHARTED: dict[str, dict[str, Any]] = {
    "helm defaults": {},
    "helm support": chart_values("values-support.yaml"),
    "helm codegen": chart_values("values-codegen.yaml"),
    "helm support-autoscaled": chart_values("values-support.yaml") | {"autoscaling": {"enabled": True, "maxReplicas": 30}},
    "helm with everything": _ALL_ON,
}

NAMES = (*KUSTOMIZED, MONITORED, *CHARTED)


@cache
def rendered(name: str) -> list[Manifest]:
    if name == MONITORED:
        return _monitored()
    return kustomized(KUBERNETES / KUSTOMIZED[name]) if name in KUSTOMIZED else from_chart(CHARTED[name])


def _monitored() -> list[Manifest]:
    """As an operator writes an overlay of their own."""
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder).resolve()
        base, component = (
            os.path.relpath(KUBERNETES / each, own) for each in ("overlays/support-autoscaled", "components/prometheus-operator")
        )
        (own / "kustomization.yaml").write_text(f"resources: [{base}]\ncomponents: [{component}]\n")
        return kustomized(own)
