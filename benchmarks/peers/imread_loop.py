"""The plain loop: cv2.imread, cv2.resize, session.run, on sessions as onnxruntime makes them."""

from __future__ import annotations

from time import perf_counter

import cv2
import numpy as np
from common import chunks, finish, list_files, parse_arguments

import onnxruntime  # isort: skip - after common, which switches its telemetry off

arguments = parse_arguments(__doc__)
session = onnxruntime.InferenceSession(arguments.model, providers=["CPUExecutionProvider"])
height, width = session.get_inputs()[0].shape[1:3]

start = perf_counter()
files, labels = list_files(arguments.folder), []
for names in chunks(files, arguments.batch_size):
    batch = [
        cv2.resize(cv2.imread(name, cv2.IMREAD_GRAYSCALE), (width, height), interpolation=cv2.INTER_AREA)
        for name in names
    ]
    (probabilities, *_) = session.run(None, {"image": np.stack(batch)[..., None]})
    labels.extend(probabilities.argmax(axis=1))
finish(arguments, files, labels, perf_counter() - start)
