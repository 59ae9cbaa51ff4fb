"""A node updates itself, and goes back by itself: one real machine from version to version, its disk kept.

The tests are one journey and run in the order they stand in: a boot is what costs. Versions differ by their number and
one owned file.
"""

from __future__ import annotations

import random
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support import node as support
from tests.support.node import IMAGE, Node, UpdateServer, artefacts, publish, sign, variant

from bedplate.compose.gpt import read_gpt
from bedplate.emulator import tamper
from bedplate.emulator.options import DiskForm
from bedplate.flows.boot import machine_options
from bedplate.flows.images import find_image
from bedplate.trust.authenticode import unsigned_bytes
from bedplate.trust.keys import KeyStore

pytestmark = pytest.mark.vm

# A health check of an operator's own, which always fails.
_SICK = {
    "/usr/lib/systemd/system/sick.service": b"[Unit]\nDescription=A check that fails\nDefaultDependencies=no\n"
    b"Before=bedplate-health.target\n[Service]\nType=oneshot\nExecStart=false\n",
    "/usr/lib/systemd/system/bedplate-health.target.d/50-sick.conf": b"[Unit]\nRequires=sick.service\n",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("updates")


@pytest.fixture(scope="module")
def versions(workspace, container_build, place):
    """Builds by version: a first one, a good one in which a package of 1 MB changed, a sick one, and one whose boot
    image a stranger will sign."""
    package = {version: {"/usr/share/bedplate/package": random.Random(version).randbytes(1 << 20)} for version in "124"}
    notes = {"1.0": package["1"], "2.0": package["2"], "3.0": _SICK, "4.0": package["4"]}
    return {version: variant(workspace, place, version, files) for version, files in notes.items()}


@pytest.fixture(scope="module")
def update_key(workspace):
    return KeyStore(workspace.keys).signer("update")


@pytest.fixture(scope="module")
def server(place, versions, update_key):
    publish(place / "published", [versions["2.0"]], update_key)
    running = UpdateServer(place / "published")
    yield running
    running.close()


@pytest.fixture(scope="module")
def node(workspace, place, versions, server, toolbox):
    options = replace(
        machine_options(workspace, find_image(workspace, str(versions["1.0"].directory))),
        disk_form=DiskForm.COPY,
        credentials={"bedplate.update.url": server.url.encode()},
    )
    machine = Node(options, toolbox, place / "node")
    machine.start()
    yield machine
    machine.kill()


@pytest.fixture
def offered(server, versions, update_key):
    """Two is on offer, signed and whole, and the server behaves."""
    server.reset()
    publish(server.folder, [versions["2.0"]], update_key)
    return server.folder


def attempt(node: Node) -> str:
    """Let the node ask once; what it says in its journal."""
    node.run("systemctl start bedplate-update.service", ok=(0, 1))
    said = node.run("journalctl -q -o cat -u bedplate-update.service --cursor-file=/run/seen")
    print(
        "\n".join(
            line for line in said.splitlines() if re.search(r"fail|invalid|BAD|installed|space|large", line, re.I)
        )
    )
    return said


def labels(node: Node) -> list[str]:
    """Labels of the disk's partitions as they stand in the table."""
    return [part.label for part in read_gpt(node.state.copy).partitions]


def require_nothing_installed(node: Node) -> None:
    assert node.entries() == [f"{IMAGE}_1.0.efi"]
    assert labels(node)[:5] == ["esp", "container_1.0", "container_1.0_verity", "_empty", "_empty"]


def one(folder: Path, end: str) -> Path:
    return next(path for path in folder.iterdir() if path.name.endswith(end))


def rewrite(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def test_a_first_boot_is_found_good_and_blessed(node):
    assert node.wait_until_good() == "1.0"
    assert node.entries() == [f"{IMAGE}_1.0.efi"]
    node.run("echo kept >/var/lib/kept; sync")


def test_edited_listing_installs_nothing(node, offered):
    listing = offered / "SHA256SUMS"
    listing.write_text(listing.read_text().replace("_2.0", "_9.0"))
    assert re.search(r"BAD signature|signature verification failed", attempt(node))
    require_nothing_installed(node)


def test_listing_signed_by_a_key_that_was_rotated_out_installs_nothing(node, offered, tmp_path):
    sign(offered, KeyStore(tmp_path / "old").signer("update"))
    assert re.search(r"No public key|signature verification failed", attempt(node))
    require_nothing_installed(node)


def test_damaged_artefact_installs_nothing(node, offered):
    hashes = one(offered, ".verity")
    damaged = bytearray(hashes.read_bytes())
    damaged[5000] ^= 1
    # The root comes first; a small one of the same name saves the time of the real one.
    rewrite(one(offered, ".root"), bytes(damaged))
    assert re.search("tampered with", attempt(node))
    require_nothing_installed(node)


def test_truncating_server_installs_nothing(node, offered, server):
    server.behaviour.cut[".root"] = 4096
    assert re.search(r"Transfer failed|failed with exit status", attempt(node))
    require_nothing_installed(node)


def test_server_that_lies_about_the_length_installs_nothing(node, offered, server):
    server.behaviour.claim[".root"] = 1 << 40
    assert re.search(r"too large|Content too large|failed with exit status", attempt(node))
    require_nothing_installed(node)


def test_slot_too_small_installs_nothing(node, offered, update_key):
    root = one(offered, ".root")
    root.unlink()
    with root.open("wb") as stream:
        stream.truncate(321 << 20)
    sign(offered, update_key)
    assert re.search(r"too large|Content too large|failed with exit status", attempt(node))
    require_nothing_installed(node)


def test_stalling_server_installs_nothing(node, offered, server):
    folder = "/run/systemd/system/bedplate-update.service.d"
    node.run(f"mkdir -p {folder}; printf '[Service]\\nTimeoutStartSec=8\\n' >{folder}/50.conf; systemctl daemon-reload")
    server.behaviour.stall[".root"] = 4096
    assert "timed out" in attempt(node) or "timeout" in attempt(node)
    node.run(f"rm {folder}/50.conf; systemctl daemon-reload")
    require_nothing_installed(node)


def test_full_esp_installs_nothing(node, offered):
    node.run("dd if=/dev/zero of=/efi/full bs=1M 2>/dev/null; sync", ok=(0, 1))
    said = attempt(node)
    node.run("rm /efi/full; sync")
    assert re.search(r"No space left on device|failed with exit status", said)
    require_nothing_installed(node)


def test_killed_while_it_downloads_it_starts_the_old_version_and_ends_on_the_new_one(node, offered, server, versions):
    server.behaviour.stall[".root"] = 64 << 10
    node.run("systemctl start --no-block bedplate-update.service")
    assert server.stalled.wait(300)
    node.kill()
    server.reset()
    node.start()
    assert node.wait_until_good() == "1.0"
    assert "Successfully installed update '2.0'" in attempt(node)
    assert node.entries() == [f"{IMAGE}_1.0.efi", f"{IMAGE}_2.0+2-0.efi"]
    whole = sum(path.stat().st_size for path in artefacts(versions["2.0"]).values())
    print(f"downloaded {sum(server.sent.values()) / whole:.2%} of {whole / 1e6:.1f} MB")
    assert sum(server.sent.values()) < 0.08 * whole
    # Nobody told the node to restart: it waits for its window.
    assert node.run("systemctl is-active bedplate-update-apply.timer").strip() == "active"
    assert server.requests[-1].split("/")[1:4:2] == ["container", "1.0"]


def test_killed_in_its_first_boot_it_goes_back_and_tries_once_more(node):
    node.run("systemctl start bedplate-update-apply.service", ok=(0, 1, 255))
    node.console.clear()
    node.wait_for_console(rb"reboot: Restarting system", 300)
    node.console.clear()
    # systemd resets the terminal as it starts: the root is open, and nothing was judged yet.
    node.wait_for_console(rb"\x1b\]104", 600)
    node.kill()
    node.start()
    assert node.wait_until_good() == "1.0"
    assert node.entries() == [f"{IMAGE}_1.0.efi", f"{IMAGE}_2.0+1-1.efi"]
    begin = time.monotonic()
    node.run("systemctl start bedplate-update-retry.service", ok=(0, 1, 255))
    assert node.wait_until_good("2.0") == "2.0"
    print(f"restart to healthy on the new version: {time.monotonic() - begin:.0f} s")
    assert node.entries() == [f"{IMAGE}_1.0.efi", f"{IMAGE}_2.0.efi"]


def test_var_stays_and_the_new_version_opens_it_by_the_signed_policy(node):
    assert node.run("cat /var/lib/kept").strip() == "kept"
    assert "crypto_LUKS" in node.run("lsblk -nro FSTYPE /dev/disk/by-partlabel/var")


def test_damaged_root_of_a_blessed_version_leads_to_the_other_slot(node):
    node.stop()
    partition = read_gpt(node.state.copy).find("container_2.0")
    tamper.flip_byte(node.state.copy, partition.start + 1024 + 32)
    node.start()
    begin = time.monotonic()
    assert node.wait_until_good("1.0") == "1.0"
    print(f"damaged root to healthy on the other version: {time.monotonic() - begin:.0f} s")
    assert "bedplate-container_1.0.efi" in node.run("bootctl status --no-pager | tail -n 12")
    assert "No update needed" in attempt(node)


def test_sick_version_goes_back_by_itself_and_is_never_taken_again(node, server, versions, update_key):
    publish(server.folder, [versions["3.0"]], update_key)
    begin = time.monotonic()
    assert "Successfully installed update '3.0'" in attempt(node)
    installed, boot = time.monotonic(), node.boot_id
    node.run("systemctl start bedplate-update-apply.service", ok=(0, 1, 255))
    node.wait_for(
        "cat /proc/sys/kernel/random/boot_id; systemctl is-active bedplate-boot-good", rf"^(?!{boot}).*\nactive", 900
    )
    assert node.wait_until_good() == "1.0"
    print(f"installed after {installed - begin:.0f} s; back on the old one after {time.monotonic() - installed:.0f} s")
    assert b"version 3.0 is not healthy" in bytes(node.console)
    assert node.entries() == [f"{IMAGE}_1.0.efi", f"{IMAGE}_3.0+0-1.efi"]
    assert "No update needed" in attempt(node)
    node.run("systemctl start bedplate-update-apply.service bedplate-update-retry.service")
    assert node.run("systemctl is-active reboot.target", ok=(3,)).strip() == "inactive"
    assert node.entries() == [f"{IMAGE}_1.0.efi", f"{IMAGE}_3.0+0-1.efi"]
    assert server.requests[-1].split("/")[3] == "1.0"


def test_boot_image_signed_by_a_stranger_is_refused_and_nothing_wrong_is_blessed(
    node, server, versions, update_key, place, toolbox
):
    publish(server.folder, [versions["4.0"]], update_key)
    image = one(server.folder, ".efi")
    key, certificate = KeyStore(place / "stranger").boot_key_paths()
    rewrite(image, tamper.sign_foreign(unsigned_bytes(image.read_bytes()), key, certificate, toolbox))
    sign(server.folder, update_key)
    assert "Successfully installed update '4.0'" in attempt(node)
    # The last try is the dangerous one: the firmware refuses, the loader falls back within the same start, and its
    # word about what was counted is about the version that was refused.
    node.run(f"mv /efi/EFI/Linux/{IMAGE}_4.0+2-0.efi /efi/EFI/Linux/{IMAGE}_4.0+1-1.efi; sync")
    boot = node.boot_id
    node.run("systemctl start bedplate-update-retry.service", ok=(0, 1, 255))
    node.wait_for(
        "cat /proc/sys/kernel/random/boot_id; systemctl is-active bedplate-boot-good", rf"^(?!{boot}).*\nactive", 900
    )
    assert node.wait_until_good() == "1.0"
    assert b"Access Denied" in bytes(node.console) or b"Access denied" in bytes(node.console)
    counted = node.run(
        "tr -d '\\0' </sys/firmware/efi/efivars/LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
    )
    assert f"{IMAGE}_4.0+0-2.efi" in counted
    assert node.run("systemctl show -p ConditionResult --value systemd-bless-boot.service").strip() == "no"
    assert node.entries() == [f"{IMAGE}_1.0.efi", f"{IMAGE}_4.0+0-2.efi"]


def test_every_unit_of_the_last_boot_is_well(node):
    assert node.run("systemctl is-system-running --wait").strip() == "running"
    assert support.IMAGE in node.run("cat /usr/lib/os-release")
