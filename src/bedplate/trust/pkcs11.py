"""Keys in hardware modules: ``pkcs11:`` URIs (RFC 7512), through pkcs11-tool of a tools tree.

A module is a shared library for the host's or the tools tree's C library; a program of the tools tree loads it, so the
Python that runs Bedplate does not have to be able to. The PIN goes through the environment of that program alone.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from cryptography.hazmat.primitives.asymmetric import rsa

from bedplate.model.errors import BadInput, BedplateError
from bedplate.toolchain.run import Toolbox, ToolError
from bedplate.trust.devices import PublicKey, public_of

PIN_VARIABLE = "BEDPLATE_PIN"
# What modules read their settings from.
_PASSED_ON = ("SOFTHSM2_CONF", "OPENSC_CONF", "YUBIHSM_PKCS11_CONF", "CKTEEC_LOGIN_TYPE", "P11_KIT_SERVER_ADDRESS")
# What PKCS#1 v1.5 puts before a SHA-256 digest (RFC 8017 section 9.2, note 1).
_SHA256_DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
_KNOWN = {"token", "object", "id", "serial", "manufacturer", "model", "type", "module-path", "pin-source"}


@dataclass(frozen=True, slots=True)
class Pkcs11Uri:
    """The parts of a URI that are used: ``id`` in hex; ``module`` is a path, absolute or below the tools tree."""

    token: str
    id: str
    module: str
    pin_source: str

    @classmethod
    def parse(cls, uri: str) -> Pkcs11Uri:
        """Parse ``pkcs11:token=T;id=%01?module-path=/path/to/module.so&pin-source=file:/path``.

        Raises:
            BadInput: an attribute that is not known, or one that is missing. A PIN in the URI is refused: URIs are
                stored and logged.
        """
        parts = urlsplit(uri)
        found: dict[str, str] = {}
        fields = [*parts.path.split(";"), *parts.query.split("&")]
        for field in filter(None, fields):
            name, equals, value = field.partition("=")
            if not equals or name not in _KNOWN:
                what = "a PIN does not belong into a URI" if name == "pin-value" else f"unknown attribute {name[:40]!r}"
                remedy = f"put it into {PIN_VARIABLE}, or into a file: pin-source=file:/path"
                raise BadInput(what, where=_without_pin(uri), remedy=remedy if name == "pin-value" else "see RFC 7512")
            found[name] = unquote_to_bytes(value).hex() if name == "id" else unquote(value)
        # pkcs11-tool signs with the first key it meets when it is given a label alone.
        missing = [name for name in ("token", "id", "module-path") if not found.get(name)]
        if missing:
            raise BadInput(f"the URI lacks {', '.join(missing)}", where=uri)
        return cls(found["token"], found["id"], found["module-path"], found.get("pin-source", ""))


class Pkcs11Key:
    """A key in a module, see :class:`bedplate.trust.devices.DeviceKey`.

    Args:
        uri: See :meth:`Pkcs11Uri.parse`.
        toolbox: Gives the toolbox with pkcs11-tool, when it is needed.
    """

    def __init__(self, uri: str, toolbox: Callable[[], Toolbox]) -> None:
        self.uri = uri
        self.parts = Pkcs11Uri.parse(uri)
        self._toolbox = toolbox

    def public(self) -> PublicKey:
        """Its public key."""
        with tempfile.TemporaryDirectory(prefix="bedplate-pkcs11-") as folder:
            target = Path(folder) / "public"
            self._run("--read-object", "--type", "pubkey", *self._key(), "--output-file", target, login=False)
            return public_of(target.read_bytes() if target.exists() else b"", self.uri)

    def sign(self, data: bytes) -> bytes:
        """See the protocol."""
        # Not every module hashes by itself, and SoftHSM fails to for more than a buffer's worth: all take a digest.
        digest = hashlib.sha256(data).digest()
        if isinstance(self.public(), rsa.RSAPublicKey):
            mechanism, payload = "RSA-PKCS", _SHA256_DIGEST_INFO + digest
        else:
            mechanism, payload = "ECDSA", digest
        with tempfile.TemporaryDirectory(prefix="bedplate-pkcs11-") as folder:
            source, target = Path(folder) / "data", Path(folder) / "signature"
            source.write_bytes(payload)
            self._run(
                "--sign", *self._key(), "--mechanism", mechanism, "--signature-format", "openssl",
                "--input-file", source, "--output-file", target, login=True,
            )  # fmt: skip
            if not target.is_file() or not target.stat().st_size:
                raise BedplateError("the module gave no signature", where=self.uri)
            return target.read_bytes()

    def _key(self) -> list[str]:
        return ["--id", self.parts.id]

    def _run(self, *arguments: str | Path, login: bool) -> None:
        toolbox = self._toolbox()
        module = Path(self.parts.module)
        inside = toolbox.tree.root / module.relative_to("/") if module.is_absolute() else toolbox.tree.root / module
        chosen = inside if inside.exists() else module
        if not chosen.exists():
            raise BadInput("there is no such PKCS#11 module", where=str(module), remedy="correct module-path")
        env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        credentials: list[str] = []
        if login:
            env[PIN_VARIABLE] = self._pin()
            credentials = ["--login", "--pin", f"env:{PIN_VARIABLE}"]
        try:
            toolbox.run(
                "pkcs11-tool", "--module", chosen, "--token-label", self.parts.token, *credentials, *arguments, env=env
            )
        except ToolError as error:
            raise BedplateError(
                "the PKCS#11 module refused",
                where=self.uri,
                details=[line for line in error.stderr.strip().splitlines() if line.strip()][-4:],
                remedy=f"check the token, the key's name and the PIN ({PIN_VARIABLE} or pin-source)",
            ) from error

    def _pin(self) -> str:
        source = self.parts.pin_source
        if source:
            path = Path(unquote(urlsplit(source).path) if source.startswith("file:") else source)
            try:
                return path.read_text().strip()
            except OSError as error:
                raise BadInput(f"cannot read the PIN ({error.strerror})", where=str(path)) from error
        pin = os.environ.get(PIN_VARIABLE, "")
        if not pin:
            raise BadInput(
                "the token wants a PIN", where=self.uri, remedy=f"set {PIN_VARIABLE}, or add ?pin-source=file:/path"
            )
        return pin


def _without_pin(uri: str) -> str:
    return uri.partition("pin-value=")[0] + "pin-value=…" if "pin-value=" in uri else uri
