// The floor for servers: a loop in C with liburing that sends back what it receives, on one thread.
//
//	echo once|multi
//
// It says its port and runs until it is killed. Once: a receive and a send for every turn, each with the connection's own buffer.
// Multi: multishot accept and receive, with buffers that the kernel picks.
#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ENTRIES = 4096, BUFFER = 8192, BUFFERS = 1024, FDS = 16384, GROUP = 1 };
enum { ACCEPT, RECEIVE, SEND };

// A piece is what waits to be sent on a connection. A piece of a multishot receive lies in buffer id.
struct piece {
	uint32_t id, n;
	struct piece *next;
};

static struct io_uring ring;
static struct io_uring_buf_ring *buffers;
static char *memory;	   // of the buffers
static char *own[FDS];	   // a connection's buffer
static uint32_t length[FDS]; // of what is in it
static uint32_t sent[FDS];
static struct piece pieces[BUFFERS], *first[FDS], *last[FDS];
static bool multi;
static int listener;

static void die(const char *what, int err)
{
	fprintf(stderr, "%s: %s\n", what, strerror(err));
	exit(1);
}

static struct io_uring_sqe *entry(void)
{
	struct io_uring_sqe *e = io_uring_get_sqe(&ring);
	if (!e) {
		io_uring_submit(&ring);
		e = io_uring_get_sqe(&ring);
	}
	if (!e)
		die("no entry", EBUSY);
	return e;
}

static void mark(struct io_uring_sqe *e, unsigned what, int fd) { e->user_data = (uint64_t)what << 32 | (uint32_t)fd; }

static void accept_next(void)
{
	struct io_uring_sqe *e = entry();
	if (multi)
		io_uring_prep_multishot_accept(e, listener, NULL, NULL, SOCK_CLOEXEC);
	else
		io_uring_prep_accept(e, listener, NULL, NULL, SOCK_CLOEXEC);
	mark(e, ACCEPT, listener);
}

static void receive(int fd)
{
	struct io_uring_sqe *e = entry();
	if (multi) {
		io_uring_prep_recv_multishot(e, fd, NULL, 0, 0);
		e->flags |= IOSQE_BUFFER_SELECT;
		e->buf_group = GROUP;
	} else {
		io_uring_prep_recv(e, fd, own[fd], BUFFER, 0);
	}
	mark(e, RECEIVE, fd);
}

static void send_rest(int fd)
{
	struct io_uring_sqe *e = entry();
	const char *from = multi ? memory + (size_t)first[fd]->id * BUFFER : own[fd];
	uint32_t n = multi ? first[fd]->n : length[fd];
	io_uring_prep_send(e, fd, from + sent[fd], n - sent[fd], MSG_WAITALL);
	mark(e, SEND, fd);
}

static void accepted(int fd)
{
	if (fd < 0)
		die("accept", -fd);
	if (fd >= FDS)
		die("accept", EMFILE);
	int on = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (!multi && !own[fd])
		own[fd] = malloc(BUFFER);
	receive(fd);
}

static void give_back(uint32_t id)
{
	io_uring_buf_ring_add(buffers, memory + (size_t)id * BUFFER, BUFFER, id, io_uring_buf_ring_mask(BUFFERS), 0);
	io_uring_buf_ring_advance(buffers, 1);
}

static void received(int fd, struct io_uring_cqe *c)
{
	if (multi && c->res == -ENOBUFS) {
		receive(fd);
		return;
	}
	if (c->res <= 0) {
		if (c->flags & IORING_CQE_F_BUFFER)
			give_back(c->flags >> IORING_CQE_BUFFER_SHIFT);
		close(fd);
		return;
	}
	sent[fd] = first[fd] ? sent[fd] : 0;
	if (!multi) {
		length[fd] = c->res;
		send_rest(fd);
		return;
	}
	uint32_t id = c->flags >> IORING_CQE_BUFFER_SHIFT;
	struct piece *p = &pieces[id];
	*p = (struct piece){id, c->res, NULL};
	if (first[fd]) {
		last[fd]->next = p;
		last[fd] = p;
	} else {
		first[fd] = last[fd] = p;
		send_rest(fd);
	}
	if (!(c->flags & IORING_CQE_F_MORE))
		receive(fd);
}

static void was_sent(int fd, int n)
{
	if (n < 0) { // the receive will say so
		while (first[fd]) {
			give_back(first[fd]->id);
			first[fd] = first[fd]->next;
		}
		if (!multi)
			close(fd);
		return;
	}
	sent[fd] += n;
	uint32_t all = multi ? first[fd]->n : length[fd];
	if (sent[fd] < all) {
		send_rest(fd);
		return;
	}
	sent[fd] = 0;
	if (!multi) {
		receive(fd);
		return;
	}
	give_back(first[fd]->id);
	if ((first[fd] = first[fd]->next))
		send_rest(fd);
}

static void completed(struct io_uring_cqe *c)
{
	int fd = (uint32_t)c->user_data;
	switch (c->user_data >> 32) {
	case ACCEPT:
		accepted(c->res);
		if (!(c->flags & IORING_CQE_F_MORE))
			accept_next();
		break;
	case RECEIVE:
		received(fd, c);
		break;
	case SEND:
		was_sent(fd, c->res);
		break;
	}
}

static void make_buffers(void)
{
	memory = malloc((size_t)BUFFERS * BUFFER);
	buffers = aligned_alloc(4096, BUFFERS * sizeof(struct io_uring_buf));
	if (!buffers || !memory)
		die("memory", ENOMEM);
	struct io_uring_buf_reg reg = {.ring_addr = (uintptr_t)buffers, .ring_entries = BUFFERS, .bgid = GROUP};
	int err = io_uring_register_buf_ring(&ring, &reg, 0);
	if (err < 0)
		die("io_uring_register_buf_ring", -err);
	io_uring_buf_ring_init(buffers);
	for (uint32_t id = 0; id < BUFFERS; id++)
		give_back(id);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		die("usage: echo once|multi", EINVAL);
	multi = !strcmp(argv[1], "multi");
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof at;
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&at, size) < 0 || listen(listener, 4096) < 0 ||
	    getsockname(listener, (struct sockaddr *)&at, &size) < 0)
		die("listen", errno);
	int err = io_uring_queue_init(ENTRIES, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
	if (err < 0)
		die("io_uring_queue_init", -err);
	if (multi)
		make_buffers();
	accept_next();
	printf("%d\n", ntohs(at.sin_port));
	fflush(stdout);
	for (;;) {
		struct io_uring_cqe *c;
		unsigned head, n = 0;
		err = io_uring_submit_and_wait(&ring, 1);
		if (err < 0 && err != -EINTR)
			die("io_uring_submit_and_wait", -err);
		io_uring_for_each_cqe(&ring, head, c) {
			completed(c);
			n++;
		}
		io_uring_cq_advance(&ring, n);
	}
}
