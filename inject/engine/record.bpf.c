// SPDX-License-Identifier: GPL-2.0
/*
 * Records from where functions are called: one program for all of them, and nothing fails. A
 * point is a function and the whole stack trace of a call; it is the key of the table, so that
 * no two of them can be taken for one. What does not fit is counted.
 *
 * The kernel runs no second program of this type on a CPU meanwhile, and no other task
 * (bpf_prog_active and ftrace_test_recursion_trylock(), v6.12): `scratch` needs no lock, and what
 * is missed is called from an interrupt or by the program itself.
 *
 * inject/engine/record_abi.py repeats the bounds, structs, maps and constants of this file;
 * tests/unit/test_record_abi.py compares the two.
 */
#include <uapi/linux/ptrace.h>

#define FRAMES		125	/* of a stack trace; the kernel unwinds 127 at most (PERF_MAX_STACK_DEPTH) */
#define INTERRUPT	0x000f0100	/* HARDIRQ_MASK | SOFTIRQ_OFFSET, include/linux/preempt.h, v6.12 */

struct watch {
	u64 cgroup;		/* id of the workload's cgroup ... */
	u32 level;		/* ... and its depth, the root being 0 */
	u32 any;		/* any task, and calls in interrupts */
	u32 tool;		/* processes that are not recorded: inject, ... */
	u32 janitor;		/* ... what cleans up after it, ... */
	u32 agent;		/* ... and what the host of a guest talks to */
	u32 armed;		/* last, because an update copies upwards */
};

struct losses {			/* calls that are in no point */
	u64 full;		/* no room for another point */
	u64 untraced;		/* the kernel gave no stack trace */
	u64 unknown;		/* of a function that was not asked for */
};

struct path {
	u64 function;
	u64 caller;		/* the one frame that frame[] may lack */
	u64 frame[FRAMES];	/* innermost first, 0 after the last */
};

struct reached {
	u64 hits;
	u64 first;		/* which call of its function, from 1 */
};

/* Replaced at load time by the address of memory that user space maps; see override.bpf.c. */
#define SHARED(type, mark) ({ type *shared_; asm("%0 = " mark " ll" : "=r"(shared_)); shared_; })
#define WATCH()		SHARED(struct watch, "0x4ec04dec0101")
#define LOSSES()	SHARED(struct losses, "0x4ec04dec0102")
#define GATE()		SHARED(u32, "0x4ec04dec0106")	/* 0: nothing is to be recorded yet */

/* User space makes the maps, with as much room as is asked for. */
BPF_F_TABLE("hash", u64, u64, functions, 1, BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", struct path, struct reached, points, 1, BPF_F_NO_PREALLOC);
BPF_F_TABLE("percpu_array", u32, struct path, scratch, 1, 0);

/* clang's default BPF cpu has no atomic that returns the old value; see override.bpf.c. */
static __always_inline u64 fetch_add(u64 *counter, u64 amount)
{
	asm volatile("%0 = atomic_fetch_add((u64 *)(%1 + 0), %0)"
		     : "+r"(amount) : "r"(counter) : "memory");
	return amount;
}

/* True in a hardirq or softirq on top of the task; false on a kernel that does not say where it counts them. */
static __always_inline int in_interrupt(void)
{
	void *variable;
	u64 offset, known;

	asm volatile("%0 = 0x4ec04dec0103 ll" : "=r"(known));
	if (!known)
		return 0;
	asm volatile("%0 = 0x4ec04dec0104 ll" : "=r"(variable));
	asm volatile("%0 = 0x4ec04dec0105 ll" : "=r"(offset));
	u64 count = (u64)bpf_this_cpu_ptr(variable);

	asm volatile("%0 += %1" : "+r"(count) : "r"(offset));
	asm volatile("%0 = *(u32 *)(%0 + 0)" : "+r"(count));
	return (count & INTERRUPT) != 0;
}

static __always_inline int in_scope(struct watch *watch)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;

	if (bpf_get_current_ancestor_cgroup_id(watch->level) == watch->cgroup)
		return watch->any || !in_interrupt();
	return watch->any && pid != watch->tool && pid != watch->janitor && pid != watch->agent && pid != 1;
}

int on_call(struct pt_regs *ctx)
{
	struct watch *watch = WATCH();
	u64 function, ordinal, *calls;
	u32 zero = 0;

	if (!watch->armed || !*GATE() || !in_scope(watch))
		return 0;
	function = bpf_get_func_ip(ctx);
	calls = functions.lookup(&function);
	struct path *path = scratch.lookup(&zero);

	if (!calls || !path) {
		fetch_add(&LOSSES()->unknown, 1);
		return 0;
	}
	ordinal = fetch_add(calls, 1) + 1;
	path->function = function;
	path->caller = 0;
	bpf_probe_read_kernel(&path->caller, sizeof(path->caller), (void *)PT_REGS_SP(ctx));
	if (bpf_get_stack(ctx, path->frame, sizeof(path->frame), 0) <= 0) {
		fetch_add(&LOSSES()->untraced, 1);
		return 0;
	}
	struct reached *reached = points.lookup(path);

	if (!reached) {
		struct reached fresh = { .first = ordinal };

		points.insert(path, &fresh);
		reached = points.lookup(path);
	}
	if (!reached) {
		fetch_add(&LOSSES()->full, 1);
		return 0;
	}
	if (ordinal < reached->first)
		reached->first = ordinal;	/* two CPUs came here for the first time at once */
	fetch_add(&reached->hits, 1);
	return 0;
}
