"""A run's curves for TensorBoard: RUN/logs, one scalar an epoch of each column of history.csv.

TensorFlow writes them alone; looking at them needs the package `tensorboard`.
"""

from __future__ import annotations

from pathlib import Path

from wetread.backend import import_keras
from wetread.train.config import TrainConfig

LOGS = "logs"


def log_epoch(config: TrainConfig, row: dict[str, float]) -> None:
    """Write an epoch's row of the history, if `config.tensorboard` asks for it.

    Each epoch is a file of its own: what was written is whole, and a resumed run goes on.
    """
    if not config.tensorboard:
        return
    import_keras()
    import tensorflow

    # What tensorflow.summary.scalar writes; that one needs the package `tensorboard`.
    described = tensorflow.compat.v1.SummaryMetadata(data_class="DATA_CLASS_SCALAR")
    described.plugin_data.plugin_name = "scalars"
    writer = tensorflow.summary.create_file_writer(str(Path(config.output) / LOGS))
    with writer.as_default(step=int(row["epoch"])):
        for name, value in row.items():
            if name != "epoch":
                tensorflow.summary.write(name, tensorflow.constant(value, "float32"), metadata=described)
    writer.close()
