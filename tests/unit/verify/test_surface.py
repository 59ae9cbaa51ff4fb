"""What images expose is read from what they boot with, and told apart."""

from __future__ import annotations

from bedplate.cli.surface import comparison_markdown, comparison_text
from bedplate.verify.surface import (
    ConfigFile,
    Surface,
    compare_surfaces,
    enabled_units,
    mount_settings,
    security_modules,
    sysctl_settings,
)


def surface(track: str, packages: dict[str, str], **changes: object) -> Surface:
    fields: dict[str, object] = {
        "counts": {"paths": 10, "programs": 4}, "setid": ("/usr/bin/su",), "capabilities": (),
        "interpreters": ("/usr/bin/bash",), "listening": ("tcp/22",), "kernel_options": ("quiet",),
        "sysctl": {"a.b": "1"}, "mounts": {"/var": "nodev"}, "lsm": (),
    }  # fmt: skip
    fields["sizes"] = {"disk": 100, "contents unpacked": 1000}
    return Surface(track=track, version="1", image="i", packages=packages, booted=False, **{**fields, **changes})  # type: ignore[arg-type]


def test_sysctl_files_hide_and_follow_one_another() -> None:
    files = [
        ConfigFile("/usr/lib/sysctl.d/10-a.conf", "kernel.x = 1\nnet/ipv4/conf/eth0.1/rp_filter=2\n# no = 1\n"),
        ConfigFile("/usr/lib/sysctl.d/20-b.conf", "kernel.x=2\n-kernel.y =  3   4\n"),
        ConfigFile("/usr/lib/sysctl.d/30-c.conf", "kernel.x=9\n"),
        ConfigFile("/etc/sysctl.d/30-c.conf", target="/dev/null"),
        ConfigFile("/usr/lib/sysctl.d/README", "kernel.z=1"),
    ]
    expected = {"kernel.x": "2", "kernel.y": "3 4", "net.ipv4.conf.eth0/1.rp_filter": "2"}
    assert sysctl_settings(files) == expected


def test_mounts_of_units_and_fstab() -> None:
    files = [
        ConfigFile("/usr/lib/systemd/system/tmp.mount", "[Mount]\nWhat=tmpfs\nWhere=/tmp\nOptions=mode=1777\n"),
        ConfigFile("/etc/systemd/system/tmp.mount.d/x.conf", "[Mount]\nOptions=nosuid,nodev\n"),
        ConfigFile("/usr/lib/systemd/system/sys.mount", "[Mount]\nWhere=/sys/x\n"),
        ConfigFile("/etc/systemd/system/sys.mount", target="/dev/null"),
        ConfigFile("/etc/fstab", "LABEL=x /data ext4 ro,nodev 0 0\n/swap none swap sw 0 0\n# none\n"),
    ]
    assert mount_settings(files) == {"/tmp": "nodev,nosuid", "/data": "nodev,ro"}


def test_protection_and_units() -> None:
    selinux = ConfigFile("/etc/selinux/config", "# x=y\nSELINUX=enforcing\nSELINUXTYPE=default\n")
    assert security_modules(["quiet", "lockdown=integrity"], [selinux]) == (
        "SELinux enforcing (default)",
        "lockdown=integrity",
    )
    units = [
        ConfigFile("/etc/systemd/system/multi-user.target.wants/a.service", target="/usr/lib/systemd/system/a.service"),
        ConfigFile("/usr/lib/systemd/system/x.target.wants/b.service", target="../b.service"),
        ConfigFile("/etc/systemd/system/b.service", target="/dev/null"),
    ]
    assert enabled_units(units) == ("a.service",)


def test_two_images_side_by_side() -> None:
    small = surface("container", {"a": "1"}, setid=(), sysctl={"a.b": "2"})
    large = surface("server", {"a": "1", "b": "2"}, counts={"paths": 40, "programs": 4})
    result = compare_surfaces(small, large)
    by_name = {figure.name: figure for figure in result.figures}
    assert (by_name["packages"].percent, by_name["paths"].percent) == (50.0, 25.0)
    lists = {row.name: row for row in result.lists}
    assert (lists["packages"].second, lists["set-id files"].second) == (("b",), ("/usr/bin/su",))
    body = result.to_json()
    assert body["lists"]["packages"] == {"first": [], "second": ["b"], "both": ["a"]}
    assert body["settings"]["sysctl"] == [{"name": "a.b", "first": "2", "second": "1"}]
    assert "50 % of the packages" in comparison_text(result, color=False)
    assert "| packages | 1 | 2 | 50 % |" in comparison_markdown(result)


def test_what_an_image_says_of_itself_cannot_break_the_report() -> None:
    hostile = surface("a|b\x1b[2J", {"x|`y`\n": "1"})
    text = comparison_markdown(compare_surfaces(hostile, surface("server", {})))
    assert "\x1b" not in text and "x\\|'y'\ufffd" in text
