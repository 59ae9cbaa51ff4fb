"""PCR 11: what a unified kernel image measures into it, and the signed policy that lets a TPM open secrets for it.

Sources: systemd-stub(7), systemd-measure(1); TPM 2.0 Library part 3, TPM2_PolicyPCR. The text of a signature is the
JSON that systemd reads from /run/systemd/tpm2-pcr-signature.json.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Callable, Mapping, Sequence

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bedplate.model.errors import BadInput

PCR = 11
# The order in which the stub measures what it finds; .pcrsig cannot be part of what it signs.
_MEASURED = (
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey", ".profile",
)  # fmt: skip
# Phases a boot of ours passes: secrets for /var are opened before the first one. The initrd measures none.
PHASES: tuple[str, ...] = ("", "sysinit", "sysinit:ready")
_TPM_CC_POLICY_PCR = 0x0000017F
_TPM_ALG_SHA256 = 0x000B

Sign = Callable[[bytes], bytes]


def extend(value: bytes, data: bytes) -> bytes:
    """The SHA-256 bank's next value after measuring ``data``."""
    return hashlib.sha256(value + hashlib.sha256(data).digest()).digest()


def expected(sections: Mapping[str, bytes], phases: Sequence[str] = PHASES) -> dict[str, str]:
    """Phase path -> hex value of PCR 11 (SHA-256) at that point of a boot."""
    value = bytes(32)
    for name in _MEASURED:
        if name in sections:
            value = extend(extend(value, name.encode() + b"\0"), sections[name])
    result = {}
    for path in phases:
        at = value
        for word in filter(None, path.split(":")):
            at = extend(at, word.encode())
        result[path] = at.hex()
    return result


def policy_digest(pcr_value: bytes) -> bytes:
    """The digest of the policy "PCR 11 of the SHA-256 bank has this value"."""
    selection = struct.pack(">IHB", 1, _TPM_ALG_SHA256, 3) + bytes([0, 1 << (PCR - 8), 0])
    start = bytes(32) + struct.pack(">I", _TPM_CC_POLICY_PCR) + selection
    return hashlib.sha256(start + hashlib.sha256(pcr_value).digest()).digest()


def signature_json(values: Mapping[str, str], public_key: bytes, sign: Sign) -> bytes:
    """The content of ``.pcrsig``: one signed policy for each expected value.

    Args:
        values: As :func:`expected` gives them.
        public_key: PEM of the PCR key's public half.
        sign: RSA PKCS#1 v1.5 with SHA-256 over what it is given.

    Raises:
        BadInput: the key is not RSA, which is all systemd 257 takes here.
    """
    key = serialization.load_pem_public_key(public_key)
    if not isinstance(key, rsa.RSAPublicKey):
        raise BadInput("the PCR key is not an RSA key", remedy="make one: bedplate keys create pcr")
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    entries = []
    for value in values.values():
        policy = policy_digest(bytes.fromhex(value))
        entries.append(
            {
                "pcrs": [PCR],
                "pkfp": hashlib.sha256(der).hexdigest(),
                "pol": policy.hex(),
                "sig": base64.b64encode(sign(policy)).decode(),
            }
        )
    return json.dumps({"sha256": entries}, separators=(",", ":")).encode()
