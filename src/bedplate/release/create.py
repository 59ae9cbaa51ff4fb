"""Making a release: its artefacts under their names, SHA256SUMS as systemd-sysupdate wants it, the signed manifest.

Nothing of it counts before the manifest is written, and that is the last thing written: a run cut short leaves blobs,
which the next run finds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from securesystemslib.signer import Signer

from bedplate.model.digest import sha256
from bedplate.model.errors import BadInput, BedplateError
from bedplate.model.release import Artefact, ArtefactKind, Release
from bedplate.model.version import require_version
from bedplate.release.client import envelope_path
from bedplate.release.envelope import MAX_ENVELOPE, parse_envelope, read_payload, sign_release
from bedplate.release.objects import Absent, Anything, Conflict, NotFound, ObjectStore, blob_path

SUMS = "SHA256SUMS"
SUMS_SIGNATURE = "SHA256SUMS.gpg"
_PIECE = 1 << 20
# Names on a GUID partition table hold 36 characters.
_MAX_LABEL = 36


@dataclass(frozen=True)
class Part:
    """One file that goes into a release.

    ``source`` is the file as it was built, or its bytes; ``compress`` writes its compressed form and gives where (a
    cache may have it), None leaves it as it is. ``sha256`` of the source saves reading it once more.
    """

    kind: ArtefactKind
    name: str
    source: Path | bytes
    sha256: str = ""
    compress: Callable[[Path], Path] | None = None
    update: bool = False


@dataclass(frozen=True)
class Names:
    """File names of a release's artefacts; the partition UUIDs stand in them, so that a stock transfer sets them."""

    image: str
    version: str
    root_hash: str = ""

    def __post_init__(self) -> None:
        require_version(self.version)

    @property
    def _stem(self) -> str:
        return f"{self.image}_{self.version}"

    @property
    def root(self) -> str:
        return f"{self._stem}_{_uuid(self.root_hash[:32])}.root"

    @property
    def verity(self) -> str:
        return f"{self._stem}_{_uuid(self.root_hash[-32:])}.verity"

    @property
    def uki(self) -> str:
        return f"{self._stem}.efi"

    @property
    def uki_tree(self) -> str:
        """The block hashes of the UKI. Not "….efi" with one suffix more: systemd-sysupdate 257 takes that for the UKI
        itself, since its patterns match the start of a name."""
        return f"{self._stem}.tree"

    @property
    def disk(self) -> str:
        return f"{self._stem}.raw.gz"

    def other(self, suffix: str) -> str:
        """The name of something that nodes do not fetch."""
        return f"{self._stem}.{suffix}"


def check_labels(track: str, version: str) -> None:
    """Refuse a version that does not fit into the partition labels of this track.

    Raises:
        BadInput: too long.
    """
    if len(f"{track}_{version}_verity") > _MAX_LABEL:
        raise BadInput(
            f"partition labels hold {_MAX_LABEL} characters, {track}_{version}_verity is longer",
            remedy="use a shorter version",
        )


def sums_text(artefacts: Iterable[Artefact]) -> bytes:
    """SHA256SUMS of what nodes fetch, sorted by name: ``HEX *NAME`` lines, as sha256sum(1) writes them."""
    return "".join(
        f"{one.sha256} *{one.name}\n" for one in sorted(artefacts, key=lambda a: a.name) if one.update
    ).encode()


def create(
    store: ObjectStore,
    draft: Release,
    parts: Sequence[Part],
    sign_sums: Callable[[bytes], bytes],
    signers: Sequence[Signer],
) -> Release:
    """Write a release to the store.

    Args:
        draft: The release without artefacts.
        parts: Its files.
        sign_sums: A detached OpenPGP signature over SHA256SUMS.
        signers: Release keys that sign the manifest.

    Returns:
        The release; the one that is there already when it was made from the same build under the same conditions.

    Raises:
        BadInput: this version exists with other content, or no key may sign.
        BedplateError: the store cannot be written; running again goes on where it stopped.
    """
    if not signers:
        raise BadInput(
            "no release key is at hand",
            remedy="use a machine or BEDPLATE_KEYS that holds one; see: bedplate release keys list",
        )
    check_labels(draft.track, draft.version)
    known = _existing(store, draft)
    if known is not None:
        return known
    artefacts = [store_part(store, part) for part in parts]
    sums = sums_text(artefacts)
    listing = [(ArtefactKind.SUMS, SUMS, sums), (ArtefactKind.SUMS_SIGNATURE, SUMS_SIGNATURE, sign_sums(sums))]
    artefacts += [store_part(store, Part(kind, name, data)) for kind, name, data in listing]
    release = replace(draft, artefacts=tuple(artefacts))
    envelope = sign_release(release, signers)
    # What is signed is read once more by the code that readers use: a release nobody could read is never written.
    read_payload(parse_envelope(envelope, release.version).payload, f"{release.track} {release.version}")
    try:
        store.put(envelope_path(release.track, release.version), envelope, Absent())
    except Conflict:
        other = _existing(store, draft)
        if other is None:
            raise
        return other
    return release


def store_part(store: ObjectStore, part: Part) -> Artefact:
    """Put a file into the store, unless its bytes are there."""
    raw_digest, raw_size = (part.sha256, _size(part.source)) if part.sha256 else _digest(part.source)
    if part.compress is None or isinstance(part.source, bytes):
        source, digest, size, compression = part.source, raw_digest, raw_size, "none"
    else:
        source = part.compress(part.source)
        digest, size = _digest(source)
        compression = "gz"
    path = blob_path(digest)
    there = store.info(path)
    if there is None or there.size != size:
        store.put(path, source, Anything())
    return Artefact(part.kind.value, part.name, digest, size, compression, raw_digest, raw_size, part.update)


def _existing(store: ObjectStore, draft: Release) -> Release | None:
    """The release under the draft's name, when it is the same release.

    Raises:
        BadInput: there is another one.
    """
    where = f"{draft.track} {draft.version}"
    try:
        data = store.get(envelope_path(draft.track, draft.version), MAX_ENVELOPE).data
    except NotFound:
        return None
    known = read_payload(parse_envelope(data, where).payload, where)
    if asdict(replace(known, artefacts=(), created=draft.created, expires=draft.expires)) != asdict(draft):
        different = [
            name
            for name in ("build", "root_hash", "lock_sha256", "floor", "replaces", "notes", "signers")
            if getattr(known, name) != getattr(draft, name)
        ]
        raise BadInput(
            f"this version exists already and is another release ({', '.join(different) or 'other values'} differ)",
            where=where,
            remedy="a release never changes: build with a higher --image-version",
        )
    return known


def _digest(source: Path | bytes) -> tuple[str, int]:
    if isinstance(source, bytes):
        return sha256(source), len(source)
    digest, size = hashlib.sha256(), 0
    try:
        with source.open("rb") as stream:
            while piece := stream.read(_PIECE):
                digest.update(piece)
                size += len(piece)
    except OSError as error:
        raise BedplateError(f"cannot read ({error.strerror})", where=str(source)) from error
    return digest.hexdigest(), size


def _size(source: Path | bytes) -> int:
    return len(source) if isinstance(source, bytes) else source.stat().st_size


def _uuid(hex_digits: str) -> str:
    parts = (hex_digits[:8], hex_digits[8:12], hex_digits[12:16], hex_digits[16:20], hex_digits[20:])
    return "-".join(parts)
