from __future__ import annotations

import numpy
import pytest
from packaging.specifiers import SpecifierSet

from tests.bundle.conftest import make_wheel
from wetread.bundle.target import Target
from wetread.bundle.wheels import (
    Wheel,
    check_closed,
    installed_versions,
    make_fetch,
    read_constraints,
    resolve,
)
from wetread.errors import SetupError

WINDOWS, LINUX = Target("win_amd64", "3.12"), Target("manylinux_x86_64", "3.12")


class Index:
    """An index of wheels in memory: the newest that fits is handed out."""

    def __init__(self, *wheels: Wheel) -> None:
        self.wheels = wheels
        self.asked: list[str] = []

    def fetch(self, wanted: dict[str, SpecifierSet]) -> list[Wheel]:
        self.asked += [f"{name}{specifier}" for name, specifier in wanted.items()]
        return [
            max(
                (w for w in self.wheels if w.name == name and w.version in specifier), key=lambda w: w.version
            )
            for name, specifier in wanted.items()
        ]


def names(wheels: list[Wheel]) -> list[str]:
    return [f"{wheel.name} {wheel.version}" for wheel in wheels]


def test_only_what_the_target_needs_comes_along(wheel):
    app = wheel("app", needs=["base[fast]>=1", "colorama; sys_platform == 'win32'", "never; extra == 'x'"])
    index = Index(wheel("base", needs=["speed; extra == 'fast'"]), wheel("speed"), wheel("colorama"))
    for target, extra in ((WINDOWS, ["colorama 1.0"]), (LINUX, [])):
        found = resolve(["app"], target=target, given=[app], fetch=index.fetch)
        assert names(found) == ["app 1.0", "base 1.0", *extra, "speed 1.0"]
        check_closed(found, roots=["app"], target=target)


def test_a_later_limit_changes_an_earlier_choice(wheel):
    app = wheel("app", needs=["a", "b"])
    index = Index(
        wheel("a", "2.0", needs=["only-of-2"]),
        wheel("a", "1.0"),
        wheel("b", needs=["c"]),
        wheel("only_of_2"),
        wheel("c", needs=["a<2"]),
    )
    found = resolve(["app"], target=LINUX, given=[app], fetch=index.fetch)
    assert names(found) == ["a 1.0", "app 1.0", "b 1.0", "c 1.0"]


def test_extras_that_come_late_count(wheel):
    app = wheel("app", needs=["a", "b"])
    index = Index(wheel("a", needs=["late; extra == 'x'"]), wheel("b", needs=["a[x]"]), wheel("late"))
    assert names(resolve(["app"], target=LINUX, given=[app], fetch=index.fetch)) == [
        "a 1.0",
        "app 1.0",
        "b 1.0",
        "late 1.0",
    ]


def test_packages_that_need_one_another(wheel):
    app = wheel("app", needs=["a"])
    index = Index(wheel("a", needs=["b"]), wheel("b", needs=["a[z]", "app"]))
    assert names(resolve(["app"], target=LINUX, given=[app], fetch=index.fetch)) == [
        "a 1.0",
        "app 1.0",
        "b 1.0",
    ]


def test_contradictions_name_who_asks(wheel):
    app = wheel("app", needs=["a>=2", "b"])
    index = Index(wheel("b", needs=["app<1"]), wheel("a", "2.0"))
    with pytest.raises(SetupError) as caught:
        resolve(["app"], target=LINUX, given=[app], fetch=index.fetch)
    assert "No version of app" in str(caught.value)
    assert "b: app<1; wetread: app" in str(caught.value)


@pytest.mark.parametrize(
    ("needs", "message"),
    [(["missing>=3"], "needs missing>=3, and has none"), (["a<1"], "and has 1.0")],
)
def test_a_set_that_is_not_closed_is_found(wheel, needs, message):
    wheels = [wheel("app", needs=needs), wheel("a")]
    with pytest.raises(SetupError, match=message):
        check_closed(wheels, roots=["app"], target=LINUX)


def test_a_wheel_for_another_platform_is_found(wheel):
    app = wheel("app", tag="cp312-cp312-win_amd64")
    check_closed([app], roots=["app"], target=WINDOWS)
    with pytest.raises(SetupError, match="app-.* does not install with Python 3.12 on manylinux_x86_64"):
        check_closed([app], roots=["app"], target=LINUX)
    old = wheel("old", headers="Requires-Python: <3.12\n")
    with pytest.raises(SetupError, match="old-1.0.* does not install"):
        check_closed([old], roots=["old"], target=LINUX)


def test_pip_fetches_for_the_target(wheelhouse, tmp_path):
    fetch = make_fetch(tmp_path, target=WINDOWS, constraints={}, index_free=str(wheelhouse))
    found = fetch({"numpy": SpecifierSet(">=2"), "colorama": SpecifierSet()})
    assert sorted(wheel.path.name for wheel in found) == [
        "colorama-99.0-py3-none-any.whl",
        "numpy-2.4.6-cp312-cp312-win_amd64.whl",
    ]
    assert all(wheel.path.parent == tmp_path for wheel in found)


def test_pinned_versions_are_taken_where_they_fit(tmp_path):
    house = tmp_path / "house"
    house.mkdir()
    for version in ("1.0", "2.0", "3.0"):
        make_wheel(house, "a", version)
    fetch = make_fetch(tmp_path, target=LINUX, constraints={"a": "2.0"}, index_free=str(house))
    assert fetch({"a": SpecifierSet(">=1")})[0].version == "2.0"
    assert fetch({"a": SpecifierSet(">2")})[0].version == "3.0"


def test_what_pip_cannot_find_is_said(tmp_path):
    fetch = make_fetch(tmp_path, target=LINUX, constraints={}, index_free=str(tmp_path))
    with pytest.raises(SetupError, match="No matching distribution found for nothing-like-it"):
        fetch({"nothing-like-it": SpecifierSet(">=1")})


def test_what_an_interrupted_pip_leaves_has_no_version(tmp_path, monkeypatch):
    (tmp_path / "foo-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert installed_versions()["numpy"] == numpy.__version__
    assert "foo" not in installed_versions()


def test_constraints_are_read(tmp_path):
    file = tmp_path / "constraints.txt"
    file.write_text("# tested\nNumPy==2.4.6\nopencv_python-headless == 5.0  # here\n\n")
    assert read_constraints(str(file)) == {"numpy": "2.4.6", "opencv-python-headless": "5.0"}
    file.write_text("numpy>=2\n")
    with pytest.raises(SetupError, match="must have lines of name==version"):
        read_constraints(str(file))


def test_a_file_that_is_no_wheel_is_refused(tmp_path):
    (tmp_path / "x-1.0-py3-none-any.whl").write_bytes(b"no zip")
    with pytest.raises(SetupError, match="'x-1.0-py3-none-any.whl' is not a wheel"):
        _ = Wheel(tmp_path / "x-1.0-py3-none-any.whl").name
