"""Run the installer: find answers or ask, check everything, write, settle, and end as the answers say.

bedplate-install                what the medium does when it starts
bedplate-install --ask          the questions, whatever answers there are
bedplate-install ANSWERS.toml   another answer file
"""

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
        return _read(place / "bedplate.answers")
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
            return _read(Path(folder) / "answers.toml")
        finally:
            subprocess.run(["umount", folder], check=True)


def _fetched(url: str) -> str:
    if not url.startswith(("https://", "http://")):
        raise WrongAnswers([f"{url!r} is not an http or https address"])
    for number in range(_TRIES):
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return str(answer.read(MAX_BYTES).decode())
        except (OSError, UnicodeDecodeError) as error:
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


def main(arguments: list[str]) -> int:
    """0 when the system is on the disk and the machine goes down, 3 when it stays on as the answers say.

    After 1 (failed) and 2 (wrong answers) it can be tried again.
    """
    try:
        device = partition(PAYLOAD_LABEL)
        if device is None:
            raise Failed("this medium holds no image")
        payload = open_payload(device)
        answers = _answers(arguments, payload)
        if answers is None:
            say("stopped; nothing was written")
            return 1
        install(payload, answers)
    except WrongAnswers as error:
        say("the answers cannot be used, nothing was written:")
        for problem in error.problems:
            say(f"  {problem}")
        return 2
    except (Failed, OSError, subprocess.CalledProcessError, EOFError, KeyboardInterrupt) as error:
        say(f"failed: {error or type(error).__name__}")
        return 1
    os.sync()
    if answers.after == "shell":
        return 3
    subprocess.run(["systemctl", answers.after, "--no-block"], check=True)
    return 0


def _answers(arguments: list[str], payload: Payload) -> Answers | None:
    if arguments not in ([], ["--ask"]):
        if len(arguments) != 1 or arguments[0].startswith("-"):
            raise WrongAnswers(["say --ask, or name one answer file"])
        return parse(_read(Path(arguments[0])))
    text = None if arguments else given()
    if text is not None:
        return parse(text)
    return asked(disks(), payload.name, payload.size, input, print, _fetched)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongAnswers([f"{path} cannot be read: {error}"]) from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
