"""Buffer of what the BPF program reports through its ring buffers."""

from __future__ import annotations

import select
import struct
import threading
from collections import deque

from inject.engine import abi
from inject.engine.maps import Maps
from inject.engine.return_trace import Trail, Trails
from inject.engine.ring import HEADER, Ring
from inject.errors import CannotRun

STRIDE = HEADER + abi.EVENT.size
"""Bytes from one event to the next."""
SLOT_AT = HEADER + abi.EVENT.before("slot").size
MOST_EVENTS = 250_000
"""Injections that wait to be taken; further ones are counted as lost."""


class Backlog:
    """Events as they came out of the ring, oldest first. One thread may add while another one takes."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._offset = 0
        self._added = 0
        self._taken = 0
        self.dropped: dict[int, int] = {}
        """Lost events by slot: there was no room, or the time was over."""

    def add(self, events: bytes) -> None:
        """Keep ``events``, headers included, as far as there is room."""
        room = (MOST_EVENTS - self._added + self._taken) * STRIDE
        for at in range(room, len(events), STRIDE):
            self._drop(events, at)
        if events[:room]:
            self._chunks.append(events[:room])
            self._added += len(self._chunks[-1]) // STRIDE

    def take(self, most: int) -> list[tuple[bytes, int]]:
        """The oldest events, ``most`` at most: each as bytes and its offset in them."""
        found: list[tuple[bytes, int]] = []
        while self._chunks and len(found) < most:
            events = self._chunks[0]
            found.append((events, self._offset + HEADER))
            self._taken += 1
            self._offset += STRIDE
            if self._offset == len(events):
                self._chunks.popleft()
                self._offset = 0
        return found

    def _drop(self, events: bytes, at: int) -> None:
        (slot,) = struct.unpack_from("<I", events, at + SLOT_AT)
        self.dropped[slot] = self.dropped.get(slot, 0) + 1

    def abandon(self) -> None:
        """Drop the events that wait, and count them as those that found no room."""
        while self._chunks:
            events = self._chunks.popleft()
            for at in range(self._offset, len(events), STRIDE):
                self._drop(events, at)
            self._offset = 0
        self._taken = self._added

    def forget(self) -> None:
        """Drop the events that wait."""
        self._chunks.clear()
        self._offset, self._taken = 0, self._added


class Collector:
    """Empties the kernel's ring buffers. Raises CannotRun if they cannot be opened."""

    def __init__(self, maps: Maps) -> None:
        self._descriptors = [maps.descriptors[name] for name in ("events", "steps")]
        events, steps = self._descriptors
        try:
            self._rings: tuple[Ring, ...] = (Ring(events, abi.EVENTS_BYTES), Ring(steps, abi.STEPS_BYTES))
        except OSError as error:
            raise CannotRun(
                f"cannot open the event buffers: {error.strerror}", "`inject doctor` lists what the engine needs"
            ) from None
        self._collecting = threading.Lock()
        self._trails = Trails()
        self._ripe: list[Trail] = []
        self.backlog = Backlog()

    def collect(self, milliseconds: int) -> None:
        """Empty the buffers, waiting ``milliseconds`` at most for something; any thread may call it.

        The kernel drops injections while its buffer is full, so they are kept as they are.
        """
        arrivals = select.poll()  # one for each call: two threads must not share one
        for descriptor in self._descriptors:
            arrivals.register(descriptor, select.POLLIN)
        arrivals.poll(milliseconds)
        with self._collecting:
            if not self._rings:
                return
            events, steps = self._rings
            for raw in steps.take():
                self._trails.take(raw)
            done = self._trails.done()
            self.backlog.add(events.take_equal(abi.EVENT.size))
            self._ripe += done

    def forget(self) -> None:
        """Drop the events so far: they belong to the plan or the arming before."""
        self.collect(0)
        self.backlog.forget()

    def restart(self) -> None:
        """Begin anew for another arming; the kernel's side is empty."""
        self.backlog.dropped.clear()
        self._trails = Trails()
        self._ripe.clear()

    def trails(self, *, rest: bool) -> list[Trail]:
        """Trails whose system call has ended since the last trails(); with ``rest`` all others too."""
        ripe, self._ripe = self._ripe, []
        return ripe + (self._trails.done() + self._trails.rest() if rest else [])

    def abandon(self, trails: int) -> None:
        """Count the events that wait, and ``trails`` that were taken, as those that found no room."""
        self.backlog.abandon()
        self._trails.dropped += trails

    @property
    def produced(self) -> int:
        """Bytes of events that the kernel has reported since the buffers were made."""
        return self._rings[0].produced

    @property
    def dropped_trails(self) -> int:
        """Trails that found no room."""
        return self._trails.dropped

    def close(self) -> None:
        """Release the buffers."""
        for ring in self._rings:
            ring.close()
        self._rings = ()
