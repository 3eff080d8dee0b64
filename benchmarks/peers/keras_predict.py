"""Keras as its guides show it: image_dataset_from_directory, then model.predict."""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter

from common import finish, give_up, parse_arguments

arguments = parse_arguments(__doc__)
try:
    import keras
except ImportError as error:
    give_up(error)

cut = 0.0 if json.loads(Path(arguments.model).with_name("spec.json").read_text())["head"] == "logits" else 0.5
model = keras.models.load_model(arguments.model, compile=False)
height, width = model.input_shape[1:3]

start = perf_counter()
dataset = keras.utils.image_dataset_from_directory(
    arguments.folder,
    labels=None,
    color_mode="grayscale",
    batch_size=arguments.batch_size,
    image_size=(height, width),
    interpolation="area",
    shuffle=False,
    verbose=False,
)
# The network alone wants scaled pixels, as training gave it.
outputs = model.predict(dataset.map(lambda images: images / 255.0), verbose=0)
labels = outputs[:, 0] >= cut if outputs.shape[1] == 1 else outputs.argmax(axis=1)
finish(arguments, dataset.file_paths, labels, perf_counter() - start)
