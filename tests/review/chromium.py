"""Debian's chromium, headless, driven over its own protocol (CDP): what a reader does, and what they see."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

from tests.evaluate.browser import find_chromium

_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)
_CODES = {
    "Enter": 13,
    "Escape": 27,
    "ArrowDown": 40,
    "ArrowUp": 38,
    "ArrowLeft": 37,
    "ArrowRight": 39,
    "Tab": 9,
}


class Page:
    """One tab. `messages`: what it wrote into its console; `asked`: every address that it asked for."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(address, timeout=60, max_size=None)
        self._numbers = itertools.count(1)
        self.messages: list[str] = []
        self.asked: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """Let go of the tab."""
        self._socket.close()

    def call(self, method: str, **values: Any) -> dict[str, Any]:
        """Ask the browser for something, and return what it answers."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": values}))
        while True:
            found = json.loads(self._socket.recv())
            if found.get("id") == number:
                assert "error" not in found, found
                return found["result"]
            self._note(found)

    def _note(self, event: dict[str, Any]) -> None:
        method, told = event.get("method"), event.get("params", {})
        if method == "Runtime.consoleAPICalled":
            self.messages.append(" ".join(str(a.get("value", a)) for a in told["args"]))
        elif method == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.messages.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded":
            self.messages.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.asked.append(told["request"]["url"])

    def run(self, code: str) -> Any:
        """Evaluate an expression in the page; a promise is awaited."""
        found = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str, *, seconds: float = 15) -> Any:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(AssertionError):
                if value := self.run(condition):
                    return value
            time.sleep(0.01)
        raise AssertionError(f"never true: {condition}; console: {self.messages}")

    def open(self, address: str) -> None:
        """Go to an address, and wait until the page is ready."""
        self.call("Page.navigate", url=address)
        self.wait("document.documentElement?.dataset.ready === 'yes'")

    def open_blank(self) -> None:
        """Leave the page, and forget what it said and asked."""
        self.call("Page.navigate", url="about:blank")
        self.wait("location.href === 'about:blank'")
        self.messages.clear()
        self.asked.clear()

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key."""
        text = {"text": key} if len(key) == 1 else {}
        common = {
            "key": key,
            "modifiers": 8 if shift else 0,
            "windowsVirtualKeyCode": _CODES.get(key, ord(key[0])),
        }
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def click(self, selector: str) -> None:
        """Click into the middle of an element."""
        x, y = self.find(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def find(self, selector: str) -> tuple[float, float]:
        """The middle of an element."""
        box = self.run(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [b.left + b.width / 2, b.top + b.height / 2]; })()"
        )
        return box[0], box[1]

    def drag(self, start: tuple[float, float], by: tuple[float, float], *, button: str = "left") -> None:
        """Drag with a button of the mouse."""
        common = {"button": button, "buttons": {"left": 1, "right": 2}[button], "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=start[0], y=start[1], **common)
        for part in (0.5, 1):
            x, y = start[0] + by[0] * part, start[1] + by[1] * part
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, **common)
        end = {"x": start[0] + by[0], "y": start[1] + by[1]}
        self.call("Input.dispatchMouseEvent", type="mouseReleased", **end, **common)

    def resize(self, width: int, height: int) -> None:
        """Make the window as large as a screen."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def shoot(self, path: Path) -> None:
        """Keep a picture of the page."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def text(self, selector: str) -> str:
        """What an element says."""
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText") or ""


@contextmanager
def open_chromium(scratch: Path) -> Iterator[Page]:
    """Start the browser with a fresh profile, and end it. Skips the test where there is none."""
    profile = scratch / "profile"
    command = [find_chromium(), *_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    page = None
    try:
        page = Page(_find_tab(profile / "DevToolsActivePort"))
        page.resize(1280, 800)
        yield page
    finally:
        if page is not None:
            page.close()
        process.terminate()
        process.wait(timeout=20)


def _find_tab(port_file: Path) -> str:
    """The address of the first tab's socket."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(OSError, IndexError, ValueError):
            port = int(port_file.read_text().splitlines()[0])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=5) as answer:
                tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
                return str(tabs[0]["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise AssertionError("chromium did not start")
