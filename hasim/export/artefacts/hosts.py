"""What goes to one host: its compose file and the user's files that its containers mount."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hasim.export.artefacts.compose import Project, projects, resolve, together, variables
from hasim.export.artefacts.secret_names import SecretNames
from hasim.export.base import Artefact, Deploy

_HEAD = """\
# {what}, made by hasim from {files}: the same services, nothing to extend.
# Edit those files, not this one. Names and secrets: see .env.example.
"""
COMPOSE = "docker-compose.yml"
ALL = "extra/docker-compose.all.yml"


def make(deploy: Deploy) -> list[Artefact]:
    """hosts/<host>/ of every host, and the compose file for all of them."""
    names = SecretNames()
    made = projects(deploy)
    out: dict[str, Artefact] = {}
    for project in made:
        files = _host(project, deploy, names)
        out |= {one.path: one for one in files}
    for one in _plain(deploy):
        out.setdefault(one.path, one)
    for one in _all(made, deploy, names):
        out[one.path] = one
    return list(out.values())


def project_name(deploy: Deploy) -> str:
    """What compose calls the project of the user's own folder (its volumes bear this name)."""
    return re.sub(r"[^a-z0-9_-]", "", deploy.stack.name.lower()).lstrip("_-") or "project"


def _host(project: Project, deploy: Deploy, names: SecretNames) -> list[Artefact]:
    at = f"hosts/{project.host}"
    head = _HEAD.format(what=f"Everything of {project.host}", files=", ".join(project.files))
    made = resolve(project, deploy, names, head)
    out = [Artefact(f"{at}/{COMPOSE}", made.text, f"all services of {project.host}, resolved")]
    out += [
        _copy(f"{at}/{path}", deploy.texts[path], f"mounted on {project.host}")
        for path in _below(made.sources, deploy.texts)
    ]
    env = f"{project.folder}/.env".lstrip("/")
    if env in deploy.texts:
        out.append(_copy(f"{at}/.env", deploy.texts[env], "the user's own variables"))
    out.append(_example(f"{at}/.env.example", made.text, deploy, names))
    return out


def _example(path: str, compose: str, deploy: Deploy, names: SecretNames) -> Artefact:
    new = sorted({v for v in variables(compose) if v in names.values})
    lines = [
        "# Copy to .env beside the compose file, or append to the one that is there, and fill in.",
        "# Volumes bear this name: with another than now (`docker compose ls`) they are empty.",
        f"COMPOSE_PROJECT_NAME={project_name(deploy)}",
        *(f"{name}=" for name in new),
    ]
    return Artefact(path, "\n".join(lines) + "\n", "names of the secrets that the file refers to")


def _below(sources: Iterable[str], texts: Iterable[str]) -> list[str]:
    """Files of the stack that are one of the sources or lie below one."""
    wanted = dict.fromkeys(sources)
    return sorted(t for t in texts if any(t == s or t.startswith(f"{s}/") for s in wanted))


def _copy(path: str, text: str, why: str) -> Artefact:
    return Artefact(path, text, why, executable=text.startswith("#!"))


def _plain(deploy: Deploy) -> list[Artefact]:
    """Files of processes that no compose file starts."""
    hosts = {i.name: i.host for i in deploy.stack.instances}
    return [
        _copy(f"hosts/{hosts[b.instance]}/{b.file}", deploy.texts[b.file], f"read by {b.instance}")
        for b in deploy.stack.balancers
        if b.file in deploy.texts
    ]


def _all(made: list[Project], deploy: Deploy, names: SecretNames) -> list[Artefact]:
    if not made:
        return []
    one, why = together(made, deploy)
    if one is None:
        text = f"One engine cannot hold all services: {why}.\nUse hosts/<host>/{COMPOSE}.\n"
        return [Artefact("extra/docker-compose.all.md", text, "why there is no single file")]
    head = _HEAD.format(what="All services on one engine", files=", ".join(one.files))
    head += f"# docker-compose --project-directory stack -f {ALL} up -d\n"
    text = resolve(one, deploy, names, head).text
    example = _example("extra/.env.example", text, deploy, names)
    return [Artefact(ALL, text, "all services in one file"), example]
