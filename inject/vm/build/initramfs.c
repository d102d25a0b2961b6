// SPDX-License-Identifier: GPL-2.0-only
/*
 * First process of a guest whose kernel has the drivers of its disks as modules: it loads them,
 * mounts the root filesystem and executes the image's /sbin/inject-init there. It does what a
 * shell would do with a dozen processes, each of which takes 100 ms under emulation.
 *
 * The file /modules names the modules, each after those that it needs.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define ROOT_DEVICE "/dev/vda"
#define INIT "/sbin/inject-init"
#define PROBE_STEPS 500 /* of 10 ms: the disk appears after its driver has probed it */

static void die(const char *what)
{
	fprintf(stderr, "inject-initramfs: %s: %s\n", what, strerror(errno));
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

/* A module for hardware that this machine does not have is not an error. */
static void load(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		die(path);
	if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST && errno != ENODEV)
		die(path);
	close(fd);
}

static void load_all(void)
{
	char line[256];
	FILE *list = fopen("/modules", "r");

	if (!list)
		die("/modules");
	while (fgets(line, sizeof(line), list)) {
		line[strcspn(line, "\n")] = 0;
		load(line);
	}
	fclose(list);
}

/* udev makes these nodes from modules.devname; opening one loads its module. */
static void make_nodes(void)
{
	mkdir("/dev/mapper", 0755);
	if (mknod("/dev/loop-control", S_IFCHR | 0600, makedev(10, 237)) && errno != EEXIST)
		die("/dev/loop-control");
	if (mknod("/dev/mapper/control", S_IFCHR | 0600, makedev(10, 236)) && errno != EEXIST)
		die("/dev/mapper/control");
}

int main(void)
{
	int step;

	load_all();
	if (mount("devtmpfs", "/dev", "devtmpfs", 0, "mode=755"))
		die("cannot mount /dev");
	make_nodes();
	for (step = 0; access(ROOT_DEVICE, F_OK) && step < PROBE_STEPS; step++)
		usleep(10000);
	if (mount(ROOT_DEVICE, "/root", "ext4", 0, "noinit_itable"))
		die("cannot mount " ROOT_DEVICE);
	if (umount("/dev"))
		die("cannot unmount /dev");
	if (chdir("/root") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		die("cannot change to the root filesystem");
	execl(INIT, INIT, (char *)NULL);
	die("cannot execute " INIT);
}
