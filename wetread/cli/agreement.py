"""`wetread agreement`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from wetread.cli.app import app
from wetread.cli.options import Overwrite

if TYPE_CHECKING:
    from wetread.evaluate.agreement import Agreement, Kappa

_SHOWN = 20


@app.command(
    short_help="Measure how far readers agree on the same images.",
    epilog="Example: wetread agreement kim.csv lee.csv --output differences.csv",
)
def agreement(
    reviews: Annotated[
        list[str],
        typer.Argument(metavar="A.csv B.csv...", help="The reviews of two readers or more, a file each."),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE.csv", help="Write all images on which they differ here."
        ),
    ] = None,
    group_regex: Annotated[
        str | None,
        typer.Option(
            metavar="RE", help="Regular expression that finds the patient or another group in a name."
        ),
    ] = None,
    resamples: Annotated[
        int,
        typer.Option(metavar="N", help="Bootstrap samples of patients or groups for the intervals; 0: none."),
    ] = 2000,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed of the bootstrap samples.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Compare readers: Cohen's kappa of every two, Fleiss' of all, with 95% intervals by patient or group.

    The images on which they differ are listed with each reader's label.
    """
    import os

    from wetread.errors import OutputError, UsageError
    from wetread.evaluate.agreement import AgreementOptions, compare_readers, encode_differences
    from wetread.evaluate.patients import DEFAULT_GROUP_REGEX
    from wetread.evaluate.reviews import read_reviews
    from wetread.runtime.files.atomic import write_file

    if len(set(reviews)) != len(reviews):
        raise UsageError("A reviews file is named twice. Name each once.")
    if output is not None and os.path.exists(output) and not overwrite:
        raise OutputError(f"{output} already exists. Replace it with --overwrite.")
    options = AgreementOptions(group_regex=group_regex or DEFAULT_GROUP_REGEX, resamples=resamples, seed=seed)
    found = compare_readers({name: read_reviews(name) for name in reviews}, options)
    _print_agreement(found)
    if output is not None:
        try:
            write_file(output, encode_differences(found))
        except OSError as error:
            raise OutputError(f"{output} cannot be written: {error.strerror}.") from error
        print(f"\nwritten: {output}")


def _print_agreement(found: Agreement) -> None:
    from wetread.cli.tables import print_note, print_rows, print_table

    labelled = [f"{name} {count:,}" for name, count in zip(found.readers, found.labelled, strict=True)]
    print_rows([("labelled", ", ".join(labelled)), ("by all of them", f"{found.common:,}")])
    print()
    kappas = [("Cohen", kappa) for kappa in found.cohen]
    kappas += [("Fleiss", found.fleiss)] if found.fleiss else []
    rows = [_describe(name, kappa) for name, kappa in kappas]
    print_table(["kappa", "readers", "images", "agree", "value", f"95% by {found.word}"], rows)
    if found.differences:
        print()
        shown = [[d.path, *(word or "-" for word in d.said)] for d in found.differences[:_SHOWN]]
        print_table(["they differ on", *found.readers], shown)
        more = len(found.differences) - _SHOWN
        if more > 0:
            print(f"and {more:,} more: --output FILE.csv holds all of them")
    for note in found.notes:
        print()
        print_note(note)


def _describe(name: str, kappa: Kappa) -> list[str]:
    from wetread.evaluate.tables import format_interval, format_number

    return [
        name,
        ", ".join(kappa.readers),
        f"{kappa.images:,}",
        f"{kappa.agreement:.1%}",
        format_number(kappa.value),
        format_interval(kappa.interval),
    ]
