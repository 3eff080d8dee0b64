"""Classifier: a model that scores files, folders and globs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from wetread.runtime.images.limits import MAX_MEMORY
from wetread.runtime.model.session import ModelSession
from wetread.runtime.scoring.batches import score_entries
from wetread.runtime.scoring.rows import Prediction
from wetread.runtime.sources.opening import open_sources


class Classifier(ModelSession):
    """A model that is ready to score images from files as well as from arrays.

    Arguments and errors as in `ModelSession`.
    """

    def score(
        self,
        source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        include: str | None = None,
        workers: int | None = None,
        batch_size: int = 32,
        max_memory: int = MAX_MEMORY,
    ) -> Iterator[Prediction]:
        """Score a file, folder or glob, or several: one Prediction for each input, in listing order, lazily.

        A broken file is a Prediction with a status and no probability. `max_memory`: bytes that decoding one
        image may need in addition to its file; one that needs more is 'too_large'. Raises SourceError if the
        source does not exist.
        """
        sources = [source] if isinstance(source, str | os.PathLike) else source
        opened = open_sources(sources, include=include)
        entries = opened.read_ahead(opened.entries())
        return score_entries(
            self,
            entries,
            read=opened.read,
            workers=workers,
            batch_size=batch_size,
            max_memory=max_memory,
        )
