/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The tracepoint that asks a BPF program about a call. It is a header of its own because
 * trace/define_trace.h reads it several times.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM inject

#if !defined(INJECT_OVERRIDE_H) || defined(TRACE_HEADER_MULTI_READ)
#define INJECT_OVERRIDE_H

#include <linux/tracepoint.h>

#ifndef INJECT_CALL
#define INJECT_CALL
/* One call of a probed function. The program writes the first two members; inject/engine/abi.py repeats it. */
struct inject_call {
	u64 value;	/* what the function returns ... */
	u64 fires;	/* ... if this is not 0 */
	u64 probe;	/* number of the probe, which read(2) of its file shows */
	u64 nmi;	/* the probe is a breakpoint, which is entered as an NMI */
	u64 ip;		/* of the function */
	u64 sp;		/* at its entry: where the return address is, on x86 */
	u64 arg[6];
};

/* DECLARE_TRACE() appends _tp to the name since v6.16, which also has DECLARE_TRACE_EVENT(). */
#ifdef DECLARE_TRACE_EVENT
#define inject_ask(call)	trace_inject_call_tp(call)
#else
#define inject_ask(call)	trace_inject_call(call)
#endif
#endif

/* Only trace/bpf_probe.h has DECLARE_TRACE_WRITABLE(); to all others it is a tracepoint like any. */
#undef INJECT_DECLARE_TRACE
#ifdef DECLARE_TRACE_WRITABLE
#define INJECT_DECLARE_TRACE(name, proto, args, size) \
	DECLARE_TRACE_WRITABLE(name, PARAMS(proto), PARAMS(args), size)
#else
#define INJECT_DECLARE_TRACE(name, proto, args, size) DECLARE_TRACE(name, PARAMS(proto), PARAMS(args))
#endif

INJECT_DECLARE_TRACE(inject_call,
	TP_PROTO(struct inject_call *call),
	TP_ARGS(call),
	sizeof(struct inject_call)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE inject_override
#include <trace/define_trace.h>
