"""Whatever stands in a file: it is read, or refused in one line, and nothing else happens."""

from __future__ import annotations

import itertools
import json
import tempfile
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from npnlp.errors import InputError
from npnlp.files.tensor_file import LARGEST_FILE, LARGEST_HEADER
from tests.fuzz.__main__ import NAMES, main, memory_folder
from tests.fuzz.commands import Server, command_for, filled, wrong_command
from tests.fuzz.memory import greedy, hollow
from tests.fuzz.mutations import (
    ENTRY,
    encoded,
    header_flips,
    mutant,
    packed,
    raw,
    text_of,
    truncations,
    unpacked,
)
from tests.fuzz.targets import NO_END, Target, targets, verdict
from tests.support.tables import npnlp, tree

TENSOR_NAMES = ("tensors", "model", "checkpoint", "replay", "import")
#: Damaged files for each target in the ordinary run, besides those that are counted out.
DRAWN = 300
COMMANDS = 12
#: Of the readers of tensors, one takes every damaged header, and the others one in so many: they
#: read the header by the same function. An odd number, so that each of the eight bits has its turn.
ONE_IN = 7
each = pytest.mark.parametrize("name", NAMES)
of_tensors = pytest.mark.parametrize("name", TENSOR_NAMES)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return targets(tmp_path_factory.mktemp("samples"))


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        yield Path(folder)


def judged(target: Target, contents: Iterable[bytes], folder: Path) -> tuple[int, int]:
    """How many files were accepted and how many refused; a finding fails the test."""
    counts = [0, 0]
    for content in contents:
        found = verdict(target, content, folder)
        assert not found.finding, f"{found.finding}{content[:300]!r}"
        counts[not found.accepted] += 1
    return counts[0], counts[1]


def test_the_targets_are_named(made: dict[str, Target]) -> None:
    assert tuple(made) == NAMES


@each
def test_whole_files_are_accepted(name: str, made: dict[str, Target], folder: Path) -> None:
    target = made[name]
    assert judged(target, target.samples, folder) == (len(target.samples), 0)


@of_tensors
def test_a_file_of_tensors_cut_anywhere_is_refused(
    name: str, made: dict[str, Target], folder: Path
) -> None:
    content = made[name].samples[-1]
    cuts = list(truncations(content))[:: 1 if name == "tensors" else ONE_IN]
    assert judged(made[name], cuts, folder) == (0, len(cuts))


@pytest.mark.parametrize("name", ["table", "dataset", "vectorizer"])
def test_text_may_be_cut_anywhere(name: str, made: dict[str, Target], folder: Path) -> None:
    content = made[name].samples[0]
    accepted, refused = judged(made[name], truncations(content), folder)
    assert refused > len(content) // 4
    assert accepted + refused == len(content)


def test_every_bit_of_the_header_may_flip(made: dict[str, Target], folder: Path) -> None:
    """Of the smallest file, in full; the long run does so for the rest."""
    target = made["tensors"]
    content = min(target.samples, key=len)
    accepted, refused = judged(target, header_flips(content), folder)
    assert accepted + refused == 8 * (8 + int.from_bytes(content[:8], "little"))
    assert refused > accepted


@of_tensors
def test_a_bit_of_every_byte_of_the_header_may_flip(
    name: str, made: dict[str, Target], folder: Path
) -> None:
    flips = list(header_flips(made[name].samples[0]))
    places = range(0, len(flips) // 8, 1 if name == "tensors" else ONE_IN)
    chosen = [flips[8 * place + place % 8] for place in places]
    accepted, refused = judged(made[name], chosen, folder)
    assert refused > accepted


@each
def test_drawn_damage(name: str, made: dict[str, Target], folder: Path) -> None:
    target = made[name]
    randoms = (Random(f"{name} ordinary {number}") for number in range(DRAWN))
    contents = (mutant(target.format, random.choice(target.samples), random) for random in randoms)
    accepted, refused = judged(target, contents, folder)
    assert refused > DRAWN // 4
    assert accepted + refused == DRAWN


# --- what hypothesis thinks of

TEXTS = st.text(st.characters(codec=None), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inside: st.lists(inside, max_size=5) | st.dictionaries(TEXTS, inside, max_size=5),
    max_leaves=12,
)
thought = settings(
    max_examples=100, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@each
@thought
@given(content=st.binary(max_size=200))
def test_any_bytes(name: str, content: bytes, made: dict[str, Target], folder: Path) -> None:
    judged(made[name], [content], folder)


@pytest.mark.parametrize("name", ["table", "dataset"])
@thought
@given(rows=st.lists(st.lists(TEXTS, min_size=2, max_size=4), max_size=5))
def test_any_table(name: str, rows: list[list[str]], made: dict[str, Target], folder: Path) -> None:
    lines = ["nationality,surname,split", *map(",".join, rows)]
    judged(made[name], [encoded("\n".join(lines))], folder)


@thought
@given(value=JSON, field=st.sampled_from(["char_vocab", "nationality_vocab", "other", ""]))
def test_any_value_in_a_vectorizer(
    value: Any, field: str, made: dict[str, Target], folder: Path
) -> None:
    said = json.loads(made["vectorizer"].samples[0])
    changed = said | {field: value} if field else value
    in_vocabulary = said | {"char_vocab": said["char_vocab"] | {"token_to_idx": value}}
    judged(made["vectorizer"], [written(changed), written(in_vocabulary)], folder)


def written(value: Any) -> bytes:
    return encoded(text_of(value))


@of_tensors
@thought
@given(data=st.data(), value=JSON)
def test_any_value_beside_or_about_tensors(
    name: str, data: st.DataObject, value: Any, made: dict[str, Target], folder: Path
) -> None:
    header, content = unpacked(made[name].samples[0])
    place = data.draw(st.sampled_from(sorted(header)))
    contents = [packed({**header, place: value}, content)]
    if isinstance(header[place], dict):
        field = data.draw(st.sampled_from(sorted(header[place])))
        contents.append(packed({**header, place: {**header[place], field: value}}, content))
    if ENTRY in header.get("__metadata__", {}):
        said = json.loads(header["__metadata__"][ENTRY])
        field = data.draw(st.sampled_from(sorted(said)))
        said[field] = value
        metadata = {**header["__metadata__"], ENTRY: text_of(said)}
        contents.append(packed({**header, "__metadata__": metadata}, content))
    judged(made[name], contents, folder)


# --- versions


@pytest.mark.parametrize("name", ["vectorizer", "model", "checkpoint", "replay", "import"])
@pytest.mark.parametrize("version", [2, 99, 2**62, 0, True, 1.0, "1", None, [1]])
def test_another_version_is_refused_with_both_named(
    name: str, version: object, made: dict[str, Target], folder: Path
) -> None:
    target, path = made[name], folder / "file"
    if target.format == "json":
        path.write_bytes(written(json.loads(target.samples[0]) | {"format_version": version}))
    else:
        header, data = unpacked(target.samples[0])
        said = json.loads(header["__metadata__"][ENTRY]) | {"format_version": version}
        header["__metadata__"][ENTRY] = text_of(said)
        path.write_bytes(packed(header, data))
    with pytest.raises(InputError) as caught:
        target.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert f"version {version!r}" in message
    assert "this program reads version 1" in message
    assert ("newer npnlp" in message) == (type(version) is int and version > 1)


# --- memory


@each
def test_no_file_makes_the_reader_take_many_times_its_size(
    name: str, made: dict[str, Target], folder: Path
) -> None:
    target, path = made[name], folder / "file"
    cases = list(greedy(target))
    assert len(cases) >= 5
    for what, content in cases:
        path.write_bytes(content)
        bytes_taken, refused = peak(target, path)
        assert bytes_taken < 8 * len(content) + 2**21, what
        assert refused or name == "tensors", what  # what stands beside them is for the others


def peak(target: Target, path: Path) -> tuple[int, bool]:
    """Bytes that reading a file takes at most, by Python and NumPy; whether it is refused."""
    refused = False
    tracemalloc.start()
    try:
        target.read(path)
    except InputError as error:
        refused = str(error).startswith(f"{path}: ")
    finally:
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return taken, refused


@of_tensors
@pytest.mark.parametrize("size", [100_000_100, LARGEST_FILE + 1])
def test_metadata_of_100_mb_are_refused_before_they_are_read(
    name: str, size: int, made: dict[str, Target], tmp_path: Path
) -> None:
    path = hollow(tmp_path / "t.safetensors", 100_000_000, size)
    assert peak(made[name], path)[0] < 2**20
    with pytest.raises(InputError, match="the limit is"):
        made[name].read(path)
    assert LARGEST_HEADER < 100_000_000


def test_a_vectorizer_of_100_mb_is_refused(made: dict[str, Target], tmp_path: Path) -> None:
    path = tmp_path / "vectorizer.json"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    taken, refused = peak(made["vectorizer"], path)
    assert refused
    assert taken < 2**26


def test_what_is_no_file_is_not_waited_for(made: dict[str, Target], tmp_path: Path) -> None:
    for name in NAMES:
        for path in (tmp_path, tmp_path / "none", tmp_path / "none" / "none"):
            with pytest.raises(InputError, match=f"^{path}: "):
                made[name].read(path)


# --- the command


@pytest.mark.parametrize("name", [name for name in NAMES if name != "tensors"])
def test_the_command_says_one_line_and_writes_nothing(
    name: str, made: dict[str, Target], commands: Server, tmp_path: Path, folder: Path
) -> None:
    target = made[name]
    filled(tmp_path, {name: made[name].samples[0] for name in made})
    path, command = command_for(name, tmp_path)
    refused = number = 0
    while refused < COMMANDS:
        random = Random(f"{name} command {number}")
        content = mutant(target.format, target.samples[0], random)
        number += 1
        if verdict(target, content, folder).accepted:
            continue
        path.write_bytes(content)
        before = tree(tmp_path), sorted(tmp_path.rglob("*"))
        done = commands.run(command)
        assert not wrong_command(done, name, path), f"{done}{content[:300]!r}"
        assert (tree(tmp_path), sorted(tmp_path.rglob("*"))) == before
        refused += 1
    assert number < 10 * COMMANDS


def test_whole_files_are_taken_by_the_same_commands(
    made: dict[str, Target], commands: Server, tmp_path: Path
) -> None:
    samples = {name: made[name].samples[0] for name in made}
    filled(tmp_path, samples)
    for name in ("model", "replay", "import", "checkpoint", "table"):
        path, command = command_for(name, tmp_path)
        path.write_bytes(samples[name])
        done = commands.run(command)
        assert (done.status, done.err) == (0, ""), name


def test_a_started_program_says_the_same(made: dict[str, Target], tmp_path: Path) -> None:
    filled(tmp_path, {name: made[name].samples[0] for name in made})
    for name, content in (("model", b"\xff" * 40), ("replay", b"{"), ("dataset", b"a,b\n\xff")):
        path, command = command_for(name, tmp_path)
        path.write_bytes(content)
        done = npnlp(*command)
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr.decode().startswith(f"npnlp {command[0]}: {path}: ")
        assert done.stderr.count(b"\n") == 1


# --- the harness itself


@pytest.mark.parametrize(
    ("read", "word"),
    [
        (lambda path: 1 / 0, "ZeroDivisionError"),
        (lambda path: np.float32(1e38) * np.float32(1e38), "RuntimeWarning"),
        (lambda path: refuse("no file named"), "does not name"),
        (lambda path: refuse(f"{path}: two\nlines of it"), "printable"),
        (lambda path: refuse(f"{path}: {'x' * 9000}"), "too long"),
        (lambda path: exec("x = 1"), "exec"),
        (lambda path: (path.parent / "new").write_text("x"), "to write"),
        (lambda path: path.unlink(), "os.remove"),
        (lambda path: __import__("subprocess").run(["true"], check=True), "subprocess.Popen"),
        (lambda path: [None for _ in itertools.repeat(1) if False], "Hung"),
    ],
)
def test_each_sort_of_finding_is_found(read: Any, word: str, tmp_path: Path) -> None:
    target = Target("x", "csv", (b"",), read, lambda result, content: None)
    no_end = 0.2 if word == "Hung" else NO_END
    assert word in verdict(target, b"content", tmp_path, no_end).finding


def refuse(message: str) -> None:
    raise InputError(message)


def test_something_wrong_with_what_is_accepted_is_found(tmp_path: Path) -> None:
    def check(result: Any, content: bytes) -> None:
        assert result == content

    target = Target("x", "csv", (b"",), lambda path: b"other", check)
    assert "AssertionError" in verdict(target, b"content", tmp_path).finding


def test_raw_text_goes_into_json_as_it_is() -> None:
    said = text_of({"a": [raw('{"b":1,"b":"\\ud800"}'), raw("NaN")], "c": "x"})
    assert said == '{"a": [{"b":1,"b":"\\ud800"}, NaN], "c": "x"}'


def test_the_long_run_counts_and_its_status_says_whether_all_is_well(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--inputs", "400", "--seed", "3", "--skip-flips"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split()[:2] == ["all", "400"]
    assert {line.split()[0] for line in lines[1:-1]} == set(NAMES)
