from __future__ import annotations

import csv
import io
import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models import toy_spec
from wetread.errors import ImageError, UsageError
from wetread.runtime.scoring.rows import (
    Prediction,
    choose_format,
    columns,
    convert_to_parquet,
    decode_row,
    encode_header,
    encode_rows,
    make_failure,
    make_predictions,
    write_texts,
)

LABELS = ("NORMAL", "PNEUMONIA")
GOOD = Prediction("a.jpg", "ok", "PNEUMONIA", 0.75, (0.25, 0.75))
BAD = Prediction("b,c.jpg", "truncated", error="cut")

# Whatever a Linux file name may hold, as Python shows it.
file_names = st.binary(min_size=1, max_size=20).map(
    lambda raw: raw.replace(b"\0", b"x").decode("utf-8", "surrogateescape")
)


def test_predictions_carry_the_shortest_decimals_of_their_float32():
    rows = np.array([[0.1, 0.9], [1e-9, 1.0]], np.float32)
    assert make_predictions(["a", "b"], rows, toy_spec()) == [
        Prediction("a", "ok", "PNEUMONIA", 0.9, (0.1, 0.9)),
        Prediction("b", "ok", "PNEUMONIA", 1.0, (1e-09, 1.0)),
    ]
    values = np.random.default_rng(0).random((200, 2)).astype(np.float32)
    back = [p.probabilities for p in make_predictions(["x"] * 200, values, toy_spec())]
    assert np.array_equal(np.array(back, np.float32), values)


def test_a_failure_has_a_status_and_no_probability():
    failure = make_failure("x", ImageError("empty", "The file is empty."))
    assert failure == Prediction("x", "empty", None, None, (), "The file is empty.")


def test_csv_rows():
    data = encode_header(LABELS, kind="csv") + encode_rows([GOOD, BAD], LABELS, kind="csv")
    assert data == (
        b"path,status,label,probability,p_NORMAL,p_PNEUMONIA,error\n"
        b"a.jpg,ok,PNEUMONIA,0.75,0.25,0.75,\n"
        b'"b,c.jpg",truncated,,,,,cut\n'
    )


def test_json_lines():
    data = encode_header(LABELS, kind="jsonl") + encode_rows([GOOD, BAD], LABELS, kind="jsonl")
    empty = dict.fromkeys(columns(LABELS))
    assert [json.loads(line) for line in data.splitlines()] == [
        {
            "path": "a.jpg",
            "status": "ok",
            "label": "PNEUMONIA",
            "probability": 0.75,
            "p_NORMAL": 0.25,
            "p_PNEUMONIA": 0.75,
            "error": None,
        },
        empty | {"path": "b,c.jpg", "status": "truncated", "error": "cut"},
    ]


@given(file_names)
def test_any_name_comes_through_csv_and_json_lines(name):
    row = Prediction(name, "empty", error="x")
    data = encode_rows([row], LABELS, kind="csv")
    text = io.StringIO(data.decode("utf-8", "surrogateescape"), newline="")
    assert next(csv.reader(text))[0] == name
    (line,) = encode_rows([row], LABELS, kind="jsonl").rstrip(b"\n").split(b"\n")
    assert json.loads(line)["path"] == name


def test_parquet_holds_float32_and_the_bytes_of_names(tmp_path):
    names = ["中.jpg", "caf\udce9.jpg", "=1,2\n.jpg"]
    rows = [Prediction(name, "ok", "NORMAL", 0.9, (0.9, 0.1)) for name in names]
    (tmp_path / "spool").write_bytes(encode_rows([*rows, BAD], LABELS, kind="jsonl"))
    convert_to_parquet(tmp_path / "spool", str(tmp_path / "s.parquet"), LABELS)
    table = parquet.read_table(tmp_path / "s.parquet")
    assert table.schema.field("p_NORMAL").type == "float"
    assert table.column_names == [*columns(LABELS), "path_bytes"]
    assert table["path"].to_pylist() == ["中.jpg", "caf\ufffd.jpg", "=1,2\n.jpg", "b,c.jpg"]
    assert table["path_bytes"].to_pylist()[1] == b"caf\xe9.jpg"
    assert table["p_NORMAL"].to_pylist() == [np.float32(0.9).item()] * 3 + [None]
    assert table["label"].to_pylist() == ["NORMAL"] * 3 + [None]


def test_a_label_that_is_not_utf_8_is_written_to_parquet_too(tmp_path):
    labels = ("caf\udce9", "b")
    rows = [Prediction("a.jpg", "ok", labels[0], 0.9, (0.9, 0.1)), replace(BAD, path="c.jpg")]
    (tmp_path / "spool").write_bytes(encode_rows(rows, labels, kind="jsonl"))
    convert_to_parquet(tmp_path / "spool", str(tmp_path / "s.parquet"), labels)
    table = parquet.read_table(tmp_path / "s.parquet")
    assert table["label"].to_pylist() == ["caf\ufffd", None]
    assert table["p_caf\ufffd"].to_pylist() == [np.float32(0.9).item(), None]
    assert table["p_b"].to_pylist() == [np.float32(0.1).item(), None]


def test_format_is_told_by_the_name():
    assert [choose_format(name) for name in ("a.csv", "b.JSONL", "c.parquet", None)] == [
        "csv",
        "jsonl",
        "parquet",
        "csv",
    ]
    with pytest.raises(UsageError, match=r"scores\.txt"):
        choose_format("scores.txt")


@given(file_names, st.floats(0, 1, width=32), st.text(max_size=10))
def test_rows_of_json_lines_read_back_as_they_were(name, value, error):
    probabilities = np.array([[1 - value, value]], np.float32)
    rows = [*make_predictions([name], probabilities, toy_spec()), Prediction(name, "truncated", error=error)]
    lines = encode_rows(rows, LABELS, kind="jsonl").splitlines(keepends=True)
    assert [decode_row(line, LABELS) for line in lines] == rows


def test_columns_after_error_read_back_too():
    asked = ("uncertain", "StudyDate")
    rows = [
        Prediction(
            "a.jpg", "ok", "PNEUMONIA", 0.75, (0.25, 0.75), optional={"uncertain": True, "StudyDate": "x"}
        ),
        Prediction("b.jpg", "empty", error="none", optional={"uncertain": None, "StudyDate": None}),
    ]
    lines = encode_rows(rows, LABELS, kind="jsonl", optional=asked).splitlines()
    assert [decode_row(line, LABELS, optional=asked) for line in lines] == rows


texts, integers, reals = file_names, st.integers(), st.floats()
columns_of_values = st.one_of(
    *(st.lists(st.none() | kind, min_size=3, max_size=3) for kind in (texts, integers, reals, st.booleans())),
    st.lists(st.one_of(st.none(), texts, integers, reals, st.booleans()), min_size=3, max_size=3),
)


def as_text(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


@given(columns_of_values)
def test_optional_values_are_the_same_in_every_format(values):
    kept = [None if isinstance(v, float) and not math.isfinite(v) else v for v in values]
    rows = [Prediction(f"{n}.jpg", "empty", optional={"beside": value}) for n, value in enumerate(values)]
    in_csv, spool = (encode_rows(rows, LABELS, kind=kind, optional=("beside",)) for kind in ("csv", "jsonl"))
    read = csv.reader(io.StringIO(in_csv.decode("utf-8", "surrogateescape"), newline=""))
    assert [row[-1] for row in read] == ["" if v is None else as_text(v) for v in kept]
    in_json = [json.loads(line, parse_constant=pytest.fail)["beside"] for line in spool.splitlines()]
    assert [(type(v), v) for v in in_json] == [(type(v), v) for v in kept]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "spool").write_bytes(spool)
        convert_to_parquet(Path(folder) / "spool", f"{folder}/s.parquet", LABELS, optional=("beside",))
        column = parquet.read_table(f"{folder}/s.parquet")["beside"].to_pylist()
    if any(type(v) is str for v in column):
        assert column == [
            v if v is None else as_text(v).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            for v in kept
        ]
    else:
        assert column == kept


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None, -(2**63)], "int64"),
        ([2**63, 1], "string"),
        ([0.5, None], "double"),
        ([0.5, 2**53], "double"),
        ([0.5, 2**53 + 1], "string"),
        ([True, None], "bool"),
        ([True, 1], "string"),
        (["a", 1], "string"),
        ([float("nan"), None], "string"),
    ],
)
def test_a_parquet_column_has_the_type_of_its_values(values, kind, tmp_path):
    rows = [Prediction("a.jpg", "empty", optional={"beside": value}) for value in values]
    (tmp_path / "spool").write_bytes(encode_rows(rows, LABELS, kind="jsonl", optional=("beside",)))
    convert_to_parquet(tmp_path / "spool", str(tmp_path / "s.parquet"), LABELS, optional=("beside",))
    assert parquet.read_schema(tmp_path / "s.parquet").field("beside").type == kind


def test_a_carriage_return_in_any_column_is_quoted():
    rows = [Prediction("a.jpg", "empty", error="x\ry", optional={"beside": "1\r2"})]
    data = encode_rows(rows, LABELS, kind="csv", optional=("beside",)).decode()
    assert next(csv.reader(io.StringIO(data, newline="")))[-2:] == ["x\ry", "1\r2"]


def test_a_calling_programs_print_options_change_no_value():
    values = np.random.default_rng(0).random((50, 2)).astype(np.float32)
    with np.printoptions(legacy="1.13", precision=2):
        texts = write_texts(values)
    assert np.array_equal(np.array(texts, np.float32), values)
