"""Write a run's curves for TensorBoard to RUN/logs: one scalar per epoch and column of history.csv.

TensorFlow is enough to write them; viewing them needs the package `tensorboard`.
"""

from __future__ import annotations

from pathlib import Path

from wetread.keras_backend import import_keras
from wetread.train.config import TrainConfig

LOGS = "logs"


def log_epoch(config: TrainConfig, row: dict[str, float]) -> None:
    """Write an epoch's row of the history, if `config.tensorboard` is set.

    Each epoch is its own file: no file is ever cut short, and a resumed run adds to them.
    """
    if not config.tensorboard:
        return
    import_keras()
    import tensorflow

    # The same bytes as tensorflow.summary.scalar, which needs the package `tensorboard`.
    described = tensorflow.compat.v1.SummaryMetadata(data_class="DATA_CLASS_SCALAR")
    described.plugin_data.plugin_name = "scalars"
    writer = tensorflow.summary.create_file_writer(str(Path(config.output) / LOGS))
    with writer.as_default(step=int(row["epoch"])):
        for name, value in row.items():
            if name != "epoch":
                tensorflow.summary.write(name, tensorflow.constant(value, "float32"), metadata=described)
    writer.close()
