"""The functions that are the commands: their keywords, and that packages stay packages."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest

import wetread
from tests.notebook import read_outputs, run_notebook
from tests.python_reference import FUNCTIONS, find_options
from wetread.keyword_functions import take_fields

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "guides" / "from-python.ipynb"


@dataclass(frozen=True, kw_only=True)
class Asked:
    name: str = field(kw_only=False)
    count: int = 2


@take_fields(Asked)
def repeat(asked: Asked) -> str:
    """Say a name."""
    return asked.name * asked.count


def test_a_function_takes_the_fields_of_its_dataclass():
    assert (repeat("a"), repeat("b", count=3), repeat(name="c", count=1)) == ("aa", "bbb", "c")
    assert list(inspect.signature(repeat).parameters) == ["name", "count"]
    assert (repeat.__name__, repeat.__doc__) == ("repeat", "Say a name.")
    for wrong in ({"counts": 3}, {"name": "b"}):
        with pytest.raises(TypeError, match=r"^repeat\(\): "):
            repeat("a", **wrong)
    with pytest.raises(TypeError, match=r"repeat\(\): missing a required argument: 'name'"):
        repeat()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_command_and_its_function_have_the_same_options_with_the_same_defaults(name):
    options = find_options(FUNCTIONS[name])
    keywords = inspect.signature(getattr(wetread, name)).parameters
    apart = {
        "train": {"find_learning_rate"},  # a function of its own, since its result is another
        "find_learning_rate": {"find_learning_rate", "learning_rate", "resume"},
        "evaluate": {"reviews", "scores"},
    }.get(name, set())
    if name != "evaluate_by_readers":
        assert set(options) - {"quiet"} - apart == set(keywords) - {"on_progress"}
    for keyword, parameter in keywords.items():
        if parameter.default is parameter.empty or keyword in ("on_progress", "group_regex"):
            continue
        assert options[keyword].default == parameter.default, keyword


@pytest.mark.parametrize("name", ["train", "export", "evaluate"])
def test_a_package_that_is_a_function_is_still_a_package(name):
    package = getattr(wetread, name)
    assert isinstance(package, ModuleType) and callable(package)
    assert package is sys.modules[f"wetread.{name}"]
    assert inspect.signature(package) == inspect.signature(package.interface.__dict__[name])
    with pytest.raises(TypeError, match=rf"{name}\(\): got an unexpected keyword argument 'epoch'"):
        package("DATA", epoch=1, **({"output": "run"} if name == "train" else {}))


def test_every_public_name_is_there_and_none_is_loaded_before_it_is_used():
    assert dir(wetread) == sorted(wetread.__all__)
    for name in wetread.__all__:
        assert getattr(wetread, name).__doc__
    with pytest.raises(AttributeError, match="'wetread' has no attribute 'trains'"):
        wetread.trains  # noqa: B018
    code = "import sys, wetread; dir(wetread); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.long
def test_a_type_checker_knows_the_keywords_and_the_results(tmp_path):
    """mypy judges: the packages are functions to it, with their keywords."""
    (tmp_path / "user.py").write_text(
        "import wetread\nfrom pathlib import Path\n"
        "reveal_type(wetread.train(Path('DATA'), output='run', epochs=2))\n"
        "reveal_type(wetread.export('run', precision='int8'))\n"
        "reveal_type(wetread.parity('run', ['m.onnx'], images='DATA').passed)\n"
        "reveal_type(wetread.evaluate('DATA').metrics.auc)\n"
        "wetread.train('DATA', output='run', epoch=2)\n"
        "wetread.export('run', precision=8)\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "user.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"MYPYPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    lines = [line.partition(": ")[2] for line in done.stdout.splitlines() if line.startswith("user.py")]
    revealed = [line.split('"')[1] for line in lines if "Revealed" in line]
    assert revealed == [
        "wetread.train.fit.TrainResult",
        "wetread.export.options.ExportResult",
        "bool",
        "float",
    ]
    errors = [line for line in lines if line.startswith("error")]
    assert len(errors) == 2 and '"epoch"' in errors[0] and '"precision"' in errors[1]


def test_the_notebook_shows_what_its_cells_show(tmp_path):
    """All five functions in a fresh process, which prints nothing of its own."""
    outputs, others = run_notebook(NOTEBOOK, tmp_path)
    assert others == ""
    assert [printed + (value or "") for printed, value in outputs] == read_outputs(NOTEBOOK)
