"""The Dockerfile, compose.yaml and the systemd unit against the program. No container engine builds or runs anything here."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_gateway.app import FLUSH_TIMEOUT_S
from agent_gateway.cli.main import COMMANDS
from agent_gateway.control.environment import VARIABLES
from agent_gateway.control.load import load
from agent_gateway.core.settings import Server
from tests.deploy.renderings import rendered
from tests.kit.manifests import DEPLOY, ROOT, only, read
from tests.kit.servers import promtool

INSTRUCTION = re.compile(r"^([A-Z]+) (.*)$")
COMPOSE = read(DEPLOY / "compose.yaml")
UNIT = (DEPLOY / "systemd" / "agent-gateway.service").read_text()


def stages() -> list[list[tuple[str, str]]]:
    """Of the Dockerfile: its instructions, one a line."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    found: list[list[tuple[str, str]]] = []
    for line in text.splitlines():
        if not (match := INSTRUCTION.match(line.strip())):
            continue
        name, rest = match[1], re.sub(r" +", " ", match[2])
        if name == "FROM":
            found.append([])
        elif not found:
            continue
        found[-1].append((name, rest))
    return found


def told(name: str) -> list[str]:
    """What the image itself says by that instruction."""
    return [rest for instruction, rest in stages()[-1] if instruction == name]


# --- the image --------------------------------------------------------------------------------------------------------


def test_the_image_is_what_the_build_stage_made_and_nothing_of_its_tools() -> None:
    assert len(stages()) == 2
    assert told("COPY") == ["--from=build /opt/agent-gateway /opt/agent-gateway"]
    (path,) = told("ENV")
    assert "PATH=/opt/agent-gateway/bin:" in path


def test_the_image_runs_as_the_pods_user_and_writes_where_pods_may() -> None:
    pod = only(rendered("kustomize base"), "Deployment")["spec"]["template"]["spec"]
    security = pod["securityContext"]
    assert told("USER") == [f"{security['runAsUser']}:{security['runAsGroup']}"]
    writable = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"] if not mount.get("readOnly")}
    (work,) = told("WORKDIR")
    assert told("VOLUME") == [work]
    assert work in writable, "what has no absolute path lies there"


def test_the_image_starts_the_program_on_the_port_it_exposes() -> None:
    (entry,), (words,) = told("ENTRYPOINT"), told("CMD")
    assert msgspec.json.decode(entry) == ["agent-gateway"]
    command, *options = msgspec.json.decode(words)
    assert command in COMMANDS
    assert options == ["--host", "0.0.0.0"]
    assert told("EXPOSE") == [str(Server().port)]


def test_the_image_looks_after_its_health() -> None:
    (check,) = told("HEALTHCHECK")
    program, option, code = msgspec.json.decode(check.partition("CMD ")[2])
    assert (program, option) == ("python", "-c")
    ast.parse(code)
    paths = {probe["httpGet"]["path"] for probe in [_container()["livenessProbe"]]}
    assert f":{Server().port}{paths.pop()}'" in code


def _container() -> dict[str, Any]:
    (container,) = only(rendered("kustomize base"), "Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(container)


def test_what_the_build_needs_is_not_ignored() -> None:
    """The last rule that fits decides, as Docker has it."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]

    def ignored(path: str) -> bool:
        verdict = False
        parents = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
        for rule in rules:
            pattern = rule.removeprefix("!")
            if any(fnmatch(each, pattern) or fnmatch(each, pattern.removeprefix("**/")) for each in parents):
                verdict = not rule.startswith("!")
        return verdict

    project = (
        "pyproject.toml",
        "hatch_build.py",
        "web/package.json",
        "README.md",
        "LICENSE",
        "requirements/run.txt",
        "agent_gateway/cli/main.py",
    )
    assert [path for path in project if ignored(path)] == []
    assert [path for path in project if not (ROOT / path).exists()] == []
    assert all(ignored(path) for path in (".git/config", "deploy/.env", "tests/conftest.py", "gateway.yaml", "agent-gateway.db"))


# --- compose.yaml -----------------------------------------------------------------------------------------------------


def test_compose_has_the_gateway_and_what_it_stands_on() -> None:
    assert set(COMPOSE["services"]) == {"gateway", "postgres", "valkey", "prometheus", "grafana"}
    assert COMPOSE["services"]["gateway"]["image"] == "agent-gateway:latest"
    used = {each.partition(":")[0] for service in COMPOSE["services"].values() for each in service.get("volumes", ())}
    assert {name for name in used if not name.startswith(".")} == set(COMPOSE["volumes"])


def test_every_file_that_compose_mounts_is_there() -> None:
    mounted = [each.split(":")[0] for service in COMPOSE["services"].values() for each in service.get("volumes", ())]
    missing = [path for path in mounted if path.startswith(".") and not (DEPLOY / path).is_file()]
    assert missing == []
    build = COMPOSE["services"]["gateway"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()


def test_composes_gateway_is_configured_and_shut_off(tmp_path: Path) -> None:
    service = COMPOSE["services"]["gateway"]
    given = service["environment"]
    (mount,) = [each for each in service["volumes"] if each.startswith("./")]
    assert mount.split(":")[1] == given["GATEWAY_CONFIG"]
    environ = {name: re.sub(r"\$\{.*?\}", "0123456789abcdef", value) for name, value in given.items() if name != "GATEWAY_CONFIG"}
    configuration = load(DEPLOY / "compose" / "gateway.yaml", environ)
    assert configuration.warnings == ()
    text = (DEPLOY / "compose" / "gateway.yaml").read_text()
    assert given.keys() == {
        *re.findall(r"\$\{(\w+)", text),
        "GATEWAY_CONFIG",
        "GATEWAY_ADMIN_KEY",
        "GATEWAY_DATABASE_URL",
        "GATEWAY_REDIS_URL",
    }
    assert given.keys() - set(re.findall(r"\$\{(\w+)", text)) - {"GATEWAY_CONFIG"} <= VARIABLES.keys()
    server = configuration.settings.server
    assert service["ports"] == [f"${{GATEWAY_PORT:-127.0.0.1:8080}}:{server.port}"]
    assert (service["read_only"], service["cap_drop"], service["tmpfs"]) == (True, ["ALL"], ["/tmp"])
    assert float(service["stop_grace_period"].removesuffix("s")) > server.drain_timeout_s + FLUSH_TIMEOUT_S
    others = COMPOSE["services"]
    for name, variable, port in (("postgres", "GATEWAY_DATABASE_URL", 5432), ("valkey", "GATEWAY_REDIS_URL", 6379)):
        assert f"{name}:{port}/" in given[variable]
        assert service["depends_on"][name] == {"condition": "service_healthy"}
        assert others[name]["healthcheck"]["test"]


def test_every_variable_of_compose_is_in_the_example() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    example = set(re.findall(r"^(\w+)=", (DEPLOY / "compose" / "example.env").read_text(), re.MULTILINE))
    assert asked == example


def test_composes_prometheus_watches_the_gateway(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "prometheus" / "rules.yaml", tmp_path)
    config = (DEPLOY / "compose" / "prometheus.yml").read_text().replace("/etc/prometheus/", f"{tmp_path}/")
    (tmp_path / "prometheus.yml").write_text(config)
    done = promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert done.returncode == 0, done.stderr
    (job,) = read(DEPLOY / "compose" / "prometheus.yml")["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"gateway:{Server().port}"]}]
    targets = [each.split(":")[1] for each in COMPOSE["services"]["prometheus"]["volumes"]]
    assert read(DEPLOY / "compose" / "prometheus.yml")["rule_files"] == [each for each in targets if each.endswith("rules.yaml")]


def test_composes_grafana_shows_the_dashboard() -> None:
    (source,) = read(DEPLOY / "compose" / "grafana" / "datasource.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = read(DEPLOY / "compose" / "grafana" / "dashboards.yaml")["providers"]
    mounts = dict(each.split(":")[:2] for each in COMPOSE["services"]["grafana"]["volumes"] if each.startswith("."))
    assert Path(mounts["./grafana/dashboard.json"]).parent == Path(provider["options"]["path"])


def test_docker_understands_compose() -> None:
    """The tool that reads it; Debian's packages do not have it."""
    found = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False) if shutil.which("docker") else None
    if found is None or found.returncode != 0:
        pytest.skip("docker compose is not installed here")
    environ = dict.fromkeys(re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text()), "0123456789abcdef")
    command = ["docker", "compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
    done = subprocess.run(command, env={"PATH": "/usr/local/bin:/usr/bin:/bin", **environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- systemd ----------------------------------------------------------------------------------------------------------


def unit(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


def test_the_unit_starts_reloads_and_stops_the_program() -> None:
    (start,) = unit("ExecStart")
    program, command, *options = shlex.split(start)
    assert (program.rpartition("/")[2], options) == ("agent-gateway", [])
    assert command in COMMANDS
    assert unit("ExecReload") == ["/bin/kill -HUP $MAINPID"]
    assert float(unit("TimeoutStopSec")[0]) > Server().drain_timeout_s + FLUSH_TIMEOUT_S
    assert "GATEWAY_CONFIG=/etc/agent-gateway/gateway.yaml" in unit("Environment")


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed here")
    file = tmp_path / "agent-gateway.service"
    file.write_text(UNIT.replace("/opt/agent-gateway/bin/agent-gateway", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True, timeout=30, check=False)
    assert "agent-gateway.service" not in done.stderr, done.stderr


def test_the_unit_leaves_little_exposed() -> None:
    wanted = {"DynamicUser": "true", "ProtectSystem": "strict", "NoNewPrivileges": "true", "CapabilityBoundingSet": "", "UMask": "0077"}
    assert {setting: unit(setting) for setting in wanted} == {setting: [value] for setting, value in wanted.items()}
    assert float(unit("LimitNOFILE")[0]) >= 16_384
