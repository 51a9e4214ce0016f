"""The story of a restore: look at everything first, then close, forget, remember, swap.

Decided here: the order. The file is read three times. The first time it is checked to its last line
and each instance is held against what the store has; nothing was changed if that is refused. Then
all instances that are there are closed, their ids are taken away, the file's are put back, and each
instance is swapped, which opens it. So no instance is ever in service with ids that do not agree
with its counters, wherever this is cut off; run again, it comes to the same end. While it runs it
holds the leases of its partitions, so that nothing is forwarded and nobody else restores.
Not decided here: what may be replaced (core/histories.py), each step (store/restoring.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from gateway.core.backups import Begin, End, Entries, Frame, Header, Ids, Part
from gateway.core.decisions import Decision
from gateway.core.errors import GatewayError, InvalidInput
from gateway.core.histories import Loss, catalogue_is_ahead, forgotten, may_have_gone
from gateway.core.moments import iso
from gateway.core.provisioning_change import difference
from gateway.service.backup_content import Content, decode_catalogue, header_of, read_contents
from gateway.service.restored_instance import Incoming
from gateway.store.damages import describe, is_damage
from gateway.store.keys import partition_of
from gateway.store.known_ids import KnownIds
from gateway.store.opening import Store
from gateway.store.own import Own
from gateway.store.restoring import RESTORED, Present, Restoring
from gateway.upstream.leases import LEASE_S, Leases

LEASE_WAIT_S: Final = LEASE_S + 3.0  # that of a forwarder which was killed has lapsed by then
LEASE_PAUSE_S: Final = 0.5


class Refused(GatewayError):
    """The store has what the file has not; nothing was changed."""


class Busy(GatewayError):
    """Somebody forwards, or restores, in the same partitions; nothing was changed."""


class Losses(msgspec.Struct):
    """What a restore would come to: what is forgotten, by instance, and of the gateway's own keys;
    how many instances are new, and which ones the file lacks and are left alone. `gone`: the
    instances of which units went upstream since, or may have.
    """

    header: Header
    instances: list[str]
    of: dict[str, Loss]
    own: list[str]
    new: int
    left_alone: list[str]
    gone: list[str] = []

    @property
    def against_sending(self) -> str:
        """Say why what waited in the backup must not be sent, even where all is forgotten; "": no
        reason.
        """
        if not self.gone:
            return ""
        return (
            "--outbox send would count twice: of what waited to go upstream in the backup some has"
            f" gone since, or may have ({', '.join(self.gone)}). Without it, that is set aside for"
            " you to decide"
        )


@dataclass
class Restore:
    """A restore of a file into an open store. `frames` reads the file anew each time it is called.

    `send`: nothing of what waited to go upstream has gone since the backup; not taken from who the
    store proves wrong. `files`: those that the gateway made for itself (store/own.py).
    """

    store: Store
    frames: Callable[[], Iterator[Frame]]
    chosen: Collection[str] = ()
    send: bool = False
    lease_wait_s: float = LEASE_WAIT_S
    tell: Callable[[str], None] = lambda _: None
    files: Mapping[str, Path] = field(default_factory=dict)
    parked: int = 0  # batches that were set aside
    kept: list[Path] = field(default_factory=list)  # files that were written over
    _present: dict[str, Present] = field(default_factory=dict)

    def __post_init__(self) -> None:
        store = self.store
        self._store = Restoring(store.topology, store.partitions, store.strength.wait)
        self._own = Own(store, self.files)

    async def look(self) -> Losses:
        """Check the file to its end and say what a restore would forget. Changes nothing.

        Raises BadBackup, InvalidInput for an instance that is not in the file, Unavailable.
        """
        frames = self.frames()
        losses = Losses(header_of(frames), [], {}, [], 0, [])
        for content in read_contents(frames):
            if isinstance(content, Content) and self._is_chosen(content.begin.instance):
                await self._look_at(content, losses)
        if missing := sorted(set(self.chosen) - set(losses.instances)):
            raise InvalidInput(*(f"The backup has no instance {each[:64]!r}" for each in missing))
        there = await self.store.catalogues.instances()
        losses.left_alone = sorted(set(there) - set(losses.instances))
        if there and self._is_whole(losses):  # without instances nobody can rely on any key
            losses.own = await self._own.differences(losses.header.meta)
        return losses

    async def _look_at(self, content: Content, losses: Losses) -> None:
        name = content.begin.instance
        self.tell(f"looking at instance {len(losses.instances) + 1}: {name}")
        losses.instances.append(name)
        present = self._present[name] = await self._read_present(name)
        if present.state is None:
            losses.new += 1
            return
        loss = forgotten(present.state, content.state)
        if loss is not None:
            losses.of[name] = loss
            if catalogue_is_ahead(present.state, content.state):
                changes = difference(decode_catalogue(present.state.blob), content.catalogue)
                losses.of[name] = replace(loss, sentences=(*loss.sentences, *changes))
        if may_have_gone(present.state, content.state):
            losses.gone.append(name)

    async def _read_present(self, name: str) -> Present:
        try:
            return await self._store.present(name)
        except Exception as error:
            if not is_damage(error):
                raise
            raise InvalidInput(
                f"Instance {name} of this store is damaged: {describe(error)}. Nothing was changed;"
                " restore into an empty store, or name the other instances"
            ) from error

    def _is_chosen(self, name: str) -> bool:
        return not self.chosen or name in self.chosen

    def _is_whole(self, losses: Losses) -> bool:
        return losses.header.whole and not self.chosen

    async def run(self, leases: Leases, losses: Losses, epoch: int, who: str, why: str) -> int:
        """Do it, after `look`; gives how many ids were put back.

        `epoch` is a number that no restore had before. Raises Refused where what waited is to be
        sent though it may have gone since, Busy, Changed or Unavailable; run again then.
        """
        if self.send and losses.against_sending:
            raise Refused(f"Refused, and nothing was changed: {losses.against_sending}")
        async with AsyncExitStack() as stack:
            await self._take(stack, leases, losses.instances)
            await self._close(losses.instances)
            known = KnownIds(self.store.topology, self.store.partitions)
            self.tell("taking away the ids of instances that are replaced")
            there = set(await self.store.catalogues.instances()) | set(losses.instances)
            await known.forget(losses.instances, there)
            ids = 0
            for frame in self.frames():
                if isinstance(frame, Ids):
                    some = [each for each in frame.ids if each.instance in self._present]
                    ids += await known.remember(some)
                    self.tell(f"{ids} idempotency ids")
            await self._bring(losses, epoch, who, why)
            if self._is_whole(losses):
                self.kept = await self._own.put(losses.header.meta, f"restore-{epoch:x}")
        return ids

    async def _take(self, stack: AsyncExitStack, leases: Leases, names: Collection[str]) -> None:
        partitions = sorted({partition_of(name, self.store.partitions) for name in names})
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self.lease_wait_s
        for partition in partitions:
            while await stack.enter_async_context(leases.hold(partition)) is None:
                if loop.time() > until_s:
                    raise Busy(
                        f"Somebody forwards, or restores, in partition {partition}: stop all"
                        " gateways and forwarders, then run this again. Nothing was changed"
                    )
                self.tell("waiting for a lease: somebody forwards, or was killed just now")
                await asyncio.sleep(LEASE_PAUSE_S)

    async def _close(self, names: Collection[str]) -> None:
        closed: list[str] = []
        try:
            for name in names:
                await self._store.close(name, self._present[name])
                closed.append(name)
        except GatewayError:
            for name in closed:  # nothing of them was changed yet
                await self._store.reopen(name)
            raise

    async def _bring(self, losses: Losses, epoch: int, who: str, why: str) -> None:
        incoming: Incoming | None = None
        number = 0
        for frame in self.frames():
            if isinstance(frame, Begin):
                incoming = None
                if frame.instance in self._present:
                    number += 1
                    self.tell(f"instance {number} of {len(losses.instances)}: {frame.instance}")
                    present = await self._store.present(frame.instance)
                    incoming = Incoming(
                        *(self._store, frame, present, epoch, losses.header.at_ms),
                        send=self.send,
                        gone=frame.instance in losses.gone,
                    )
            elif incoming is not None and isinstance(frame, Part):
                await incoming.part(frame)
            elif incoming is not None and isinstance(frame, Entries):
                await incoming.entries(frame.entries)
            elif incoming is not None and isinstance(frame, End):
                loss = losses.of.get(frame.instance)
                what = f"{RESTORED} --force" if loss else RESTORED
                said = Decision(who, what, why, "", f"backup of {iso(losses.header.at_ms)}")
                units = loss.units if loss else {}
                words = " ".join(f"{line}={-more}" for line, more in units.items())
                await incoming.end([*said.fields, "units", words])
                self.parked += incoming.parked
