"""Execute docs/notebook.ipynb against a service of its own, and write it with what its cells answered.

Usage: python scripts/notebook.py [--data-dir FOLDER] [--output FILE]
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from service.background import running_service
from service.settings import Settings

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebook.ipynb"
CELL_SECONDS = 240
KEPT = ("image/svg+xml", "image/png")
"""What is read without a script, and says nothing of this execution, as an object's address does."""


def executed(url: str) -> Any:  # noqa: ANN401 - a notebook is not typed
    """The notebook with its cells' answers, and with nothing in it that another execution would say otherwise.

    Raises:
        CellExecutionError: a cell raised.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    os.environ["EPOCHD_URL"] = url
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook, timeout=CELL_SECONDS, coalesce_streams=True, resources={"metadata": {"path": folder}}
        ).execute()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            if "data" in output:
                output["data"] = {kind: value for kind, value in output["data"].items() if kind in KEPT}
    return notebook


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser(description="Execute the notebook and write it with its answers.")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with the datasets")
    parser.add_argument("--output", type=Path, default=NOTEBOOK)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        datasets = Path(folder) / "datasets"
        datasets.symlink_to((given.data_dir / "datasets").absolute())
        with running_service(Settings(data_dir=Path(folder), port=0), log_name="notebook.log") as (_, url):
            notebook = executed(url)
    nbformat.write(notebook, given.output)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
