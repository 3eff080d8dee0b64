"""The node beside Orthanc, an archive of other people's: it sends the images, and shows the results."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dcmtk import find_tool
from tests.node.conftest import HERE, make_image, until
from tests.node.test_dcmtk import Process, find_port

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not shutil.which("Orthanc") or not find_tool("echoscu"),
        reason="Orthanc and dcmtk are not installed: apt-get install orthanc dcmtk",
    ),
]


class Orthanc:
    """An Orthanc of its own folder and ports, on this machine alone."""

    def __init__(self, folder: Path, node_port: int) -> None:
        self.http, self.dicom = find_port(), find_port()
        settings = {
            "Name": "ARCH",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "DicomAet": "ARCH",
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomModalities": {"node": ["WETREAD", HERE, node_port]},
            "Plugins": [],
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        with (folder / "orthanc.log").open("wb") as log:
            self.process = subprocess.Popen(["Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=log)
        until(self.answers)

    def answers(self) -> bool:
        try:
            return bool(self.ask("/system"))
        except OSError:
            return False

    def ask(self, path: str, data: bytes | None = None) -> Any:
        with urllib.request.urlopen(f"http://{HERE}:{self.http}{path}", data=data, timeout=30) as answer:
            return json.loads(answer.read())

    def fetch(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://{HERE}:{self.http}{path}", timeout=30) as answer:
            return bytes(answer.read())

    def list_series(self) -> dict[str, int]:
        found = [self.ask(f"/series/{name}") for name in self.ask("/series")]
        return {
            f"{one['MainDicomTags']['Modality']} {one['MainDicomTags'].get('Manufacturer', '')}".strip(): len(
                one["Instances"]
            )
            for one in found
        }

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture
def node(tmp_path: Path, toy_model: Path) -> Iterator[Process]:
    made = Process(tmp_path, toy_model)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


def test_orthanc_sends_images_and_files_their_results_in_the_same_study(node, tmp_path):
    archive = Orthanc(tmp_path, node.port)
    try:
        node.more = ("--send-to", f"ARCH@{HERE}:{archive.dicom}", "--results", "sr,sc")
        node.start()
        for number in range(1, 6):
            archive.ask("/instances", make_image(number))
        (study,) = archive.ask("/studies")
        archive.ask("/modalities/node/store", study.encode())
        until(lambda: archive.list_series() == {"DX": 5, "SR wetread": 5, "OT wetread": 5})
        (only,) = archive.ask("/studies")  # the results lie in the image's own study
        archive.ask("/modalities/node/store", only.encode())  # and come back with it: they are not scored
        assert len(node.rows.read_text().splitlines()) == 6
        for name in archive.ask("/instances"):
            tags = archive.ask(f"/instances/{name}/simplified-tags")
            if tags["Modality"] == "OT":
                assert archive.fetch(f"/instances/{name}/preview").startswith(b"\x89PNG")
        assert archive.list_series() == {"DX": 5, "SR wetread": 5, "OT wetread": 5}
    finally:
        archive.stop()
    assert "Traceback" not in node.said()
