"""A Deploy of a model's folder, as the export would make it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hasim.export.base import Artefact, Deploy
from hasim.project import open_project, scenario_file

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = {
    "story-portal": ROOT / "scenarios.yaml",
    "story-portal-guide-bootable": ROOT / "models/story-portal-guide-bootable/scenarios.yaml",
}


def deploy_of(name: str, sizes: Mapping[str, tuple[float, int]] | None = None) -> Deploy:
    """The Deploy of a model, nothing changed."""
    project = open_project(SCENARIOS[name])
    assert project.stack is not None
    texts = texts_of(project.folder)
    verdict: dict[str, Any] = {"scenarios": []}
    return Deploy(
        texts, texts, project.stack, project.stack, (), verdict, scenario_file(project), sizes or {}
    )


def texts_of(folder: Path) -> dict[str, str]:
    """Every text of a folder by its path in it."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_text(encoding="utf-8") for p in paths}


def written(folder: Path, deploy: Deploy, made: list[Artefact]) -> Path:
    """The folder with the user's files under stack/ and the artefacts, as the export writes it."""
    files = {f"stack/{path}": text for path, text in deploy.texts.items()}
    for path, text in (files | {one.path: one.text for one in made}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return folder
