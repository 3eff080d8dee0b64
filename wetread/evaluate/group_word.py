"""The word for what an evaluation groups images by: patients, or groups of another kind.

`train` chooses it by what the images are, and writes it down where it is not 'patient'.
"""

from __future__ import annotations

from collections.abc import Iterable

from wetread.evaluate.patients import name_group
from wetread.evaluate.runs import Run
from wetread.runtime.model.spec import ModelSpec

GROUP_KEY = "group"  # in a spec's `training`, unless the word is 'patient'


def find_word(pattern: str, names: Iterable[str], *, spec: ModelSpec, run: Run | None = None) -> str:
    """Return 'patient', 'group', or a word of the user's own, such as 'plant'.

    The name of a group in the regular expression comes first. Then decides the run's kind of images
    (`preset`) or, without a run, what its training wrote into the model. A model that was trained
    elsewhere says nothing: its images are of groups, unless their names are those that the default
    expression knows. Raises ConfigError for a malformed expression.
    """
    if run is not None:
        return name_group(pattern, names, of_patients=run.config.get("preset") in (None, "xray"))
    written = spec.training.get(GROUP_KEY)
    word = name_group(pattern, names, of_patients=bool(spec.training) and written is None)
    return str(written) if written is not None and word == "group" else word
