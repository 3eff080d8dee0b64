"""What an export may be asked for, and what it returns."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from wetread.errors import ConfigError
from wetread.evaluate.held_out import OperatingRequest
from wetread.export.judging import Candidate, Gate
from wetread.runtime.model.spec import ModelSpec

PRECISIONS = ("float32", "int8", "float16")

Progress = Callable[[str], object]


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What an export may be asked for.

    `calibration`: a folder of images (or where a RUN's images stand now). `gate`: how far int8 and float16
    may depart from Keras. `exact_integers`: of int8, only forms that compute in whole numbers up to the last
    layer, and so round alike on every processor. `sign`: a PEM file with an Ed25519 private key. `operating`:
    another temperature, threshold or band than a RUN's own, fitted on its held-out predictions.
    `with_activation`: a further output, for `wetread explain --method cam`. `scope`: a file that says what
    the model is for.
    """

    precision: str = "float32"
    calibration: str | os.PathLike[str] | None = None
    gate: Gate = field(default_factory=Gate)
    exact_integers: bool = False
    sign: str | os.PathLike[str] | None = None
    with_activation: bool = False
    scope: str | os.PathLike[str] | None = None
    operating: OperatingRequest = field(default_factory=OperatingRequest)
    on_progress: Progress | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"The precision must be one of {', '.join(PRECISIONS)}, not {self.precision!r}."
            )
        if self.exact_integers and self.precision != "int8":
            raise ConfigError("--exact-integers is for int8: give --precision int8 as well.")

    def tell(self, text: str) -> None:
        """Say what is being done."""
        if self.on_progress is not None:
            self.on_progress(text)


@dataclass(frozen=True)
class ExportResult:
    """An exported model: where it is, its spec, and how it compared.

    `difference`: the largest of a probability from Keras, float32 form, on the images that were compared.
    `candidates`: the forms that were tried, for int8 and float16; the first is float32. `notes`: sentences
    on what its user should know, such as that the chosen form is slower than float32 on this CPU. `path`,
    `report` and `signature` are gs:// locations where they are in a bucket.
    """

    path: Path | str
    spec: ModelSpec
    size: int
    difference: float
    compared: int
    candidates: tuple[Candidate, ...] = ()
    notes: tuple[str, ...] = ()
    report: Path | str | None = None
    signature: Path | str | None = None
