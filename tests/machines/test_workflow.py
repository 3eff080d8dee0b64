"""Nobody here can run the workflow: what it calls is compared with what there is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_workflow_calls_commands_that_exist():
    text = (ROOT / ".github" / "workflows" / "machines.yml").read_text(encoding="utf-8")
    (script,) = re.findall(r"python (tests/\S+)", text)
    assert (ROOT / script).is_file()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make (\S+)", text):
        assert f"\n{target}:" in makefile
    (extras,) = re.findall(r"'\.\[(.*)\]'", text)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    assert "NOT RUN" in text
