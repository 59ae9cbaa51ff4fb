"""Run the installer: find answers or ask, check everything, write, settle, and end as the answers say."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from .answers import MAX_BYTES, Answers, WrongAnswers, parse
from .dialog import asked
from .disks import PAYLOAD_LABEL, choose, disks, partition
from .settling import settle
from .writing import Failed, Payload, forget, open_payload, write_image

ANSWERS_LABEL = "bedplate-answers"
_TRIES = 10


def say(line: str) -> None:
    """A line for whoever looks."""
    print(f"installer: {line}", flush=True)


def given() -> str | None:
    """The text of the answer file: of a credential, of a URL a credential names, or of a labelled partition."""
    place = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent"))
    if (place / "bedplate.answers").is_file():
        return (place / "bedplate.answers").read_text()
    if (place / "bedplate.answers-url").is_file():
        return _fetched((place / "bedplate.answers-url").read_text().strip())
    device = partition(ANSWERS_LABEL)
    if device is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-o", "ro", device, folder], capture_output=True, text=True, check=False)
        if done.returncode:
            raise WrongAnswers([f"{device} cannot be mounted: {done.stderr.strip()}"])
        try:
            return (Path(folder) / "answers.toml").read_text()
        except OSError as error:
            raise WrongAnswers([f"{device} holds no answers.toml ({error.strerror})"]) from error
        finally:
            subprocess.run(["umount", folder], check=True)


def _fetched(url: str) -> str:
    if not url.startswith(("https://", "http://")):
        raise WrongAnswers([f"{url!r} is not an http or https address"])
    for number in range(_TRIES):
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return answer.read(MAX_BYTES + 1).decode()
        except OSError as error:
            if number + 1 == _TRIES:
                raise WrongAnswers([f"{url} cannot be fetched: {error}"]) from error
            time.sleep(3)
    raise AssertionError


def install(payload: Payload, answers: Answers) -> None:
    """Write and settle; everything is checked before the first byte is written."""
    disk = choose(disks(), answers.disk, payload.size)
    say(f"writing {payload.name} to {disk.path} ({disk.size >> 20} MiB)")
    write_image(payload, disk.path, disk.size, say)
    try:
        settle(answers, disk.path)
    except (Failed, OSError, subprocess.CalledProcessError):
        forget(disk.path)
        raise
    say(f"done: {disk.path} boots {payload.name} as {answers.hostname}")


def main() -> int:
    """0 when the system is on the disk; whatever else happened can be tried again."""
    after = "shell"
    try:
        device = partition(PAYLOAD_LABEL)
        if device is None:
            raise Failed("this medium holds no image")
        payload = open_payload(device)
        text = given()
        answers = parse(text) if text is not None else asked(disks(), payload.name, input, print)
        if answers is None:
            say("stopped; nothing was written")
            return _shell(1)
        install(payload, answers)
        after = answers.after
    except WrongAnswers as error:
        say("the answers cannot be used, nothing was written:")
        for problem in error.problems:
            say(f"  {problem}")
        say("correct them and start the machine again")
        return _shell(2)
    except (Failed, OSError, subprocess.CalledProcessError, EOFError) as error:
        say(f"failed: {error}")
        return _shell(1)
    os.sync()
    if after == "shell":
        return _shell(0)
    subprocess.run(["systemctl", after, "--no-block"], check=True)
    return 0


def _shell(code: int) -> int:
    """Somebody may want to look; `python3 -m installer` starts again."""
    if sys.stdin.isatty():
        say("a shell; `exit` turns the machine off, `python3 -m installer` starts again")
        subprocess.run(["/usr/bin/bash", "-i"], check=False)
        subprocess.run(["systemctl", "poweroff", "--no-block"], check=False)
    return code


sys.exit(main())
