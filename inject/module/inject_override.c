// SPDX-License-Identifier: GPL-2.0
/*
 * Lets BPF programs override the return value of any function that a kprobe can be put on, in
 * kernels without CONFIG_BPF_KPROBE_OVERRIDE and for functions without ALLOW_ERROR_INJECTION.
 *
 * There are two ways:
 *
 * - The kfunc inject_override_return() does for a kprobe program what the helper
 *   bpf_override_return() does, without asking whether the function is marked. The caller,
 *   kprobe_perf_func() in kernel/trace/trace_kprobe.c, looks only whether the instruction
 *   pointer has changed (v6.1 to v7.3). Programs of type kprobe may call kfuncs since v6.12.
 *
 * - /dev/inject_override. Writing the name of a function to an open file puts a kprobe on it,
 *   closing the file takes it away, so that nothing stays when a process is killed. At each
 *   call the writable tracepoint inject_call asks a BPF program whether and what to return.
 *   This needs no BTF, and works for functions without ftrace, such as those in lib/.
 *
 * The module itself fails nothing.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bpf.h>
#include <linux/bpf_perf_event.h>
#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/fs.h>
#include <linux/kprobes.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/security.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#define CREATE_TRACE_POINTS
#include "inject_override.h"

static bool keep;
module_param(keep, bool, 0644);
MODULE_PARM_DESC(keep, "stay loaded when the last user ends");

static bool kfunc;
module_param(kfunc, bool, 0444);
MODULE_PARM_DESC(kfunc, "kprobe programs can call inject_override_return() (set by the module)");

/* Where an overridden call goes. noinstr: no probe, no tracer, no sanitizer. */
static noinstr void inject_just_return(void)
{
}

static void override_call(struct pt_regs *regs, u64 value)
{
	regs_set_return_value(regs, value);
	instruction_pointer_set(regs, (unsigned long)inject_just_return);
}
NOKPROBE_SYMBOL(override_call);

/* ---------------------------------------------------------------- the kfunc */

#ifdef BTF_KFUNCS_START
__bpf_kfunc_start_defs();

/* Like the helper bpf_override_return(): the probed function returns @value, its body does not run. */
__bpf_kfunc int inject_override_return(bpf_user_pt_regs_t *ctx, u64 value)
{
	override_call((struct pt_regs *)ctx, value);
	return 0;
}
NOKPROBE_SYMBOL(inject_override_return);

__bpf_kfunc_end_defs();

BTF_KFUNCS_START(inject_kfuncs)
BTF_ID_FLAGS(func, inject_override_return)
BTF_KFUNCS_END(inject_kfuncs)

static const struct btf_kfunc_id_set inject_kfunc_set = {
	.owner = THIS_MODULE,
	.set = &inject_kfuncs,
};

/* Only for kprobe programs: the argument of any other program is not the registers of a probed call. */
static int register_kfunc(void)
{
	return register_btf_kfunc_id_set(BPF_PROG_TYPE_KPROBE, &inject_kfunc_set);
}
#else
static int register_kfunc(void)
{
	return -EOPNOTSUPP;
}
#endif

/* ---------------------------------------------------------------- the probes of open files */

struct probe {
	struct kprobe kp;
	struct mutex lock;	/* protects the members below until the probe is registered */
	bool registered;
	u64 number;
	char function[KSYM_NAME_LEN];
};

static atomic64_t probes = ATOMIC64_INIT(0);

static int on_call(struct kprobe *kp, struct pt_regs *regs)
{
	struct inject_call call = {
		.probe = container_of(kp, struct probe, kp)->number,
		.nmi = !(kp->flags & KPROBE_FLAG_FTRACE),
		.ip = (unsigned long)kp->addr,
		.sp = kernel_stack_pointer(regs),
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(call.arg); i++)
		call.arg[i] = regs_get_kernel_argument(regs, i);
	inject_ask(&call);
	if (!call.fires)
		return 0;
	override_call(regs, call.value);
	return 1;
}
NOKPROBE_SYMBOL(on_call);

/*
 * A kprobe that has a post_handler is not optimised into a jump, which would ignore the changed
 * instruction pointer, and one on ftrace says that it changes that (arm_kprobe_ftrace(),
 * kernel/kprobes.c).
 */
static void after_step(struct kprobe *kp, struct pt_regs *regs, unsigned long flags)
{
}
NOKPROBE_SYMBOL(after_step);

static int inject_open(struct inode *inode, struct file *file)
{
	struct probe *probe;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	probe = kzalloc(sizeof(*probe), GFP_KERNEL);
	if (!probe)
		return -ENOMEM;
	mutex_init(&probe->lock);
	file->private_data = probe;
	return 0;
}

static ssize_t inject_write(struct file *file, const char __user *from, size_t size, loff_t *pos)
{
	struct probe *probe = file->private_data;
	int error = security_locked_down(LOCKDOWN_KPROBES);

	if (error)
		return error;
	if (!size || size >= sizeof(probe->function))
		return -EINVAL;
	mutex_lock(&probe->lock);
	if (probe->registered) {
		error = -EBUSY;
		goto out;
	}
	memset(probe->function, 0, sizeof(probe->function));
	if (copy_from_user(probe->function, from, size)) {
		error = -EFAULT;
		goto out;
	}
	memset(&probe->kp, 0, sizeof(probe->kp));
	probe->kp.symbol_name = probe->function;
	probe->kp.pre_handler = on_call;
	probe->kp.post_handler = after_step;
	probe->number = atomic64_inc_return(&probes);
	error = register_kprobe(&probe->kp);
	probe->registered = !error;
out:
	mutex_unlock(&probe->lock);
	return error ?: size;
}

/* "NUMBER MISSED": of the probe, and of calls that it did not see because another probe was running. */
static ssize_t inject_read(struct file *file, char __user *to, size_t size, loff_t *pos)
{
	struct probe *probe = file->private_data;
	char text[48];
	int length;

	mutex_lock(&probe->lock);
	length = scnprintf(text, sizeof(text), "%llu %lu\n", probe->registered ? probe->number : 0, probe->kp.nmissed);
	mutex_unlock(&probe->lock);
	return simple_read_from_buffer(to, size, pos, text, length);
}

static int inject_release(struct inode *inode, struct file *file)
{
	struct probe *probe = file->private_data;

	if (probe->registered)
		unregister_kprobe(&probe->kp);
	kfree(probe);
	return 0;
}

static const struct file_operations inject_fops = {
	.owner = THIS_MODULE,
	.open = inject_open,
	.read = inject_read,
	.write = inject_write,
	.release = inject_release,
	.llseek = default_llseek,
};

static struct miscdevice inject_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "inject_override",
	.mode = 0600,
	.fops = &inject_fops,
};

/* ---------------------------------------------------------------- in and out */

static int __init inject_init(void)
{
	int error = register_kfunc();

	kfunc = !error;
	if (error)
		pr_info("no kfunc, only probes: this kernel has none for kprobe programs, or the module has no BTF (%d)\n",
			error);
	error = misc_register(&inject_device);
	if (error)
		pr_err("cannot make /dev/inject_override (%d)\n", error);
	return error;
}

static void __exit inject_exit(void)
{
	misc_deregister(&inject_device);
	tracepoint_synchronize_unregister();
	/* A task that was preempted in inject_just_return() must get out of it before its text is freed. */
	synchronize_rcu_tasks();
}

module_init(inject_init);
module_exit(inject_exit);

MODULE_DESCRIPTION("Override the return value of probed functions from BPF programs, for inject");
MODULE_LICENSE("GPL");
MODULE_VERSION("1");	/* of what user space relies on: VERSION in inject/module/overrider.py */
