"""Damaged and hostile files of Keras and Flax: read, or refused in one line, and nothing else."""

from __future__ import annotations

import base64
import io
import json
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from npnlp.errors import InputError
from tests.fuzz.__main__ import memory_folder
from tests.fuzz.commands import Done, Server, wrong_command
from tests.fuzz.frameworks import (
    SHARES,
    foreign_mutant,
    framework_targets,
    members_of,
    zipped,
)
from tests.fuzz.mutations import truncations
from tests.fuzz.targets import Target, verdict
from tests.support.exchange import vectorizer_file
from tests.support.tables import tree

#: Files in the ordinary run, and in the longer one, of all readers together.
DRAWN, MANY = 400, 20_000
COMMANDS = 12
of_keras = pytest.mark.peers
NAMES = [pytest.param("keras", marks=of_keras), pytest.param("hdf5", marks=of_keras), "msgpack"]
each = pytest.mark.parametrize("name", NAMES)
Make = Callable[[str], Target]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """The target of a name; a reader that needs a missing package is skipped."""
    made: dict[str, Target] = {}

    def target(name: str) -> Target:
        if name != "msgpack":
            pytest.importorskip("h5py")
        if name not in made:
            made.update(framework_targets(tmp_path_factory.mktemp("samples"), name))
        return made[name]

    return target


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        yield Path(folder)


def drawn(target: Target, number: int) -> bytes:
    random = Random(f"{target.name} {number}")
    return foreign_mutant(target.format, random.choice(target.samples), random)


def judged(target: Target, count: int, folder: Path) -> int:
    """Of ``count`` drawn files, how many are refused; a finding fails the test."""
    refused = 0
    for number in range(count):
        content = drawn(target, number)
        found = verdict(target, content, folder)
        assert not found.finding, f"file {number}: {found.finding}{content[:300]!r}"
        refused += not found.accepted
    return refused


@each
def test_whole_files_are_accepted(name: str, make: Make, folder: Path) -> None:
    for content in make(name).samples:
        found = verdict(make(name), content, folder)
        assert (found.accepted, found.finding) == (True, "")


@each
def test_drawn_damage(name: str, make: Make, folder: Path) -> None:
    target = make(name)
    count = DRAWN * SHARES[name] // 10_000
    assert count // 4 < judged(target, count, folder) <= count


@pytest.mark.slow
@each
def test_much_drawn_damage(name: str, make: Make, folder: Path) -> None:
    target = make(name)
    count = MANY * SHARES[name] // 10_000
    refused = judged(target, count, folder)
    print(f"{name}: {count} files, {refused} refused, {count - refused} accepted")
    assert count // 4 < refused < count


@each
def test_a_file_cut_anywhere_is_refused(name: str, make: Make, folder: Path) -> None:
    target = make(name)
    step = 1 if name == "msgpack" else 211
    for content in list(truncations(target.samples[-1]))[::step]:
        found = verdict(target, content, folder)
        assert not found.accepted
        assert not found.finding, found.finding


@each
def test_the_command_says_one_line_and_writes_nothing(
    name: str, make: Make, commands: Server, tmp_path: Path, folder: Path
) -> None:
    target, vectorizer = make(name), vectorizer_file(tmp_path)
    path = tmp_path / f"theirs{target.suffix}"
    command = ("import", path, "--vectorizer-file", vectorizer, "--save-dir", tmp_path / "new")
    refused = number = 0
    while refused < COMMANDS:
        content, number = drawn(target, number), number + 1
        if verdict(target, content, folder).accepted:
            continue
        path.write_bytes(content)
        before = tree(tmp_path)
        done: Done = commands.run(command)
        assert not wrong_command(done, name, path), done
        assert tree(tmp_path) == before
        refused += 1


# --- what is hostile on purpose


def keras_with(make: Make, change: Callable[[Any], None]) -> bytes:
    members = members_of(make("keras").samples[0])
    config = json.loads(members["config.json"])
    change(config["config"]["layers"])
    members["config.json"] = json.dumps(config).encode()
    return zipped(list(members.items()))


@of_keras
def test_a_lambda_that_would_leave_a_trace_is_not_run(make: Make, folder: Path) -> None:
    import marshal

    code = compile(f"open({str(folder / 'trace')!r}, 'w')", "x", "eval")
    packed = base64.b64encode(marshal.dumps(code)).decode()

    def plant(layers: list[Any]) -> None:
        function = {"class_name": "__lambda__", "config": {"code": packed}}
        layers.insert(2, {"module": "keras.layers", "class_name": "Lambda",
                          "config": {"name": "lambda", "function": function}})  # fmt: skip

    found = verdict(make("keras"), keras_with(make, plant), folder)
    assert (found.accepted, found.finding) == (False, "")
    assert not (folder / "trace").exists()

    def in_a_field(layers: list[Any]) -> None:
        layers[-1]["config"]["activation"] = {"class_name": "__lambda__", "config": packed}

    found = verdict(make("keras"), keras_with(make, in_a_field), folder)
    assert (found.accepted, found.finding) == (False, "")


@of_keras
@pytest.mark.parametrize("kind", ["link", "storage", "virtual"])
def test_what_lies_in_another_file_is_not_read(make: Make, kind: str, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    secret, name = tmp_path / "secret.h5", "layers/dense/vars/0"
    with h5py.File(secret, "w") as file:
        file["x"] = np.ones((6, 3), "f4")
    path = tmp_path / "theirs.weights.h5"
    path.write_bytes(make("hdf5").samples[0])
    with h5py.File(path, "r+") as file:
        shape = file[name].shape
        del file[name]
        if kind == "link":
            file[name] = h5py.ExternalLink(str(secret), "x")
        elif kind == "storage":
            file.create_dataset(name, shape, "f4", external=[(str(secret), 0, 4096)])
        else:
            layout = h5py.VirtualLayout((6, 3), "f4")
            layout[...] = h5py.VirtualSource(str(secret), "x", (6, 3))
            file.create_virtual_dataset(name, layout)
    with pytest.raises(InputError, match=r"link to elsewhere|lies in another file"):
        make("hdf5").read(path)


def peak(target: Target, path: Path) -> int:
    """Bytes that refusing a file takes at most, by Python and NumPy."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=f"^{path}: "):
            target.read(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@of_keras
def test_a_bomb_is_not_unpacked(make: Make, tmp_path: Path) -> None:
    target = make("keras")
    members = members_of(target.samples[0])
    for name in ("config.json", "model.weights.h5"):
        bomb = {**members, name: b"\0" * 50_000_000}
        content = zipped(list(bomb.items()), zipfile.ZIP_DEFLATED)
        path = tmp_path / "bomb.keras"
        path.write_bytes(content)
        assert peak(target, path) < 2**22 + 8 * len(content)


@of_keras
def test_a_data_set_without_bytes_takes_no_memory(make: Make, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    target = io.BytesIO()
    with h5py.File(target, "w") as file:
        file.create_dataset("layers/dense/vars/0", (2**40,), "f4")
    path = tmp_path / "hollow.weights.h5"
    path.write_bytes(target.getvalue())
    assert peak(make("hdf5"), path) < 2**22


def test_lengths_that_no_bytes_follow_take_no_memory(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "long.msgpack"
    for content in (b"\xdf\xff\xff\xff\xff", b"\x81\xdb\xff\xff\xff\xff", b"\x81\xa1a" * 30_000,
                    b"\x81\xa1a\xc9\xff\xff\xff\xff\x01",
                    b"\x81\xa1a\xc7\x14\x01\x93\x92\xcf" + b"\xff" * 8 + b"\x00\xa7float32\xc4\x00",
                    b"\xdf\x00\x01\x00\x00" + b"".join(
                        b"\xa4%04x\x80" % k for k in range(2**16)) * 1):  # fmt: skip
        path.write_bytes(content)
        assert peak(make("msgpack"), path) < 2**23 + 100 * len(content)
