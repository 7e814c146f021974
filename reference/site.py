"""MkDocs' hook: pages that lie beside `docs/`, and links that lead out of it, as one reads them in the repository.

A link to a source file leads to the repository where `repo_url` says where that is; else its text is all there is.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
#: In the repository → in the site.
BESIDE = {"SECURITY.md": "security.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}

_FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, place in BESIDE.items():
        files.append(File.generated(config, place, content=(ROOT / name).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    there = page.file.src_uri
    in_repository = next((name for name, place in BESIDE.items() if place == there), f"docs/{there}")
    return outside_fences(markdown, lambda text: rewritten(text, there, in_repository, config.repo_url))


def outside_fences(markdown: str, change: Callable[[str], str]) -> str:
    parts = _FENCED.split(markdown)
    return "".join(part if index % 2 else change(part) for index, part in enumerate(parts))


def rewritten(text: str, there: str, in_repository: str, repo_url: str | None) -> str:
    """`there`: the page in the site; `in_repository`: the file it comes from."""

    def link(match: re.Match[str]) -> str:
        words, target = match.groups()
        path, hash_, anchor = target.partition("#")
        if not path or "://" in target or target.startswith("mailto:"):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(in_repository), path))
        if path.startswith("docs/") and (ROOT / path / "README.md").exists():
            path = f"{path}/README.md"
        place = BESIDE.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if place is not None:
            return f"[{words}]({posixpath.relpath(place, posixpath.dirname(there))}{hash_}{anchor})"
        if repo_url:
            return f"[{words}]({repo_url.rstrip('/')}/blob/HEAD/{path}{hash_}{anchor})"
        return words if posixpath.basename(path) in words else f"{words} (`{path}`)"

    return _LINK.sub(link, text)
