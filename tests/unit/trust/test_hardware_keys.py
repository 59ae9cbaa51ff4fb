"""Keys in a hardware module (SoftHSM), for every kind of thing that is signed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pysequoia
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from bedplate.flows.locks import Relock
from bedplate.flows.tools import prepare_tools
from bedplate.flows.workspace import Workspace
from bedplate.model.errors import BadInput, BedplateError
from bedplate.toolchain.run import Toolbox
from bedplate.trust.authenticode import require_signature
from bedplate.trust.devices import register_device
from bedplate.trust.keys import KeyStore
from bedplate.trust.pkcs11 import PIN_VARIABLE, Pkcs11Key, Pkcs11Uri
from bedplate.trust.roles import Kind
from bedplate.trust.sign_efi import sign_efi
from support.releases import World

pytestmark = pytest.mark.tools
DISTRO = Path(__file__).parents[3] / "distro"
MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN = "4321"
IDS = {"rsa": "%01", "ec": "%02"}


@pytest.fixture(scope="module")
def hsm() -> Toolbox:
    """The tools for hardware modules."""
    import os

    return prepare_tools(Workspace.from_environment(os.environ, distro=DISTRO), "hsm", Relock.WHEN_NEEDED)


@pytest.fixture(scope="module")
def token(hsm: Toolbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A token with an RSA and an ECDSA key; gives SoftHSM's configuration."""
    folder = tmp_path_factory.mktemp("token")
    (folder / "tokens").mkdir()
    conf = folder / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
    env = {"SOFTHSM2_CONF": str(conf)}
    base = ["--module", hsm.tree.root / MODULE.lstrip("/")]
    hsm.run(
        "pkcs11-tool", *base, "--init-token", "--slot-index", "0", "--label", "bedplate", "--so-pin", "1234", env=env
    )
    at = [*base, "--token-label", "bedplate", "--login"]
    hsm.run("pkcs11-tool", *at, "--login-type", "so", "--so-pin", "1234", "--init-pin", "--pin", PIN, env=env)
    for kind, label, number in (("rsa:2048", "rsa", "01"), ("EC:prime256v1", "ec", "02")):
        hsm.run(
            "pkcs11-tool",
            *at,
            "--pin",
            PIN,
            "--keypairgen",
            "--key-type",
            kind,
            "--label",
            label,
            "--id",
            number,
            env=env,
        )
    yield conf


@pytest.fixture
def keys(token: Path, hsm: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyStore:
    """A key store that can use the token."""
    monkeypatch.setenv("SOFTHSM2_CONF", str(token))
    monkeypatch.setenv(PIN_VARIABLE, PIN)
    register_device("pkcs11", lambda uri: Pkcs11Key(uri, lambda: hsm))
    return KeyStore(tmp_path / "keys")


def uri(label: str) -> str:
    return f"pkcs11:token=bedplate;id={IDS.get(label, '%09')}?module-path={MODULE}"


def test_boot_key_signs_programs_that_our_and_the_firmwares_rules_accept(
    keys: KeyStore, toolbox: Toolbox, tmp_path: Path
) -> None:
    info = keys.add("boot", uri("rsa"), Kind.RELEASE)
    assert (info.kind, info.active) == (Kind.RELEASE, True)
    signer = keys.signer("boot")
    assert signer.key_file is None
    stub = toolbox.tree.path("usr/lib/systemd/boot/efi/linuxx64.efi.stub").read_bytes()
    signed = sign_efi(stub, signer.public, signer.sign, "stub")
    assert sign_efi(stub, signer.public, signer.sign, "stub") == signed, "the same bytes every time"
    assert require_signature(signed, [signer.public], "stub").valid
    (tmp_path / "signed.efi").write_bytes(signed)
    (tmp_path / "cert.pem").write_bytes(signer.public)
    said = toolbox.run("sbverify", "--cert", tmp_path / "cert.pem", tmp_path / "signed.efi")
    assert "Signature verification OK" in said.text + said.stderr
    changed = signed[:2000] + bytes([signed[2000] ^ 1]) + signed[2001:]
    (tmp_path / "signed.efi").write_bytes(changed)
    assert toolbox.run("sbverify", "--cert", tmp_path / "cert.pem", tmp_path / "signed.efi", ok=(1,)).code == 1


def test_pcr_key(keys: KeyStore) -> None:
    keys.add("pcr", uri("rsa"), Kind.DEVELOPMENT)
    signer = keys.signer("pcr")
    public = x509.load_pem_x509_certificate(signer.public).public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(signer.sign(b"policy"), b"policy", padding.PKCS1v15(), hashes.SHA256())
    assert keys.show(keys.ensure("pcr").id).kind is Kind.DEVELOPMENT


def test_update_key_signs_what_openpgp_accepts(keys: KeyStore) -> None:
    info = keys.add("update", uri("rsa"), Kind.RELEASE)
    signer = keys.signer("update")
    signature = signer.sign(b"sums\n")
    assert signer.sign(b"sums\n") == signature
    certificate = pysequoia.Cert.from_bytes(keys.keyring("update"))
    assert certificate.fingerprint.upper() == info.fingerprint
    assert "DEVELOPMENT" not in info.subject

    def store(_: list[str]) -> list[pysequoia.Cert]:
        return [certificate]

    result = pysequoia.verify(b"sums\n", store=store, signature=pysequoia.Sig.from_bytes(signature))
    assert [one.certificate for one in result.valid_sigs] == [certificate.fingerprint]
    with pytest.raises(RuntimeError):
        pysequoia.verify(b"sumz\n", store=store, signature=pysequoia.Sig.from_bytes(signature))


@pytest.mark.parametrize("label", ["rsa", "ec"])
def test_release_key_in_a_module_publishes(keys: KeyStore, tmp_path: Path, label: str) -> None:
    world = World(tmp_path / "world")
    world.keys.add("release", uri(label), Kind.RELEASE)
    only = [
        signer
        for signer in world.signers(roles=["release"])
        if signer.certificate == world.keys.signer("release").public
    ]
    assert len(only) == 1
    world.initialise()
    world.create("1.0.1", signers=only)
    world.publish("1.0.1", "edge", repository=world.repository([*only, *world.signers(roles=["online"])]))
    assert world.reader().refresh().channel("edge").newest("container") == "1.0.1"


def test_wrong_pin_no_key_no_module(keys: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BedplateError, match=r"the PKCS#11 module refused|no public key"):
        keys.add("boot", uri("nothing"), Kind.RELEASE)
    with pytest.raises(BadInput, match="there is no such PKCS#11 module"):
        keys.add("boot", uri("rsa").replace("softhsm/", "gone/"), Kind.RELEASE)
    with pytest.raises(BadInput, match="need an RSA key"):
        keys.add("boot", uri("ec"), Kind.RELEASE)
    monkeypatch.setenv(PIN_VARIABLE, "0000")
    with pytest.raises(BedplateError, match="the PKCS#11 module refused") as caught:
        keys.add("boot", uri("rsa"), Kind.RELEASE)
    assert "0000" not in str(caught.value)
    monkeypatch.delenv(PIN_VARIABLE)
    with pytest.raises(BadInput, match="the token wants a PIN"):
        keys.add("boot", uri("rsa"), Kind.RELEASE)
    assert keys.list() == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pkcs11:token=a;id=%01?module-path=/m&pin-value=4321", "a PIN does not belong into a URI"),
        ("pkcs11:id=%01?module-path=/m", "lacks token"),
        ("pkcs11:token=a;object=b?module-path=/m", "lacks id"),
        ("pkcs11:token=a;id=%01", "lacks module-path"),
        ("pkcs11:token=a;nonsense=b?module-path=/m", "unknown attribute"),
    ],
)
def test_uris_that_say_too_little_or_too_much(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        Pkcs11Uri.parse(text)
    assert "4321" not in str(caught.value)


def test_uris_are_decoded() -> None:
    parts = Pkcs11Uri.parse("pkcs11:token=My%20token;id=%01%FF?module-path=/m.so&pin-source=file:/pin")
    assert (parts.token, parts.id, parts.pin_source) == ("My token", "01ff", "file:/pin")
