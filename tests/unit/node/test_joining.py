"""A join step by step on a system that answers as told: what is written, taken back, tried again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bedplate_join import files
from bedplate_join.directive import parse_join
from bedplate_join.door import Completed
from bedplate_join.errors import Away, JoinError
from bedplate_join.joining import Joiner
from bedplate_join.programs import Programs, judged
from bedplate_join.state import LAST_TICK, QUICK_TICKS, SLOW_EVERY, State, Step, Store

REQUEST = parse_join(
    {
        "domain": "example.test",
        "server": "10.9.0.1",
        "user": "joiner",
        "password_credential": "join.password",
        "admins": ["Server Admins"],
    }
)
INFO = "[domain]\ndomain-name = example.test\ndomain-controller = dc.example.test\n"


class System:
    """Programs that answer as told; what they were asked and given is kept."""

    def __init__(self) -> None:
        self.answers: dict[str, Completed] = {
            "rpm": Completed(0, ""),
            "adcli info": Completed(0, INFO),
            "uname": Completed(0, "member\n"),
        }
        self.asked: list[str] = []
        self.given: list[str] = []

    def __call__(self, command: Sequence[str], *, seconds: float, text: str = "") -> Completed:
        line = " ".join(command)
        self.asked.append(line)
        self.given.append(text)
        for start, answer in self.answers.items():
            if line.startswith(start):
                return answer
        return Completed(0, "")

    def was_asked(self, start: str) -> bool:
        return any(line.startswith(start) for line in self.asked)


@pytest.fixture
def system() -> System:
    return System()


@pytest.fixture
def joiner(tmp_path: Path, system: System) -> Joiner:
    root = tmp_path / "root"
    return Joiner(
        Store(tmp_path / "store"),
        Programs(system),
        root,
        password_of=lambda name: f"word of {name}",
        pause=lambda _: None,
    )


def written(tmp_path: Path) -> list[str]:
    root = tmp_path / "root"
    return sorted(f"/{path.relative_to(root)}" for path in root.rglob("*") if path.is_file())


def test_a_join_writes_files_of_its_own_and_starts_sssd(tmp_path: Path, system: System, joiner: Joiner) -> None:
    assert joiner.join(REQUEST).step is Step.JOINED
    assert written(tmp_path) == sorted([*files.BEFORE, *files.AFTER])
    assert system.was_asked("systemctl restart sssd.service")
    place = system.asked.index(next(line for line in system.asked if line.startswith("realm join")))
    assert system.given[place] == "word of join.password\n"
    assert "word of" not in " ".join(system.asked)
    root = tmp_path / "root"
    assert (root / files.SSSD[1:]).stat().st_mode & 0o777 == 0o600
    assert (root / files.SUDOERS[1:]).stat().st_mode & 0o777 == 0o440
    assert "%Server\\ Admins@example.test ALL=" in (root / files.SUDOERS[1:]).read_text()
    assert "simple_allow_groups = Server Admins\n" in (root / files.SSSD[1:]).read_text()


def test_leaving_removes_them_all(tmp_path: Path, system: System, joiner: Joiner) -> None:
    joiner.join(REQUEST)
    for folder in files.REMEMBERED:
        (tmp_path / "root" / folder[1:]).mkdir(parents=True)
        (tmp_path / "root" / folder[1:] / "names").touch()
    assert joiner.leave().step is Step.NONE
    assert written(tmp_path) == []
    assert system.was_asked("realm leave")
    assert Store(tmp_path / "store").request is None


def test_nobody_logs_in_where_no_group_was_named(tmp_path: Path, joiner: Joiner) -> None:
    joiner.join(replace(REQUEST, admins=(), login=()))
    text = (tmp_path / "root" / files.SSSD[1:]).read_text()
    assert "access_provider = deny\n" in text
    assert not (tmp_path / "root" / files.SUDOERS[1:]).exists()


def test_a_controller_that_is_away_is_waited_for_and_said(tmp_path: Path, system: System, joiner: Joiner) -> None:
    system.answers["adcli info"] = Completed(1, "adcli: couldn't discover domain controller: 10.9.0.1\n")
    with pytest.raises(Away, match=r"no domain controller of example\.test answers at 10\.9\.0\.1"):
        joiner.join(REQUEST)
    state = Store(tmp_path / "store").state
    assert (state.step, state.tries) == (Step.WAITING, 1)
    assert system.was_asked("systemctl start --no-block bedplate-join.timer")
    assert written(tmp_path) == ["/run/issue.d/50-bedplate-join.issue", "/run/motd.d/50-bedplate-join"]
    assert "Not yet a member of example.test" in (tmp_path / "root/run/motd.d/50-bedplate-join").read_text()
    system.answers["adcli info"] = Completed(0, INFO)
    assert joiner.tick().step is Step.JOINED
    assert not [path for path in written(tmp_path) if path.startswith("/run")]
    assert joiner.tick().step is Step.JOINED
    assert system.was_asked("systemctl stop --no-block bedplate-join.timer")


def test_waiting_comes_to_an_end(tmp_path: Path, system: System, joiner: Joiner) -> None:
    system.answers["adcli info"] = Completed(1, "adcli: couldn't discover domain controller: 10.9.0.1\n")
    with pytest.raises(Away):
        joiner.join(REQUEST)
    due = [tick for tick in range(1, LAST_TICK) if State(ticks=tick).due]
    assert due[:QUICK_TICKS] == list(range(1, QUICK_TICKS + 1))
    assert all(tick % SLOW_EVERY == 0 for tick in due[QUICK_TICKS:])
    assert len(due) < 120
    store = Store(tmp_path / "store")
    store.note(replace(store.state, ticks=LAST_TICK - 2))
    joiner.tick()
    assert store.state.step is Step.WAITING
    joiner.tick()
    state = Store(tmp_path / "store").state
    assert state.step is Step.FAILED
    assert "given up after" in state.message
    assert state.remedy == "run: bedplate-join retry"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (" ! Couldn't authenticate as: x@E.TEST: Preauthentication failed\nrealm: x", "refused the password"),
        (" ! Couldn't authenticate as: x@E.TEST: Client 'x@E.TEST' not found in Kerberos database", "does not know"),
        (" ! Couldn't authenticate as: joiner@EXAMPLE.TEST: Clock skew too great", "clocks"),
        (" ! Insufficient permissions to modify computer account: CN=M,OU=Servers: Access denied", "may not make"),
        ("realm: something nobody has seen before", "something nobody has seen before"),
    ],
)  # fmt: skip
def test_what_the_domain_refuses_is_said_taken_back_and_not_tried_again(
    tmp_path: Path, system: System, joiner: Joiner, words: str, said: str
) -> None:
    system.answers["realm join"] = Completed(1, words)
    with pytest.raises(JoinError, match=said) as caught:
        joiner.join(REQUEST)
    assert not isinstance(caught.value, Away)
    assert caught.value.remedy
    assert [path for path in written(tmp_path) if not path.startswith("/run")] == []
    assert Store(tmp_path / "store").state.step is Step.FAILED
    before = len(system.asked)
    joiner.tick()
    assert [line for line in system.asked[before:] if line.startswith("realm")] == []
    system.answers.pop("realm join")
    assert joiner.retry().step is Step.JOINED


def test_a_controller_that_goes_away_in_the_middle_is_waited_for() -> None:
    assert isinstance(judged(Completed(1, " ! Cannot contact any KDC for realm"), "not joined"), Away)
    assert isinstance(judged(Completed(124, "not done after 300 s"), "not joined"), Away)


def test_a_controller_of_another_domain_is_refused(system: System, joiner: Joiner) -> None:
    system.answers["adcli info"] = Completed(0, INFO.replace("example.test", "other.test"))
    with pytest.raises(JoinError, match=r"a domain controller of other\.test, not of example\.test"):
        joiner.join(REQUEST)
    assert not system.was_asked("realm")


@pytest.mark.parametrize("name", ["localhost", "a-name-of-more-than-15"])
def test_a_name_that_no_domain_can_take(system: System, joiner: Joiner, name: str) -> None:
    system.answers["uname"] = Completed(0, f"{name}\n")
    with pytest.raises(JoinError) as caught:
        joiner.join(REQUEST)
    assert "hostname" in caught.value.remedy
    assert not system.was_asked("realm")


def test_packages_that_cannot_be_had_are_waited_for(tmp_path: Path, system: System, joiner: Joiner) -> None:
    system.answers["rpm"] = Completed(2, "sssd-ad-2.10\nno package provides adcli\nno package provides realmd\n")
    system.answers["dnf"] = Completed(1, "Error: Failed to download metadata for repo 'bedplate'\n")
    with pytest.raises(Away, match="Failed to download metadata"):
        joiner.join(REQUEST)
    assert system.was_asked("dnf -y -q install adcli realmd")


def test_a_member_of_one_domain_joins_no_other(joiner: Joiner) -> None:
    joiner.join(REQUEST)
    with pytest.raises(JoinError, match="a member of example"):
        joiner.join(replace(REQUEST, domain="other.test"))


def test_a_one_time_password_is_not_kept_when_it_was_used(tmp_path: Path, system: System, joiner: Joiner) -> None:
    joiner.join(parse_join({"domain": "example.test", "one_time_password": "once-only"}))
    assert "once-only" not in (tmp_path / "store/request.json").read_text()
    assert (tmp_path / "store/request.json").stat().st_mode & 0o077 == 0


def test_a_damaged_state_is_said(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.note(State(Step.WAITING, "example.test"))
    (tmp_path / "store/state.json").write_text("{")
    with pytest.raises(JoinError, match="damaged"):
        _ = store.state


def test_a_member_that_cannot_do_it_again_stays_a_member(tmp_path: Path, system: System, joiner: Joiner) -> None:
    joiner.join(REQUEST)
    before = {path: (tmp_path / "root" / path[1:]).read_text() for path in written(tmp_path)}
    system.answers["getent"] = Completed(2, "")
    with pytest.raises(Away):
        joiner.join(replace(REQUEST, login=None))
    assert {path: (tmp_path / "root" / path[1:]).read_text() for path in written(tmp_path)} == before
    assert Store(tmp_path / "store").state.step is Step.JOINED


def test_nobody_logs_in_through_a_join_that_is_not_whole(tmp_path: Path, system: System, joiner: Joiner) -> None:
    system.answers["getent"] = Completed(2, "")
    with pytest.raises(Away, match="cannot be seen"):
        joiner.join(REQUEST)
    assert system.asked.index("systemctl disable --now sssd.service") > system.asked.index(
        "systemctl restart sssd.service"
    )
    assert not [path for path in written(tmp_path) if path.startswith("/etc")]


def test_one_at_a_time(tmp_path: Path, joiner: Joiner) -> None:
    with Store(tmp_path / "store").locked(), pytest.raises(JoinError, match="another bedplate-join"):
        joiner.join(REQUEST)
