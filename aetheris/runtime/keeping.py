"""What is done with a system's finished jobs, from a script or a notebook: mirror, seal, collect."""

from __future__ import annotations

from pathlib import Path

from aetheris.lake import Lake
from aetheris.runtime.collection import Collected, Collector
from aetheris.runtime.mirror import Round, mirror_once
from aetheris.runtime.sealing import Sealed, lacks_key, seal_finished, signer_of
from aetheris.runtime.submit import whoami
from aetheris.runtime.system import AsyncSystem
from aetheris.store.mirror_rows import MirrorSource


async def mirror(system: AsyncSystem) -> Round:
    """Bring the system's lake up to date. Errors: as `mirror_once`."""
    source = MirrorSource(system.database)
    lake = Lake(system.lake, source.catalog_uri)
    try:
        return await mirror_once(source, lake)
    finally:
        lake.close()


async def seal(system: AsyncSystem) -> Sealed:
    """Seal every finished job that has no seal yet, signed where the configuration says so; return what was done.

    Errors: as `seal_finished`; Refused, where signing is on and no key is given.
    """
    signer = signer_of(system.config.security.evidence_signing)
    done = Sealed(0, (), more=True)
    while done.more:
        found = await seal_finished(system.database, by=whoami(), signer=signer)
        done = Sealed(done.count + found.count, (*done.broken, *found.broken), found.more)
    return done


async def collect(
    system: AsyncSystem, *, days: int | None = None, dry_run: bool = False, lake: Path | None = None
) -> Collected:
    """Collect what is due from the store; `days` is `runtime.gc.ttl_days` unless given. Errors: as `Collector.run`.

    Where seals are signed and the key is not here, a dry run answers without looking at signatures, and says so.
    """
    keys, signing = system.config.runtime.gc, system.config.security.evidence_signing
    unchecked = dry_run and lacks_key(signing)
    collector = Collector(
        system.database,
        lake or system.lake,
        days=keys.ttl_days if days is None else days,
        batch=keys.batch_size,
        by=whoami(),
        signer=None if unchecked else signer_of(signing),
    )
    done = await collector.run(dry_run=dry_run)
    done.signatures_unchecked = unchecked
    return done
