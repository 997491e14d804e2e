"""Execute the notebooks and write their outputs back, the same bytes every time: `make notebooks`.

usage: python notebooks/execute.py [NOTEBOOK...]
"""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).resolve().parent
LIMIT_S = 1200  # for one cell, on a busy machine


def execute(path: Path) -> Any:
    """The notebook, run from its own folder; CellExecutionError if a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=LIMIT_S, kernel_name="python3", resources=where).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"])
    return stripped(notebook)


def smaller(png: str) -> str:
    """A quarter of the size: a palette of 64 colours is enough for a chart."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    small = io.BytesIO()
    image.quantize(64, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def stripped(notebook: Any) -> Any:
    """Without what depends on the machine or the time: only tags, sources and outputs stay."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        tags = cell.metadata.get("tags")
        cell.metadata = {"tags": tags} if tags else {}
        for output in cell.get("outputs", ()):
            output.get("metadata", {}).clear()
    return notebook


def texts(notebook: Any) -> list[str]:
    """Everything that the cells print or show, but for the pictures."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:  # its text is only the size of the picture
                continue
            shown = [data[kind] for kind in sorted(data) if kind.startswith("text/")]
            found += [output.get("text", ""), *shown]
    return [text for text in found if text]


def main() -> None:
    """Execute those named, or all beside this file."""
    for path in [Path(a) for a in sys.argv[1:]] or sorted(HERE.glob("*.ipynb")):
        text = nbformat.writes(execute(path)) + "\n"
        path.write_text(text, encoding="utf-8")
        print(f"{path.name}: {len(text) // 1000} kB")


if __name__ == "__main__":
    main()
