"""Kustomize's overlays and Helm's chart: valid, safe, what the targets ask for, and in step with the program."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_gateway import __version__
from agent_gateway.app import FLUSH_TIMEOUT_S
from agent_gateway.cli.main import COMMANDS
from agent_gateway.control.environment import VARIABLES
from agent_gateway.control.load import load
from agent_gateway.control.snapshot import Configuration
from agent_gateway.core.settings import Server
from agent_gateway.record.alerting.prometheus import operator_yaml, rules_yaml
from agent_gateway.record.catalogue import CATALOGUE
from agent_gateway.record.family import PREFIX
from tests.deploy.renderings import CHARTED, KUBERNETES, KUSTOMIZED, MONITORED, NAMES, rendered
from tests.kit.manifests import CHART, ROOT, Manifest, Refused, documents, from_chart, only, read, schema_mistakes

#: The oldest that the chart takes, and the newest that there are schemas of.
KUBERNETES_VERSIONS = ("1.27", "1.37")
KEYS = {"AUDIT_KEY", "OPENAI_API_KEY", "GATEWAY_ADMIN_KEY"}
#: What the environment of a pod gives by references.
BY_REFERENCE = {name: f"{name}-0123456789abcdef" for name in KEYS} | {
    "GATEWAY_DATABASE_URL": "postgresql://gateway:secret@postgres/gateway",
    "GATEWAY_REDIS_URL": "redis://redis:6379/0",
}
#: replicas, CPU, memory and variables of TARGETS, by scenario.
TARGETS: dict[str, tuple[int, tuple[str, str], tuple[str, str], dict[str, str]]] = {
    "support": (
        10,
        ("2", "4"),
        ("4Gi", "8Gi"),
        {"GATEWAY_STREAMING": "true", "GATEWAY_TTL": "3600", "GATEWAY_MONITORING": "true", "GATEWAY_FALLBACK_MODEL": "gpt-4.5"},
    ),
    "codegen": (
        5,
        ("4", "8"),
        ("8Gi", "16Gi"),
        {"GATEWAY_BATCH_SIZE": "50", "GATEWAY_FALLBACK_MODEL": "gpt-4.5", "GATEWAY_MONITORING": "true"},
    ),
}

every_rendering = pytest.mark.parametrize("name", NAMES)


def pod(manifests: list[Manifest]) -> dict[str, Any]:
    spec: dict[str, Any] = only(manifests, "Deployment")["spec"]["template"]["spec"]
    return spec


def container(manifests: list[Manifest]) -> dict[str, Any]:
    (found,) = pod(manifests)["containers"]
    return dict(found)


def variables(manifests: list[Manifest]) -> dict[str, str]:
    """Those with plain values."""
    return {entry["name"]: entry["value"] for entry in container(manifests)["env"] if "value" in entry}


def configured(manifests: list[Manifest], folder: Path) -> Configuration:
    """The ConfigMap, read by the program as it would be in the pod."""
    (text,) = only(manifests, "ConfigMap")["data"].values()
    file = folder / "gateway.yaml"
    file.write_text(text)
    environ = {entry["name"]: BY_REFERENCE[entry["name"]] for entry in container(manifests)["env"] if entry["name"] in BY_REFERENCE}
    return load(file, environ | {"OPENAI_API_KEY": "sk-0123456789abcdef"} | variables(manifests))


# --- valid ------------------------------------------------------------------------------------------------------------


@every_rendering
@pytest.mark.parametrize("kubernetes", KUBERNETES_VERSIONS)
def test_kubernetes_schemas_have_nothing_against_it(name: str, kubernetes: str) -> None:
    assert [mistake for manifest in rendered(name) for mistake in schema_mistakes(manifest, kubernetes)] == []


def test_the_schemas_would_see_a_mistake() -> None:
    deployment = msgspec.json.decode(msgspec.json.encode(only(rendered("kustomize base"), "Deployment")))
    deployment["spec"]["template"]["spec"]["containers"][0]["readinessProbes"] = {}
    (mistake,) = schema_mistakes(deployment, KUBERNETES_VERSIONS[-1])
    assert "readinessProbes" in mistake


@every_rendering
def test_every_kind_is_there_once(name: str) -> None:
    kinds = [manifest["kind"] for manifest in rendered(name) if not manifest["metadata"]["name"].endswith("-dashboard")]
    assert len(kinds) == len(set(kinds))
    assert {"Deployment", "Service", "ServiceAccount", "ConfigMap", "PodDisruptionBudget", "NetworkPolicy"} <= set(kinds)
    assert ("HorizontalPodAutoscaler" in kinds) is ("autoscaled" in name or name in (MONITORED, "helm with everything"))
    assert ("ServiceMonitor" in kinds) is ("PrometheusRule" in kinds) is (name in (MONITORED, "helm with everything"))


@every_rendering
def test_whoever_selects_pods_selects_these(name: str) -> None:
    manifests = rendered(name)
    deployment = only(manifests, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = {
        "Deployment": deployment["spec"]["selector"]["matchLabels"],
        "Service": only(manifests, "Service")["spec"]["selector"],
        "PodDisruptionBudget": only(manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        "NetworkPolicy": only(manifests, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    } | {each["topologyKey"]: each["labelSelector"]["matchLabels"] for each in pod(manifests)["topologySpreadConstraints"]}
    assert {of: selector for of, selector in selectors.items() if not selector or not selector.items() <= labels.items()} == {}


# --- what the targets ask for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kustomize", "helm"])
@pytest.mark.parametrize("scenario", TARGETS)
def test_a_scenario_is_as_the_targets_say(how: str, scenario: str, tmp_path: Path) -> None:
    replicas, cpu, memory, environ = TARGETS[scenario]
    manifests = rendered(f"{how} {scenario}")
    assert only(manifests, "Deployment")["spec"]["replicas"] == replicas
    resources = container(manifests)["resources"]
    assert (resources["requests"]["cpu"], resources["limits"]["cpu"]) == cpu
    assert (resources["requests"]["memory"], resources["limits"]["memory"]) == memory
    assert {name: value for name, value in variables(manifests).items() if name != "GATEWAY_CONFIG"} == environ
    assert container(manifests)["image"] == "agent-gateway:latest"
    settings = configured(manifests, tmp_path).settings
    assert settings.preset == scenario
    assert settings.server.workers == int(cpu[0]), "a process uses one core"
    assert settings.fallback.model == "gpt-4.5"
    assert settings.monitoring.mode == "full"


@pytest.mark.parametrize("name", ["kustomize support-autoscaled", "kustomize codegen-autoscaled", "helm support-autoscaled"])
def test_with_an_autoscaler_nobody_else_says_how_many(name: str) -> None:
    manifests = rendered(name)
    replicas = TARGETS[name.split()[1].removesuffix("-autoscaled")][0]
    assert "replicas" not in only(manifests, "Deployment")["spec"]
    scaler = only(manifests, "HorizontalPodAutoscaler")["spec"]
    assert scaler["minReplicas"] == replicas < scaler["maxReplicas"]
    assert scaler["scaleTargetRef"]["name"] == only(manifests, "Deployment")["metadata"]["name"]


@pytest.mark.parametrize("scenario", ["base", *TARGETS])
def test_both_ways_come_to_the_same(scenario: str) -> None:
    """What the chart's pods are, Kustomize's are, but for labels, and the ConfigMap's name and text."""
    ours, theirs = (rendered(name) for name in (f"kustomize {scenario}", f"helm {'defaults' if scenario == 'base' else scenario}"))

    def comparable(manifests: list[Manifest]) -> Any:
        spec = msgspec.json.decode(msgspec.json.encode(pod(manifests)))
        for volume in spec["volumes"]:
            volume.get("configMap", {}).pop("name", None)
        for constraint in spec["topologySpreadConstraints"]:
            constraint.pop("labelSelector")
        spec.pop("terminationGracePeriodSeconds")  # both are enough; see below
        spec["containers"][0]["env"].sort(key=lambda entry: entry["name"])
        return spec

    assert comparable(ours) == comparable(theirs)
    for kind in ("NetworkPolicy", "PodDisruptionBudget"):
        one, other = (dict(only(manifests, kind)["spec"]) for manifests in (ours, theirs))
        for spec in (one, other):
            spec.pop("podSelector", None)
            spec.pop("selector", None)
        assert one == other


# --- in step with the program -----------------------------------------------------------------------------------------


@every_rendering
def test_the_port_is_the_one_that_the_gateway_listens_on(name: str, tmp_path: Path) -> None:
    manifests = rendered(name)
    server = configured(manifests, tmp_path).settings.server
    assert not server.loopback, "nobody would reach it"
    (port,) = container(manifests)["ports"]
    assert port == {"name": "http", "containerPort": server.port}
    (service,) = only(manifests, "Service")["spec"]["ports"]
    assert service["targetPort"] == "http"
    (ingress,) = only(manifests, "NetworkPolicy")["spec"]["ingress"]
    assert ingress["ports"] == [{"port": "http"}]
    probes = [container(manifests)[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert probes == ["http"] * 3


@every_rendering
def test_the_command_is_one_of_the_programs(name: str) -> None:
    command, *options = container(rendered(name))["args"]
    assert command in COMMANDS
    assert options == []


@every_rendering
def test_every_variable_means_something(name: str, tmp_path: Path) -> None:
    manifests = rendered(name)
    (text,) = only(manifests, "ConfigMap")["data"].values()
    named = {*VARIABLES, "GATEWAY_CONFIG", *re.findall(r"\$\{(\w+)", text)}
    given = {entry["name"] for entry in container(manifests)["env"]}
    assert given - named == ({"REGION"} if name == "helm with everything" else set())
    assert set(re.findall(r"\$\{(\w+)", text)) <= given | {"OPENAI_API_KEY"}, "nothing would set it"
    mount = next(each["mountPath"] for each in container(manifests)["volumeMounts"] if each["name"] == "config")
    (file,) = only(manifests, "ConfigMap")["data"]
    assert variables(manifests)["GATEWAY_CONFIG"] == f"{mount}/{file}"
    (volume,) = [each for each in pod(manifests)["volumes"] if each["name"] == "config"]
    assert volume["configMap"]["name"] == only(manifests, "ConfigMap")["metadata"]["name"]
    assert configured(manifests, tmp_path).warnings == ()


@every_rendering
def test_a_pod_that_leaves_has_time_for_what_it_has(name: str, tmp_path: Path) -> None:
    manifests = rendered(name)
    server = configured(manifests, tmp_path).settings.server
    (_, pause) = container(manifests)["lifecycle"]["preStop"]["exec"]["command"]
    assert float(pause) >= 5, "endpoints are taken away while it stops"
    assert pod(manifests)["terminationGracePeriodSeconds"] > float(pause) + server.drain_timeout_s + FLUSH_TIMEOUT_S


def test_the_time_to_leave_follows_the_drain() -> None:
    longer = from_chart({"config": {"server": {"drain_timeout_s": 300}}, "preStopSeconds": 15})
    assert pod(longer)["terminationGracePeriodSeconds"] == 335
    default = from_chart({"config": {"server": {"drain_timeout_s": None}}})
    assert pod(default)["terminationGracePeriodSeconds"] == 10 + Server().drain_timeout_s + 20


@pytest.mark.parametrize("name", [MONITORED, "helm with everything"])
def test_it_scales_and_is_scraped_by_what_there_is(name: str) -> None:
    manifests = rendered(name)
    gauges = {f"{PREFIX}{shown.metric}" for row in CATALOGUE.values() for shown in row if shown.kind == "gauge"}
    metrics = only(manifests, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert [metric["type"] for metric in metrics] == ["Resource", "Pods"]
    assert metrics[0]["resource"]["name"] == "cpu"
    assert metrics[1]["pods"]["metric"]["name"] in gauges
    (rule,) = read(KUBERNETES / "components/prometheus-operator/adapter.yaml")["rules"]["custom"]
    assert rule["seriesQuery"].startswith(metrics[1]["pods"]["metric"]["name"] + "{")
    monitor = only(manifests, "ServiceMonitor")["spec"]
    (endpoint,) = monitor["endpoints"]
    service = only(manifests, "Service")
    assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()


@pytest.mark.parametrize("name", [MONITORED, "helm with everything"])
def test_the_rules_of_the_operator_are_the_rules(name: str) -> None:
    (rules,) = documents(rules_yaml())
    assert only(rendered(name), "PrometheusRule")["spec"] == rules


def test_the_shipped_object_of_the_operator_is_made_of_the_rules() -> None:
    file = KUBERNETES / "components" / "prometheus-operator" / "prometheusrule.yaml"
    run = f"run: python -m agent_gateway.record.alerting.prometheus --operator > {file.relative_to(ROOT)}"
    assert file.read_text() == operator_yaml(), run


def test_the_chart_brings_the_dashboard() -> None:
    (found,) = [each for each in rendered("helm with everything") if each["metadata"]["name"].endswith("-dashboard")]
    shipped = (ROOT / "deploy" / "grafana" / "dashboard.json").read_bytes()
    assert msgspec.json.decode(found["data"]["agent-gateway.json"]) == msgspec.json.decode(shipped)


def test_the_charts_version_is_the_programs() -> None:
    chart = read(CHART / "Chart.yaml")
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


# --- safe -------------------------------------------------------------------------------------------------------------


@every_rendering
def test_pods_are_restricted(name: str) -> None:
    """As the level `restricted` of the Pod Security Standards asks."""
    spec, inner = pod(rendered(name)), container(rendered(name))
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    security = spec["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] > 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    own = inner["securityContext"]
    assert (own["allowPrivilegeEscalation"], own["readOnlyRootFilesystem"], own["capabilities"]) == (False, True, {"drop": ["ALL"]})
    assert not {"privileged", "procMount"} & own.keys()
    assert {kind for volume in spec["volumes"] for kind in volume if kind != "name"} <= {"configMap", "emptyDir", "secret"}
    assert spec["automountServiceAccountToken"] is False
    writable = {mount["mountPath"] for mount in inner["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/data", "/tmp"}


@every_rendering
def test_no_secret_is_in_it(name: str) -> None:
    manifests = rendered(name)
    assert "Secret" not in {manifest["kind"] for manifest in manifests}
    references = {
        entry["name"]: entry["valueFrom"]["secretKeyRef"] for entry in container(manifests)["env"] if entry["name"] in BY_REFERENCE
    }
    assert references.keys() == BY_REFERENCE.keys() - {"OPENAI_API_KEY"}
    assert all(reference["key"] == name for name, reference in references.items())
    (provider,) = container(manifests)["envFrom"]
    assert provider["secretRef"]["name"]


@every_rendering
def test_nothing_goes_to_the_clouds_metadata(name: str) -> None:
    rules = only(rendered(name), "NetworkPolicy")["spec"]["egress"]
    everywhere = [block["ipBlock"] for rule in rules for block in rule.get("to", []) if block["ipBlock"]["cidr"] == "0.0.0.0/0"]
    assert [block["except"] for block in everywhere] == [["169.254.0.0/16"]]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replicas": 3}, "replicas"),
        ({"replicaCount": "many"}, "replicaCount"),
        ({"config": {"server": {"host": "127.0.0.1"}}}, "host"),
        ({"service": {"type": "None"}}, "type"),
        ({"env": {"GATEWAY_TTL": {"seconds": 3600}}}, "GATEWAY_TTL"),
    ],
)
def test_values_that_mean_nothing_are_refused(values: Mapping[str, Any], said: str) -> None:
    with pytest.raises(Refused, match=said):
        from_chart(values)


def test_everything_is_rendered_somewhere() -> None:
    """A kustomization or a values file that no test looks at is a mistake of this file's."""
    overlays = {path.name for path in (KUBERNETES / "overlays").iterdir()}
    assert overlays == {name.split()[1] for name in KUSTOMIZED} - {"base"}
    values = {path.name.removeprefix("values-").removesuffix(".yaml") for path in CHART.glob("values-*.yaml")}
    assert values == set(TARGETS) <= {name.split()[1] for name in CHARTED}
