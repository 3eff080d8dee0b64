"""Debian's chromium, headless: what a page becomes in it, what it complains of, and whom it asks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

_QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr",
)


@dataclass(frozen=True)
class Visit:
    """The document as the browser built it, its console messages, and the hosts that were asked."""

    document: str
    console: tuple[str, ...]
    hosts: frozenset[str]


def find_chromium() -> str:
    """The browser's path; skips the test, saying so, where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    return found


def visit(page: Path, scratch: Path) -> Visit:
    """Open a page from disk in a fresh profile. The browser asks hosts of its own too."""
    log = scratch / "net.json"
    command = [find_chromium(), *_QUIET, f"--user-data-dir={scratch / 'profile'}", f"--log-net-log={log}"]
    done = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    events = json.loads(log.read_text())["events"]
    urls = {e["params"]["url"] for e in events if isinstance(e.get("params"), dict) and "url" in e["params"]}
    hosts = frozenset(urlsplit(url).netloc for url in urls)
    return Visit(done.stdout, tuple(re.findall(r"CONSOLE.*\] (.*)", done.stderr)), hosts - {""})
