// SPDX-License-Identifier: GPL-2.0
/*
 * The one BPF program. Everything that a scenario can say reaches it as data, so
 * it is compiled once per kernel and its bytecode is loaded once per probe with
 * nothing changed but constants: which rule the probe serves, and where its data lies.
 *
 * inject/engine/abi.py repeats the bounds, structs, maps and constants of this file;
 * tests/unit/test_abi.py compares the two.
 */
#include <uapi/linux/ptrace.h>

#define GLOBS		64	/* glob patterns of one run */
#define TESTS		6	/* argument comparisons of one rule */
#define VALUES		8	/* what one rule returns in turn */
#define LOADS		5	/* pointers followed by one comparison */
#define FRAMES		32	/* stack trace kept and searched */
#define TEXT		96	/* bytes of a string that a glob sees */
#define KTHREAD		0x00200000	/* PF_KTHREAD, include/linux/sched.h */
#define NO_UNROLL	_Pragma("clang loop unroll(disable)")
#define DEEP		64	/* stack trace that an error is traced along */
#define PLACES		65536	/* where the address ranges of all rules' `stack` begin and end */
#define STEPS		16	/* that a search in as many of them takes */
#define MARKS		4096	/* tasks that are marked at a time, for one group of functions */
#define STACK		0x8000	/* bytes; THREAD_SIZE is this or half of it (page_64_types.h, v6.12) */
#define LIVE		4	/* injections of one task that are traced at a time */
#define INTERRUPT	0x000f0100	/* HARDIRQ_MASK | SOFTIRQ_OFFSET, include/linux/preempt.h, v6.12 */
#define NMI		0x00f00000	/* NMI_MASK, the same; it is 4 bits above HARDIRQ_MASK */
#define ENTRY		16	/* bytes of a function in which a probe at its start is: ENDBR64, the call of ftrace */

enum op { OP_IS, OP_NOT, OP_ABOVE, OP_BELOW, OP_GLOB, OP_USER_GLOB };

struct test {
	u8 op;
	u8 arg;			/* parameter number */
	u8 loads;		/* how many of offset[] are used */
	u8 last;		/* bytes that the last load reads */
	u8 is_signed;
	u8 left, right;		/* shifts that cut the value out of 64 bits */
	u8 spares;		/* selects NOFAIL callers: a call that fails it counts as spared */
	u32 glob;
	u32 offset[LOADS];
	u64 mask;
	u64 value;
};

struct rule {
	u64 value[VALUES];	/* what the function returns instead, in turn */
	u32 values;		/* how many of them there are */
	u32 any;		/* any task, not only the workload */
	u32 writeback;		/* kernel threads, too: where task_struct keeps its flags; 0: none */
	u32 tests;
	u32 comm;		/* glob for current->comm, plus one; 0: none */
	u32 path;		/* entries of `stack`; 0: none */
	u32 place;		/* their ranges: the first of 2 * half places, sorted */
	u32 half;
	u64 forbidden;		/* call-path classes that must not occur ... */
	u64 sparing;		/* ... and those of them that mark NOFAIL callers: they count as spared */
	u64 after;
	u64 nth;
	u64 every;
	u64 times;
	u64 chance;		/* of 2^64; 0: always */
	u64 seed;
	struct test test[TESTS];
	struct test device;	/* with `writeback`: leads to the device number of the call */
};

struct control {
	u64 cgroup;		/* id of the workload's cgroup ... */
	u64 deadline;		/* CLOCK_MONOTONIC, ns */
	u64 budget;		/* injections of this arming, over all rules */
	u32 level;		/* ... and its depth, the root being 0 */
	u32 tool;		/* processes that are never failed: inject, ... */
	u32 janitor;		/* ... what cleans up after it, ... */
	u32 agent;		/* ... and what the host of a guest talks to */
	u32 others;		/* some rule takes tasks outside the workload */
	u32 armed;		/* last, because an update copies upwards */
};

struct tally {
	u64 seen;		/* calls in scope */
	u64 spared;		/* skipped: NOFAIL callers */
	u64 matched;		/* calls that every predicate took */
	u64 tickets;		/* drawn against `times`; may overshoot */
	u64 injected;
	u64 lost;		/* injected, but no room for the event */
	u64 unread;		/* not compared: a string of user space that is not in memory */
};

struct event {
	u64 time;
	u64 ordinal;		/* which match of its rule, from 1 */
	u64 value;		/* what the function returned instead */
	u32 slot;
	u32 pid;
	u32 tid;
	s32 frames;		/* bytes used in frame[], or a negative error */
	char comm[16];
	u64 caller;		/* the one frame that frame[] may lack */
	u64 frame[FRAMES];
};

struct place {			/* from here to the next place, ... */
	u64 address;
	u64 classes;		/* ... code is of these classes of its rule's `stack` */
};

struct result {			/* a system call's number and the errno it gave */
	u32 call;
	u32 error;
};

struct trail_key {
	u32 tid;
	u32 number;		/* below LIVE: a task's newest injections */
};

struct trail {			/* an injection whose error is on its way up */
	u64 ordinal;
	u64 injected;
	u64 sp;			/* what returns later further up has its frame above this */
	u64 caller;
	u32 slot;
	u32 tid;
	u32 next;		/* frame[] below this is done with */
	s32 frames;		/* bytes used in frame[], or a negative error */
	u64 frame[DEEP];
};

struct step {			/* one return on the way */
	u64 ordinal;
	u64 value;
	u32 slot;
	u32 where;		/* index into frame[] of the address returned to */
};

struct leave {			/* the end of the system call */
	u64 value;
	u32 tid;
	u32 call;
};

/* One call, as the module asks about it (inject/module/inject_override.h): the first two the program answers. */
struct inject_call {
	u64 value;		/* what the function returns ... */
	u64 fires;		/* ... if this is not 0 */
	u64 probe;
	u64 nmi;		/* the probe is a breakpoint, which is entered as an NMI */
	u64 ip;			/* of the function */
	u64 sp;			/* at its entry */
	u64 arg[6];
};

struct alphabet {		/* one glob: which tokens take which character */
	u64 takes[256];
	u64 stays;		/* states that a `*` keeps */
	u64 accept;
};

/*
 * Memory that user space maps. A map's lookup costs some ten instructions, so each number
 * is replaced at load time by the address. RULE(), TALLY() and UNTRACED() are those of the
 * program's own rule.
 */
#define SHARED(type, mark) ({ type *shared_; asm("%0 = " mark " ll" : "=r"(shared_)); shared_; })
#define CONTROL()	SHARED(struct control, "0x510751075101")
#define SPENT()		SHARED(u64, "0x510751075102")
#define RULE()		SHARED(struct rule, "0x510751075103")
#define TALLY()		SHARED(struct tally, "0x510751075104")
#define UNTRACED()	SHARED(u64, "0x510751075105")
#define UNCOUNTED()	SHARED(u64, "0x510751075106")
#define PLACE()		SHARED(struct place, "0x51075107510a")
#define INSIDE()	SHARED(u64, "0x51075107510b")	/* marks of MARKS tasks, see there */
#define FORBIDDEN()	SHARED(u64, "0x51075107510c")

/*
 * What the rule uses, also put in at load time: the verifier walks only that part of the
 * program and removes the rest, which saves most of its time.
 */
#define USES() ({ u64 uses_; asm volatile("%0 = 0x5075507550 ll" : "=r"(uses_)); uses_; })
#define USED_TESTS()	(USES() & 0xff)		/* argument comparisons */
#define USED_LOADS()	(USES() >> 8 & 0xff)	/* pointers followed by any of them */
#define USES_GLOB	(1 << 16)		/* on an argument */
#define USES_COMM	(1 << 17)
#define USES_PATH	(1 << 18)
#define USES_WRITEBACK	(1 << 19)
#define USES_CONTEXT	(1 << 20)	/* a call in an interrupt is out of scope */
#define USES_INSIDE	(1 << 21)	/* tasks in a function that the path must have are marked */
#define USES_FORBIDDEN	(1 << 22)	/* and those in one that it must not have */
#define USES_FRAMES	(1 << 23)	/* the kernel unwinds by frame pointers */
#define USES_CAST	(1 << 29)	/* the program may load from any address, see words_at() */
#define USED_STEPS()	(USES() >> 24 & 0x1f)	/* of the search for an address among its `stack` */

BPF_ARRAY(globs, struct alphabet, GLOBS);
BPF_F_TABLE("hash", struct result, u64, results, 4096, 0);
BPF_F_TABLE("hash", u32, u32, devices, 64, 0);
BPF_RINGBUF_OUTPUT(events, 1024);
BPF_F_TABLE("hash", u32, u64, live, 4096, BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", struct trail_key, struct trail, trails, 4096, BPF_F_NO_PREALLOC);
BPF_ARRAY(blank, struct trail, 1);
BPF_RINGBUF_OUTPUT(steps, 512);

/*
 * clang's default BPF cpu has no atomic that returns the old value; its assembler
 * and the kernel (since 5.12) have.
 */
static __always_inline u64 fetch_add(u64 *counter, u64 amount)
{
	asm volatile("%0 = atomic_fetch_add((u64 *)(%1 + 0), %0)"
		     : "+r"(amount) : "r"(counter) : "memory");
	return amount;
}

/* splitmix64's finaliser: the same seed decides the same for the same ordinal */
static __always_inline u64 scatter(u64 x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

/*
 * Bit i of `state` says that the first i tokens are matched. No branch depends on
 * the pattern, so the verifier walks the loop once per character and no more.
 */
static __always_inline int glob_takes(u32 index, const char *text, u32 size)
{
	struct alphabet *glob = globs.lookup(&index);
	u64 state = 1;

	if (!glob)
		return 0;
	NO_UNROLL
	for (u32 i = 0; i < size; i++) {
		u8 c = text[i];

		if (!c)
			break;
		state = ((state & glob->takes[c]) << 1) | (state & glob->stays);
	}
	return (state & glob->accept) != 0;
}

/* The verifier requires ctx + constant in the load itself; the compiler would share the load. */
#define REGISTER(ctx, parameter) ({						\
	u64 value_;								\
	asm volatile("%0 = *(u64 *)(%1 + %2)" : "=r"(value_)			\
		     : "r"(ctx), "i"((long)&parameter((struct pt_regs *)0)));	\
	value_; })

/*
 * What `trampoline` says of a program's context: 0 is a kprobe's registers, the others are
 * a trampoline's arguments and the argument of the module's tracepoint, a struct inject_call.
 */
#define TRAMPOLINE	1
#define MODULE		2

/* The pointer to the call is loaded anew each time: the verifier knows it by where it comes from. */
#define ASKED(ctx, member) ({							\
	u64 value_;								\
	asm volatile("%0 = *(u64 *)(%1 + 0)\n%0 = *(u64 *)(%0 + %2)"		\
		     : "=&r"(value_)						\
		     : "r"(ctx), "i"((long)&((struct inject_call *)0)->member));	\
	value_; })

static __always_inline u64 argument(void *ctx, int trampoline, u32 number)
{
	u64 value = 0;

	if (trampoline == TRAMPOLINE) {
		bpf_get_func_arg(ctx, number, &value);
		return value;
	}
	if (trampoline == MODULE) {
		switch (number) {
		case 0: return ASKED(ctx, arg[0]);
		case 1: return ASKED(ctx, arg[1]);
		case 2: return ASKED(ctx, arg[2]);
		case 3: return ASKED(ctx, arg[3]);
		case 4: return ASKED(ctx, arg[4]);
		case 5: return ASKED(ctx, arg[5]);
		}
		return 0;
	}
	switch (number) {
	case 0: return REGISTER(ctx, PT_REGS_PARM1);
	case 1: return REGISTER(ctx, PT_REGS_PARM2);
	case 2: return REGISTER(ctx, PT_REGS_PARM3);
	case 3: return REGISTER(ctx, PT_REGS_PARM4);
	case 4: return REGISTER(ctx, PT_REGS_PARM5);
	case 5: return REGISTER(ctx, PT_REGS_PARM6);
	}
	return 0;
}

static __always_inline int text_holds(struct test *test, u64 address, struct tally *tally)
{
	char text[TEXT] = {};
	long length;

	if (test->op == OP_USER_GLOB)
		length = bpf_probe_read_user_str(text, sizeof(text), (void *)address);
	else
		length = bpf_probe_read_kernel_str(text, sizeof(text), (void *)address);
	if (length < 0) {
		/* Reading does not fault the page in. NULL is no string for the call itself, either. */
		if (test->op == OP_USER_GLOB && address)
			__sync_fetch_and_add(&tally->unread, 1);
		return 0;
	}
	return glob_takes(test->glob, text, sizeof(text));
}

/* From the parameter through the loads of `test`; 0 when memory on the way cannot be read. */
static __always_inline int reach(void *ctx, int trampoline, struct test *test, u64 *found)
{
	u64 value = argument(ctx, trampoline, test->arg);

	NO_UNROLL
	for (u32 i = 0; i < LOADS; i++) {
		u64 from = value + test->offset[i];
		u8 size = 8;

		if (i >= USED_LOADS() || i >= test->loads)
			break;
		if (i + 1 == test->loads)
			size = test->last;
		if (size > 8)
			return 0;
		value = 0;
		if (bpf_probe_read_kernel(&value, size, (void *)from))
			return 0;
	}
	*found = value;
	return 1;
}

static __always_inline int holds(void *ctx, int trampoline, struct test *test, struct tally *tally)
{
	u64 value = 0;

	if (!reach(ctx, trampoline, test, &value))
		return 0;
	if (USES() & USES_GLOB && test->op >= OP_GLOB)
		return text_holds(test, value, tally);
	value <<= test->left & 63;
	if (test->is_signed)
		value = (s64)value >> (test->right & 63);
	else
		value >>= test->right & 63;
	value &= test->mask;
	switch (test->op) {
	case OP_IS:
		return value == test->value;
	case OP_NOT:
		return value != test->value;
	case OP_ABOVE:
		return test->is_signed ? (s64)value > (s64)test->value : value > test->value;
	case OP_BELOW:
		return test->is_signed ? (s64)value < (s64)test->value : value < test->value;
	}
	return 0;
}

/*
 * Where on the stack the address is that the function returns to. A kprobe's registers are
 * those at the entry; a trampoline (arch/x86/net/bpf_jit_comp.c) was called from there, and
 * keeps the arguments and one return value between ctx and its frame pointer.
 */
static __always_inline u64 return_slot(void *ctx, int trampoline)
{
	if (trampoline == MODULE)
		return ASKED(ctx, sp);
	if (trampoline)
		return (u64)ctx + 8 * (bpf_get_func_arg_cnt(ctx) & 15) + 8 + 16;
	return REGISTER(ctx, PT_REGS_SP);
}

/*
 * Makes of an address a pointer that the verifier lets a program load two words from: with
 * USES_CAST, bpf_rdonly_cast() to a struct that begins with them is put in at load time. The
 * verifier makes that a copy of a register. A load that faults gives 0 (the JIT guards it), and takes
 * some ten instructions where bpf_probe_read_kernel() takes seventy.
 */
static void *(*words_at)(u64 address, u64 type) = (void *)8;
#define WORDS(address)	words_at(address, 0x510751075111ULL)
#define WORD(words, offset) ({							\
	u64 value_;								\
	asm volatile("%0 = *(u64 *)(%1 + %2)" : "=r"(value_)			\
		     : "r"(words), "i"(offset));				\
	value_; })

/* The word at `address` in the kernel; 0 if it cannot be read. */
static __always_inline u64 word_at(u64 address)
{
	u64 word = 0;

	if (USES() & USES_CAST) {
		void *words = WORDS(address);

		return WORD(words, 0);
	}
	bpf_probe_read_kernel(&word, sizeof(word), (void *)address);
	return word;
}

/*
 * The address that the function returns to. It has not set up its frame yet, so an unwinder
 * that uses frame pointers finds its caller's caller next.
 */
static __always_inline u64 direct_caller(void *ctx, int trampoline)
{
	return word_at(return_slot(ctx, trampoline));
}

/*
 * True in a hardirq or softirq on top of the task, as in_task() tells (include/linux/preempt.h).
 * The variable and the offset of preempt_count in it are put in at load time. NMIs are left out:
 * a kprobe that is a breakpoint is entered as one (exc_int3(), arch/x86/kernel/traps.c, v6.12).
 */
static __always_inline int in_interrupt(void *ctx, int trampoline)
{
	void *variable;
	u64 offset;

	asm volatile("%0 = 0x510751075108 ll" : "=r"(variable));
	asm volatile("%0 = 0x510751075109 ll" : "=r"(offset));
	u64 count = (u64)bpf_this_cpu_ptr(variable);

	asm volatile("%0 += %1" : "+r"(count) : "r"(offset));
	asm volatile("%0 = *(u32 *)(%0 + 0)" : "+r"(count));
	if (trampoline == MODULE && ASKED(ctx, nmi))
		count -= (count & NMI) >> 4;	/* nmi_enter() counts a hardirq as well (include/linux/hardirq.h) */
	return (count & INTERRUPT) != 0;
}

/*
 * Marks: which tasks may be in one of a group of functions. Unwinding a stack costs more
 * than all else, and a task outside of the outermost function of `stack` needs none. A mark
 * is made when such a function is entered; its return is not probed, because that would
 * change return addresses and runs out of room. Instead the mark says how to see whether
 * the function may still run: its task's stack pointer is below the slot of the return
 * address, and that slot still holds it. What was left behind on the stack can look the same, so
 * a mark may make a call unwind for nothing; it never hides a function that runs.
 *
 * A mark is one word: the task (its address from bit 11 on, as no task_struct is smaller), bits of
 * the return address or 0 if that must not be compared, and the slot within the stack. A
 * word that two tasks need at once becomes ALL: every task that comes there unwinds.
 */
#define ALL		(~0ULL)
#define TAG_SHIFT	31
#define FOLD_SHIFT	15
#define FOLD		0xffff
#define TAG(task)	((task) >> 11 & 0x1ffffffff)
#define MIX(number)	((number) * 0x9e3779b97f4a7c15ULL)

static __always_inline u64 *mark_of(u64 *marks, u64 task)
{
	return marks + (MIX(task) >> 52 & (MARKS - 1));
}

static __always_inline u64 fold(u64 address)
{
	return MIX(address) >> 48 | 1;
}

/*
 * Put `after` there if `before` still is; returns what was there. cmpxchg takes and gives r0, which
 * bcc's compiler, whose names of registers are x86's, cannot be told: so r0 is saved. It has a
 * value, because a helper was called before.
 */
static __always_inline u64 replace(u64 *mark, u64 before, u64 after)
{
	u64 saved;

	asm volatile("r8 = %2\n\tr9 = %3\n\t%1 = r0\n\tr0 = %0\n\t"
		     "r0 = cmpxchg_64(r8 + 0, r0, r9)\n\t"
		     "r9 = r0\n\tr0 = %1\n\t%0 = r9"
		     : "+r"(before), "=&r"(saved) : "r"(mark), "r"(after) : "r8", "r9", "memory");
	return before;
}

/* Addresses that return probes and the function graph tracer put in place of the one returned to. */
static __always_inline int is_return_probe(u64 address)
{
	u64 one, other, third;

	asm volatile("%0 = 0x51075107510d ll" : "=r"(one));
	asm volatile("%0 = 0x51075107510e ll" : "=r"(other));
	asm volatile("%0 = 0x51075107510f ll" : "=r"(third));
	return address == one || address == other || address == third;
}

/* Whether the function that `mark` is of may still run, for its task with the stack pointer `sp`. */
static __always_inline int may_run(u64 mark, u64 sp)
{
	u64 slot = (sp & ~(u64)(STACK - 1)) | (mark & (STACK - 8));
	u64 address;

	if (sp >= slot)
		return 0;
	if (!(mark >> FOLD_SHIFT & FOLD))
		return 1;
	address = word_at(slot);
	return fold(address) == (mark >> FOLD_SHIFT & FOLD) || is_return_probe(address);
}

/* The verifier lets a pointer be a number only as its distance from another one. */
static __always_inline u64 as_number(u64 pointer, u64 task)
{
	u64 other = (u64)bpf_get_current_task_btf();

	asm volatile("%0 -= %1" : "+r"(pointer) : "r"(other));
	return pointer + task;
}

/* Whether the current task may be in a function of the group that `marks` are of. */
static __always_inline int may_be_in(void *ctx, int trampoline, u64 *marks)
{
	u64 task = bpf_get_current_task();
	u64 *mark = mark_of(marks, task);
	u64 found = *mark;
	u64 sp;

	if (!found)
		return 0;
	if (found == ALL)
		return 1;
	if (found >> TAG_SHIFT != TAG(task))
		return 0;	/* while it is in one, the word is its own or ALL */
	sp = return_slot(ctx, trampoline);
	if (trampoline == TRAMPOLINE)
		sp = as_number(sp, task);
	if (may_run(found, sp))
		return 1;
	replace(mark, found, 0);
	return 0;
}

/*
 * Classes of the code at `address`: those of the last place that is not above it. As
 * above, no branch depends on what is found. Kernel addresses all have the same sign, so
 * that of their difference compares them.
 */
static __always_inline u64 classes_of(struct rule *rule, u64 address)
{
	struct place *places = PLACE();
	u64 half = rule->half;
	u64 at = rule->place;

	NO_UNROLL
	for (u32 i = 0; i < STEPS; i++) {
		if (i >= USED_STEPS())
			break;
		u64 below = (s64)(address - places[(at + half) & (PLACES - 1)].address) >> 63;

		asm volatile("" : "+r"(below));
		at += half & ~below;
		half >>= 1;
	}
	return places[at & (PLACES - 1)].classes;
}

/* A stack trace, which the path and the event share: unwinding is what costs most. */
struct trace {
	u64 caller;		/* direct_caller() */
	s64 size;		/* bytes used in frame[], or a negative error; 0: none taken */
	u64 frame[FRAMES];
};

struct link {			/* what a frame pointer points to */
	u64 frame;
	u64 address;
};

/* Reads a link; 0 if it cannot be read. */
static __always_inline int follow(u64 address, struct link *link)
{
	if (USES() & USES_CAST) {
		void *words = WORDS(address);

		link->frame = WORD(words, 0);
		link->address = WORD(words, 8);
		return link->address != 0;
	}
	return !bpf_probe_read_kernel(link, sizeof(*link), (void *)address);
}

/*
 * The stack trace of a kernel that keeps frame pointers, along these: a read for each frame costs a
 * quarter of what the kernel's unwinder takes, which looks each frame over several times. As
 * there, a trampoline leaves two frames empty. 0 if the way does not end as that of a
 * system call does, or a return probe is on it: then the unwinder must be asked.
 */
static __always_inline s64 frames_of(void *ctx, int trampoline, u64 caller, u64 *frame)
{
	u32 first = trampoline ? 2 : 0;
	struct link link = {};
	u64 sp = return_slot(ctx, trampoline);
	u64 before;

	if (trampoline) {
		/* the trampoline's own frame: F's frame pointer, and where in the function it was called */
		if (!follow(sp - sizeof(link), &link))
			return 0;
		sp = as_number(sp, bpf_get_current_task());
		frame[0] = frame[1] = 0;
	} else {
		link.frame = REGISTER(ctx, PT_REGS_FP);
		link.address = REGISTER(ctx, PT_REGS_IP);
	}
	frame[first] = link.address;
	frame[first + 1] = caller;
	before = sp;
	NO_UNROLL
	for (u32 i = first + 2; i < FRAMES; i++) {
		u64 at = link.frame;

		if (!at)
			return i * sizeof(u64);
		if (at & 7 || at <= before || (at ^ sp) >= STACK)
			return 0;
		if (!follow(at, &link) || is_return_probe(link.address))
			return 0;
		frame[i] = link.address;
		before = at;
	}
	return FRAMES * sizeof(u64);
}

/* The stack trace into frame[], which ends with a 0 if there is room. */
static __always_inline s64 trace_into(void *ctx, int trampoline, u64 caller, u64 *frame)
{
	if (trampoline != MODULE && USES() & USES_FRAMES && !is_return_probe(caller)) {
		s64 size;

		__builtin_memset(frame, 0, FRAMES * sizeof(u64));
		size = frames_of(ctx, trampoline, caller, frame);
		if (size)
			return size;
	}
	return bpf_get_stack(ctx, frame, FRAMES * sizeof(u64), 0);
}

/* Ordered, innermost first, gaps allowed: the same bit walk as for globs. */
static __always_inline int path_holds(void *ctx, int trampoline, struct rule *rule, struct tally *tally,
				      struct trace *trace)
{
	u64 state = 1;
	int spared = 0;

	if (USES() & USES_INSIDE && !may_be_in(ctx, trampoline, INSIDE()))
		return 0;
	if (USES() & USES_FORBIDDEN && !rule->path && !may_be_in(ctx, trampoline, FORBIDDEN()))
		return 1;
	/*
	 * The function itself is not a caller, so its place is taken by the direct caller; a
	 * trampoline has two frames of its own before it. Other unwinders find that caller, too.
	 */
	u32 first = trampoline == TRAMPOLINE ? 2 : 0;
	u64 ip = trampoline == MODULE ? ASKED(ctx, ip) : 0;
	u32 passed = 0;

	trace->caller = direct_caller(ctx, trampoline);
	trace->size = trace_into(ctx, trampoline, trace->caller, trace->frame);
	if (trace->size < 0)
		return 0;
	NO_UNROLL
	for (u32 i = first; i < FRAMES; i++) {
		u64 address = trace->frame[i];

		/* The module has a number of frames before the function, which depends on the kind of probe. */
		if (trampoline == MODULE && !passed) {
			if (address - ip >= ENTRY)
				continue;
			passed = 1;
			address = trace->caller;
		} else if (trampoline == MODULE && passed == 1) {
			passed = 2;
			if (address == trace->caller)
				continue;
		}

		if (trampoline != MODULE && i == first) {
			address = trace->caller;
			if (address == trace->frame[first + 1])
				continue;
		}
		if (!address)
			break;
		u64 classes = classes_of(rule, address - 1);

		if (classes & rule->forbidden & ~rule->sparing)
			return 0;
		spared |= (classes & rule->sparing) != 0;
		state |= (state & classes) << 1;
	}
	if (!(state >> (rule->path & 63) & 1))
		return 0;
	if (spared)
		__sync_fetch_and_add(&tally->spared, 1);
	return !spared;
}

static __always_inline int predicates_hold(void *ctx, int trampoline, struct rule *rule,
					   struct tally *tally, struct trace *trace)
{
	NO_UNROLL
	for (u32 i = 0; i < TESTS; i++) {
		if (i >= USED_TESTS() || i >= rule->tests)
			break;
		if (!holds(ctx, trampoline, &rule->test[i], tally)) {
			if (rule->test[i].spares)
				__sync_fetch_and_add(&tally->spared, 1);
			return 0;
		}
	}
	if (USES() & USES_COMM && rule->comm) {
		char comm[16];

		bpf_get_current_comm(comm, sizeof(comm));
		if (!glob_takes(rule->comm - 1, comm, sizeof(comm)))
			return 0;
	}
	return !(USES() & USES_PATH) || !(rule->path || rule->forbidden) || path_holds(ctx, trampoline, rule, tally, trace);
}

/* after -> nth, every or probability -> times -> deadline and budget */
static __always_inline int fires(struct rule *rule, struct tally *tally, struct control *control, u64 ordinal,
				 u64 *now)
{
	u64 number = ordinal - rule->after;

	if (ordinal <= rule->after)
		return 0;
	if (rule->nth && number != rule->nth)
		return 0;
	if (rule->every && number % rule->every)
		return 0;
	if (rule->chance && scatter(rule->seed ^ scatter(ordinal)) >= rule->chance)
		return 0;
	*now = bpf_ktime_get_ns();
	if (*now >= control->deadline)
		return 0;
	if (rule->times && fetch_add(&tally->tickets, 1) >= rule->times)
		return 0;
	return !control->budget || fetch_add(SPENT(), 1) < control->budget;
}

static __always_inline void emit(void *ctx, int trampoline, u32 slot, u64 ordinal, u64 value, u64 now,
				 struct tally *tally, struct trace *trace)
{
	struct event *event = events.ringbuf_reserve(sizeof(struct event));
	u64 id = bpf_get_current_pid_tgid();

	if (!event) {
		__sync_fetch_and_add(&tally->lost, 1);
		return;
	}
	event->time = now;
	event->ordinal = ordinal;
	event->value = value;
	event->slot = slot;
	event->pid = id >> 32;
	event->tid = id;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	if (USES() & USES_PATH && trace->size) {
		event->caller = trace->caller;
		event->frames = trace->size;
		__builtin_memcpy(event->frame, trace->frame, sizeof(event->frame));
	} else {
		event->caller = direct_caller(ctx, trampoline);
		event->frames = trace_into(ctx, trampoline, event->caller, event->frame);
	}
	events.ringbuf_submit(event, 0);
}

/*
 * From here on the returns of this task are looked at, until its system call ends. If
 * errors are not traced, the constant in decide() is 0 and the verifier drops the call.
 */
static __always_inline void trace_error(void *ctx, int trampoline, u32 slot, u64 ordinal, u64 value)
{
	struct trail_key key = { .tid = bpf_get_current_pid_tgid() };
	u64 none = 0;
	u32 zero = 0;
	u64 *lost = UNTRACED();
	u64 *used = live.lookup_or_try_init(&key.tid, &none);
	struct trail *empty = blank.lookup(&zero);

	if (!empty)
		return;
	if (!used)
		goto lost;
	key.number = fetch_add(used, 1) % LIVE;
	if (trails.update(&key, empty))
		goto lost;
	struct trail *trail = trails.lookup(&key);

	if (!trail)
		goto lost;
	trail->ordinal = ordinal;
	trail->injected = value;
	trail->slot = slot;
	trail->tid = key.tid;
	trail->sp = trampoline == MODULE ? ASKED(ctx, sp) : trampoline ? (u64)ctx : REGISTER(ctx, PT_REGS_SP);
	trail->caller = direct_caller(ctx, trampoline);
	trail->frames = bpf_get_stack(ctx, trail->frame, sizeof(trail->frame), 0);
	if (!steps.ringbuf_output(trail, sizeof(*trail), 0))
		return;
lost:
	__sync_fetch_and_add(lost, 1);
}

/* A kernel thread whose call leads to one of the trial's own devices. */
static __always_inline int own_writeback(void *ctx, int trampoline, struct rule *rule)
{
	u64 task = bpf_get_current_task();
	u64 number = 0;
	u32 flags = 0;

	bpf_probe_read_kernel(&flags, sizeof(flags), (void *)(task + rule->writeback));
	if (!(flags & KTHREAD) || !reach(ctx, trampoline, &rule->device, &number))
		return 0;
	u32 device = number;

	return devices.lookup(&device) != 0;
}

/* Whether this call fails, and with what. */
static __always_inline int decide(void *ctx, int trampoline, u64 *value)
{
	struct control *control = CONTROL();
	struct trace trace;
	u64 mark, now;

	if (!control->armed)
		return 0;
	int in_workload = bpf_get_current_ancestor_cgroup_id(control->level) == control->cgroup;

	if (!in_workload && !control->others)
		return 0;
	asm volatile("%0 = 0x510751075107 ll" : "=r"(mark));
	u32 slot = mark;
	struct rule *rule = RULE();
	struct tally *tally = TALLY();

	if (!in_workload) {
		u32 pid = bpf_get_current_pid_tgid() >> 32;

		if (pid == control->tool || pid == control->janitor || pid == control->agent || pid == 1)
			return 0;
		if (!rule->any && !(USES() & USES_WRITEBACK && rule->writeback && own_writeback(ctx, trampoline, rule)))
			return 0;
	}
	if (USES() & USES_CONTEXT && !rule->any && in_interrupt(ctx, trampoline))
		return 0;
	__sync_fetch_and_add(&tally->seen, 1);
	trace.size = 0;
	if (!predicates_hold(ctx, trampoline, rule, tally, &trace))
		return 0;
	u64 ordinal = fetch_add(&tally->matched, 1) + 1;

	if (!fires(rule, tally, control, ordinal, &now))
		return 0;
	u64 turn = fetch_add(&tally->injected, 1);

	if (rule->values > 1)
		turn %= rule->values;
	else
		turn = 0;
	*value = rule->value[turn & (VALUES - 1)];
	emit(ctx, trampoline, slot, ordinal, *value, now, tally, &trace);
	asm volatile("%0 = 0x7ace7ace7ace ll" : "=r"(mark));
	if (mark)
		trace_error(ctx, trampoline, slot, ordinal, *value);
	return 1;
}

int on_kprobe(struct pt_regs *ctx)
{
	u64 value = 0;

	if (decide(ctx, 0, &value))
		bpf_override_return(ctx, value);
	return 0;
}

/* fmod_ret: a value other than 0 is returned, and the function's body is skipped */
u64 on_trampoline(unsigned long long *ctx)
{
	u64 value = 0;

	decide(ctx, TRAMPOLINE, &value);
	return value;
}

/* A call of a function on which the module has a probe for this program (raw tracepoint, writable) */
int on_probe(struct bpf_raw_tracepoint_args *ctx)
{
	u64 value = 0, probe;
	struct inject_call *call;

	asm volatile("%0 = 0x510751075110 ll" : "=r"(probe));
	if (ASKED(ctx, probe) != probe || !decide(ctx, MODULE, &value))
		return 0;
	asm volatile("%0 = *(u64 *)(%1 + 0)" : "=r"(call) : "r"(ctx));
	call->value = value;
	call->fires = 1;
	return 0;
}

/* A function whose tasks are marked is entered. Interrupts have other stacks and are out of scope. */
int on_enter(struct pt_regs *ctx)
{
	u64 *marks = INSIDE();
	u64 sp = REGISTER(ctx, PT_REGS_SP);
	u64 task = bpf_get_current_task();
	u64 *mark = mark_of(marks, task);
	u64 found = *mark;
	u64 next;

	if (in_interrupt(ctx, 0) || found == ALL)
		return 0;
	next = TAG(task) << TAG_SHIFT | fold(direct_caller(ctx, 0)) << FOLD_SHIFT | (sp & (STACK - 8));
	if (found && found >> TAG_SHIFT != TAG(task))
		next = ALL;
	else if (found && may_run(found, sp))
		next = found & ~((u64)FOLD << FOLD_SHIFT);	/* recursion, perhaps: the outer one stays */
	if (replace(mark, found, next) != found)
		*mark = ALL;
	return 0;
}

/* What user space saw: every failed system call of the workload while armed. */
int on_sys_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct control *control = CONTROL();
	s64 returned = ctx->args[1];

	if (!control->armed || returned >= 0 || returned < -4095)
		return 0;
	if (bpf_get_current_ancestor_cgroup_id(control->level) != control->cgroup)
		return 0;
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
	struct result result = { .error = -returned };
	u64 call = 0, none = 0;

	bpf_probe_read_kernel(&call, sizeof(call), &regs->orig_ax);
	result.call = call;
	u64 *count = results.lookup_or_try_init(&result, &none);

	__sync_fetch_and_add(count ?: UNCOUNTED(), 1);
	return 0;
}

/*
 * The first frame from `next` on that is `ip`; DEEP if none is. No branch depends on what
 * is found, so the verifier walks the loop once: with a branch it takes some hundred times
 * as long. The compiler would make branches of it if it saw what is compared.
 */
static __always_inline u32 place_of(struct trail *trail, u64 ip)
{
	u64 missing = 1;
	u64 where = 0;

	NO_UNROLL
	for (u32 i = 0; i < DEEP; i++) {
		u64 other = trail->frame[i] ^ ip;
		u64 minus = -other;
		u64 ahead = (u64)i - trail->next;

		asm volatile("" : "+r"(minus), "+r"(ahead));
		missing &= (other | minus | ahead) >> 63;
		where += missing;
	}
	return where;
}

/*
 * Every function that may lie on an error's way up comes here twice. When it is entered,
 * 1 says that its return is of no interest. When it returns, its registers hold the
 * address returned to. That address, at a stack higher than all before, makes it a
 * frame of the path which the injection saw.
 */
int on_return(struct pt_regs *ctx)
{
	struct trail_key key = { .tid = bpf_get_current_pid_tgid() };
	struct control *control = CONTROL();
	u64 ip = REGISTER(ctx, PT_REGS_IP);
	u64 sp = REGISTER(ctx, PT_REGS_SP);

	if (!control->armed)
		return 1;
	if (ip - bpf_get_func_ip(ctx) < 16)
		return !control->others &&
		       bpf_get_current_ancestor_cgroup_id(control->level) != control->cgroup;
	if (!live.lookup(&key.tid))
		return 0;
	NO_UNROLL
	for (u32 number = 0; number < LIVE; number++) {
		key.number = number;
		struct trail *trail = trails.lookup(&key);

		if (!trail || sp <= trail->sp)
			continue;
		u32 where = place_of(trail, ip);

		if (where >= DEEP)
			continue;
		struct step step = {
			.ordinal = trail->ordinal,
			.value = REGISTER(ctx, PT_REGS_RC),
			.slot = trail->slot,
			.where = where,
		};
		trail->next = where + 1;
		trail->sp = sp;
		steps.ringbuf_output(&step, sizeof(step), 0);
	}
	return 0;
}

/* The way up ends when the task leaves the kernel, if it does so while armed. */
int on_leave(struct bpf_raw_tracepoint_args *ctx)
{
	struct trail_key key = { .tid = bpf_get_current_pid_tgid() };
	struct leave leave = { .tid = key.tid, .value = ctx->args[1] };
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
	struct control *control = CONTROL();
	u64 call = 0;

	if (!control->armed || !live.lookup(&key.tid))
		return 0;
	bpf_probe_read_kernel(&call, sizeof(call), &regs->orig_ax);
	leave.call = call;
	steps.ringbuf_output(&leave, sizeof(leave), 0);
	NO_UNROLL
	for (u32 number = 0; number < LIVE; number++) {
		key.number = number;
		trails.delete(&key);
	}
	live.delete(&key.tid);
	return 0;
}
