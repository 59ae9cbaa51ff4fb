"""Enrolment by a TPM-bound key, with a real software TPM and the tools of any distribution."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bedplate.model.errors import TrustError
from bedplate.serve.tpm import check_quote, read_attestation_key, read_endorsement_key
from bedplate.toolchain.run import Toolbox
from support.services import services  # noqa: F401
from support.serving import Bench, FakeNode, bench

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
