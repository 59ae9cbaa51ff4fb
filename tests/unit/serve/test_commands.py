"""``bedplate serve`` and ``bedplate fleet`` as an operator types them: a real store, HTTPS, one node."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bedplate.flows.release_store import StorePlace
from support.releases import published

_POLICY = '[[rings]]\nname = "all"\nchannel = "edge"\nkind = "canary"\nsoak = 0\n'
_MACHINE = "d" * 32


def certificate(directory: Path) -> None:
    """A certificate for 127.0.0.1, its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "updates.test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@dataclass
class Operator:
    """A shell with the right environment."""

    environment: dict[str, str]
    url: str
    directory: Path

    def types(self, *words: str, fails: bool = False) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "bedplate", *words, "--json"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stderr + done.stdout
        return done.stderr if fails else json.loads(done.stdout)


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    directory = tmp_path_factory.mktemp("operator")
    world = published().copy(directory / "world")
    known_as = hashlib.sha256(world.objects.url.encode()).hexdigest()[:16]
    StorePlace(world.objects, directory / "keys" / "stores" / known_as).pin(world.root)
    certificate(directory)
    (directory / "fleet.toml").write_text(_POLICY)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    environment = os.environ | {
        "BEDPLATE_KEYS": str(directory / "keys"),
        "BEDPLATE_OUTPUT": str(directory / "out"),
        "BEDPLATE_STORE": str(world.folder / "store"),
        "BEDPLATE_URL": f"https://127.0.0.1:{port}",
        "SSL_CERT_FILE": str(directory / "cert.pem"),
    }
    made = Operator(environment, environment["BEDPLATE_URL"], directory)
    environment["BEDPLATE_TOKEN"] = made.types("serve", "token", "alice")["secret"]
    tls = ("--tls-cert", str(directory / "cert.pem"), "--tls-key", str(directory / "key.pem"))
    words = ("serve", "--listen", f"127.0.0.1:{port}", *tls, "--policy", str(directory / "fleet.toml"))
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "bedplate", *words], env=environment, stderr=log)
        while not _answers(port):
            assert process.poll() is None, (directory / "log").read_text()
        yield made
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def _answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def test_a_release_reaches_a_node(operator: Operator) -> None:
    (way_in,) = operator.types("fleet", "enroll", "--ring", "all")
    path = f"/v1/poll/container/auto/{_MACHINE}/{way_in['secret']}/1.0.0/{'1' * 32}/SHA256SUMS"
    context = ssl.create_default_context(cafile=str(operator.directory / "cert.pem"))
    with httpx.Client(base_url=operator.url, verify=context) as node:
        # Nothing older is in the store, so nothing quiet can be given.
        assert node.get(path).status_code == 503
        rollout = operator.types("fleet", "rollout", "start", "container", "1.0.1", "--channel", "edge", "--urgent")
        paused = operator.types("fleet", "rollout", "pause", rollout["id"], "--why", "a holiday")
        assert (paused["status"], paused["why"]) == ("paused", "a holiday")
        late = operator.types(
            "fleet", "rollout", "abort", rollout["id"], "--revision", str(rollout["revision"]), fails=True
        )
        assert "changed since you looked" in late
        operator.types("fleet", "rollout", "resume", rollout["id"])
        listing = node.get(path)
        assert listing.status_code == 200
        assert "_1.0.1" in listing.text
        node.get(path.replace("/1.0.0/", "/1.0.1/"))
    (seen,) = operator.types("fleet", "nodes", "--stage", "healthy")
    assert (seen["id"], seen["version"]) == (_MACHINE, "1.0.1")
    assert operator.types("fleet", "node", _MACHINE, "--hold", "it is mine")["node"]["held"] == "it is mine"
    assert operator.types("serve", "audit")["lines"] >= 4


def test_mistakes_get_plain_words(operator: Operator) -> None:
    said = operator.types("fleet", "rollout", "start", "container", "9.9", "--channel", "edge", fails=True)
    assert "holds no release 9.9" in said
    operator.environment["BEDPLATE_TOKEN"], good = "bt1_" + "x" * 43, operator.environment["BEDPLATE_TOKEN"]
    assert "not one, has expired or was revoked" in operator.types("fleet", "nodes", fails=True)
    operator.environment["BEDPLATE_TOKEN"] = good
    assert "not a database URL" in operator.types("serve", "migrate", "--database", "nonsense", fails=True)
    assert "no such kind" in operator.types("serve", "migrate", "--database", "mysql://x/y", fails=True)
