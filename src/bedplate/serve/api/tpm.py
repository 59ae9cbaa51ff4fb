"""Enrolment by a TPM-bound key over the API, and renewal by a fresh quote. Nothing is remembered between two requests.

The secret a TPM has to open, and the nonce it has to quote, are made from a key of the service and all that was asked:
any instance that shares the database can check them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from base64 import b64decode, b64encode
from binascii import Error as BinasciiError
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from bedplate.model.errors import BadInput, TrustError
from bedplate.serve import audit, enrolment
from bedplate.serve.api.admin import Enrolled, Track, poll_path
from bedplate.serve.api.endpoint import Call, Endpoint, Model
from bedplate.serve.database import Database
from bedplate.serve.models import NodeRow, ServiceKey
from bedplate.serve.secrets import SecretKind, new_secret, secret_digest
from bedplate.serve.tpm import check_quote, make_credential, read_attestation_key, read_endorsement_key
from bedplate.serve.tpm_roots import MAX_CHAIN, check_endorsement

# A TPM under load takes seconds; a node's clock plays no part.
_CHALLENGE_SECONDS = 300.0
_LIFETIME = 30 * 86400.0
_Machine = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
_Blob = Annotated[str, Field(max_length=4096)]


class ChallengeWish(Model):
    """TPM2B_PUBLIC of endorsement and attestation key, in base64. Where the service has roots: the endorsement key's
    certificate and those between it and a root (DER, base64)."""

    token: Annotated[str, Field(max_length=128)]
    machine: _Machine
    track: Track
    ek: _Blob
    ak: _Blob
    ek_certificate: _Blob = ""
    ek_chain: Annotated[list[_Blob], Field(max_length=MAX_CHAIN)] = []


class Challenge(Model):
    """For TPM2_ActivateCredential: TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET; the nonce to quote; all in base64.
    ``expires``, in seconds since the epoch, is to be sent back as it is."""

    credential_blob: str
    encrypted_secret: str
    nonce: str
    expires: int


class Proof(ChallengeWish):
    """The opened secret, and a quote over the nonce (TPMS_ATTEST and TPMT_SIGNATURE), in base64."""

    expires: int = Field(ge=0, le=2**53)
    secret: _Blob
    quote: _Blob
    signature: _Blob


class NonceWish(Model):
    """Which node wants to renew."""

    machine: _Machine


class Nonce(Model):
    """What to quote, in base64, and until when."""

    nonce: str
    expires: int


class Renewal(Model):
    """A quote over the nonce by the attestation key the node enrolled with."""

    machine: _Machine
    expires: int = Field(ge=0, le=2**53)
    quote: _Blob
    signature: _Blob


async def challenge_tpm(call: Call) -> Any:
    """A secret that only this TPM can open, while it holds this attestation key."""
    wish: ChallengeWish = call.body
    expires = int(call.service.clock() + _CHALLENGE_SECONDS)
    key = await call.reading(lambda: _key(call.service.database))
    attestation, endorsement = read_attestation_key(_bytes(wish.ak)), read_endorsement_key(_bytes(wish.ek))
    _vouched(call, wish)
    secret, nonce = _derived(key, wish, expires)
    blob, wrapped = make_credential(endorsement, attestation.name, secret)
    return Challenge(credential_blob=_text(blob), encrypted_secret=_text(wrapped), nonce=_text(nonce), expires=expires)


def _vouched(call: Call, wish: ChallengeWish) -> str:
    """Who vouches for the endorsement key; empty where the operator gave no roots."""
    roots = call.service.tpm_roots
    if not roots:
        return ""
    chain = [_bytes(one) for one in wish.ek_chain]
    key = read_endorsement_key(_bytes(wish.ek))
    return check_endorsement(key, _bytes(wish.ek_certificate), chain, roots, call.service.clock())


async def enroll_tpm(call: Call) -> Any:
    """Trade a token and the proof of a TPM-bound key for a credential of 30 days."""
    proof: Proof = call.body
    now = call.service.clock()
    database = call.service.database
    key = await call.reading(lambda: _key(database))
    secret, nonce = _derived(key, proof, proof.expires)
    if now >= proof.expires or not hmac.compare_digest(secret, _bytes(proof.secret)):
        raise TrustError("the secret was not opened by this TPM, or too late", remedy="ask for another challenge")
    quote = check_quote(read_attestation_key(_bytes(proof.ak)), _bytes(proof.quote), _bytes(proof.signature))
    if not hmac.compare_digest(quote.nonce, nonce):
        raise TrustError("the quote is over another nonce")
    root = _vouched(call, proof)
    bound = json.dumps({"ak": proof.ak, "ek": hashlib.sha256(_bytes(proof.ek)).hexdigest(), "root": root})
    credential = await call.in_thread(
        lambda: enrolment.redeem(
            database, proof.token, proof.machine, proof.track, now=now, tpm=bound, lifetime=_LIFETIME
        )
    )
    return Enrolled(credential=credential, path=poll_path(proof.track, credential), expires=now + _LIFETIME)


async def nonce_tpm(call: Call) -> Any:
    """What a node has to quote to renew its credential. Says nothing of whether there is such a node."""
    wish: NonceWish = call.body
    expires = int(call.service.clock() + _CHALLENGE_SECONDS)
    key = await call.reading(lambda: _key(call.service.database))
    return Nonce(nonce=_text(_renewal_nonce(key, wish.machine, expires)), expires=expires)


async def renew_tpm(call: Call) -> Any:
    """Another credential of 30 days in place of the node's, for a fresh quote."""
    wish: Renewal = call.body
    now = call.service.clock()
    database = call.service.database
    credential = new_secret(SecretKind.NODE)
    refused = TrustError("no node enrolled with a TPM gave this quote")

    def renew() -> str:
        key = _key(database)
        with database.reading() as connection:
            row = connection.execute(
                select(NodeRow.tpm, NodeRow.track, NodeRow.revoked).where(NodeRow.id == wish.machine)
            ).first()
        if row is None or row.revoked or not row.tpm or now >= wish.expires:
            raise refused
        attestation = read_attestation_key(_bytes(json.loads(row.tpm)["ak"]))
        quote = check_quote(attestation, _bytes(wish.quote), _bytes(wish.signature))
        if not hmac.compare_digest(quote.nonce, _renewal_nonce(key, wish.machine, wish.expires)):
            raise refused
        with database.changing() as (connection, change):
            connection.execute(
                update(NodeRow)
                .where(NodeRow.id == wish.machine, NodeRow.revoked == 0)
                .values(digest=secret_digest(credential), expires=now + _LIFETIME, change=change)
            )
            audit.append(connection, now, "tpm", "node.renew", wish.machine)
        return str(row.track)

    await call.service.write_all()
    track = await call.in_thread(renew)
    return Enrolled(credential=credential, path=poll_path(track, credential), expires=now + _LIFETIME)


def _derived(key: bytes, wish: ChallengeWish, expires: int) -> tuple[bytes, bytes]:
    """Secret and nonce of a challenge: they hold for exactly this wish until then."""
    asked = json.dumps([wish.token, wish.machine, wish.track, wish.ek, wish.ak, expires]).encode()
    return hmac.digest(key, b"secret\x00" + asked, "sha256"), hmac.digest(key, b"nonce\x00" + asked, "sha256")


def _renewal_nonce(key: bytes, machine: str, expires: int) -> bytes:
    return hmac.digest(key, b"renew\x00" + json.dumps([machine, expires]).encode(), "sha256")


def _key(database: Database) -> bytes:
    with database.reading() as connection:
        found = connection.execute(select(ServiceKey.value)).scalar_one_or_none()
    if found is not None:
        return bytes(found)
    try:
        with database.changing() as (connection, _):
            connection.execute(insert(ServiceKey).values(id=1, value=secrets.token_bytes(32)))
    except IntegrityError:
        # Another instance made it at the same moment.
        pass
    with database.reading() as connection:
        return bytes(connection.execute(select(ServiceKey.value)).scalar_one())


def _bytes(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (BinasciiError, ValueError) as error:
        raise BadInput("not base64", details=[str(error)[:100]]) from error


def _text(data: bytes) -> str:
    return b64encode(data).decode()


_TPM = "/v1/enroll/tpm"
ENDPOINTS = (
    Endpoint(
        "POST",
        f"{_TPM}/challenge",
        "A challenge for a TPM",
        challenge_tpm,
        Challenge,
        role=None,
        body=ChallengeWish,
        problems=(403,),
    ),
    Endpoint(
        "POST", _TPM, "Enrol with a TPM", enroll_tpm, Enrolled, role=None, body=Proof, status=201, problems=(403,)
    ),
    Endpoint("POST", f"{_TPM}/nonce", "What to quote", nonce_tpm, Nonce, role=None, body=NonceWish),
    Endpoint(
        "POST", f"{_TPM}/renew", "Renew", renew_tpm, Enrolled, role=None, body=Renewal, status=201, problems=(403,)
    ),
)
