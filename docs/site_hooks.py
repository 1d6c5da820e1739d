"""What mkdocs has to be told of this tree (mkdocs.yml names it as a hook).

The pages of docs/ link to files outside of docs/, as is right on GitHub. On the site a Markdown file that is linked to
becomes a page; any other file a page that shows its text; a directory the page of its README, or one with its files.
So every link leads somewhere, without a host to point to. Links to other hosts are looked at for their form only.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mkdocs.structure.files import File, InclusionLevel

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

log = logging.getLogger("mkdocs.hooks.site_hooks")

ROOT = Path(__file__).resolve().parent.parent
_LANGUAGES = {
    ".go": "go",
    ".java": "java",
    ".proto": "protobuf",
    ".py": "python",
    ".rs": "rust",
    ".sh": "bash",
    ".toml": "toml",
    ".ts": "typescript",
    ".yml": "yaml",
}
# A link, but not one in code: fenced blocks and `spans` are matched first, and left alone.
_LINK = re.compile(r"```.*?```|`[^`\n]*`|(?P<before>\]\()(?P<target>[^)\s]+)(?P<after>[^)]*\))", re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds pages for what the others link to outside of docs/, and for what these link to."""
    _places.clear()
    waiting = [(f"docs/{file.src_uri}", file.content_string) for file in files.documentation_pages()]
    for name in _NAMED:
        waiting += _add(name, files, config)
    while waiting:
        source, text = waiting.pop()
        for target in _targets(text):
            path = _resolve(source, target)
            if path and not _of_docs(path) and path not in _places and (ROOT / path).exists():
                waiting += _add(path, files, config)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - mkdocs' signature
    """Turns links to files outside of docs/, as they are on GitHub, into links to their pages."""
    source = _sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def moved(found: re.Match[str]) -> str:
        target = found["target"]
        if not target or target.startswith("#"):
            return found[0]
        if urlsplit(target).scheme:
            _judge(target, source)
            return found[0]
        path, _, anchor = target.partition("#")
        place = _place(_resolve(source, path))
        if place is None:
            return found[0]  # mkdocs says that it leads nowhere
        relative = posixpath.relpath(place, posixpath.dirname(page.file.src_uri) or ".")
        return f"{found['before']}{relative}{'#' if anchor else ''}{anchor}{found['after']}"

    return _LINK.sub(moved, markdown)


_NAMED = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Pages that mkdocs.yml has in its navigation."""

_places: dict[str, str] = {}
"""What was brought in: its path in the repository, and its place on the site."""

_sources: dict[str, str] = {}
"""The other way round, for those whose links are to be read as they stand."""


def _add(path: str, files: Files, config: MkDocsConfig) -> list[tuple[str, str]]:
    """Makes a page of a file or a directory; returns what has to be looked through for links."""
    here = ROOT / path
    if here.is_dir() and (here / "README.md").exists():
        _places[path] = f"source/{path}/README.md"
        return [] if f"{path}/README.md" in _places else _add(f"{path}/README.md", files, config)
    name = f"{path}/index.md" if here.is_dir() else path if here.suffix == ".md" else f"{path}.md"
    _places[path] = _NAMED.get(path, f"source/{name}")
    _sources[_places[path]] = path
    if here.is_dir():
        text = _hidden(path) + "".join(
            f"- [`{below.name}`]({here.name}/{below.name})\n" for below in sorted(here.iterdir()) if below.is_file()
        )
    elif here.suffix == ".md":
        text = here.read_text(encoding="utf-8")
    else:
        text = f"{_hidden(path)}````{_LANGUAGES.get(here.suffix, 'text')}\n{here.read_text(encoding='utf-8')}````\n"
    inclusion = InclusionLevel.INCLUDED if path in _NAMED else InclusionLevel.NOT_IN_NAV
    file = File.generated(config, _places[path], content=text, inclusion=inclusion)
    files.append(file)
    return [(path, text)] if here.suffix == ".md" or here.is_dir() else []


def _hidden(path: str) -> str:
    """The head of a page that shows a file: it has room for long lines, and search leaves it out."""
    return f"---\nhide: [toc]\nsearch:\n  exclude: true\n---\n\n# {path.rpartition('/')[2]}\n\n`{path}`\n\n"


def _place(path: str | None) -> str | None:
    """Where on the site a path of the repository is; None if nowhere."""
    if path is None:
        return None
    return path.removeprefix("docs/") if _of_docs(path) else _places.get(path)


def _of_docs(path: str) -> bool:
    """Whether a path is one of the site's own; mkdocs.yml leaves out scripts."""
    return path.startswith("docs/") and not path.endswith(".py")


def _targets(text: str) -> list[str]:
    """The relative targets of the links in a text."""
    found = (match["target"] for match in _LINK.finditer(text) if match["target"])
    return [target.partition("#")[0] for target in found if not urlsplit(target).scheme and not target.startswith("#")]


def _resolve(source: str, target: str) -> str | None:
    """The path in the repository that a relative link leads to; None if it leads out of it."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    return None if path.startswith(("..", "/")) else path


def _judge(link: str, source: str) -> None:
    """Warns of a link to another host that cannot be one."""
    parts = urlsplit(link)
    if parts.scheme not in ("https", "mailto") or (parts.scheme == "https" and "." not in parts.netloc):
        log.warning("%s links to %r, which is no https:// address of another host", source, link)
