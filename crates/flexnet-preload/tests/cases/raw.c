// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Raw system calls: an address that is bad is EFAULT, as without the library; a descriptor that one
// of them sends away or doubles is known to be elsewhere.
#include "case.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static char byte = 'b';
static union {
	struct cmsghdr header;
	char room[CMSG_SPACE(sizeof(int))];
} control;

static struct msghdr with_rights(struct iovec *slice, int fd)
{
	struct msghdr message = { .msg_iov = slice,
				  .msg_iovlen = 1,
				  .msg_control = control.room,
				  .msg_controllen = sizeof control.room };

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
	return message;
}

static void fails(long result, int error, const char *what)
{
	CHECK(result == -1 && errno == error, "%s: %ld, %s", what, result, strerror(errno));
}

static void bad_addresses(void)
{
	struct iovec slice = { &byte, 1 };
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct mmsghdr *two;
	int ends[2];

	CHECK(page != MAP_FAILED && mprotect(page + 4096, 4096, PROT_NONE) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
	fails(syscall(SYS_sendmsg, ends[0], 8L, 0), EFAULT, "sendmsg, no header");
	fails(syscall(SYS_sendmsg, ends[0], page + 4096 - 16, 0), EFAULT, "sendmsg, half a header");
	fails(syscall(SYS_sendmsg, ends[0], -8L, 0), EFAULT, "sendmsg, above all");
	fails(syscall(SYS_sendmmsg, ends[0], 8L, 1, 0), EFAULT, "sendmmsg, no header");
	struct msghdr message = with_rights(&slice, 0);
	message.msg_control = page + 4096;
	fails(syscall(SYS_sendmsg, ends[0], &message, 0), EFAULT, "sendmsg, no control");
	// A part of the control messages cannot be read.
	message.msg_control = page + 4096 - 16;
	fails(syscall(SYS_sendmsg, ends[0], &message, 0), EFAULT, "sendmsg, half a control");
	// A control message that is longer than what there is.
	message = with_rights(&slice, 0);
	control.header.cmsg_len = 1 << 30;
	fails(syscall(SYS_sendmsg, ends[0], &message, 0), EINVAL, "sendmsg, a long control");
	fails(sendmsg(ends[0], &message, 0), EINVAL, "sendmsg(), a long control");
	// The first message can be read, the second not: one is sent.
	two = (struct mmsghdr *)(page + 4096) - 1;
	two->msg_hdr = (struct msghdr){ .msg_iov = &slice, .msg_iovlen = 1 };
	CHECK(syscall(SYS_sendmmsg, ends[0], two, 2, 0) == 1, "%s", strerror(errno));
	close(ends[0]);
	close(ends[1]);
	munmap(page, 8192);
}

// The peer has each byte when the call that wrote it returns.
static int synchronous(int pair[2])
{
	char got;

	for (int i = 0; i < 200; i++) {
		CHECK(write(pair[0], &byte, 1) == 1);
		if (recv(pair[1], &got, 1, MSG_DONTWAIT) != 1) {
			CHECK(recv(pair[1], &got, 1, 0) == 1);
			return 0;
		}
	}
	return 1;
}

static void sent_away(long number)
{
	struct iovec slice = { &byte, 1 };
	struct mmsghdr two[2] = {};
	int pair[2], ends[2];
	char got;

	connection(pair, 0, 0);
	CHECK(write(pair[0], &byte, 1) == 1 && read(pair[1], &got, 1) == 1);
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
	two[0].msg_hdr = (struct msghdr){ .msg_iov = &slice, .msg_iovlen = 1 };
	two[1].msg_hdr = with_rights(&slice, pair[0]);
	if (number == SYS_sendmmsg)
		CHECK(syscall(number, ends[0], two, 2, 0) == 2, "%s", strerror(errno));
	else
		CHECK(syscall(number, ends[0], &two[1].msg_hdr, 0) == 1, "%s", strerror(errno));
	CHECK(synchronous(pair), "it queues what another process may write to");
	close(ends[0]);
	close(ends[1]);
	close(pair[0]);
	close(pair[1]);
}

// Bytes of both numbers, in the order of the calls.
static void doubled(int to)
{
	char got[3];
	int pair[2];

	for (int i = 0; i < 500; i++) {
		int other;

		connection(pair, 0, 0);
		CHECK(write(pair[0], "1", 1) == 1);
		if (to < 0)
			other = syscall(SYS_fcntl, pair[0], F_DUPFD, 3);
		else if (to > 0)
			other = syscall(SYS_dup3, pair[0], to, 0);
		else
			other = syscall(SYS_dup, pair[0]);
		CHECK(other >= 0);
		CHECK(write(pair[0], "2", 1) == 1 && write(other, "3", 1) == 1);
		CHECK(recv(pair[1], got, 3, MSG_WAITALL) == 3 && !memcmp(got, "123", 3), "%.3s",
		      got);
		CHECK(syscall(SYS_close, pair[0]) == 0 && close(other) == 0);
		CHECK(read(pair[1], got, 1) == 0);
		close(pair[1]);
	}
}

// What is queued arrives although a raw close_range ends its socket.
static void closed_in_a_range(void)
{
	char got[2];
	int pair[2];

	connection(pair, 0, 0);
	CHECK(write(pair[0], "a", 1) == 1 && write(pair[0], "b", 1) == 1);
	CHECK(syscall(SYS_close_range, pair[0], pair[0], 0) == 0);
	CHECK(recv(pair[1], got, 2, MSG_WAITALL) == 2 && !memcmp(got, "ab", 2), "%.2s", got);
	CHECK(read(pair[1], got, 1) == 0);
	close(pair[1]);
}

int main(void)
{
	bad_addresses();
	closed_in_a_range();
	sent_away(SYS_sendmsg);
	sent_away(SYS_sendmmsg);
	doubled(-1);
	doubled(0);
	doubled(700);
	return 0;
}
