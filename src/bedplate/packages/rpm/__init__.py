"""RPM v4 packages: written, read, signed and verified without rpm itself.

The interface, by module::

    spec.PackageSpec(nevra=, source=, summary=, description=, license=, url=, requires=(), provides=(), conflicts=(),
        obsoletes=(), recommends=(), suggests=(), supplements=(), enhances=(), files=(FileEntry, …), scriptlets=(),
        file_triggers=(), changelog=(), build_time=0, build_host=…, vendor=, distribution=, packager=)
    spec.Contents = Callable[[FileEntry], Iterable[bytes | memoryview]]
    writer.write_rpm(spec, contents, out: Path, *, compression=3) -> WrittenRpm(path, nevra, sha256, size, files)
    writer.WRITER_VERSION: str                      part of the key finished RPMs are cached under

    reader.RpmPackage.open(path) -> RpmPackage      a model.package.PackageContent, and: header, signature, scripts,
                                                    requires, provides, conflicts, obsoletes, recommends, suggests …
    sign.sign_rpm(source: Path, out: Path, signer: Signer) -> SignedRpm(path, sha256, size)
    sign.sign_rpms([(source, out), …], signer, workers=4) -> list[SignedRpm]
    sign.verify_rpm(path, certificates: Sequence[bytes]) -> VerifiedRpm
    sign.Signer                                     protocol: sign(data: bytes) -> bytes, a binary detached signature

Beside this package: ``packages.repository.write_repository`` (rpm-md) and ``packages.rpmdb.make_rpmdb``.

The writer adds by itself what rpmbuild would: the package's own provides, ``config(…)``, ``user(…)``/``group(…)``,
``rpmlib(…)``; and ``bedplate-source(NAME) = EVR``. ELF and interpreter dependencies of files are the caller's.
"""
