"""Results as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bedplate.cli.console import human_bytes

if TYPE_CHECKING:
    from bedplate.emulator.report import BootReport
    from bedplate.flows.build import BuildOutcome

_VAR = {
    "encrypted": "encrypted, its key sealed to the TPM",
    "plain": "not encrypted: there is no TPM",
    "memory": "in memory",
    "image": "in the image",
}


def yes(value: bool | None, words: tuple[str, str] = ("yes", "NO")) -> str:
    """A truth value in words; None is "not checked"."""
    return "not checked" if value is None else words[0] if value else words[1]


def _root_rows(report: BootReport) -> list[tuple[str, str]]:
    """What keeps the root: the hash it is verified by, or the policy that guards a writable one."""
    if report.selinux:
        return [("SELinux", f"{report.selinux}, {len(report.selinux_denials)} denials")]
    verified = yes(report.verity, ("root verified", "NOT VERIFIED"))
    return [("verity", f"{verified}, root hash {report.root_hash[:16]}…")]


def report_text(report: BootReport) -> str:
    """What a boot proved."""
    seconds = report.boot_seconds
    parts = ("firmware", "loader", "kernel", "initrd", "userspace")
    times = ", ".join(f"{name} {getattr(seconds, name):.1f}" for name in parts)
    rows = [
        ("state", report.state),
        ("failed units", ", ".join(report.failed_units) or "none"),
        ("Secure Boot", yes(report.secure_boot, ("enforced", "OFF"))),
        *_root_rows(report),
        ("TPM", yes(report.tpm) + ", PCR 11 as predicted: " + yes(report.pcr11_matches)),
        ("/var", _VAR.get(report.var_device, report.var_device)),
        ("kernel", f"{report.kernel}, lockdown {report.lockdown}"),
        *([("container", yes(report.containers_ran, ("ran", "DID NOT RUN")))] if not report.selinux else []),
        ("boot", f"{seconds.total:.1f} s ({times}) under {report.accelerator.upper()}"),
    ]
    listening = sorted({f"{one.protocol} {one.address}" for one in report.listening})
    rows.append(("listening", ", ".join(listening) or "nothing"))
    if report.journal_errors:
        rows.append(("journal", f"{len(report.journal_errors)} errors, the first: {report.journal_errors[0]}"))
    return "\n".join(f"{name:20} {value}" for name, value in rows)


def image_text(outcome: BuildOutcome) -> str:
    """What a build made."""
    build = outcome.build
    rows = [
        ("image", f"{build.track} {build.version}, {build.package_count} packages"),
        ("root hash", build.root_hash),
        *((artefact.name, human_bytes(artefact.bytes)) for artefact in build.artefacts),
        ("directory", str(outcome.directory)),
    ]
    if outcome.development:
        rows.append(("signed by", "DEVELOPMENT keys: for trying out, never a release"))
    if outcome.relocked:
        rows.append(
            ("lock", f"made anew: the committed one could not be had any more; see {outcome.directory}/lock.toml")
        )
    return "\n".join(f"{name:20} {value}" for name, value in rows)


def build_json(outcome: BuildOutcome) -> dict[str, Any]:
    """What a build made, for programs."""
    return {
        **outcome.build.to_json(),
        "directory": str(outcome.directory),
        "seconds": outcome.seconds,
        "reused": outcome.reused,
        "relocked": outcome.relocked,
        "development": outcome.development,
    }
