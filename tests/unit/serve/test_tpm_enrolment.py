"""Enrolment by a TPM-bound key, with a real software TPM and the tools of any distribution."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import select

from bedplate.model.errors import BadInput, TrustError
from bedplate.serve.models import NodeRow
from bedplate.serve.tpm import check_quote, read_attestation_key, read_endorsement_key
from bedplate.serve.tpm_roots import check_endorsement, read_roots
from bedplate.toolchain.run import Toolbox
from support.services import services  # noqa: F401
from support.serving import START, Bench, Clock, FakeNode, bench

pytestmark = pytest.mark.tools
# How tpm2_activatecredential's file begins: its magic and version.
_LEAVES_NOTHING = ("startauthsession", "policysecret", "flushcontext")
_CREDENTIAL_FILE = bytes.fromhex("badcc0de00000001")


class Tpm:
    """A software TPM with an endorsement and an attestation key."""

    def __init__(self, toolbox: Toolbox, directory: Path, kind: str) -> None:
        self._toolbox = toolbox
        self.directory = directory
        (directory / "state").mkdir()
        socket = directory / "tpm"
        self.process = toolbox.start(
            "swtpm",
            *("socket", "--tpm2", "--tpmstate", f"dir={directory / 'state'}", "--flags", "not-need-init,startup-clear"),
            *("--server", f"type=unixio,path={socket}", "--ctrl", f"type=unixio,path={socket}.ctrl"),
            stdout=subprocess.DEVNULL,
            stderr=(directory / "errors").open("wb"),
        )
        while not Path(f"{socket}.ctrl").exists():
            assert self.process.poll() is None, (directory / "errors").read_text()
        self._tcti = f"swtpm:path={socket}"
        self.run("createek", "-c", "ek.ctx", "-G", "rsa", "-u", "ek.pub")
        scheme = {"rsa": "rsassa", "ecc": "ecdsa"}[kind]
        self.run("createak", "-C", "ek.ctx", "-c", "ak.ctx", "-G", kind, "-g", "sha256", "-s", scheme, "-u", "ak.pub")

    def run(self, tool: str, *arguments: str) -> None:
        self._toolbox.run(f"tpm2_{tool}", "-T", self._tcti, *arguments, cwd=self.directory)
        if tool not in _LEAVES_NOTHING:
            # There is no resource manager between the tools and the TPM, which holds three objects at most.
            self._toolbox.run("tpm2_flushcontext", "-T", self._tcti, "-t", cwd=self.directory)

    def read(self, name: str) -> bytes:
        return (self.directory / name).read_bytes()

    def text(self, name: str) -> str:
        return b64encode(self.read(name)).decode()

    def activate(self, challenge: dict[str, Any]) -> None:
        """Open a challenge's secret into the file ``secret``."""
        blob = b64decode(challenge["credential_blob"]) + b64decode(challenge["encrypted_secret"])
        (self.directory / "cred").write_bytes(_CREDENTIAL_FILE + blob)
        self.run("startauthsession", "--policy-session", "-S", "s.ctx")
        self.run("policysecret", "-S", "s.ctx", "-c", "e")
        self.run(
            "activatecredential", "-c", "ak.ctx", "-C", "ek.ctx", "-i", "cred", "-o", "secret", "-P", "session:s.ctx"
        )
        self.run("flushcontext", "s.ctx")

    def quote(self, nonce: str) -> None:
        """Quote PCR 11 over a nonce, into ``quote`` and ``signature``."""
        hexadecimal = b64decode(nonce).hex()
        arguments = ("-c", "ak.ctx", "-l", "sha256:11", "-q", hexadecimal, "-m", "quote", "-s", "signature")
        self.run("quote", *arguments, "-g", "sha256")


@pytest.fixture(scope="module", params=["rsa", "ecc"])
def tpm(
    request: pytest.FixtureRequest,
    services: Toolbox,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Tpm]:
    made = Tpm(services, tmp_path_factory.mktemp("tpm"), request.param)
    yield made
    made.process.terminate()
    made.process.wait(30)


async def _token(b: Bench) -> str:
    body = {"kind": "token", "track": "container", "ring": "all", "tpm": True, "count": 3}
    return str((await b.call("POST", "/api/v1/enrolments", body)).json()[0]["secret"])


def test_a_tpm_enrols_polls_and_renews_and_nobody_else_does(tpm: Tpm, tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        machine = "a" * 32
        token = await _token(b)
        plain = {"token": token, "machine": machine, "track": "container"}
        assert (await b.call("POST", "/v1/enroll", plain, role=None)).status_code == 403
        wish = plain | {"ek": tpm.text("ek.pub"), "ak": tpm.text("ak.pub")}
        challenge = (await b.call("POST", "/v1/enroll/tpm/challenge", wish, role=None)).json()
        tpm.activate(challenge)
        tpm.quote(challenge["nonce"])
        proof = wish | {
            "expires": challenge["expires"],
            "secret": tpm.text("secret"),
            "quote": tpm.text("quote"),
            "signature": tpm.text("signature"),
        }
        wrong = {
            "another_machine": proof | {"machine": "b" * 32},
            "a_guessed_secret": proof | {"secret": b64encode(b"x" * 32).decode()},
            "a_later_end": proof | {"expires": challenge["expires"] + 10**6},
            "another_quote": proof | {"quote": b64encode(tpm.read("quote")[:-1] + b"x").decode()},
        }
        for case, body in wrong.items():
            assert (await b.call("POST", "/v1/enroll/tpm", body, role=None)).status_code == 403, case
        answer = await b.call("POST", "/v1/enroll/tpm", proof, role=None)
        assert answer.status_code == 201, answer.text
        node = FakeNode(b, machine, answer.json()["credential"], "container")
        assert node.poll()
        b.clock.now += 31 * 86400
        assert node.ask("SHA256SUMS").status == 403
        nonce = (await b.call("POST", "/v1/enroll/tpm/nonce", {"machine": machine}, role=None)).json()
        stale = {
            "machine": machine,
            "expires": nonce["expires"],
            "quote": proof["quote"],
            "signature": proof["signature"],
        }
        assert (await b.call("POST", "/v1/enroll/tpm/renew", stale, role=None)).status_code == 403
        tpm.quote(nonce["nonce"])
        fresh = stale | {"quote": tpm.text("quote"), "signature": tpm.text("signature")}
        assert (
            await b.call("POST", "/v1/enroll/tpm/renew", fresh | {"machine": "c" * 32}, role=None)
        ).status_code == 403
        renewed = await b.call("POST", "/v1/enroll/tpm/renew", fresh, role=None)
        assert renewed.status_code == 201, renewed.text
        old, node.credential = node.credential, renewed.json()["credential"]
        assert node.poll()
        assert FakeNode(b, machine, old, "container").ask("SHA256SUMS").status == 403

    async def play() -> None:
        async with bench(tmp_path) as b:
            await story(b)

    asyncio.run(play())


def test_what_the_tools_say_of_a_key_and_a_quote_is_what_is_read(tpm: Tpm) -> None:
    key = read_attestation_key(tpm.read("ak.pub"))
    assert key.name == b"\x00\x0b" + hashlib.sha256(tpm.read("ak.pub")[2:]).digest()
    tpm.quote(b64encode(b"n" * 20).decode())
    quote = check_quote(key, tpm.read("quote"), tpm.read("signature"))
    assert quote.nonce == b"n" * 20
    assert quote.pcr_digest == hashlib.sha256(bytes(32)).digest()
    with pytest.raises(TrustError, match="attestation"):
        read_attestation_key(tpm.read("ek.pub"))
    with pytest.raises(TrustError, match="endorsement"):
        read_endorsement_key(tpm.read("ak.pub"))
    for length in range(0, len(tpm.read("ak.pub")), 7):
        with pytest.raises(TrustError):
            read_attestation_key(tpm.read("ak.pub")[:length])
    with pytest.raises(TrustError):
        check_quote(key, tpm.read("quote"), tpm.read("signature")[:-1])


class Authority:
    """A certificate authority; certificates of endorsement keys are made by swtpm's own tool, as its local CA does."""

    def __init__(
        self, directory: Path, name: str, *, issuer: Authority | None = None, ca: bool = True, path: int | None = None
    ) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        begins = datetime.fromtimestamp(START - 86400, UTC)
        builder = (
            x509.CertificateBuilder(subject_name=subject)
            .issuer_name(subject if issuer is None else issuer.certificate.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + timedelta(days=3000))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=path if ca else None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
        )
        self.certificate = builder.sign((self.key if issuer is None else issuer.key), SHA256())
        self.directory = directory / name
        self.directory.mkdir()
        (self.directory / "ca.pem").write_bytes(self.certificate.public_bytes(Encoding.PEM))
        private = self.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        (self.directory / "ca.key").write_bytes(private)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def vouch(self, toolbox: Toolbox, tpm: Tpm, *, days: int = 3000, modulus: int = 0) -> bytes:
        """A certificate for the TPM's endorsement key (DER)."""
        key = read_endorsement_key(tpm.read("ek.pub")).key
        assert isinstance(key, rsa.RSAPublicKey)
        toolbox.run(
            "swtpm_cert",
            *("--tpm2", "--type", "ek", "--modulus", f"{modulus or key.public_numbers().n:x}", "--days", str(days)),
            *("--signkey", "ca.key", "--issuercert", "ca.pem", "--out-cert", "ek.der", "--decryption"),
            *("--tpm-manufacturer", "id:00001014", "--tpm-model", "swtpm", "--tpm-version", "id:20191023"),
            *("--tpm-spec-family", "2.0", "--tpm-spec-level", "0", "--tpm-spec-revision", "164"),
            cwd=self.directory,
        )
        return (self.directory / "ek.der").read_bytes()


def test_only_a_tpm_that_a_root_vouches_for_gets_in(
    tpm: Tpm,
    services: Toolbox,  # noqa: F811
    tmp_path: Path,
) -> None:
    root, other = Authority(tmp_path, "root"), Authority(tmp_path, "other")
    between = Authority(tmp_path, "between", issuer=root)
    leaf, stranger = root.vouch(services, tpm), other.vouch(services, tpm)
    deep = between.vouch(services, tpm)
    impostor = Authority(tmp_path, "impostor", issuer=root, ca=False).vouch(services, tpm)

    def sent(certificate: bytes, *chain: bytes) -> dict[str, Any]:
        return {
            "ek_certificate": b64encode(certificate).decode(),
            "ek_chain": [b64encode(one).decode() for one in chain],
        }

    async def story(b: Bench) -> None:
        token = await _token(b)
        wish = {"token": token, "machine": "a" * 32, "track": "container"}
        wish |= {"ek": tpm.text("ek.pub"), "ak": tpm.text("ak.pub")}

        async def challenged(more: dict[str, Any]) -> Any:
            return await b.call("POST", "/v1/enroll/tpm/challenge", wish | more, role=None)

        refused = {
            "none": {},
            "of_another_root": sent(stranger),
            "of_another_root_with_it_in_the_chain": sent(stranger, other.der),
            "without_what_lies_between": sent(deep),
            "by_one_who_is_no_authority": sent(impostor, (tmp_path / "impostor/ca.pem").read_bytes()),
            "cut_short": sent(leaf[:-20]),
            "not_one": sent(b"certificate"),
            "the_authoritys_own": sent(root.der),
        }
        for case, more in refused.items():
            assert (await challenged(more)).status_code == 403, case
        # Nor without the certificate in the second step, with a challenge that was rightly got.
        for more in (sent(leaf), sent(deep, between.der)):
            challenge = (await challenged(more)).json()
            tpm.activate(challenge)
            tpm.quote(challenge["nonce"])
            proof = wish | {
                "expires": challenge["expires"],
                "secret": tpm.text("secret"),
                "quote": tpm.text("quote"),
                "signature": tpm.text("signature"),
            }
            assert (await b.call("POST", "/v1/enroll/tpm", proof, role=None)).status_code == 403
            answer = await b.call("POST", "/v1/enroll/tpm", proof | more, role=None)
            assert answer.status_code == 201, answer.text
        with b.service.database.reading() as connection:
            bound = connection.execute(select(NodeRow.tpm).where(NodeRow.id == "a" * 32)).scalar_one()
        assert json.loads(bound)["root"] == "CN=root"

    async def play() -> None:
        # swtpm's tool makes certificates that begin now.
        clock = Clock(time.time() + 60)
        async with bench(tmp_path / "bench", tpm_roots=[root.certificate], clock=clock) as b:
            await story(b)

    (tmp_path / "bench").mkdir()
    asyncio.run(play())


def test_what_a_certificate_says_must_hold_now(
    tpm: Tpm,
    services: Toolbox,  # noqa: F811
    tmp_path: Path,
) -> None:
    key = read_endorsement_key(tpm.read("ek.pub"))
    root = Authority(tmp_path, "root", path=0)
    between = Authority(tmp_path, "between", issuer=root)
    leaf = root.vouch(services, tpm)
    now = time.time() + 60
    assert check_endorsement(key, leaf, [], [root.certificate], now) == "CN=root"
    for late in (0.0, now + 86400 * 365 * 30):
        with pytest.raises(TrustError, match="not valid now"):
            check_endorsement(key, leaf, [], [root.certificate], late)
    with pytest.raises(TrustError, match="may not vouch"):
        check_endorsement(key, between.vouch(services, tpm), [between.der], [root.certificate], now)
    with pytest.raises(TrustError, match="more than"):
        check_endorsement(key, leaf, [between.der] * 5, [root.certificate], now)
    modulus = rsa.generate_private_key(65537, 2048).public_key().public_numbers().n
    with pytest.raises(TrustError, match="another key"):
        check_endorsement(key, root.vouch(services, tpm, modulus=modulus), [], [root.certificate], now)
    with pytest.raises(BadInput):
        read_roots(tmp_path / "nothing.pem")
    (tmp_path / "empty.pem").write_text("none\n")
    with pytest.raises(BadInput):
        read_roots(tmp_path / "empty.pem")
    (tmp_path / "two.pem").write_bytes((tmp_path / "root/ca.pem").read_bytes() * 2)
    assert len(read_roots(tmp_path / "two.pem")) == 2
