"""The command line as its users see it: whole processes, exit codes, bytes."""

from __future__ import annotations

import csv
import inspect
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, get_args

import pytest
import typer

from tests.conftest import draw_image


def wetread(*arguments: object, **options) -> subprocess.CompletedProcess[bytes]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "wetread", *map(os.fspath, map(str_or_path, arguments))]
    return subprocess.run(command, capture_output=True, timeout=120, **options)


def str_or_path(argument: object) -> str | os.PathLike[str]:
    return argument if isinstance(argument, str | os.PathLike) else str(argument)


def error_line(done: subprocess.CompletedProcess[bytes]) -> str:
    """The one line on standard error."""
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_score_writes_csv_to_standard_output(toy_model, image_folder):
    done = wetread("score", image_folder, "--model", toy_model)
    assert done.returncode == 0
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    assert len(rows) == 12
    assert list(rows[0]) == ["path", "status", "label", "probability", "p_NORMAL", "p_PNEUMONIA", "error"]
    assert {row["status"] for row in rows} == {"ok"}
    assert b"running on cpu" in done.stderr
    assert wetread("score", image_folder, "--model", toy_model, "--quiet").stderr == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["score", "inspect"])
def test_a_full_disk_under_standard_output_is_one_line(toy_model, image_folder, command):
    source = [image_folder, "--quiet", "--model"] if command == "score" else []
    arguments = [sys.executable, "-m", "wetread", command, *source, toy_model]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, timeout=120)
    assert done.returncode == 1
    assert "No space left on device" in error_line(done)


def test_broken_files_are_rows_and_exit_3(toy_model, image_folder):
    before = wetread("score", image_folder, "--model", toy_model).stdout.splitlines()
    whole = draw_image(1)
    (image_folder / "z-text.jpg").write_text("hello")
    (image_folder / "a-empty.jpg").write_bytes(b"")
    (image_folder / "b,cut 中.jpg").write_bytes(whole[: len(whole) // 2])
    (image_folder / "a0" / "repaired.jpg").write_bytes(whole[: len(whole) // 2] + b"\xff\xd9")
    done = wetread("score", image_folder, "--model", toy_model)
    assert done.returncode == 3
    after = done.stdout.splitlines()
    new = [line for line in after if line not in before]
    assert [line for line in after if line in before] == before
    rows = list(csv.reader(io.StringIO(b"\n".join(new).decode())))
    assert [(row[0].removeprefix(f"{image_folder}/"), row[1]) for row in rows] == [
        ("a-empty.jpg", "empty"),
        ("a0/repaired.jpg", "truncated"),
        ("b,cut 中.jpg", "truncated"),
        ("z-text.jpg", "not_an_image"),
    ]
    assert all(row[2:6] == ["", "", "", ""] and row[6] for row in rows)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["score", "--nonsense"], 2, "--nonsense"),
        (["nonsense"], 2, "nonsense"),
        (["score"], 2, "SOURCE"),
        (["score", "in", "--workers", "many"], 2, "--workers"),
        (["score", "in", "--model", "MODEL", "--workers", "0"], 2, "--workers"),
        (["score", "in", "--model", "MODEL", "--output", "s.txt"], 2, "s.txt"),
        (["score", "in", "--model", "MODEL", "--resume"], 2, "--output"),
        (["score", "in", "--model", "nowhere.onnx"], 1, "nowhere.onnx"),
        (["score", "nowhere", "--model", "MODEL"], 1, "nowhere"),
        (["score", "in", "--model", "MODEL", "--device", "tensorrt"], 1, "TensorrtExecutionProvider"),
        (["inspect", "nowhere.onnx"], 1, "nowhere.onnx"),
    ],
)
def test_errors_are_one_line(toy_model, tmp_path, arguments, code, said):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(draw_image(0))
    arguments = [str(toy_model) if part == "MODEL" else part for part in arguments]
    quiet = ["--quiet"] if arguments[0] == "score" and "--nonsense" not in arguments else []
    done = wetread(*arguments, *quiet, cwd=tmp_path)
    assert done.returncode == code
    line = error_line(done)
    assert line.startswith("wetread: ")
    assert said in line
    assert done.stdout in (b"", b"path,status,label,probability,p_NORMAL,p_PNEUMONIA,error\n")


def test_inspect_shows_the_spec(toy_model):
    done = wetread("inspect", toy_model)
    assert done.returncode == 0
    assert b"labels       NORMAL, PNEUMONIA" in done.stdout
    spec = json.loads(wetread("inspect", toy_model, "--json").stdout)
    assert spec["pixels"]["height"] == 64


def test_inspect_measures_the_speed_where_it_is_asked_to(toy_model):
    done = wetread("inspect", toy_model, "--speed")
    assert done.returncode == 0
    assert b"speed here " in done.stdout
    assert b" images/s on one core (CPUExecutionProvider), without decoding" in done.stdout
    found = json.loads(wetread("inspect", toy_model, "--json", "--speed").stdout)
    assert found["speed"]["images_per_second"] > 0
    assert {name: value for name, value in found.items() if name != "speed"} == json.loads(
        wetread("inspect", toy_model, "--json").stdout
    )


def test_every_command_that_reads_with_a_model_can_demand_its_signature(toy_model, image_folder, tmp_path):
    pytest.importorskip("cryptography")
    from tests.keys import write_keys
    from wetread.runtime.model.signature import sign_model

    (private, public), (_, other) = write_keys(tmp_path), write_keys(tmp_path, name="other")
    model, image, inbox = tmp_path / "signed.onnx", next(image_folder.rglob("*.jpg")), tmp_path / "in"
    inbox.mkdir()
    model.write_bytes(toy_model.read_bytes())
    model.with_name("signed.onnx.sig").write_bytes(sign_model(model.read_bytes(), key=private))
    commands = [
        ["score", image, "--model", model],
        ["explain", image, "--model", model, "--format", "json"],
        ["watch", inbox, "--model", model, "--output", tmp_path / "rows.csv"],
    ]
    for command in commands[:2]:
        assert wetread(*command, "--public-key", public).returncode == 0
    for command in commands:
        done = wetread(*command, "--public-key", other)
        assert (done.returncode, done.stdout) == (1, b"")
        assert "over this file" in error_line(done)
    assert not (tmp_path / "rows.csv").exists()


def test_wrong_use_leaves_nothing_behind(toy_model, image_folder, tmp_path):
    """So that the command, put right, is not refused for what it wrote before it was."""
    score, output = ("score", image_folder, "--model", toy_model, "--output"), tmp_path / "s.csv"
    for wrong, code in (
        ((*score, output, "--workers", "0"), 2),
        ((*score, output, "--device", "gpu"), 2),
        (("score", "--from-file", tmp_path / "no.txt", "--model", toy_model, "--output", output), 1),
        (("explain", image_folder / "a0" / "image00.jpg", "--model", toy_model, "-o", tmp_path / "o.gif"), 2),
    ):
        done = wetread(*wrong)
        assert (done.returncode, done.stdout) == (code, b""), done.stderr
        assert list(tmp_path.iterdir()) == [image_folder]
    lost = wetread(*score, tmp_path / "nowhere" / "s.csv", "--quiet")
    assert lost.returncode == 1
    assert error_line(lost).endswith("Create its folder, or choose another --output.")


def test_version_and_a_reader_that_goes_away(toy_model, image_folder):
    assert wetread("--version").stdout.startswith(b"wetread ")
    process = subprocess.Popen(
        [sys.executable, "-m", "wetread", "score", image_folder, "--model", toy_model, "--batch-size", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    stderr = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 1
    assert b"Traceback" not in stderr


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """A folder of 1,500 files: twenty pictures, linked again and again, and some that are broken."""
    folder = tmp_path_factory.mktemp("many")
    pictures = [folder / f"p{index}.jpg" for index in range(20)]
    for index, picture in enumerate(pictures):
        picture.write_bytes(draw_image(index, height=160, width=150) if index else b"broken")
    for index in range(1480):
        (folder / f"q{index:04d}.jpg").hardlink_to(pictures[index % 20])
    return folder


def start(source: Path, model: Path, output: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "wetread", "score", source, "--model", model, "--output", output]
    return subprocess.Popen([*command, "--batch-size", "8", *more], stderr=subprocess.PIPE)


def wait_for_rows(output: Path, process: subprocess.Popen[bytes], count: int) -> None:
    part = Path(f"{output}.part")
    while process.poll() is None and not (part.exists() and part.read_bytes().count(b"\n") >= count):
        time.sleep(0.005)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_keeps_rows_and_says_how_to_go_on(toy_model, many, tmp_path, number, code):
    output = tmp_path / "s.csv"
    process = start(many, toy_model, output)
    wait_for_rows(output, process, 20)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert b"stopping after the current images" in stderr
    assert b"--resume" in stderr
    assert b"Traceback" not in stderr
    assert not output.exists()
    assert start(many, toy_model, output, "--resume").communicate(timeout=60)
    expected = tmp_path / "whole.csv"
    start(many, toy_model, expected, "--workers", "1").communicate(timeout=60)
    assert output.read_bytes() == expected.read_bytes()


def kill_and_resume(source: Path, model: Path, folder: Path, *, times: int, seed: int) -> None:
    """Kill runs at random moments, resume each, and hold every file to an uninterrupted run's."""
    expected = folder / "whole.csv"
    begun = time.monotonic()
    start(source, model, expected).communicate(timeout=120)
    length = time.monotonic() - begun
    chance = random.Random(seed)
    for index in range(times):
        output = folder / f"killed{index}.csv"
        more: tuple[str, ...] = ()
        for _ in range(chance.randint(1, 2)):
            process = start(source, model, output, "--workers", str(chance.randint(1, 4)), *more)
            try:
                process.wait(chance.uniform(0.2, 1.0) * length)
            except subprocess.TimeoutExpired:
                process.kill()
            process.communicate()
            more = ("--resume",)
        done = start(source, model, output, "--resume")
        done.communicate(timeout=120)
        assert done.returncode == 3
        assert output.read_bytes() == expected.read_bytes()
        assert sorted(p.name for p in folder.glob(f"*killed{index}.*")) == [
            f"killed{index}.csv",
            f"killed{index}.csv.run.json",
        ]


def test_killed_runs_resume_to_the_same_bytes(toy_model, many, tmp_path):
    kill_and_resume(many, toy_model, tmp_path, times=4, seed=0)


@pytest.mark.long
def test_fifty_killed_runs_resume_to_the_same_bytes(toy_model, many, tmp_path):
    kill_and_resume(many, toy_model, tmp_path, times=50, seed=1)


def test_progress_is_plain_off_a_terminal(toy_model, many, tmp_path):
    done = wetread("score", many, "--model", toy_model, "--include", "p*.jpg", "--output", tmp_path / "s.csv")
    assert done.returncode == 3
    assert done.stderr.decode().splitlines()[-1] == (
        f"wetread: 20 inputs: 1 not_an_image, 19 ok -> {tmp_path / 's.csv'}"
    )
    assert b"\x1b" not in done.stderr


def run_on_a_terminal(*arguments: object, **options) -> tuple[int, bytes]:
    """Run the command line with a terminal for its standard error; its exit code and what that showed."""
    import pty

    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "wetread", *map(os.fspath, map(str_or_path, arguments))],
        stderr=follower,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
        **options,
    )
    os.close(follower)
    seen = b""
    try:
        while piece := os.read(leader, 4096):
            seen += piece
    except OSError:  # the terminal closed with the process
        pass
    os.close(leader)
    return process.wait(60), seen


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_list_that_comes_through_a_pipe_is_read_once(toy_model, many, tmp_path):
    """The bar counts the inputs beside the run: of a pipe it would take the run's names."""
    names = b"".join(os.fsencode(path) + b"\n" for path in sorted(many.iterdir())) * 4
    (tmp_path / "list").write_bytes(names)
    rows = []
    for source in ("/dev/stdin", tmp_path / "list"):
        output = tmp_path / f"{len(rows)}.csv"
        piped = subprocess.Popen(["cat", tmp_path / "list"], stdout=subprocess.PIPE)
        command = ("score", "--from-file", source, "--model", toy_model, "-o", output)
        code, _ = run_on_a_terminal(*command, stdin=piped.stdout)
        assert code == 3
        piped.stdout.close()
        piped.wait()
        rows.append(output.read_bytes())
    assert rows[0] == rows[1]
    assert len(rows[0].splitlines()) == 1 + names.count(b"\n")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_gets_a_bar_with_a_rate(toy_model, many, tmp_path):
    code, seen = run_on_a_terminal("score", many, "--model", toy_model, "--output", tmp_path / "s.csv")
    assert code == 3
    assert b"/s" in seen
    assert b"without a score" in seen


def test_a_manifest_its_shards_and_their_merge(toy_model, image_folder, tmp_path):
    (image_folder / "z.jpg").write_text("text")
    made = wetread("manifest", image_folder, "-o", tmp_path / "m")
    assert made.returncode == 0
    assert error_line(made).startswith("wetread: 13 inputs, digest ")
    score = ("score", "--from-manifest", tmp_path / "m", "--model", toy_model, "-o", tmp_path / "shards")
    codes = [wetread(*score, "--batch-size", "4", "--shard", f"{i}/2").returncode for i in (0, 1, 1)]
    assert codes == [0, 3, 3]
    again = wetread(*score, "--batch-size", "4", "--shard", "1/2", "--device", "cpu")
    assert (
        error_line(again) == f"wetread: 5 inputs (5 of an earlier run): 1 not_an_image, 4 ok -> {score[-1]}"
    )
    merged = wetread("merge", tmp_path / "shards", "-o", tmp_path / "merged.csv")
    assert merged.returncode == 3
    assert error_line(merged) == f"wetread: 13 inputs: 1 not_an_image, 12 ok -> {tmp_path / 'merged.csv'}"
    direct = wetread("score", image_folder, "--model", toy_model, "--batch-size", "4")
    assert (tmp_path / "merged.csv").read_bytes() == direct.stdout
    twice = wetread("merge", tmp_path / "shards", "-o", tmp_path / "merged.csv")
    assert error_line(twice).endswith("Use --overwrite to replace it, or another name.")
    (tmp_path / "shards" / "00000-of-00002.jsonl.shard").unlink()
    missing = wetread("merge", tmp_path / "shards", "-o", tmp_path / "again.csv")
    assert missing.returncode == 1
    assert "0/2 missing" in error_line(missing)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("x", "--shard", "0/2", "-o", "y"), "Shards need --from-manifest M and --output FOLDER"),
        (("--from-manifest", "m", "--shard", "2/2", "-o", "y"), "--shard I/N needs I from 0 to N-1"),
        (("--from-manifest", "m", "--shard", "two", "-o", "y"), "--shard must be I/N, such as 0/7"),
        (("x", "--from-manifest", "m"), "SOURCE and --from-manifest cannot be used together"),
        (("x", "--engine", "ray", "-o", "y"), "Shards need --from-manifest M and --output FOLDER"),
        (("--from-manifest", "m", "--engine", "ray", "--shard", "0/2", "-o", "y"), "be used with --shard"),
        (("--from-manifest", "m", "--engine", "beam", "-o", "y"), "--engine must be ray"),
        (("--from-manifest", "m", "--num-actors", "2", "-o", "y"), "need --engine ray"),
        (("--from-manifest", "m", "--engine", "ray", "--shards", "0", "-o", "y"), "1 or more"),
    ],
)
def test_wrong_use_of_shards_and_engines(toy_model, arguments, words):
    done = wetread("score", *arguments, "--model", toy_model, "--quiet")
    assert done.returncode == 2
    assert words in error_line(done)


def test_scoring_without_an_engine_loads_no_ray(toy_model, image_folder, tmp_path):
    code = (
        "import sys\n"
        "from wetread.cli import run\n"
        f"images, model, place = {str(image_folder)!r}, {str(toy_model)!r}, {str(tmp_path)!r}\n"
        "run(['manifest', images, '-o', place + '/m', '-q'])\n"
        "run(['score', '--from-manifest', place + '/m', '--model', model, '-o', place + '/s', "
        "'--shard', '0/1', '-q'])\n"
        "run(['merge', place + '/s', '-o', place + '/x.csv', '-q'])\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules} & {'ray', 'google', 'pyarrow'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
    assert (tmp_path / "x.csv").exists()


def test_a_command_takes_its_options_in_groups():
    from typer.models import CommandInfo

    from wetread.cli import load_commands
    from wetread.cli.app import app

    load_commands([])
    commands: list[CommandInfo] = app.registered_commands
    written = [inspect.unwrap(command.callback) for command in commands if command.callback]
    assert len(written) == len(commands) > 10
    most = {command.__name__: len(inspect.signature(command).parameters) for command in written}
    assert all(count <= 10 for count in most.values()), most


def test_expand_options_gives_a_command_its_groups():
    from wetread.cli.options import expand_options

    @dataclass(frozen=True, kw_only=True)
    class Group:
        panel: ClassVar[str] = "Pens"
        pen: Annotated[str, typer.Option(metavar="PEN")]
        width: Annotated[int, typer.Option(rich_help_panel="Size")] = 3

    def draw(*, before: int, group, after: int = 2) -> None:
        received.append((before, group, after))

    draw.__annotations__["group"] = Group
    received: list[object] = []
    run = expand_options(draw)
    parameters = inspect.signature(run).parameters
    assert list(parameters) == ["before", "pen", "width", "after"]
    assert [parameters[name].default for name in ("pen", "width")] == [inspect.Parameter.empty, 3]
    assert [get_args(parameters[n].annotation)[1].rich_help_panel for n in ("pen", "width")] == [
        "Pens",
        "Size",
    ]
    run(before=1, pen="red", width=5)
    assert received == [(1, Group(pen="red", width=5), 2)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["score", "--ouput", "x"], "Did you mean --output? See 'wetread score --help'."),
        (["scor"], "Did you mean 'score', 'doctor'? See 'wetread --help'."),
    ],
)
def test_a_slip_names_what_may_be_meant_and_the_help_to_read(arguments, said, capsys):
    from wetread.cli import run

    assert run(arguments) == 2
    assert capsys.readouterr().err.rstrip().endswith(said)


@pytest.mark.parametrize("command", ["score", "train"])
def test_short_help_has_panels_and_an_example(command, capsys):
    from wetread.cli import run

    assert run([command, "-h"]) == 0
    shown = capsys.readouterr().out
    assert "Output" in shown or "Training" in shown
    assert f"Example: wetread {command} " in shown


def test_a_shell_can_complete_commands():
    environment = {
        **os.environ,
        "_WETREAD_COMPLETE": "complete_bash",
        "COMP_WORDS": "wetread sc",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "wetread"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["score"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none"], "no file in 'none' is an input"),
        (["x", "--include", "*.dcm"], "no name in 'x' matches '*.dcm'; 3 files are there: .png 2, none 1"),
        (["x/*.dcm"], "no name in 'x/' matches 'x/*.dcm'; 3 files are there: .png 2, none 1"),
        (["x/a.png", "none", "--include", "b*"], "1 file is there: .png 1; no file in 'none' is an input"),
        (["--from-file", "list"], "the list has no names"),
    ],
)
@pytest.mark.parametrize("end", ["csv", "parquet"])
def test_a_source_that_lists_nothing_is_an_error(tmp_path, toy_model, arguments, words, end):
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / ".hidden.png").touch()
    (tmp_path / "x").mkdir()
    for name in ("a.png", "b.PNG", "c"):
        (tmp_path / "x" / name).touch()
    (tmp_path / "list").touch()
    before = sorted(os.listdir(tmp_path))
    command = ["score", *arguments, "--model", toy_model, "--quiet"]
    for more in ([], ["-o", f"s.{end}"], ["-o", f"s.{end}", "--resume"]):
        done = wetread(*command, *more, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, b"")
        assert words in error_line(done)
        assert sorted(os.listdir(tmp_path)) == before
    done = wetread(*command, "-o", f"s.{end}", "--allow-empty", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads((tmp_path / f"s.{end}.run.json").read_text())["counts"] == {}
    assert wetread(*command, "-o", f"s.{end}", "--resume", cwd=tmp_path).returncode == 0


def test_one_empty_source_beside_others_is_a_line(tmp_path, toy_model, image_folder):
    (tmp_path / "none").mkdir()
    done = wetread("score", "none", image_folder, "--model", toy_model, "--quiet", cwd=tmp_path)
    assert done.returncode == 0
    assert error_line(done) == (
        "wetread: A source lists nothing: no file in 'none' is an input (hidden files and wetread's own "
        "outputs do not count)."
    )
