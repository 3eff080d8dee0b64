"""Every function, class, method and constant of the package is used by it or a benchmark, or documented."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def read_trees(folder: str) -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / folder).rglob("*.py")}


def find_names(tree: ast.Module) -> Iterator[str]:
    """What a module defines, but for what a decorator or a base class hands on (commands, operators)."""
    handed_on = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and (node.decorator_list or node.bases)
        for inner in ast.walk(node)
        if inner is not node and not _is_dataclass(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, Definition) or id(node) in handed_on:
            continue
        if not node.decorator_list or _is_dataclass(node) or _is_property(node):
            yield node.name
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _is_dataclass(node: Definition) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def _is_property(node: Definition) -> bool:
    return any("property" in ast.unparse(decorator) for decorator in node.decorator_list)


def count_uses(trees: dict[Path, ast.Module]) -> Counter[str]:
    """How often each name is read, or stands alone in a string (what is loaded by its name)."""
    uses: Counter[str] = Counter()
    for node in (node for tree in trees.values() for node in ast.walk(tree)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            uses[node.id] += 1
        elif isinstance(node, ast.Attribute):
            uses[node.attr] += 1
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            uses[node.value] += 1
    return uses


def find_unused(
    trees: dict[Path, ast.Module], documented: set[str], others: dict[Path, ast.Module] | None = None
) -> list[str]:
    uses = count_uses(trees | (others or {}))
    found = ((path, name) for path, tree in trees.items() for name in find_names(tree))
    return sorted(
        f"{path.name}: {name}"
        for path, name in found
        if not uses[name] and not name.startswith("__") and name not in documented
    )


def test_nothing_in_the_package_is_there_for_tests_alone():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    documented = set(re.findall(r"\w+", "".join(page.read_text(encoding="utf-8") for page in pages)))
    assert find_unused(read_trees("wetread"), documented, read_trees("benchmarks")) == []


def test_an_unused_name_would_be_found():
    text = "X = 1\nclass A:\n    def used(self): ...\n    def unused(self): ...\n"
    text += "@app.command()\ndef command(): A().used()\n"
    assert find_unused({Path("a.py"): ast.parse(text)}, set()) == ["a.py: X", "a.py: unused"]
