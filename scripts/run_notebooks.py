"""Execute notebooks in their folder and keep their outputs, without progress bars and timestamps.

python scripts/run_notebooks.py notebooks/01_quickstart.ipynb
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

TIMEOUT = 900  # s a cell, as in CI


def execute(path: Path) -> None:
    """Run one notebook and write it back with what it printed and drew."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:  # stale outputs must not survive
        cell.pop("id", None)
    NotebookClient(
        notebook,
        timeout=TIMEOUT,
        coalesce_streams=True,
        resources={"metadata": {"path": path.parent}},
    ).execute()
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # not random: a second run changes nothing but outputs
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [_tidied(output) for output in cell.outputs if not _is_noise(output)]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, path)


def _is_noise(output: NotebookNode) -> bool:
    """Progress bars, tables of the trainer, warnings: all but prints and pictures."""
    if output.output_type == "stream":
        return output.name == "stderr"
    data = output.get("data", {})
    has_picture = any(kind.startswith("image/") for kind in data)
    return not (has_picture or "<svg" in data.get("text/html", ""))


def _tidied(output: NotebookNode) -> NotebookNode:
    """Without the address of an object that was drawn."""
    if any(kind.startswith("image/") for kind in output.get("data", {})):
        output.data.pop("text/plain", None)
    return output


if __name__ == "__main__":
    for name in sys.argv[1:]:
        execute(Path(name))
