"""OpenVINO's asynchronous queue, fed by OpenCV threads: one decodes while the other's batch is inferred.

Left to itself it computes in bfloat16 on processors that have it, which is another model's answer.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from time import perf_counter

import numpy as np
from common import chunks, finish, give_up, list_files, parse_arguments

try:
    import cv2
    import openvino
except ImportError as error:
    give_up(error)

arguments = parse_arguments(__doc__)
cv2.setNumThreads(0)
core = openvino.Core()
settings = {"PERFORMANCE_HINT": "THROUGHPUT"}
if arguments.precision:
    settings["INFERENCE_PRECISION_HINT"] = arguments.precision
compiled = core.compile_model(arguments.model, "CPU", settings)
_, height, width, _ = (
    int(side.get_length()) if side.is_static else 0 for side in compiled.input(0).partial_shape
)


def decode(names: list[str]) -> np.ndarray:
    batch = [
        cv2.resize(cv2.imread(name, cv2.IMREAD_GRAYSCALE), (width, height), interpolation=cv2.INTER_AREA)
        for name in names
    ]
    return np.stack(batch)[..., None]


start = perf_counter()
files = list_files(arguments.folder)
labels = np.zeros(len(files), int)


def keep(request: openvino.InferRequest, first: int) -> None:
    found = request.get_output_tensor(0).data.argmax(axis=1)
    labels[first : first + len(found)] = found


queue = openvino.AsyncInferQueue(compiled)
queue.set_callback(keep)
with ThreadPoolExecutor(arguments.workers) as pool:
    batches = iter(chunks(files, arguments.batch_size))
    ahead = deque(pool.submit(decode, names) for names in islice(batches, 3 * arguments.workers))
    first = 0
    while ahead:
        batch = ahead.popleft().result()
        for names in islice(batches, 1):
            ahead.append(pool.submit(decode, names))
        queue.start_async({0: batch}, first)
        first += len(batch)
    queue.wait_all()
finish(arguments, files, labels, perf_counter() - start)
