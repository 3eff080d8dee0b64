"""What a model is for: rules, their form, and the format version that carries them."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models import toy_spec
from wetread.errors import ConfigError, ModelError
from wetread.runtime.model.description import describe_spec
from wetread.runtime.model.scope import ATTRIBUTES, AttributeRule, Scope, Unlike, count_days, find_breach
from wetread.runtime.model.spec import Golden, ModelSpec

UNLIKE = Unlike(
    threshold=0.9, method="m", features=("a", "b"), images=(100, 50), kept=0.99, changes=("turned",)
)
RULES = (
    AttributeRule(keyword="Modality", one_of=("CR", "DX")),
    AttributeRule(keyword="PatientAge", least="001Y", most="005Y"),
)


def test_the_attributes_are_those_of_the_standard():
    datadict = pytest.importorskip("pydicom.datadict")
    for keyword, (number, kind) in ATTRIBUTES.items():
        assert datadict.tag_for_keyword(keyword) == number
        assert datadict.dictionary_VR(number) == kind


@pytest.mark.parametrize(
    ("rule", "values", "breach"),
    [
        ({"one_of": ("CR", "DX")}, ["DX"], ""),
        ({"one_of": ("CR", "DX")}, ["dx"], ""),
        ({"one_of": ("CR", "DX")}, ["CT"], "Modality is CT, not CR or DX"),
        ({"one_of": ("CR",)}, [], ""),
        ({"one_of": ("CR",), "required": True}, [], "Modality is missing"),
        ({"required": True}, ["US"], ""),
        ({"none_of": ("US", "CT")}, ["CT"], "Modality is CT"),
        ({"none_of": ("US", "CT")}, ["MR"], ""),
    ],
)
def test_a_rule_is_kept_or_broken(rule, values, breach):
    assert find_breach(AttributeRule(keyword="Modality", **rule), values) == breach


@pytest.mark.parametrize(
    ("values", "broken"),
    [
        (["DERIVED", "SECONDARY"], True),
        (["DERIVED", "SECONDARY", "AXIAL"], True),
        (["DERIVED", "PRIMARY"], False),
        (["ORIGINAL", "SECONDARY", "DERIVED"], False),
    ],
)
def test_values_side_by_side_are_one_value_of_a_rule(values, broken):
    rule = AttributeRule(keyword="ImageType", none_of=("DERIVED\\SECONDARY",))
    assert bool(find_breach(rule, values)) == broken


@given(st.integers(0, 999), st.sampled_from("DWMY"))
def test_an_age_is_compared_and_never_repeated(number, unit):
    rule, age = AttributeRule(keyword="PatientAge", least="001Y", most="005Y"), f"{number:03d}{unit}"
    days = number * {"D": 1, "W": 7, "M": 365.25 / 12, "Y": 365.25}[unit]
    said = find_breach(rule, [age])
    assert bool(said) == (not 365.25 <= days <= 5 * 365.25)
    assert said in ("", "PatientAge is not from 001Y, to 005Y")
    assert count_days(age) == pytest.approx(days)


@pytest.mark.parametrize(
    "values",
    [
        {"keyword": "PatientName", "one_of": ("X",)},
        {"keyword": "Modality"},
        {"keyword": "Modality", "least": "001Y"},
        {"keyword": "PatientAge", "one_of": ("001Y",)},
        {"keyword": "PatientAge", "least": "1 year"},
        {"keyword": "PatientAge"},
    ],
)
def test_a_rule_that_cannot_be_is_refused(values):
    with pytest.raises(ConfigError):
        AttributeRule(**values)


@pytest.mark.parametrize(
    "values",
    [{"purpose": " "}, {"purpose": "x", "attributes": (RULES[0], RULES[0])}],
)
def test_a_scope_that_cannot_be_is_refused(values):
    with pytest.raises(ConfigError):
        Scope(**values)


def test_a_measure_that_cannot_be_is_refused():
    for wrong in ({"threshold": 0.0}, {"changes": ("flipped",)}, {"changes": ("turned", "turned")}):
        with pytest.raises(ConfigError):
            dataclasses.replace(UNLIKE, **wrong)


@pytest.mark.parametrize("unlike", [None, UNLIKE])
def test_a_spec_with_a_scope_is_of_the_second_version_and_comes_back(unlike):
    spec = dataclasses.replace(toy_spec(), scope=Scope(purpose="Discs", attributes=RULES, unlike=unlike))
    assert spec.version == 2
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_a_spec_without_one_is_written_as_it_always_was():
    golden = Golden(
        jpeg="g",
        pixels="",
        seeds=(),
        intensities=(),
        exact=(),
        keras=(),
        exact_tolerance=0,
        keras_tolerance=0,
    )
    text = dataclasses.replace(toy_spec(), golden=golden).to_json()
    assert json.loads(text)["version"] == 1
    assert "scope" not in text and "unlike" not in text


@pytest.mark.parametrize("version", [0, 3, "2", None])
def test_another_version_is_refused(version):
    values = json.loads(dataclasses.replace(toy_spec(), scope=Scope(purpose="x")).to_json())
    with pytest.raises(ModelError, match="reads version 1, and 2 with a scope"):
        ModelSpec.from_json(json.dumps({**values, "version": version}))


def test_a_scope_does_not_hide_in_the_first_version_nor_the_second_lack_one():
    """A runtime that knows the first alone refuses the file by its version, and cannot pass it over."""
    values = json.loads(dataclasses.replace(toy_spec(), scope=Scope(purpose="x")).to_json())
    with pytest.raises(ModelError):
        ModelSpec.from_json(json.dumps({**values, "version": 1}))
    del values["scope"]
    with pytest.raises(ModelError):
        ModelSpec.from_json(json.dumps(values))


def test_inspect_says_what_the_scope_is_or_that_there_is_none():
    spec = toy_spec()
    assert dict(describe_spec(spec))["scope"].startswith("none")
    spec = dataclasses.replace(spec, scope=Scope(purpose="Discs", attributes=RULES, unlike=UNLIKE))
    rows = dict(describe_spec(spec))
    assert rows["scope"] == "Discs"
    assert rows["scope Modality"] == "one of CR, DX"
    assert rows["scope PatientAge"] == "from 001Y, to 005Y"
    assert "keeps 99.0% of 50 held-out images; finds turned by 90 or 180 degrees" in rows["scope unlike"]
