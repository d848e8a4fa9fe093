"""`token`: development tokens for the API. Apart from `serve`, whose imports take a second that this does without."""

from __future__ import annotations

import click

from aetheris.api import tokens
from aetheris.api.access import ROLES
from aetheris.cli.main import json_option
from aetheris.cli.screen import Screen
from aetheris.domain.durations import seconds_of
from aetheris.domain.errors import Refused
from aetheris.runtime.config_file import load
from aetheris.runtime.submit import whoami
from aetheris.store.database import default_home


@click.command()
@click.option("--user", help="Who holds it.  [default: you]")
@click.option("--role", "roles", multiple=True, type=click.Choice(ROLES), default=("user",), show_default=True)
@click.option(
    "--ttl", default=None, metavar="DURATION", help="How long it lives.  [default: api.middleware.jwt_timeout, 1h]"
)
@json_option
def token(user: str | None, roles: tuple[str, ...], ttl: str | None, screen: Screen) -> None:
    """Print a development token for --tenant, signed by a key of this machine (made when there is none).

    `aetheris serve --dev-tokens` believes it. The token is a secret while it lives.

    A user may submit, an operator approve and resolve; a token may have several roles.

    \b
    Example:  export AETHERIS_TOKEN=$(aetheris token --role user --role operator)
    """
    try:
        seconds = load().config.api.middleware.jwt_timeout if ttl is None else seconds_of(ttl)
    except ValueError as error:
        raise Refused(f"--ttl {ttl}: {error}") from None
    tenant = click.get_current_context().find_root().obj["tenant"]
    made = tokens.mint(
        default_home(), tenant=tenant, user=user or whoami().removeprefix("user/"), roles=roles, seconds=seconds
    )
    screen.line(made)
    screen.json({"token": made, "tenant": tenant, "roles": list(roles), "seconds": int(seconds)})
