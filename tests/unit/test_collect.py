"""What a release gets of a user's folder, what is left out, and what is refused."""

from __future__ import annotations

import base64
import io
import os
import socket
import tarfile
from pathlib import Path

import pytest

from provision.core.errors import LabError, UsageError
from provision.engine.agent.trees import TreeFacts, tree_digest
from provision.engine.resources import Tree
from provision.engine.resources.files import tree_files, tree_links
from provision.services.app import collect as collecting
from provision.services.app import role as app
from provision.services.app.collect import collect, summary


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def kept(folder: Path) -> set[str]:
    release = collect(folder)
    return {path for path, _, _ in release.files} | {path for path, _ in release.links}


def left_out(folder: Path) -> dict[str, str]:
    return {item.path: item.reason for item in collect(folder).left_out}


@pytest.mark.parametrize(
    "name",
    [
        "jquery.pycharm/file.js",
        "static/data.pyc.txt",
        "git/.gitkeep",
        "my.env",
        ".env.example",
        "x__pycache__/a.py",
        ".github/workflow.yml",
        "-rf",
        " spaces and \n a line feed",
        "venv/settings.py",
    ],
)
def test_patterns_match_whole_names(tmp_path: Path, name: str) -> None:
    assert kept(write(tmp_path, name)) == {name}


@pytest.mark.parametrize(
    ("name", "path", "reason"),
    [
        ("a/__pycache__/x.py", "a/__pycache__/", collecting.COMPILED),
        ("a/x.pyc", "a/x.pyc", collecting.COMPILED),
        (".git/config", ".git/", collecting.VERSION_CONTROL),
        (".git", ".git", collecting.VERSION_CONTROL),
        ("a/.env", "a/.env", collecting.SECRETS),
        (".env.local", ".env.local", collecting.SECRETS),
        (".lab/default/state.json", ".lab/", "state and secrets of labs"),
        ("v/pyvenv.cfg", "v/", collecting.VIRTUAL_ENVIRONMENT),
    ],
)
def test_what_is_left_out_is_said(tmp_path: Path, name: str, path: str, reason: str) -> None:
    write(tmp_path, "app.py", name)
    assert kept(tmp_path) == {"app.py"}
    assert left_out(tmp_path) == {path: reason}


def test_special_files_and_empty_folders_are_left_out_and_never_opened(tmp_path: Path) -> None:
    write(tmp_path, "app.py")
    os.mkfifo(tmp_path / "queue")
    (tmp_path / "uploads").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        assert kept(tmp_path) == {"app.py"}
        assert left_out(tmp_path) == {
            "queue": "a fifo",
            "s": "a socket",
            "uploads/": collecting.EMPTY,
        }


def test_links_stay_links_inside_the_release(tmp_path: Path) -> None:
    write(tmp_path, "static/a.css", "b.py")
    (tmp_path / "assets").symlink_to("static")
    (tmp_path / "static" / "up.py").symlink_to("../b.py")
    (tmp_path / "absolute").symlink_to(tmp_path / "static" / "a.css")
    (tmp_path / "around").symlink_to(f"../{tmp_path.name}/b.py")
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    release = collect(tmp_path)
    assert dict(release.links) == {
        "assets": "static",
        "static/up.py": "../b.py",
        "absolute": "static/a.css",
        "around": "b.py",
    }
    assert {item.path for item in release.left_out} == {"dangling", "loop"}


@pytest.mark.parametrize("target", ["/etc/passwd", "../other", "..", "static/../../other"])
def test_a_link_that_leaves_the_release_is_refused(tmp_path: Path, target: str) -> None:
    write(tmp_path, "other")
    folder = write(tmp_path / "release", "static/a")
    (folder / "link").symlink_to(target)
    with pytest.raises(UsageError, match="links that leave it: link -> "):
        collect(folder)


def test_any_name_travels_to_a_machine_unchanged(tmp_path: Path) -> None:
    folder, names = tmp_path / "release", ["é", "-rf", "a\nb", "tab\t", "quote'\""]
    write(folder, *names)
    Path(os.fsdecode(os.fsencode(folder) + b"/latin-\xe9")).write_text("1")
    (folder / "link").symlink_to("é")
    tree = Tree("/srv/x", tree_files(folder), links=tree_links(folder))
    assert len(tree.files) == 6
    assert collect(folder).files == tree.files
    # The tar that the controller packs, unpacked as the agent does.
    packed = base64.b64decode(tree.actions(TreeFacts(""))[0].args["tar"])
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(tmp_path / "machine")
    assert tree_digest(str(tmp_path / "machine")) == tree.digest


def test_names_in_messages_are_printable() -> None:
    name = os.fsdecode(b"latin-\xe9\n")
    assert summary([collecting.LeftOut(name, "why")]) == ("latin-\\xe9\\n (why)",)


def test_a_large_folder_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(2**40)  # sparse: reading it would take hours
    with pytest.raises(UsageError, match=r"larger than 16 MiB.*big \(1048576\.0 MiB\)"):
        collect(tmp_path)
    monkeypatch.setattr(collecting, "ENTRIES_LIMIT", 3)
    with pytest.raises(UsageError, match="more than 3 files"):
        collect(write(tmp_path / "many", *"abcd"))


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "secret")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(LabError, match="secret cannot be read: Permission denied"):
        collect(tmp_path)


def test_only_the_executable_bit_is_kept(tmp_path: Path) -> None:
    write(tmp_path, "run", "data")
    (tmp_path / "run").chmod(0o4751)
    (tmp_path / "data").chmod(0o600)
    assert [(path, run) for path, run, _ in collect(tmp_path).files] == [
        ("data", False),
        ("run", True),
    ]


def test_the_summary_has_one_line_per_reason(tmp_path: Path) -> None:
    names = [f"m{number}.pyc" for number in range(6)]
    lines = summary(collect(write(tmp_path, ".git/x", *names)).left_out)
    assert lines == (
        ".git/ (version control)",
        "m0.pyc, m1.pyc, m2.pyc, m3.pyc and 2 more (compiled Python)",
    )


@pytest.mark.parametrize(
    ("content", "version"),
    [
        (b"1.2.0\n", "1.2.0"),
        (b"\xef\xbb\xbf1.2.0\r\n", "1.2.0"),
        ("1.2.0\n".encode("utf-16"), "1.2.0"),
    ],
)
def test_encodings_of_version(tmp_path: Path, content: bytes, version: str) -> None:
    (tmp_path / "VERSION").write_bytes(content)
    assert app.version_of(tmp_path) == version


@pytest.mark.parametrize(
    "content", [b"", b"1.2\xe9", b"\xff\xfe\x00", b"1.0\x00", b"a\nb", b"9" * 5000, b"..", b"-1"]
)
def test_an_invalid_version_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "VERSION").write_bytes(content)
    with pytest.raises(LabError, match="is not a valid version"):
        app.version_of(tmp_path)


@pytest.mark.parametrize("kind", ["directory", "fifo", "dangling"])
def test_a_version_that_is_no_file_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "VERSION"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("nothing")
    with pytest.raises(LabError, match="is not a release of the application"):
        app.version_of(tmp_path)
