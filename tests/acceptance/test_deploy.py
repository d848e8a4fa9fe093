"""deploy/: checked by what can check it here, without a container or a running systemd."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from aetheris.cli.main import COMMANDS, cli
from aetheris.runtime.config_file import load
from aetheris.runtime.worker import DRAIN_SECONDS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OURS = {name: s for name, s in COMPOSE["services"].items() if s["image"].startswith("${AETHERIS_IMAGE")}
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
# A command keeps the help option it first made: without the settings of its group it would lack -h from then on.
PARENT = click.Context(cli, info_name="aetheris", **cli.context_settings)


class _Keys(configparser.RawConfigParser):
    """systemd's files: a key may stand twice, and its case counts."""

    def optionxform(self, optionstr: str) -> str:
        """Keep it."""
        return optionstr


def unit(path: Path) -> configparser.RawConfigParser:
    """A unit's sections."""
    made = _Keys(strict=False, delimiters=("=",), comment_prefixes=("#",))
    made.read(path)
    return made


def instructions(text: str) -> list[tuple[str, str]]:
    """A Dockerfile's instructions, continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in joined.splitlines() if line.strip()]


def commands() -> list[tuple[str, list[str]]]:
    """Every command line of ours in compose file, units and Dockerfile: where, words."""
    found = [(f"compose {name}", [str(word) for word in s["command"]]) for name, s in OURS.items()]
    for path in UNITS:
        words = unit(path)["Service"]["ExecStart"].split()
        assert words[0] == "/opt/aetheris/bin/aetheris"
        found.append((path.name, words[1:]))
    return found


@pytest.mark.parametrize("where", [where for where, _ in commands()])
def test_every_command_line_is_one_that_the_cli_takes(where: str) -> None:
    """An option that was renamed would be found out at three in the morning otherwise."""
    words = dict(commands())[where]
    known = {"${AETHERIS_AGENTS:?name agents, MODULE:AGENT}": "desk:agent", "$AETHERIS_AGENTS": "desk:agent"}
    words = [known.get(word, word).replace("%i", "3") for word in words]
    if words[0] == "serve" and "serve" not in COMMANDS:
        pytest.skip("this release does not serve yet")
    assert words[0] in COMMANDS
    command = cli.get_command(PARENT, words[0])
    assert command is not None
    command.make_context(words[0], words[1:], parent=PARENT)


@pytest.mark.parametrize("name", ["worker", "serve"])
def test_one_word_may_name_several_agents(name: str) -> None:
    """systemd splits AETHERIS_AGENTS at its spaces, compose does not: the same environment does for both."""
    command = cli.get_command(PARENT, name)
    assert command is not None
    for words in (["desk:pay desk:book"], ["desk:pay", " desk:book\n"]):
        assert command.make_context(name, list(words), parent=PARENT).params["targets"] == ("desk:pay", "desk:book")
    assert command.make_context(name, [""], parent=PARENT).params["targets"] == (
        "",
    )  # refused by its loader, not taken for none


def test_the_compose_file_keeps_the_compose_specification() -> None:
    """By the schema that the specification publishes."""
    words = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*words, str(DEPLOY / "compose.yaml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_gives_away_nothing() -> None:
    """No root, no right, no secret in the file, no port to the world, time enough to drain."""
    assert set(OURS) == {"init", "worker", "api", "mirror"}
    for name, service in OURS.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert "user" not in service, name  # the image's own, which is not root
        assert int(service["stop_grace_period"].removesuffix("s")) > DRAIN_SECONDS
    text = (DEPLOY / "compose.yaml").read_text()
    secrets = re.findall(r"^\s+\w*(?:PASSWORD|JWT_KEY|API_KEY): (\S+)", text, re.MULTILINE)
    assert secrets
    assert all(value.startswith("${") for value in secrets)
    for service in COMPOSE["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert re.search(r":[^:]*\d", service["image"].rpartition("/")[2]), "an image without a version"


def test_what_the_compose_file_mounts_is_there() -> None:
    """A missing file becomes an empty folder that nobody looks into."""
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind" and "$" not in volume["source"]:
                assert (DEPLOY / volume["source"]).exists(), volume
            elif volume["type"] == "volume":
                assert volume["source"] in COMPOSE["volumes"]
        for other in service.get("depends_on", {}):
            assert other in COMPOSE["services"]


def test_the_configuration_that_is_mounted_can_be_used() -> None:
    """And its metrics are where Prometheus looks for them."""
    config = load(DEPLOY / "aetheris.yaml", {}).config
    assert (config.monitoring.prometheus.host, config.monitoring.prometheus.port) == ("0.0.0.0", 9093)
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert scraped["scrape_configs"][0]["dns_sd_configs"][0]["port"] == 9093
    assert "9093" in str(OURS["worker"]["healthcheck"]["test"])


def test_prometheus_takes_its_configuration() -> None:
    """The same promtool that evaluates the rules."""
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: apt-get install prometheus, then run again"
    path = DEPLOY / "prometheus" / "prometheus.yml"
    done = subprocess.run([promtool, "check", "config", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_is_built_from_what_is_there_and_runs_as_nobody() -> None:
    """The rules that a Dockerfile's linter would hold, those that matter here."""
    found = instructions((DEPLOY / "Dockerfile").read_text())
    froms = [rest for name, rest in found if name == "FROM"]
    assert all(re.fullmatch(r"[\w./-]+:\d[\w.-]*( AS \w+)?", rest) for rest in froms), "a version, never latest"
    assert not [rest for name, rest in found if name == "ADD"]
    last = len(found) - 1 - [name for name, _ in reversed(found)].index("FROM")
    final = found[last:]
    assert [rest for name, rest in final if name == "USER"][-1] == "10001:10001"
    after = final[[name for name, _ in final].index("USER") :]
    assert not [rest for name, rest in after if name in ("RUN", "COPY")]
    assert dict(final)["ENTRYPOINT"] == '["aetheris"]'
    assert dict(final)["STOPSIGNAL"] == "SIGTERM"
    for name, rest in found:
        assert not (name in ("ENV", "ARG") and re.search(r"PASSWORD|SECRET|KEY|DSN", rest)), rest
        if name == "RUN" and "pip install" in rest:
            assert "--no-cache-dir" in rest
            assert "-c constraints.txt" in rest
        if name == "COPY" and "--from" not in rest:
            assert all((ROOT / source).exists() for source in rest.split()[:-1])


def test_the_image_has_one_name() -> None:
    """What compose builds is what an image of one's own can begin from; another name would be asked of a registry."""
    tag = OURS["worker"]["image"].partition(":-")[2].removesuffix("}")
    for path in (DEPLOY / "Dockerfile", ROOT / "docs" / "deployment.md"):
        named = re.findall(r"(?:FROM|-t|run --rm) (aetheris[\w.:-]*[\w])", path.read_text())
        assert set(named) == {tag}, path.name


def test_the_manual_makes_every_folder_that_the_units_need_and_gives_init_its_database() -> None:
    """A unit whose WorkingDirectory is missing doesn't start; init without a DSN prepares an embedded server."""
    text = (ROOT / "docs" / "deployment.md").read_text().partition("## With systemd")[2].partition("\n## ")[0]
    made = {folder for line in re.findall(r"^install -d (.*)$", text, re.MULTILINE) for folder in line.split()}
    assert {unit(path)["Service"]["WorkingDirectory"] for path in UNITS} <= made
    inits = [line for line in text.splitlines() if "/bin/aetheris init" in line]
    assert inits
    assert all(line.startswith("AETHERIS_DSN=") for line in inits)


def test_what_the_image_copies_is_what_is_sent_and_enough_for_the_wheel() -> None:
    """What .dockerignore holds back can't be copied; what isn't copied can't be built."""
    allowed = {x[1:] for x in (ROOT / ".dockerignore").read_text().splitlines() if x.startswith("!")}
    copies = [rest for name, rest in instructions((DEPLOY / "Dockerfile").read_text()) if name == "COPY"]
    copied = {Path(s).name for rest in copies if "--from" not in rest for s in rest.split()[:-1]}
    assert copied == allowed
    project = (ROOT / "pyproject.toml").read_text()
    for needed in ("setup.py", "README.md", "LICENSE"):
        assert needed in copied or needed not in project


@pytest.mark.parametrize("path", UNITS, ids=lambda p: p.name)
def test_a_unit_drains_before_it_is_killed_and_holds_no_secret(path: Path) -> None:
    """SIGTERM to the process alone, and more time than a drain takes."""
    service = unit(path)["Service"]
    assert int(service["TimeoutStopSec"]) > DRAIN_SECONDS
    assert (service["KillSignal"], service["KillMode"]) == ("SIGTERM", "mixed")
    assert service["User"] == "aetheris"
    assert service["NoNewPrivileges"] == "yes"
    assert "EnvironmentFile" in service
    assert not re.search(r"postgresql://|KEY=", path.read_text())


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze here: units are read, not verified"
)
def test_systemd_takes_the_units_and_finds_them_confined(tmp_path: Path) -> None:
    """`systemd-analyze verify` says nothing, and `security` rates each as well confined."""
    for path in UNITS:
        name = path.name.replace("@.", "@1.")
        # The binary that the unit names is on the target; here it is ours.
        text = path.read_text().replace("/opt/aetheris/bin/aetheris", str(BIN / "aetheris"))
        (tmp_path / name).write_text(text)
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)], capture_output=True, text=True, check=False
        )
        said = [line for line in (done.stdout + done.stderr).splitlines() if str(tmp_path) in line or name in line]
        assert (done.returncode, said) == (0, [])
        rated = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--threshold=30", str(tmp_path / name)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert rated.returncode == 0, rated.stdout[-600:]
