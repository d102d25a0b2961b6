"""The fault engine: load once, attach disarmed, arm by one write, count, report.

The only user of bcc, which is imported when an engine is made: most commands do
without it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno as errno_names
import importlib
import os
import select
import struct
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Optional

from inject.engine import abi, bytecode
from inject.engine import kprobe_multi as bpf
from inject.engine.abi import ARMED, EVENT, EVENT_HEAD, TABLES, TALLY
from inject.engine.encode import MapImage, render, uses
from inject.engine.maps import Maps, failed
from inject.engine.quiesce import others_still
from inject.engine.return_trace import Trail, Trails, shortened
from inject.engine.ring import HEADER, Ring
from inject.engine.rule import Plan, Rule
from inject.errors import CannotRun, InjectError
from inject.kernel.kernel import Kernel
from inject.kernel.obstacles import without_ftrace
from inject.model.event import Injection
from inject.model.point import FaultPoint
from inject.model.scenario import Probe
from inject.model.verdict import Counts

SOURCE = Path(__file__).with_name("override.bpf.c")
KPROBE, RAW_TRACEPOINT, TRACING = 2, 17, 26
"""enum bpf_prog_type, include/uapi/linux/bpf.h"""
PROGRAMS = {"on_kprobe": KPROBE, "on_trampoline": TRACING, "on_sys_exit": RAW_TRACEPOINT}
FOLLOWERS = {"on_return": KPROBE, "on_leave": RAW_TRACEPOINT}
"""Loaded only where errors are followed."""
ALL_PROGRAMS = {**PROGRAMS, **FOLLOWERS}
SLOT_AT = HEADER + EVENT.before("slot").size
STRIDE = HEADER + EVENT.size
"""Bytes from one event to the next."""
_NEW_NAMES = (
    "pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount fsopen fsconfig"
    " fsmount fspick pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2 process_madvise epoll_pwait2"
    " mount_setattr quotactl_fd landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret"
    " process_mrelease futex_waitv set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack futex_wake"
    " futex_wait futex_requeue statmount listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal"
)
NEW_CALLS = dict(enumerate(_NEW_NAMES.split(), 424))
"""System calls by number, the same on every architecture, that bcc 0.31 has no names for
(include/uapi/asm-generic/unistd.h)."""
LOG_SIZE = 1 << 20
MOST_SYMBOLS = 65536
"""Addresses whose names are remembered; the same few call paths come again and again."""
MOST_EVENTS = 250_000
"""Injections that wait to be asked for; what comes beyond is counted as lost."""


@contextlib.contextmanager
def captured_stderr() -> Iterator[Callable[[], str]]:
    """What libraries in C print on descriptor 2, instead of the user's terminal."""
    saved = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)

        def text() -> str:
            file.seek(0)
            return file.read(1 << 20).decode(errors="replace")

        try:
            yield text
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _import_bcc() -> Any:
    try:
        import bcc
    except ImportError as error:
        if "bcc" in str(error) or getattr(error, "name", "") == "bcc":
            raise CannotRun("bcc is not installed for this Python", "apt-get install python3-bpfcc") from None
        raise CannotRun(f"bcc cannot be imported: {error}", "apt-get install --reinstall python3-bpfcc") from None
    except OSError as error:
        raise CannotRun(f"bcc cannot be loaded: {error}", "apt-get install --reinstall libbpfcc") from None
    return bcc


class Engine:
    """One loaded program set. A context manager: leaving it detaches everything.

    The kernel takes the probes away by itself when this process ends in any way,
    because they are perf events (kernel/events/core.c, perf_event_release_kernel).
    Raises CannotRun when bcc, the compiler's needs or the privileges are missing.
    """

    def __init__(self, kernel: Kernel, cache: Optional[Path] = None) -> None:
        if os.geteuid():
            raise CannotRun("attaching probes needs root", "run with sudo")
        if not (kernel.root / "sys/bus/event_source/devices/kprobe/type").exists():
            raise CannotRun("this kernel cannot attach kprobes as perf events", "it needs CONFIG_KPROBE_EVENTS=y")
        self._kernel = kernel
        self._bcc = _import_bcc()
        self._lib = self._bcc.libbcc.lib
        self._probes: list[tuple[int, bytes, int]] = []
        self._links: list[tuple[int, int]] = []
        self.used: tuple[Probe, ...] = ()
        self._tracepoint: tuple[int, int] = (-1, -1)
        self._tracing = False
        self._any_rule = False
        self._trails = Trails()
        self._ripe: list[Trail] = []
        self._watching: tuple[int, ...] = ()
        self._watched: tuple[int, ...] = ()
        self._rings: tuple[Ring, ...] = ()
        self._collecting = threading.Lock()
        self._plan: Plan = Plan(())
        self._waiting: deque[bytes] = deque()
        self._offset = 0
        self._collected = 0
        self._taken = 0
        self._dropped: dict[int, int] = {}
        self._lease = threading.Lock()
        self._armed: Optional[tuple[int, int, int]] = None
        self._deadline = 0
        self.lapsed = False
        """Whether the kernel stopped by itself because extend() came too late."""
        self._symbols: dict[int, str] = {}
        self.compiled = False
        self._code = self._bytecode(cache)
        self._maps = Maps(self._lib)
        try:
            self._open_rings()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------ program and maps

    def _bytecode(self, cache: Optional[Path]) -> bytecode.Bytecode:
        source = SOURCE.read_text()
        key = bytecode.cache_key(source, str(self._bcc.__version__), self._kernel.build_id, self._kernel.release)
        if cache is not None and self._kernel.build_id:
            kept = bytecode.load(cache, key)
            if kept is not None and set(kept.programs) == set(ALL_PROGRAMS) and set(kept.maps) == set(TABLES):
                return kept
        fresh = self._compile(source)
        self.compiled = True
        if cache is not None and self._kernel.build_id:
            bytecode.keep(cache, key, fresh)
        return fresh

    def _compile(self, source: str) -> bytecode.Bytecode:
        with captured_stderr() as noise:
            try:
                program = self._bcc.BPF(text=source.encode())
                try:
                    code = {name: bytes(program.dump_func(name.encode())) for name in ALL_PROGRAMS}
                    maps = {name: int(self._lib.bpf_table_fd(program.module, name.encode())) for name in TABLES}
                    return bytecode.unbind(code, maps)
                finally:
                    program.cleanup()
            except Exception as error:  # bcc raises bare Exception
                said = [line for line in noise().splitlines() if line.strip()] or [str(error)]
        lines = [line for line in said if "error:" in line] or said
        if "kheaders" in "".join(said) or "chdir" in "".join(said):
            raise CannotRun(
                "bcc finds no headers of the running kernel",
                f"install linux-headers-{self._kernel.release} or build the kernel with CONFIG_IKHEADERS=y",
            )
        raise CannotRun(f"bcc cannot compile the program: {lines[0].strip()}", "`inject doctor` lists what it needs")

    def _bound(self, program: str, slot: int) -> bytes:
        numbers = {
            abi.SLOT_MARK: slot,
            abi.TRACE_MARK: int(self._tracing),
            abi.USES_MARK: abi.USES_EVERYTHING if self._any_rule else uses(self._plan.rules[slot]),
        }
        return self._code.bind(program, self._maps.descriptors, numbers, self._maps.addresses(slot))

    def _load(self, program: str, slot: int, name: str = "") -> int:
        code = self._bound(program, slot)
        buffer = ctypes.create_string_buffer(code, len(code))
        with captured_stderr() as noise:
            descriptor = self._lib.bcc_prog_load(
                ALL_PROGRAMS[program], (name or program).encode(), buffer, len(code), b"GPL", 0, 0, None, 0
            )
            number = ctypes.get_errno()
            said = [line for line in noise().splitlines() if line.strip() and not line.startswith("processed ")]
        if descriptor < 0:
            raise CannotRun(
                f"the kernel refuses the BPF program ({os.strerror(number) if number else 'no reason given'})"
                + (f": {said[-1]}" if said else ""),
                "`inject doctor` lists what it needs",
            )
        return int(descriptor)

    # ------------------------------------------------------------ attaching

    def attach(
        self,
        plan: Plan,
        probe: Probe = Probe.AUTO,
        watch: Sequence[int] = (),
        *,
        errnos: bool = True,
        any_rule: bool = False,
    ) -> None:
        """Put ``plan``'s rules into the maps and its probes into the kernel, disarmed.

        ``used`` says afterwards which kind of probe each rule got. ``watch`` are the
        addresses of functions whose return values errors are followed by. Without
        ``errnos`` those of system calls are not counted, which spares every task of the
        machine the look at each of its calls. With ``any_rule`` the programs can do what
        any rule may ask for, which replan() needs. Raises CannotRun when the kernel refuses one.
        """
        self.detach()
        self._tracing = bool(watch)
        self._any_rule = any_rule
        image = render(plan)
        self._forget()
        self._write_image(image)
        self._plan = plan
        try:
            # What is attached last is asked first, and a call that one rule fails the others never see
            # (aggr_pre_handler() in kernel/kprobes.c, bpf_trampoline_get_progs() in kernel/bpf/trampoline.c).
            slots = reversed(range(len(plan.rules)))
            self.used = tuple(self._attach(slot, plan.rules[slot], _kind(plan, slot, probe)) for slot in slots)[::-1]
            if errnos:
                self._attach_sys_exit()
            self._watch(tuple(watch))
        except BaseException:
            self.detach()
            raise

    def _write_image(self, image: MapImage) -> None:
        for slot, rule in enumerate(image.rules):
            self._maps.write("rules", rule, slot)
        for index, glob in enumerate(image.globs):
            self._maps.update("globs", struct.pack("<I", index), glob)
        self._maps.clear("paths")
        for key, classes in image.prefixes:
            self._maps.update("paths", key, struct.pack("<Q", classes))
        self._maps.clear("devices")
        for key in image.devices:
            self._maps.update("devices", key, bytes(4))

    def rewrite(self, slot: int, rule: Rule) -> None:
        """Give the probe of ``slot`` another trigger while it stays attached; its counters go on.

        ``rule`` must have the conditions of the one before: only its trigger may differ.
        """
        assert uses(rule) == uses(self._plan.rules[slot])
        rules = list(self._plan.rules)
        rules[slot] = rule
        plan = replace(self._plan, rules=tuple(rules))
        self._maps.write("rules", render(plan).rules[slot], slot)
        self._plan = plan

    def replan(self, plan: Plan) -> None:
        """Give every attached probe another rule, conditions and all; for the same functions in the same order."""
        assert self._any_rule and [rule.point for rule in plan.rules] == [rule.point for rule in self._plan.rules]
        self._write_image(render(plan))
        self._plan = plan

    def _attach(self, slot: int, rule: Rule, probe: Probe) -> Probe:
        """fmod_ret costs half of a kprobe, and cannot return 0 nor find a function that BTF does not name."""
        if probe is not Probe.KPROBE and rule.trampoline:
            try:
                self._attach_trampoline(slot, rule)
                return Probe.FMOD_RET
            except CannotRun:
                if probe is Probe.FMOD_RET:
                    raise
        if probe is Probe.FMOD_RET:
            why = (
                "cannot return 0 or NULL" if not all(rule.values) else "needs the function's own name in vmlinux's BTF"
            )
            raise CannotRun(f"fmod_ret cannot fail {rule.point.function}: it {why}", "use --probe kprobe")
        self._attach_kprobe(slot, rule)
        return Probe.KPROBE

    def _attach_trampoline(self, slot: int, rule: Rule) -> None:
        program = self._load("on_trampoline", slot, f"kmod_ret__{rule.trampoline}")
        with captured_stderr():
            descriptor = self._lib.bpf_attach_kfunc(program)
        if descriptor < 0:
            os.close(program)
            raise failed(f"the kernel refuses fmod_ret on {rule.point.function}")
        self._links.append((descriptor, program))

    def _attach_kprobe(self, slot: int, rule: Rule) -> None:
        function = rule.point.function
        program = self._load("on_kprobe", slot)
        name = b"inject_%d_%d" % (os.getpid(), slot)
        with captured_stderr() as noise:
            descriptor = self._lib.bpf_attach_kprobe(program, 0, name, function.encode(), 0, 0)
            number = ctypes.get_errno()
            said = noise()
        if descriptor < 0:
            os.close(program)
            raise self._refused(rule.point, number, said)
        self._probes.append((descriptor, name, program))

    def _refused(self, point: FaultPoint, number: int, said: str) -> InjectError:
        """The kernel's no, after the planner found nothing in the way."""
        if "notrace" in said or (
            self._kernel.ftrace.traceable and not self._kernel.ftrace.traceable & {point.function, *point.names}
        ):
            return without_ftrace(point)
        reason = os.strerror(number) if number else (said.strip().splitlines() or ["no reason given"])[-1]
        return CannotRun(
            f"the kernel refuses a probe on {point.function} ({reason})",
            f"`inject list --explain {point.function}` may say why",
        )

    def _attach_sys_exit(self) -> None:
        program = self._load("on_sys_exit", 0)
        descriptor = self._lib.bpf_attach_raw_tracepoint(program, b"sys_exit")
        if descriptor < 0:
            os.close(program)
            raise failed("cannot trace system calls")
        self._tracepoint = (descriptor, program)

    def _watch(self, addresses: tuple[int, ...]) -> None:
        """See the returns of the functions at ``addresses``; what is watched already stays, which saves seconds."""
        if not addresses:
            self._unwatch()
            return
        if addresses != self._watched:
            self._unwatch()
            code = self._bound("on_return", 0)
            with others_still(self._kernel.is_emulated()):
                self._watching = bpf.probe_returns(code, addresses, "on_return")
            self._watched = addresses
        program = self._load("on_leave", 0)
        descriptor = self._lib.bpf_attach_raw_tracepoint(program, b"sys_exit")
        if descriptor < 0:
            os.close(program)
            raise failed("cannot trace system calls")
        self._links.append((descriptor, program))

    def _unwatch(self) -> None:
        if self._watching:
            with others_still(self._kernel.is_emulated()):
                for descriptor in self._watching:
                    os.close(descriptor)
        self._watching, self._watched = (), ()

    def detach(self) -> None:
        """Disarm and take every probe away, but those on returns, which fire only while armed."""
        if self._maps.descriptors:
            self.disarm()
        for descriptor, name, program in self._probes:
            os.close(descriptor)
            with captured_stderr():
                self._lib.bpf_detach_kprobe(name)
            os.close(program)
        self._probes.clear()
        for link in self._links:
            for descriptor in link:
                os.close(descriptor)
        self._links.clear()
        for descriptor in self._tracepoint:
            if descriptor >= 0:
                os.close(descriptor)
        self._tracepoint = (-1, -1)

    def close(self) -> None:
        """Leave nothing in the kernel."""
        self.detach()
        self._unwatch()
        for ring in self._rings:
            ring.close()
        self._rings = ()
        self._maps.close()

    # ------------------------------------------------------------ arming

    def arm(self, cgroup: int, level: int, seconds: float, budget: int = 0) -> None:
        """Start failing calls of tasks below ``cgroup`` (its id and depth).

        The kernel stops by itself after ``seconds`` unless extend() is called before,
        and after ``budget`` injections if that is not 0.
        """
        self._forget()
        self._dropped.clear()
        for slot in range(len(self._plan.rules)):
            self._maps.write("tallies", bytes(TALLY.size), slot)
            self._maps.write("untraced", bytes(8), slot)
        self._maps.write("spent", bytes(8))
        for name in ("results", "live", "trails"):
            self._maps.clear(name)
        self._trails = Trails()
        self._ripe.clear()
        with self._lease:
            self._armed = (cgroup, level, budget)
            self.lapsed = False
            self._write_control(_now() + int(seconds * 1e9))

    def extend(self, seconds: float) -> None:
        """Put the kernel's deadline off to ``seconds`` from now; may be called by any thread.

        Does nothing when disarmed. When the deadline has passed already, calls were let
        through that should have failed: then it stays so, and ``lapsed`` says it.
        """
        with self._lease:
            now = _now()
            if self._armed is None or self.lapsed:
                return
            if now >= self._deadline:
                self.lapsed = True
                return
            self._write_control(now + int(seconds * 1e9))

    def revive(self, seconds: float) -> None:
        """Go on for ``seconds`` although the deadline has passed; for a person who sees that it had."""
        with self._lease:
            if self._armed is not None:
                self.lapsed = False
                self._write_control(_now() + int(seconds * 1e9))

    def _write_control(self, deadline: int) -> None:
        assert self._armed is not None
        cgroup, level, budget = self._armed
        self._deadline = deadline
        value = abi.CONTROL.pack(cgroup, deadline, budget, level, os.getpid(), self._plan.others, True)
        self._maps.write("control", value[:ARMED])
        self._maps.write("control", value[ARMED:], offset=ARMED)

    def disarm(self) -> None:
        """Stop failing calls, by one map write."""
        with self._lease:
            if self._armed is not None and _now() >= self._deadline:
                self.lapsed = True
            self._armed = None
            self._maps.write("control", bytes(4), offset=ARMED)

    # ------------------------------------------------------------ results

    def counts(self) -> tuple[Counts, ...]:
        """Of every fault since it was armed, in the scenario's order."""
        found = []
        for slot in range(len(self._plan.rules)):
            seen, spared, matched, _, injected, lost = TALLY.unpack(self._maps.read("tallies", slot))
            found.append(Counts(seen, matched, injected, spared, lost + self._dropped.get(slot, 0)))
        return tuple(found)

    def refused(self, budget: int) -> int:
        """Injections since it was armed that only ``budget`` kept from happening."""
        (used,) = struct.unpack("<Q", self._maps.read("spent"))
        return max(0, used - budget) if budget else 0

    def drawn(self, slot: int) -> int:
        """How many times `times` of ``slot`` was asked for leave; what a new limit has to be counted from."""
        return int(TALLY.unpack(self._maps.read("tallies", slot))[3])

    def errnos(self) -> dict[tuple[str, str], int]:
        """How often the workload's system calls failed: (``write``, ``ENOSPC``) to count."""
        found: dict[tuple[str, str], int] = {}
        for key in self._maps.keys("results"):
            call, error = struct.unpack("<II", key)
            (count,) = struct.unpack("<Q", self._maps.lookup("results", key))
            found[self.system_call(call), errno_names.errorcode.get(error, str(error))] = count
        return found

    def poll(self, milliseconds: int) -> list[Injection]:
        """Injections reported since the last call, waiting ``milliseconds`` at most for one."""
        self.collect(milliseconds)
        return self.take(MOST_EVENTS)

    def collect(self, milliseconds: int) -> None:
        """Empty the kernel's buffers, waiting ``milliseconds`` at most for something; may be called by any thread.

        What came is kept for take() as it is, because the kernel drops injections while
        its buffer is full.
        """
        arrivals = select.poll()  # one for each call: two threads must not share one
        for name in ("events", "steps"):
            arrivals.register(self._maps.descriptors[name], select.POLLIN)
        arrivals.poll(milliseconds)
        with self._collecting:
            if not self._rings:
                return
            events, steps = self._rings
            for raw in steps.take():
                self._trails.take(raw)
            done = self._trails.done()
            self._keep(events.take_equal(EVENT.size))
            self._ripe += done

    def _keep(self, events: bytes) -> None:
        room = (MOST_EVENTS - self._collected + self._taken) * STRIDE
        for at in range(room, len(events), STRIDE):
            (slot,) = struct.unpack_from("<I", events, SLOT_AT + at)
            self._dropped[slot] = self._dropped.get(slot, 0) + 1
        if events[:room]:
            self._waiting.append(events[:room])
            self._collected += len(self._waiting[-1]) // STRIDE

    def _forget(self) -> None:
        """Drop what waits: it belongs to the plan or the arming before."""
        self.collect(0)
        self._waiting.clear()
        self._offset, self._taken = 0, self._collected

    def take(self, most: int) -> list[Injection]:
        """The oldest injections that were collected and not taken yet, ``most`` at most."""
        found: list[Injection] = []
        while self._waiting and len(found) < most:
            events = self._waiting[0]
            found.append(self._injection(events, self._offset + HEADER))
            self._taken += 1
            self._offset += STRIDE
            if self._offset == len(events):
                self._waiting.popleft()
                self._offset = 0
        return found

    def _open_rings(self) -> None:
        maps = self._maps.descriptors
        try:
            self._rings = (Ring(maps["events"], abi.EVENTS_BYTES), Ring(maps["steps"], abi.STEPS_BYTES))
        except OSError as error:
            raise CannotRun(
                f"cannot open the event buffers: {error.strerror}", "`inject doctor` lists what the engine needs"
            ) from None

    # ------------------------------------------------------------ errors on their way up

    def trails(self, *, rest: bool = False) -> list[Trail]:
        """Those whose system call has ended since the last call; with ``rest`` all others as well, once and for all.

        The injection of each was collected before.
        """
        ripe, self._ripe = self._ripe, []
        return ripe + (self._trails.done() + self._trails.rest() if rest else [])

    def system_call(self, number: int) -> str:
        """Its name, ``write``."""
        name = NEW_CALLS.get(number) or importlib.import_module("bcc.syscall").syscall_name(number)
        return bytes(name).decode() if isinstance(name, (bytes, bytearray)) else str(name)

    def written(self, fault: int, value: int) -> str:
        """What the scenario calls ``value``, 64 bits that fault number ``fault`` returned."""
        rule = self._plan.rules[fault]
        return str(rule.returned[rule.values.index(value)])

    def untraced(self) -> int:
        """Injections whose way up was not watched, for want of room."""
        slots = range(len(self._plan.rules))
        lost = (struct.unpack("<Q", self._maps.read("untraced", slot))[0] for slot in slots)
        return int(sum(lost)) + self._trails.dropped

    def path(self, trail: Trail) -> list[tuple[str, Optional[int]]]:
        """The call path as (``symbol+0xoff``, the 64 bits that came back to it if seen), the failed function first."""
        path = shortened(trail.frames, self._own(trail.fault, trail.frames), trail.caller)
        return [(self._symbol(address), trail.values.get(index)) for address, index in path]

    def _injection(self, raw: bytes, at: int) -> Injection:
        time_ns, ordinal, value, slot, pid, tid, used, comm, caller = EVENT_HEAD.unpack_from(raw, at)
        frames = struct.unpack_from(f"<{max(used, 0) // 8}Q", raw, at + EVENT_HEAD.size)
        rule = self._plan.rules[slot]
        return Injection(
            fault=slot,
            function=rule.point.function,
            returned=self.written(slot, value),
            value=value - (1 << 64) if value >> 63 else value,
            ordinal=ordinal,
            pid=pid,
            tid=tid,
            comm=comm.split(b"\0")[0].decode(errors="replace"),
            time_ns=time_ns,
            stack=self._stack(slot, frames, caller),
        )

    def _stack(self, slot: int, frames: Sequence[int], caller: int) -> tuple[str, ...]:
        """The call path from the function itself outwards, without a trampoline's own frames.

        ``caller`` is where the function returns to, which not every unwinder sees from its entry.
        """
        path = shortened(frames, self._own(slot, frames), caller)
        return tuple(self._symbol(address) for address, _ in path)

    def _own(self, slot: int, frames: Sequence[int]) -> int:
        """Where the failed function is in ``frames``: a trampoline has frames of its own before it."""
        if self.used[slot] is not Probe.FMOD_RET:
            return 0
        names = self._plan.rules[slot].point.names
        inside = (i for i, frame in enumerate(frames[:4]) if self._symbol(frame).partition("+")[0] in names)
        return next(inside, 0)

    def _symbol(self, address: int) -> str:
        known = self._symbols.get(address)
        if known is None:
            name = self._bcc.BPF.ksym(address, show_offset=True)
            known = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
            if len(self._symbols) < MOST_SYMBOLS:
                self._symbols[address] = known
        return known


def _kind(plan: Plan, slot: int, probe: Probe) -> Probe:
    """Of rules for one function either all go by fmod_ret or none: a kprobe's override does not keep it away."""
    if probe is not Probe.AUTO:
        return probe
    address = plan.rules[slot].point.address
    able = (bool(rule.trampoline) for rule in plan.rules if rule.point.address == address)
    return Probe.AUTO if all(able) else Probe.KPROBE


def _now() -> int:
    """CLOCK_MONOTONIC in nanoseconds, which is what bpf_ktime_get_ns() reads."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
