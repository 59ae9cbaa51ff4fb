"""Keys in cloud services: ``awskms:``, ``gcpkms:`` and ``azurekms:`` URIs, through securesystemslib's own signers.

Credentials are those of the machine, as each service's library finds them. The libraries are optional:
``pip install bedplate[awskms]`` and likewise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import rsa
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import AWSSigner, AzureSigner, GCPSigner, Signer, SSlibKey

from bedplate.model.errors import BadInput, BedplateError
from bedplate.trust.devices import PublicKey, public_of

_Result = TypeVar("_Result")
_RSA_SCHEME = "rsa-pkcs1v15-sha256"
_SCHEMES = {_RSA_SCHEME, "ecdsa-sha2-nistp256"}


class KmsKey:
    """A key in a cloud service, see :class:`bedplate.trust.devices.DeviceKey`."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._imported: tuple[str, SSlibKey] | None = None

    def public(self) -> PublicKey:
        """Its public key."""
        return public_of(str(self._key()[1].keyval["public"]).encode(), self.uri)

    def sign(self, data: bytes) -> bytes:
        """See the protocol."""
        uri, key = self._key()
        signature = self._asked(lambda: Signer.from_priv_key_uri(uri, key).sign(data))
        return bytes.fromhex(signature.signature)

    def _key(self) -> tuple[str, SSlibKey]:
        if self._imported is None:
            uri, key = self._asked(lambda: _IMPORTS[urlsplit(self.uri).scheme](self.uri))
            public = public_of(str(key.keyval["public"]).encode(), self.uri)
            if isinstance(public, rsa.RSAPublicKey) and key.scheme != _RSA_SCHEME:
                key = SSlibKey(key.keyid, key.keytype, _RSA_SCHEME, key.keyval)
            if key.scheme not in _SCHEMES:
                raise BadInput(f"a key for {key.scheme}", where=self.uri, remedy="use RSA or ECDSA over P-256")
            self._imported = uri, key
        return self._imported

    def _asked(self, call: Callable[[], _Result]) -> _Result:
        try:
            return call()
        except UnsupportedLibraryError as error:
            extra = urlsplit(self.uri).scheme
            raise BadInput(str(error), where=self.uri, remedy=f"pip install 'bedplate[{extra}]'") from error
        except BedplateError:
            raise
        except Exception as error:
            raise BedplateError(
                f"the key service failed: {type(error).__name__}: {str(error)[:300]}",
                where=self.uri,
                remedy="check the key's name, the credentials and the permissions (get public key, sign)",
            ) from error


def _aws(uri: str) -> tuple[str, SSlibKey]:
    name = uri.removeprefix("awskms:")
    try:
        return AWSSigner.import_(name, _RSA_SCHEME)
    except Exception as error:
        if type(error).__name__ != "UnsupportedAlgorithmError":
            raise
        return AWSSigner.import_(name)


def _gcp(uri: str) -> tuple[str, SSlibKey]:
    return GCPSigner.import_(uri.removeprefix("gcpkms:"))


def _azure(uri: str) -> tuple[str, SSlibKey]:
    parts = urlsplit(uri)
    vault, names = parts.netloc.partition(".")[0], parts.path.strip("/").split("/")
    if not vault or len(names) < 2:
        raise BadInput("not a key of a vault", where=uri, remedy="azurekms://VAULT.vault.azure.net/keys/NAME")
    return AzureSigner.import_(vault, names[1])


_IMPORTS: dict[str, Callable[[str], tuple[str, SSlibKey]]] = {"awskms": _aws, "gcpkms": _gcp, "azurekms": _azure}
SCHEMES = tuple(_IMPORTS)
