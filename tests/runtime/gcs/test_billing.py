"""Who pays: the project of the block, unless what is opened names its own."""

from __future__ import annotations

import typer

from wetread.cli import load_commands
from wetread.cli.app import app
from wetread.runtime.gcs.billing import bill_project, find_project
from wetread.runtime.gcs.client import Storage


def test_the_innermost_block_says_who_pays():
    assert find_project() is None
    with bill_project("outer"):
        with bill_project("inner"):
            assert find_project() == "inner"
        with bill_project(None):
            assert find_project() == "outer"
    assert find_project() is None


def test_a_project_of_ones_own_comes_first(cloud):
    with bill_project("block"):
        assert Storage().project == "block"
        assert Storage(project="own").project == "own"
    assert Storage().project is None


def test_every_command_that_takes_buckets_has_the_option():
    load_commands([])
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    having = {name for name, command in commands.items() if any(p.name == "project" for p in command.params)}
    assert {"score", "train", "evaluate", "export", "parity", "explain", "inspect", "verify"} <= having
