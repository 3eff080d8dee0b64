"""Use an installed bundle as a workstation does: `python workstation.py INTERPRETER MODEL PICTURES WORK`.

Verifies, scores, kills `score` and `watch` and starts them again, and answers in the page of `review`;
prints JSON: what was done and whether each file has its row once. Needs nothing but Python, for it runs
beside the installation.
"""

from __future__ import annotations

import csv
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

KILLS = 3
PATIENCE = 300.0


class Workstation:
    """An installation, a model, and a folder to work in."""

    def __init__(self, interpreter: str, model: str, work: Path) -> None:
        self.command = [interpreter, "-I", "-X", "utf8", "-m", "wetread"]
        self.model = ["--model", model]
        self.work = work

    def run(self, *arguments: object) -> int:
        """Run a command to its end; its exit code."""
        command = [*self.command, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, check=False).returncode

    def start(self, *arguments: object) -> subprocess.Popen[bytes]:
        """Begin a command."""
        command = [*self.command, *map(str, arguments), *self.model]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill_at(self, rows: int, output: Path, process: subprocess.Popen[bytes]) -> bool:
        """Kill a process once its output has so many rows; tell whether it was still at work."""
        end = time.monotonic() + PATIENCE
        while process.poll() is None and count_rows(output) < rows and time.monotonic() < end:
            time.sleep(0.01)
        was_running = process.poll() is None
        process.kill()
        process.wait()
        return was_running

    def score_with_kills(self, pictures: Path) -> dict[str, object]:
        """Kill a `score` again and again, resume it, and compare with one that was left alone."""
        whole, output = self.work / "whole.csv", self.work / "killed.csv"
        options = ["--batch-size", "1", "--workers", "1", "--quiet"]
        self.run("score", pictures, "--output", whole, *options, *self.model)
        killed = 0
        for turn in range(1, KILLS + 1):
            begun = self.start("score", pictures, "--output", output, "--resume", *options)
            killed += self.kill_at(turn * 20, Path(f"{output}.part"), begun)
        code = self.run("score", pictures, "--output", output, "--resume", *options, *self.model)
        same = output.read_bytes() == whole.read_bytes()
        return {"kills": killed, "code": code, "same bytes": same, "rows": count_rows(whole)}

    def watch_with_kills(self, pictures: list[Path]) -> dict[str, object]:
        """Kill a `watch` while files arrive; at the end each file must have its row once."""
        folder, output = self.work / "incoming", self.work / "watched.csv"
        folder.mkdir()
        killed, share = 0, len(pictures) // (KILLS + 1)
        options = ["--output", output, "--poll", "0.1", "--settle", "0.2", "--patience", "0.5"]
        for turn in range(KILLS + 1):
            last = turn == KILLS
            for path in pictures[turn * share : None if last else (turn + 1) * share]:
                shutil.copyfile(path, folder / path.name)
            begun = self.start("watch", folder, *options)
            wanted = len(pictures) if last else turn * share + share // 2
            killed += self.kill_at(wanted, output, begun)
        names = [Path(row["path"]).name for row in read_rows(output)]
        return {"kills": killed, "each once": sorted(names) == sorted(path.name for path in pictures)}

    def review(self, scores: Path) -> list[str]:
        """Look at a row in the page, say what it is, and stop; what was not as it should be."""
        output = self.work / "reviews.csv"
        command = [*self.command, "review", str(scores), "--no-browser", "--reader", "Kim", *self.model]
        process = subprocess.Popen(
            [*command, "--output", str(output)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            assert process.stdout is not None
            address = process.stdout.readline().decode().strip()
            return [*use_page(address), *self.stop_review(process, output)] if address else ["no address"]
        finally:
            process.kill()
            process.wait()

    def stop_review(self, process: subprocess.Popen[bytes], output: Path) -> list[str]:
        """Stop the page as a person does; without a console of Windows', Ctrl-C is not to be had."""
        if os.name == "nt":
            process.kill()
        else:
            process.send_signal(signal.SIGINT)
        code = process.wait(PATIENCE)
        faults = [] if os.name == "nt" or code in (0, 130) else [f"ended with {code}"]
        kept = Path(f"{output}.journal").read_bytes()
        return faults if b"Kim" in kept and b"right" in kept else [*faults, f"kept {kept!r}"]


def use_page(address: str) -> list[str]:
    """Ask for the page, a row and its picture, and send an answer, as a browser does; what went wrong."""
    parts = urlsplit(address)
    page = Page(parts.port or 0)
    entered, headers, _ = page.ask("GET", f"{parts.path}?{parts.query}")
    stranger, _, _ = page.ask("GET", "/api/rows")
    page.cookie = headers["set-cookie"].partition(";")[0]
    shown, _, html = page.ask("GET", "/")
    row = json.loads(page.ask("GET", "/api/rows")[2])["rows"][0]
    _, picture, _ = page.ask("GET", f"/api/rows/{row['number']}/picture")
    said = {"identity": str(uuid.uuid4()), "number": row["number"], "generation": 1, "label": "right"}
    answered, _, answer = page.ask("POST", "/api/decisions", json.dumps(said))
    done = {
        f"entering: {entered}": entered == 303,
        f"without the cookie: {stranger}": stranger == 403,
        f"the page: {shown}": shown == 200 and b"</html>" in html,
        f"the picture: {picture}": "x-picture" in picture,
        f"the answer: {answer!r}": answered == 200 and "row" in json.loads(answer),
    }
    return [what for what, right in done.items() if not right]


class Page:
    """A browser's part: it keeps the cookie and says where it comes from."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookie = ""

    def ask(self, method: str, target: str, body: str | None = None) -> tuple[int, dict[str, str], bytes]:
        """One request: status, headers, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        headers = {"Origin": f"http://127.0.0.1:{self.port}", "Content-Type": "application/json"}
        try:
            connection.request(method, target, body=body, headers=headers | {"Cookie": self.cookie})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()


def count_rows(path: Path) -> int:
    """The whole rows of a CSV that may be growing."""
    try:
        return max(path.read_bytes().count(b"\n") - 1, 0)
    except OSError:
        return 0


def read_rows(path: Path) -> list[dict[str, str]]:
    """A CSV's rows."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main(interpreter: str, model: str, pictures: str, work: str) -> None:
    """Do all of it in a new folder."""
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    station = Workstation(interpreter, model, Path(work))
    done: dict[str, object] = {"verify": station.run("verify", model)}
    done["score"] = station.score_with_kills(Path(pictures))
    done["watch"] = station.watch_with_kills(sorted(Path(pictures).iterdir())[:40])
    done["review"] = station.review(Path(work) / "whole.csv")
    done["scores"] = [
        [Path(row["path"]).name, row["status"], row["label"], row["probability"], row["scope"]]
        for row in read_rows(Path(work) / "whole.csv")
    ]
    sys.stdout.write(json.dumps(done) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
