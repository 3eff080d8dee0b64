"""Tables on a terminal: names of files and labels may hold anything."""

from __future__ import annotations

from wetread.cli.tables import print_note, print_rows, print_table


def test_a_label_cannot_break_a_table_or_color_it(capsys) -> None:
    print_table(["truth", "a\nb"], [["\x1b[31mred", "1"], ["caf\udce9", "2"]])
    assert capsys.readouterr().out == "truth        a\\nb\n\\x1b[31mred     1\ncaf\\udce9       2\n"
    print_rows([("judged", "x.png: cut\nnote: all is well")])
    print_note("No image of a\nb was missed.")
    assert capsys.readouterr().out == (
        "judged  x.png: cut\\nnote: all is well\nnote: No image of a\\nb was missed.\n"
    )


def test_wide_letters_are_aligned(capsys) -> None:
    print_table(["label", "n"], [["肺炎", "1"], ["abcdef", "12"]])
    assert capsys.readouterr().out == "label    n\n肺炎     1\nabcdef  12\n"
