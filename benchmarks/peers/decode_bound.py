"""A bound: only read and decode, with wetread's own pixels, on all cores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

from common import chunks, finish, list_files, parse_arguments

from wetread.runtime.images.pixels import read_pixels
from wetread.runtime.model.spec import extract_spec

arguments = parse_arguments(__doc__)
recipe = extract_spec(Path(arguments.model).read_bytes(), name=arguments.model).pixels


def decode(names: list[str]) -> list[int]:
    return [int(read_pixels(Path(name).read_bytes(), recipe)[0, 0, 0]) for name in names]


start = perf_counter()
files = list_files(arguments.folder)
with ThreadPoolExecutor(arguments.workers) as pool:
    corners = [corner for found in pool.map(decode, chunks(files, 8)) for corner in found]
finish(arguments, files, corners, perf_counter() - start)
