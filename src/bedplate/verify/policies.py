"""The signed PCR 11 policies of a unified kernel image, checked against what the image leads to. Pure.

Source: systemd-measure(1) for the JSON of the ``.pcrsig`` section.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from bedplate.model.digest import sha256

PCR = 11
_MAX_ENTRIES = 256


@dataclass(frozen=True, slots=True)
class PhasePolicy:
    """What PCR 11 (hex, SHA-256 bank) is expected to hold once ``phase`` (a path such as ``sysinit:ready``, empty: as
    the kernel starts) was reached, and whether the image carries a good signature for that value."""

    phase: str
    value: str
    signed: bool


@dataclass(frozen=True, slots=True)
class PcrPolicies:
    """The policies of one image.

    ``present`` says that there is a ``.pcrsig`` section, ``fingerprint`` is the SHA-256 of the public key in it.
    ``foreign`` counts good signatures for values that this image does not lead to. ``problem`` is empty when
    everything could be read and every signature is good.
    """

    present: bool
    fingerprint: str
    phases: tuple[PhasePolicy, ...]
    foreign: int = 0
    problem: str = ""


def check_policies(
    pcrsig: bytes | None, public_key: bytes | None, expected: Mapping[str, str], policies: Mapping[str, bytes]
) -> PcrPolicies:
    """Compare an image's signed policies with the values it leads to.

    Args:
        pcrsig: The ``.pcrsig`` section, None without one.
        public_key: The ``.pcrpkey`` section (PEM), None without one.
        expected: Phase path -> value of PCR 11 (hex), recomputed from the image's sections.
        policies: Phase path -> digest of the policy "PCR 11 has this value".
    """
    unsigned = tuple(PhasePolicy(phase, value, signed=False) for phase, value in expected.items())
    if pcrsig is None:
        return PcrPolicies(False, "", unsigned)
    try:
        key = serialization.load_pem_public_key((public_key or b"").rstrip(b"\0"))
        if not isinstance(key, rsa.RSAPublicKey):
            return PcrPolicies(True, "", unsigned, problem="the key of the policies is not an RSA key")
        der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
        good, problem = _signed_policies(pcrsig, key, sha256(der))
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        return PcrPolicies(True, "", unsigned, problem=f"the signed policies are damaged ({error})")
    phases = tuple(PhasePolicy(phase, value, policies[phase] in good) for phase, value in expected.items())
    return PcrPolicies(True, sha256(der), phases, len(good - set(policies.values())), problem)


def _signed_policies(pcrsig: bytes, key: rsa.RSAPublicKey, fingerprint: str) -> tuple[set[bytes], str]:
    """Policy digests with a good signature, and what is wrong with the others."""
    good: set[bytes] = set()
    problem = ""
    entries = json.loads(pcrsig.rstrip(b"\0"))["sha256"]
    for entry in entries[:_MAX_ENTRIES]:
        policy = bytes.fromhex(entry["pol"])
        if entry["pcrs"] != [PCR] or entry["pkfp"] != fingerprint:
            problem = "a policy is for other PCRs or by another key than the image names"
            continue
        try:
            key.verify(base64.b64decode(entry["sig"], validate=True), policy, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            problem = "the signature of a policy does not hold"
            continue
        good.add(policy)
    return good, problem
