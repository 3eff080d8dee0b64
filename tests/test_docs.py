"""What the pages say, held to what the program has."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import typer

from wetread.cli import load_commands
from wetread.cli.app import app
from wetread.errors import Status

load_commands([])

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
}
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_has_help_and_a_page(name):
    command = COMMANDS[name]
    assert command.help
    assert "\n" not in command.help.replace("\n\n", ""), "a line of its own would be broken twice"
    assert command.epilog.startswith(f"Example: wetread {name} ")
    assert 0 < len(command.short_help or "") <= 68, "`wetread --help` would cut it"
    assert any(f"wetread {name}" in page for page in PAGES.values())
    for parameter in command.params:
        if parameter.name != "help":
            assert getattr(parameter, "help", ""), f"{name} {parameter.name} has no help"
            assert parameter.metavar or parameter.is_flag, f"{name} {parameter.name} is shown by its type"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_commands_in_the_pages_have_the_options_that_they_show(name):
    known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    shown = set()
    for page in PAGES.values():
        for line in re.findall(rf"wetread {name} ([^\n`]*)", page):
            shown |= set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", re.split(r"#|;", line)[0]))
    assert shown - known == set()


def test_links_between_pages_lead_somewhere():
    links = [
        (name, target)
        for name, page in PAGES.items()
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page)
    ]
    broken = [link for link in links if not (ROOT / link[0]).parent.joinpath(link[1]).exists()]
    assert broken == []


def test_links_to_headings_lead_to_one():
    missing = []
    for name, page in PAGES.items():
        for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page):
            path = (ROOT / name).parent / target if target else ROOT / name
            text = re.sub(
                r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
            )
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            if anchor not in {re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in headings}:
                missing.append((name, target, anchor))
    assert missing == []


def test_every_status_is_documented():
    for status in Status:
        assert f"`{status}`" in PAGES["docs/reference/rows.md"]


def test_the_vertex_job_runs_a_command_that_exists():
    """Nobody here can run it: its options and files are held to the program at least."""
    job = (ROOT / "deploy" / "vertex" / "job.yaml").read_text(encoding="utf-8")
    command, *arguments = re.findall(r"^ +- (\S+)$", job.partition("args:")[2], re.MULTILINE)
    known = {option for parameter in COMMANDS[command].params for option in parameter.opts}
    shown = {argument for argument in arguments if argument.startswith("-")}
    assert {"--output", "--resume"} <= shown <= known
    recipe = (ROOT / "deploy" / "vertex" / "Containerfile").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (.*) \S+$", recipe, re.MULTILINE):
        assert [name for name in line.split() if not (ROOT / name).exists()] == []
    extras = set(re.findall(r"\.\[(.*)\]", recipe)[0].split(","))
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extras <= set(options["optional-dependencies"])
    assert f'ENTRYPOINT ["{options["name"]}"]' in recipe and options["name"] in options["scripts"]


def test_pages_name_no_machine_and_no_package_host():
    host = "pypi" + "." + "org"
    for name, page in PAGES.items():
        assert host not in page, name
        assert not re.search(r"(?<![\w.])/(work|root|home)/", page), name


def test_every_extra_that_an_error_or_doctor_names_exists():
    """`pip install 'wetread[...]'` must not be advice that fails."""
    import tomllib

    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "wetread").rglob("*.py"))
    named = set(re.findall(r'extra="(\w+)"', code)) | set(re.findall(r"wetread\[(\w+)\]", code))
    assert named >= {"dicom", "bundle", "gcs"}
    assert named - extras == set()
    assert [
        extra
        for extra in extras
        if f"`{extra}`" not in PAGES["README.md"] and f"wetread[{extra}" not in PAGES["README.md"]
    ] == []


def test_the_reference_of_commands_is_what_the_code_says():
    from tests.command_line import PAGE, write_page

    assert PAGE.read_text(encoding="utf-8") == write_page(), "run `python -m tests.command_line`"


def test_the_reference_of_python_is_what_the_code_says():
    from tests.python_reference import PAGE, write_page

    assert PAGE.read_text(encoding="utf-8") == write_page(), "run `python -m tests.python_reference`"
