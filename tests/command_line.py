"""Write docs/reference/command-line.md from the code: `python -m tests.command_line`."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import typer

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "command-line.md"
_HEAD = """# Command line

```console
$ wetread --version
wetread 0.1.0
```

`wetread COMMAND -h` prints the same help. `wetread --install-completion` installs completion of commands and
options in your shell. This page is generated from the code by `python -m tests.command_line`.

Names in capitals are yours to fill in. Brackets mark what may be left out.

| command | |
|---|---|
"""


def describe_commands() -> str:
    """Return the page: each command with its example, arguments and options, panel by panel."""
    from wetread.cli import COMMANDS, load_commands
    from wetread.cli.app import app

    load_commands([])
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    index = "".join(f"| [{name}](#{name}) | {commands[name].short_help} |\n" for name in COMMANDS)
    return "\n".join([_HEAD + index, *(_describe(name, commands[name]) for name in COMMANDS)])


def _describe(name: str, command: Any) -> str:
    text = inspect.cleandoc(command.help)
    example = command.epilog.removeprefix("Example: ")
    lines = [f"## {name}", "", "```bash", example, "```", "", text, ""]
    panels: dict[str, list[str]] = {}
    for parameter in command.params:
        if parameter.name != "help":
            general = "Options" if parameter.param_type_name == "option" else "Arguments"
            panel = getattr(parameter, "rich_help_panel", None) or general
            panels.setdefault(panel, []).append(_row(parameter))
    for panel, rows in panels.items():
        lines += [f"| {panel} | | default |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _row(parameter: Any) -> str:
    names = ", ".join([*reversed(parameter.opts), *parameter.secondary_opts])
    option = parameter.param_type_name == "option"
    shown = f"{names} {parameter.metavar or ''}".strip() if option else parameter.metavar
    unset = parameter.default is None or parameter.default is False or callable(parameter.default)
    default = "" if unset else parameter.default
    if parameter.required:
        default = "required"
    return f"| `{shown}` | {parameter.help} | {default} |"


def _escape(page: str) -> str:
    """Write a bar inside code in a table as Markdown wants it."""
    lines = []
    for line in page.splitlines():
        if line.startswith("| `"):
            code, rest = line[3:].split("` |", 1)
            line = "| `" + code.replace("|", "\\|") + "` |" + rest
        lines.append(line)
    return "\n".join(lines) + "\n"


def write_page() -> str:
    """Return the whole page."""
    return _escape(describe_commands())


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
