"""google-cloud-storage as its first example shows it: one object after another. Prints objects a second."""

from __future__ import annotations

import os
import sys
from time import perf_counter

os.environ["DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA"] = "true"

from google.cloud import storage


def main() -> None:
    count = int(sys.argv[1])
    blobs = iter(storage.Client().list_blobs("b"))
    next(blobs).download_as_bytes()  # the connection
    start = perf_counter()
    for _ in range(count):
        next(blobs).download_as_bytes()
    print(count / (perf_counter() - start))


if __name__ == "__main__":
    main()
