"""Helm's own engine on a chart: values as JSON in, rendered templates by name as JSON out.

A process of its own, for it brings Go's runtime along:

python -m tests.kit.chart FOLDER NAMESPACE
"""

from __future__ import annotations

import sys
from importlib import import_module

import msgspec

if __name__ == "__main__":
    helm = import_module("helm_python")
    folder, namespace = sys.argv[1:]
    values = msgspec.json.decode(sys.stdin.buffer.read())
    with helm.Chart.load(folder) as chart:
        try:
            chart.validate_schema(values)
            told = {"manifests": chart.render(values, name=chart.name, namespace=namespace)}
        except helm.HelmError as error:
            told = {"refused": str(error)}
    told["lint"] = helm.lint(folder, values, strict=True)["errors"] if "refused" not in told else []
    sys.stdout.buffer.write(msgspec.json.encode(told))
