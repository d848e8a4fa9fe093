"""Who may do what: four roles, their permissions, and the declaration that every route carries.

A route is declared with `@route(...)` and can't be without a permission: the
name is a required argument, so forgetting it fails at import. `OPEN` is for
what says nothing of any tenant (health, the API's own description).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from aetheris.domain.errors import Refused

ROLES = ("admin", "operator", "auditor", "user")
PERMISSIONS = (
    "job:view",
    "job:create",
    "job:stop",
    "job:export",
    "trace:view",
    "tool:execute",
    "audit:view",
    "agent:manage",
)
OPEN = "open"

#: The matrix. Admin has every one.
MATRIX: dict[str, frozenset[str]] = {
    "admin": frozenset(PERMISSIONS),
    "operator": frozenset({"job:view", "job:stop", "job:export", "trace:view", "tool:execute"}),
    "auditor": frozenset({"job:view", "job:export", "trace:view", "audit:view"}),
    "user": frozenset({"job:view", "job:create", "trace:view"}),
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, for which tenant, in which roles; all of it from the token.

    `guest_of` is the caller's own tenant where a support grant lets them into
    another's. `expires_at` is when the token ends, seconds since 1970.
    """

    tenant: str
    user: str
    roles: tuple[str, ...]
    expires_at: float | None = None
    guest_of: str | None = None

    @property
    def by(self) -> str:
        """The actor as records name it."""
        return f"user/{self.user}" if self.guest_of is None else f"support/{self.guest_of}/{self.user}"

    def may(self, needs: tuple[str, ...]) -> bool:
        """Return whether one of the roles has one of these permissions."""
        return any(need in MATRIX[role] for role in self.roles for need in needs)


Method = Literal["GET", "POST", "DELETE"]
Endpoint = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Access:
    """What a route declares: any one of `needs` lets in; `action` and `resource` are what the audit log calls it."""

    needs: tuple[str, ...]
    action: str
    resource: str
    streams: bool = False

    @property
    def is_open(self) -> bool:
        """True when no token is asked for."""
        return self.needs == (OPEN,)


@dataclass(frozen=True, slots=True)
class Route:
    """One route, ready to be put into an app."""

    method: Method
    path: str
    access: Access
    endpoint: Endpoint
    options: dict[str, Any] = field(default_factory=dict)


#: Every route of the API, in order of declaration.
ROUTES: list[Route] = []


def route(
    method: Method,
    path: str,
    *,
    needs: str | tuple[str, ...],
    action: str = "",
    resource: str = "job",
    streams: bool = False,
    **options: Any,
) -> Callable[[Endpoint], Endpoint]:
    """Declare a route. Errors: Refused at import for a permission that no role could have, or without an action."""
    wanted = (needs,) if isinstance(needs, str) else needs
    if not wanted or any(need not in (*PERMISSIONS, OPEN) for need in wanted):
        raise Refused(f"{method} {path} needs {needs!r}, which is no permission")
    if not action and wanted != (OPEN,):
        raise Refused(f"{method} {path} has no action for the audit log")

    def declare(endpoint: Endpoint) -> Endpoint:
        ROUTES.append(Route(method, path, Access(wanted, action, resource, streams), endpoint, options))
        return endpoint

    return declare
