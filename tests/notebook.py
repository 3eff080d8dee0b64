"""Run a notebook's code cells in one namespace, as Jupyter does, and write what they show into it.

    python -m tests.notebook docs/guides/from-python.ipynb    # in a folder of its own

Jupyter is not needed. What a cell prints and the value of its last line are its outputs.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def read_cells(path: Path) -> list[str]:
    """The code of each code cell."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def read_outputs(path: Path) -> list[str]:
    """What each code cell shows in the file."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [
        "".join(
            "".join(output["text"] if "text" in output else output["data"]["text/plain"])
            for output in cell["outputs"]
        )
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


def run_cell(code: str, names: dict[str, Any]) -> tuple[str, str | None]:
    """What a cell prints, and the text of its last line's value; None where that is a statement, or None."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "<cell>", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
    return printed.getvalue(), None if value is None else repr(value)


def run_notebook(path: Path, folder: Path) -> tuple[list[tuple[str, str | None]], str]:
    """Run all cells in a fresh process and a folder: their outputs, and its standard error."""
    code = (
        "import json, sys\nfrom pathlib import Path\nfrom tests.notebook import read_cells, run_cell\n"
        "names = {'__name__': '__main__'}\n"
        "shown = [run_cell(code, names) for code in read_cells(Path(sys.argv[1]))]\n"
        "sys.stdout.write('\\n' + json.dumps(shown))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}", str(path)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        raise AssertionError(done.stderr)
    *others, shown = done.stdout.splitlines()
    return [(one, two) for one, two in json.loads(shown)], done.stderr + "".join(others)


def write_outputs(path: Path, shown: list[tuple[str, str | None]]) -> None:
    """Write what the cells show into the notebook."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, (cell, (printed, value)) in enumerate(zip(cells, shown, strict=True), 1):
        cell["execution_count"] = number
        cell["outputs"] = []
        if printed:
            text = printed.splitlines(keepends=True)
            cell["outputs"].append({"name": "stdout", "output_type": "stream", "text": text})
        if value is not None:
            cell["outputs"].append(
                {
                    "data": {"text/plain": value.splitlines(keepends=True)},
                    "execution_count": number,
                    "metadata": {},
                    "output_type": "execute_result",
                }
            )
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    page = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory() as place:
        outputs, errors = run_notebook(page, Path(place))
    write_outputs(page, outputs)
    sys.stderr.write(errors)
