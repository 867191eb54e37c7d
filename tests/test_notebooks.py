"""The notebooks in examples/ run as they stand, in a kernel of Jupyter, and are kept without outputs."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def executed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run a notebook where it lies; what each of its code cells shows, as text and as HTML."""
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    before = set(EXAMPLES.rglob("*"))
    notebook = NotebookClient(read(EXAMPLES / name), timeout=600, resources={"metadata": {"path": EXAMPLES}}).execute()
    assert set(EXAMPLES.rglob("*")) == before
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return ["".join(shown(output) for output in cell.outputs) for cell in cells]


def shown(output: NotebookNode) -> str:
    data = output.get("data", {})
    return output.get("text", "") + data.get("text/plain", "") + data.get("text/html", "")


def test_there_are_these() -> None:
    assert [path.name for path in NOTEBOOKS] == ["flowgmm_on_a_table.ipynb", "train_on_a_folder.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None
    assert notebook.metadata.keys() <= {"kernelspec", "language_info"}  # of no machine


def test_train_on_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, trained, score, figures, frame, threshold, again = executed("train_on_a_folder.ipynb", tmp_path, monkeypatch)
    assert "aeflow model run, by torch" in trained
    assert '<img src="data:image/png;base64,' in score
    assert "Research use" in score
    assert "(96, 96)" in figures
    assert "p_value" in frame
    shares = [int(line.split(":")[1].split("%")[0]) for line in threshold.splitlines()]
    assert shares[0] < shares[1]  # of normal images fewer are above the threshold than of abnormal ones
    assert again == "True"


def test_flowgmm_on_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, labels, accuracy, shares, density, drawn = executed("flowgmm_on_a_table.ipynb", tmp_path, monkeypatch)
    assert "20 labels, 380 unlabelled rows" in labels
    ours, control = (float(line.split("accuracy")[1]) for line in accuracy.splitlines())
    assert ours > control
    assert "array" in shares
    middle, strange = (float(part.split(" nats")[0].split()[-1]) for part in density.split(": ")[1:])
    assert strange < middle
    assert "array([1, 1, 1])" in drawn
