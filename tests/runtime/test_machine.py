from __future__ import annotations

import sys

import pytest

from wetread.runtime.machine import read_free_memory

GIB = 1 << 30


def write(folder, files: dict[str, str]) -> None:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows is asked itself")
@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {}, 8 * GIB),
        ("0::/a\n", {"a/memory.max": "max", "a/memory.current": "5"}, 8 * GIB),
        (
            "0::/a/b\n",
            {"a/memory.max": 2 * GIB, "a/memory.current": GIB, "a/memory.stat": "anon 7\ninactive_file 100"},
            GIB + 100,
        ),
        (
            "4:memory:/\n",
            {
                "memory/memory.limit_in_bytes": 3 * GIB,
                "memory/memory.usage_in_bytes": GIB,
                "memory/memory.stat": "total_inactive_file 0",
            },
            2 * GIB,
        ),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "broken"}, 8 * GIB),
    ],
)
def test_free_memory_is_what_the_machine_and_its_container_leave(tmp_path, own, files, expected):
    write(tmp_path, {"own": own.strip(), "meminfo": f"MemTotal: 1 kB\nMemAvailable: {8 << 20} kB", **files})
    found = read_free_memory(str(tmp_path / "meminfo"), str(tmp_path), str(tmp_path / "own"))
    assert found == expected


def test_free_memory_of_this_machine_is_known():
    assert (read_free_memory() or 0) > 1 << 20
