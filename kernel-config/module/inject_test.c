// SPDX-License-Identifier: GPL-2.0
/*
 * Tagged functions in a module, for the tests of inject alone: names, types and
 * enumerators that only the module's own BTF knows, and addresses that come and go
 * with insmod and rmmod. No tagged function of this kernel is in a module otherwise.
 *
 * In debugfs, below inject_test/:
 *   add   write "SIZE NAME": calls inject_test_add() and then inject_test_find();
 *         write(2) fails with what they return, EPROTO for the module's own errors
 *   calls read: how often each of the two was entered, "ADD FIND"
 *   leak  write "SIZE": allocates so many bytes and forgets them
 */
#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/error-injection.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

enum inject_test_error {
	INJECT_TEST_ERR_start = 3000,
	INJECT_TEST_ERR_full,
	INJECT_TEST_ERR_torn,
};

enum inject_test_kind {
	INJECT_TEST_SMALL,
	INJECT_TEST_LARGE,
};

struct inject_test_point {
	enum inject_test_kind kind;
	u32 loud:1;
	u32 level:5;
	u64 size;
	char name[16];
	const struct inject_test_point *next;
};

static struct dentry *folder;
static atomic_t adds, finds;
static struct inject_test_point last;

/*
 * gcc must not look inside: with noinline alone it learns that inject_test_add()
 * always returns 0, and the caller ignores the value that is injected (-fipa-vrp).
 */
#define opaque noinline __attribute__((__noipa__))

opaque int inject_test_add(const struct inject_test_point *point, const char *name);
opaque struct inject_test_point *inject_test_find(const char *name, u64 size);

opaque int inject_test_add(const struct inject_test_point *point, const char *name)
{
	atomic_inc(&adds);
	last = *point;
	last.next = NULL;
	return 0;
}
ALLOW_ERROR_INJECTION(inject_test_add, ERRNO);

opaque struct inject_test_point *inject_test_find(const char *name, u64 size)
{
	atomic_inc(&finds);
	barrier();
	return last.size == size ? &last : ERR_PTR(-ENOENT);
}
ALLOW_ERROR_INJECTION(inject_test_find, ERRNO_NULL);

static ssize_t add_write(struct file *file, const char __user *from, size_t count, loff_t *at)
{
	struct inject_test_point before = { .kind = INJECT_TEST_LARGE, .size = 1 << 20, .name = "before" };
	struct inject_test_point point = { .level = 7, .next = &before };
	const struct inject_test_point *found;
	char text[64];
	int error;

	if (count >= sizeof(text))
		return -E2BIG;
	if (copy_from_user(text, from, count))
		return -EFAULT;
	text[count] = '\0';
	if (sscanf(text, "%llu %15s", &point.size, point.name) != 2)
		return -EINVAL;
	point.kind = point.size > 4096 ? INJECT_TEST_LARGE : INJECT_TEST_SMALL;
	point.loud = point.name[0] >= 'A' && point.name[0] <= 'Z';
	error = inject_test_add(&point, point.name);
	if (error)
		return error <= -INJECT_TEST_ERR_start ? -EPROTO : error;
	found = inject_test_find(point.name, point.size);
	if (!found)
		return -ENODATA;
	return IS_ERR(found) ? PTR_ERR(found) : count;
}

static ssize_t calls_read(struct file *file, char __user *to, size_t count, loff_t *at)
{
	char text[32];
	int length = scnprintf(text, sizeof(text), "%d %d\n", atomic_read(&adds), atomic_read(&finds));

	return simple_read_from_buffer(to, count, at, text, length);
}

static ssize_t leak_write(struct file *file, const char __user *from, size_t count, loff_t *at)
{
	unsigned int size;
	int error = kstrtouint_from_user(from, count, 0, &size);
	void *memory;

	if (error)
		return error;
	memory = kmalloc(clamp(size, 1u, 1u << 20), GFP_KERNEL);
	OPTIMIZER_HIDE_VAR(memory);
	return memory ? count : -ENOMEM;
}

static const struct file_operations add_ops = { .owner = THIS_MODULE, .write = add_write };
static const struct file_operations calls_ops = { .owner = THIS_MODULE, .read = calls_read };
static const struct file_operations leak_ops = { .owner = THIS_MODULE, .write = leak_write };

static int __init inject_test_init(void)
{
	folder = debugfs_create_dir("inject_test", NULL);
	debugfs_create_file("add", 0200, folder, NULL, &add_ops);
	debugfs_create_file("calls", 0400, folder, NULL, &calls_ops);
	debugfs_create_file("leak", 0200, folder, NULL, &leak_ops);
	return PTR_ERR_OR_ZERO(folder);
}
module_init(inject_test_init);

static void __exit inject_test_exit(void)
{
	debugfs_remove(folder);
}
module_exit(inject_test_exit);

MODULE_DESCRIPTION("Tagged functions in a module, for the tests of inject");
MODULE_LICENSE("GPL");
