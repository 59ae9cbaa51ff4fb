"""What leaves out of a download the blocks a node has: compiled as for an image, against a server that may lie."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path
from uuid import UUID

import pytest
from tests.support.node import UpdateServer

from bedplate.compose.verity import BLOCK, tree_of
from bedplate.flows.locks import Relock
from bedplate.flows.programs import COMPILER, own_program
from bedplate.flows.tools import prepare_tools
from bedplate.flows.workspace import Workspace
from bedplate.toolchain.tree import ToolsTree

pytestmark = pytest.mark.tools

DISTRO = Path(__file__).resolve().parents[3] / "distro"
SALT = b"s" * 32
STEM = "bedplate-container_2.0"
ROOT, HASHES, UKI = f"{STEM}_aaaa.root", f"{STEM}_bbbb.verity", f"{STEM}.efi"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace.from_environment(os.environ, distro=DISTRO, output=tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def program(workspace) -> Path:
    return own_program(workspace, "reuse.c")


@pytest.fixture(scope="module")
def tree(workspace) -> ToolsTree:
    return prepare_tools(workspace, COMPILER, Relock.WHEN_NEEDED).tree


@pytest.fixture
def old():
    return random.Random(1).randbytes(400 * BLOCK)


@pytest.fixture
def new(old):
    """What is there moves by a block; two places are new."""
    chance = random.Random(2)
    return chance.randbytes(BLOCK) + old[: 200 * BLOCK] + chance.randbytes(3 * BLOCK) + old[200 * BLOCK :]


@pytest.fixture
def server(tmp_path, new):
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / ROOT).write_bytes(new)
    (folder / HASHES).write_bytes(tree_of(new, SALT, UUID(int=1)))
    (folder / UKI).write_bytes(new[:-100])
    (folder / f"{STEM}.tree").write_bytes(tree_of(new[:-100], SALT, UUID(int=1)))
    (folder / "SHA256SUMS").write_text("".join(f"{'0' * 64}  {name}\n" for name in (HASHES, ROOT, UKI)))
    running = UpdateServer(folder)
    yield running
    running.close()


@pytest.fixture
def ask(tmp_path, server, program, tree, old):
    """Asks for a file as systemd-pull does; status line and body."""
    (tmp_path / "address").write_text(f"http://127.0.0.1:{server.port}/poll/%m/\n")
    (tmp_path / "old.root").write_bytes(old)
    (tmp_path / "old.verity").write_bytes(tree_of(old, SALT, UUID(int=1)))
    (tmp_path / "esp").mkdir()
    (tmp_path / "esp/old.efi").write_bytes(old)
    (tmp_path / "esp/.#leftover.efi").write_bytes(b"")
    places = [str(tmp_path / name) for name in ("address", "old.verity", "old.root", "esp")]
    command = [str(tree.root / "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"), "--library-path"]
    command += [str(tree.root / "usr/lib/x86_64-linux-gnu"), str(program), "serve", *places]

    def get(name: str, request: bytes | None = None) -> tuple[str, bytes]:
        line = (
            request
            if request is not None
            else f"GET /http://127.0.0.1:{server.port}/poll/machine/{name} HTTP/1.1\r\n\r\n".encode()
        )
        done = subprocess.run(command, input=line, capture_output=True, check=False, timeout=60)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        return head.split(b"\r\n")[0].decode(), body

    return get


def test_a_root_is_put_together_and_only_what_is_new_is_fetched(ask, server, new):
    assert ask(ROOT) == ("HTTP/1.1 200 OK", new)
    assert server.sent[ROOT] == 4 * BLOCK


def test_a_boot_image_likewise_up_to_its_last_byte(ask, server, new):
    assert ask(UKI) == ("HTTP/1.1 200 OK", new[:-100])
    # Its last block is filled up with zeros and so is no longer one that is here.
    assert server.sent[UKI] == 5 * BLOCK - 100


def test_all_else_is_handed_on(ask, server):
    listing = (server.folder / "SHA256SUMS").read_bytes()
    assert ask("SHA256SUMS") == ("HTTP/1.1 200 OK", listing)
    assert ask("nothing") == ("HTTP/1.1 404 Not Found", b"")


@pytest.mark.parametrize("damage", ["gone", "cut", "foreign"])
def test_without_a_usable_hash_tree_the_whole_is_fetched(ask, server, new, damage):
    hashes = server.folder / HASHES
    if damage == "gone":
        hashes.unlink()
    elif damage == "cut":
        hashes.write_bytes(hashes.read_bytes()[:5000])
    else:
        hashes.write_bytes(tree_of(new, b"another salt", UUID(int=1)))
    assert ask(ROOT) == ("HTTP/1.1 200 OK", new)
    assert server.sent[ROOT] == len(new)


def test_a_server_that_cuts_a_range_short_gets_no_whole_answer_made_of_it(ask, server, new):
    server.behaviour.cut[".root"] = 100
    assert len(ask(ROOT)[1]) < len(new)


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /http://127.0.0.1:1/elsewhere/x HTTP/1.1\r\n\r\n",
        b"GET /file:///etc/shadow HTTP/1.1\r\n\r\n",
        b"GET /etc/shadow HTTP/1.1\r\n\r\n",
    ],
    ids=["another-server", "a-local-file", "no-address"],
)
def test_nothing_but_the_node_s_own_address_is_asked(ask, server, request_line):
    assert ask("", request_line)[0] == "HTTP/1.1 403 Forbidden"
    assert server.requests == []


def test_nonsense_is_refused(ask, server):
    assert ask("", b"POST / HTTP/1.1\r\n\r\n")[0] == "HTTP/1.1 400 Bad Request"
    assert ask("", b"GET /" + b"a" * 9000)[0] == ""
    assert ask("", b"")[0] == ""
    assert server.requests == []
