// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Bytes leave in the order of the calls, whichever functions of the C library they are
// given to. Every second record goes by write(), which may queue it.
#include "case.h"
#include <aio.h>
#include <execinfo.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>

extern ssize_t __write(int, const void *, size_t);
extern ssize_t __send(int, const void *, size_t, int);
extern int __dprintf_chk(int, int, const char *, ...);
extern int __vdprintf_chk(int, int, const char *, va_list);

enum { ROUNDS = 400, RECORD = 8 };
static int sockets[2], pipes[2], file;

static void by_null_writev(int fd, const char *r)
{
	struct iovec v[] = { { NULL, 0 }, { (void *)r, 3 }, { NULL, 0 }, { (void *)(r + 3), 5 } };
	CHECK(writev(fd, v, 4) == RECORD);
}
static void by_empty_writev(int fd, const char *r)
{
	struct iovec v = { NULL, 0 };
	CHECK(writev(fd, &v, 1) == 0);
	CHECK(writev(fd, NULL, 0) == 0);
	CHECK(write(fd, r, RECORD) == RECORD);
}
static void by_many_null(int fd, const char *r)
{
	struct iovec v[40] = { { NULL, 0 } };
	for (int i = 0; i < RECORD; i++)
		v[i * 5 + 1] = (struct iovec){ (void *)(r + i), 1 };
	v[2] = (struct iovec){ (void *)r, 0 };
	CHECK(writev(fd, v, 40) == RECORD);
}
static void by_scattered(int fd, const char *r)
{
	// More slices that are not empty than a queue's gathering holds, one without address.
	char bytes[24];
	struct iovec v[26] = { { NULL, 0 } };
	memcpy(bytes, r, RECORD);
	for (int i = 0; i < RECORD; i++)
		v[i + 1] = (struct iovec){ bytes + i, 1 };
	CHECK(writev(fd, v, 26) == RECORD);
}
static void by_null_sendmsg(int fd, const char *r)
{
	struct iovec v[] = { { NULL, 0 }, { (void *)r, RECORD } };
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };
	CHECK(sendmsg(fd, &m, 0) == RECORD);
}
static void by_null_sendmmsg(int fd, const char *r)
{
	struct iovec v[] = { { NULL, 0 }, { (void *)r, 4 }, { (void *)(r + 4), 4 }, { NULL, 0 } };
	struct mmsghdr m[] = { { .msg_hdr = { .msg_iov = v, .msg_iovlen = 2 } },
			       { .msg_hdr = { .msg_iov = v + 2, .msg_iovlen = 2 } } };
	CHECK(sendmmsg(fd, m, 2, 0) == 2);
}
static void by_too_many(int fd, const char *r)
{
	static struct iovec v[1025];
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 1025 };
	for (int i = 0; i < 1025; i++)
		v[i] = (struct iovec){ (void *)r, 1 };
	CHECK(writev(fd, v, 1025) == -1 && errno == EINVAL);
	CHECK(sendmsg(fd, &m, 0) == -1 && errno == EMSGSIZE);
	CHECK(write(fd, r, RECORD) == RECORD);
}
static void by_bad_address(int fd, const char *r)
{
	struct iovec v = { NULL, RECORD };
	CHECK(writev(fd, &v, 1) == -1 && errno == EFAULT);
	CHECK(write(fd, NULL, 0) == 0);
	CHECK(write(fd, r, RECORD) == RECORD);
}
static void by_dprintf(int fd, const char *r)
{
	CHECK(dprintf(fd, "%.*s%s%g", 3, r, r + 3, 0.0) == RECORD + 1);
}
static void by_vdprintf_of(int fd, int checked, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	CHECK((checked ? __vdprintf_chk(fd, 1, format, arguments) :
			 vdprintf(fd, format, arguments)) == RECORD);
	va_end(arguments);
}
static void by_vdprintf(int fd, const char *r)
{
	by_vdprintf_of(fd, 0, "%s", r);
}
static void by_vdprintf_chk(int fd, const char *r)
{
	by_vdprintf_of(fd, 1, "%s", r);
}
static void by_dprintf_chk(int fd, const char *r)
{
	CHECK(__dprintf_chk(fd, 1, "%s", r) == RECORD);
}
static void by_pwritev2(int fd, const char *r)
{
	struct iovec v = { (void *)r, RECORD };
	CHECK(pwritev2(fd, &v, 1, -1, 0) == RECORD);
}
static void by_write_alias(int fd, const char *r)
{
	CHECK(__write(fd, r, RECORD) == RECORD);
}
static void by_send_alias(int fd, const char *r)
{
	CHECK(__send(fd, r, RECORD, 0) == RECORD);
}
static void by_number(int fd, const char *r)
{
	CHECK(syscall(SYS_write, fd, r, RECORD) == RECORD);
}
static void by_sendto_number(int fd, const char *r)
{
	CHECK(syscall(SYS_sendto, fd, r, RECORD, 0, NULL, 0) == RECORD);
}
static void by_sendfile(int fd, const char *r)
{
	// At a place of its own: the kernel sends the file's page, not a copy of it.
	off_t at = atol(r) * RECORD;
	CHECK(pwrite(file, r, RECORD, at) == RECORD);
	CHECK(sendfile(fd, file, &at, RECORD) == RECORD);
}
static void by_splice(int fd, const char *r)
{
	CHECK(write(pipes[1], r, RECORD) == RECORD);
	CHECK(splice(pipes[0], NULL, fd, NULL, RECORD, 0) == RECORD);
}
static void by_eventfd_write(int fd, const char *r)
{
	uint64_t value;
	memcpy(&value, r, RECORD);
	CHECK(eventfd_write(fd, value) == 0);
}
static void by_more(int fd, const char *r)
{
	CHECK(send(fd, r, 4, MSG_MORE) == 4);
	CHECK(send(fd, r + 4, 4, 0) == 4);
}
static void by_addressed(int fd, const char *r)
{
	// The kernel ignores the address of a stream's send.
	struct sockaddr_in at = { .sin_family = 0x7670 };
	CHECK(sendto(fd, r, RECORD, 0, (void *)&at, sizeof at) == RECORD);
}
static void by_aio(int fd, const char *r)
{
	struct aiocb one = { .aio_fildes = fd, .aio_buf = (void *)r, .aio_nbytes = RECORD },
		     *list = &one;
	CHECK(aio_write(&one) == 0);
	while (aio_error(&one) == EINPROGRESS)
		aio_suspend((const struct aiocb *const *)&list, 1, NULL);
	CHECK(aio_return(&one) == RECORD);
}
static void by_lio(int fd, const char *r)
{
	struct aiocb one = { .aio_fildes = fd,
			     .aio_buf = (void *)r,
			     .aio_nbytes = RECORD,
			     .aio_lio_opcode = LIO_WRITE },
		     *list = &one;
	CHECK(lio_listio(LIO_WAIT, &list, 1, NULL) == 0);
	CHECK(aio_return(&one) == RECORD);
}

static const struct way {
	const char *name;
	void (*send)(int fd, const char *record);
	int extra; // bytes beside the record
} ways[] = {
	{ "writev with a null slice", by_null_writev },
	{ "writev of nothing", by_empty_writev },
	{ "writev with many null slices", by_many_null },
	{ "writev of more than is gathered", by_scattered },
	{ "sendmsg with a null slice", by_null_sendmsg },
	{ "sendmmsg with null slices", by_null_sendmmsg },
	{ "too many slices", by_too_many },
	{ "a bad address", by_bad_address },
	{ "dprintf", by_dprintf, 1 },
	{ "vdprintf", by_vdprintf },
	{ "__dprintf_chk", by_dprintf_chk },
	{ "__vdprintf_chk", by_vdprintf_chk },
	{ "pwritev2", by_pwritev2 },
	{ "__write", by_write_alias },
	{ "__send", by_send_alias },
	{ "syscall(SYS_write)", by_number },
	{ "syscall(SYS_sendto)", by_sendto_number },
	{ "sendfile", by_sendfile },
	{ "splice", by_splice },
	{ "eventfd_write", by_eventfd_write },
	{ "MSG_MORE", by_more },
	{ "sendto with an address", by_addressed },
	{ "aio_write", by_aio },
	{ "lio_listio", by_lio },
};

static void *reader(void *way)
{
	const struct way *of = way;
	char expected[RECORD + 2], got[RECORD + 2];

	for (int i = 0; i < 2 * ROUNDS; i++) {
		size_t length = RECORD + (i % 2 ? of->extra : 0);
		snprintf(expected, sizeof expected, "%07d,0", i);
		CHECK(recv(sockets[1], got, length, MSG_WAITALL) == (ssize_t)length, "%s",
		      of->name);
		CHECK(memcmp(got, expected, length) == 0, "%s: '%.*s' is not '%.*s'", of->name,
		      (int)length, got, (int)length, expected);
	}
	return NULL;
}

// stdio's descriptors are written to past every hook.
static void standard_output(void)
{
	char expected[2 * RECORD + 1], got[2 * RECORD];

	connection(sockets, 0, 0);
	dup2(sockets[0], 1);
	for (int i = 0; i < ROUNDS; i++) {
		snprintf(expected, sizeof expected, "%07d,%07d,", i, i);
		CHECK(write(sockets[0], expected, RECORD) == RECORD);
		printf("%s", expected + RECORD);
		fflush(stdout);
		CHECK(recv(sockets[1], got, sizeof got, MSG_WAITALL) == sizeof got);
		CHECK(memcmp(got, expected, sizeof got) == 0, "printf: %.16s", got);
	}
}

int main(void)
{
	char record[RECORD + 1];

	file = memfd_create("record", 0);
	CHECK(pipe(pipes) == 0);
	for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
		pthread_t thread;

		connection(sockets, 0, 0);
		pthread_create(&thread, NULL, reader, (void *)&ways[w]);
		for (int i = 0; i < 2 * ROUNDS; i++) {
			snprintf(record, sizeof record, "%07d,", i);
			if (i % 2)
				ways[w].send(sockets[0], record);
			else
				CHECK(write(sockets[0], record, RECORD) == RECORD);
		}
		pthread_join(thread, NULL);
		close(sockets[0]);
		close(sockets[1]);
	}
	standard_output();
	return 0;
}
