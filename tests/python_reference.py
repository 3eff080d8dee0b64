"""Write docs/reference/python.md from the code: `python -m tests.python_reference`."""

from __future__ import annotations

import inspect
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import typer

import wetread

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "python.md"
# Each function and the command whose options are its keywords.
FUNCTIONS = {
    "train": "train",
    "find_learning_rate": "train",
    "export": "export",
    "parity": "parity",
    "evaluate": "evaluate",
    "evaluate_by_readers": "evaluate",
}
_HEAD = """# Python

```console
$ python -c "
import wetread
found = wetread.evaluate('DATA', model='model.onnx', resamples=0)
print(found.metrics.images, found.metrics.auc > 0.9, found.unscored)"
40 True 0
```

An option of a command is a keyword of the function of the same name: `--class-weight none` is
`class_weight="none"`. Nothing is printed: a result is an object, progress goes to `on_progress`, and what is
wrong is raised, from `wetread.errors`. Its message names options as the commands do. A
[notebook](../guides/from-python.ipynb) uses all of it.

A `Location` is a name or a `Path`, on this disk or `gs://`. `Numbers` are one number, or one for each
channel.

`import wetread` loads neither numpy nor TensorFlow: each name is imported when it is first used. `train`,
`export` and `parity` need the extra `train`, the others `cpu`.

This page is generated from the code by `python -m tests.python_reference`.
"""


def find_options(command: str) -> dict[str, Any]:
    """A command's arguments and options by the keyword that each is: `--by-layer` is `by_layer`."""
    from wetread.cli import load_commands
    from wetread.cli.app import app

    load_commands([])
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    found = {}
    for parameter in commands[command].params:
        long = [name for name in parameter.opts if name.startswith("--")]
        found[long[0][2:].replace("-", "_") if long else parameter.name] = parameter
    return found


def _describe_function(name: str, command: str) -> str:
    function = getattr(wetread, name)
    parameters, options = inspect.signature(function).parameters, find_options(command)
    lines = [f"## {name}", "", _describe(function), "", "| keyword | type | | default |", "|---|---|---|---|"]
    for keyword, parameter in parameters.items():
        help_text = "see above" if keyword == "on_progress" else options[keyword].help
        kind = str(parameter.annotation).replace("wetread.", "")
        lines.append(_row(f"`{keyword}`", f"`{kind}`", help_text, _write_default(parameter)))
    return "\n".join([*lines, ""])


def _describe(function: Any) -> str:
    return inspect.getdoc(inspect.unwrap(function)) or ""


def _write_default(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return "required"
    unset = parameter.default is None or parameter.default is False or callable(parameter.default)
    return "" if unset else f"`{parameter.default!r}`"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _describe_classifier() -> str:
    room = wetread.Classifier
    lines = ["## Classifier", "", "```python", f"wetread.Classifier{_sign(room)}", "```", ""]
    lines += [_describe(room.__mro__[1]), ""]
    for name in ("score", "classify", "judge"):
        method = getattr(room, name)
        lines += ["```python", f"classifier.{name}{_sign(method)}", "```", "", _describe(method), ""]
    return "\n".join(lines)


def _sign(member: Any) -> str:
    """Write the arguments of a class or method, without types."""
    signature = inspect.signature(member)
    shown = [one.replace(annotation=one.empty) for one in signature.parameters.values() if one.name != "self"]
    return str(signature.replace(parameters=shown, return_annotation=signature.empty))


def _describe_result(name: str) -> str:
    result = getattr(wetread, name)
    lines = [f"## {name}", "", _describe(result), "", "| field | |", "|---|---|"]
    lines += [_row(f"`{one.name}`", f"`{one.type}`") for one in fields(result)]
    for field, member in vars(result).items():
        if isinstance(member, property):
            text = " ".join((inspect.getdoc(member) or "").split())
            lines.append(_row(f"`{field}`", f"`{member.fget.__annotations__['return']}`: {text}"))
    return "\n".join([*lines, ""])


def write_page() -> str:
    """Return the page: the functions with their keywords, then the Classifier, then the results."""
    parts = [_HEAD]
    parts += [_describe_function(name, command) for name, command in FUNCTIONS.items()]
    parts.append(_describe_classifier())
    parts += [
        _describe_result(name) for name in ("TrainResult", "RateSearch", "ExportResult", "ParityReport")
    ]
    parts += [_describe_result(name) for name in ("Evaluation", "Judgement", "Prediction")]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
