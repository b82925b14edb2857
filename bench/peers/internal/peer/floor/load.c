// The load on a server: it keeps requests in flight on a number of connections and counts the replies.
//
//	load PORT CONNECTIONS IN_FLIGHT REPLY_BYTES WARM_MS MEASURE_MS echo|fixed|reconnect
//
// The request is on standard input. With echo the reply has to be the request; with reconnect every request gets a connection of its
// own. It says "start" when the measured time starts, and at its end one JSON object. It runs on the processors that its parent does
// not use, if there are any.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ENTRIES = 2048, BUFFER = 16384, REQUEST_MAX = 16384 };

struct connection {
	int fd;
	unsigned owed;	 // requests to send
	size_t sending;	 // bytes of the send in flight, from where
	size_t sent;
	size_t got;	 // bytes of the reply that is coming in
	char in[BUFFER];
};

static struct io_uring ring;
static struct sockaddr_in server;
static struct connection *all;
static unsigned connections, in_flight;
static char *requests; // in_flight of them
static size_t request, reply;
static bool echo, reconnect, checking = true;
static uint64_t done;

static void die(const char *what, int err)
{
	fprintf(stderr, "%s: %s\n", what, strerror(err));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool alone; // on processors of its own

static void away_from_parent(void)
{
	cpu_set_t his, others;
	CPU_ZERO(&others);
	if (sched_getaffinity(0, sizeof his, &his) < 0)
		die("sched_getaffinity", errno);
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (!CPU_ISSET(i, &his))
			CPU_SET(i, &others);
	alone = sched_setaffinity(0, sizeof others, &others) == 0; // fails if there are no others
}

static struct io_uring_sqe *entry(struct connection *c, unsigned is_send)
{
	struct io_uring_sqe *e = io_uring_get_sqe(&ring);
	if (!e) {
		io_uring_submit(&ring);
		e = io_uring_get_sqe(&ring);
	}
	if (!e)
		die("no entry", EBUSY);
	e->user_data = (uint64_t)(c - all) << 1 | is_send;
	return e;
}

static void receive(struct connection *c)
{
	struct io_uring_sqe *e = entry(c, 0);
	uint64_t data = e->user_data;
	if (reply > BUFFER) // only counted: the kernel drops what TCP received
		io_uring_prep_recv(e, c->fd, NULL, 1 << 20, MSG_TRUNC);
	else
		io_uring_prep_recv(e, c->fd, c->in, BUFFER, 0);
	e->user_data = data;
}

static void send_on(struct connection *c)
{
	if (c->sent == c->sending) {
		c->sending = c->owed * request;
		c->sent = c->owed = 0;
		if (!c->sending)
			return;
	}
	struct io_uring_sqe *e = entry(c, 1);
	uint64_t data = e->user_data;
	io_uring_prep_send(e, c->fd, requests + c->sent, c->sending - c->sent, MSG_WAITALL);
	e->user_data = data;
}

static void open_connection(struct connection *c)
{
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&server, sizeof server) < 0)
		die("connect", errno);
	int on = 1;
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	c->owed = in_flight;
	c->sending = c->sent = c->got = 0;
	receive(c);
	send_on(c);
}

// check compares what came with the request that it should repeat.
static void check(struct connection *c, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (c->in[i] != requests[(c->got + i) % request])
			die("the reply is not the request", EBADMSG);
}

static void received(struct connection *c, int n)
{
	if (n == 0)
		die("the server closed a connection", ECONNRESET);
	if (n < 0)
		die("recv", -n);
	if (echo && checking)
		check(c, n);
	c->got += n;
	unsigned whole = c->got / reply;
	c->got %= reply;
	done += whole;
	if (reconnect && whole) {
		struct linger now = {1, 0}; // or its port would be taken for a minute
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
		close(c->fd);
		open_connection(c);
		return;
	}
	receive(c);
	bool idle = c->sent == c->sending;
	c->owed += whole;
	if (idle)
		send_on(c);
}

static void completed(struct io_uring_cqe *cqe)
{
	struct connection *c = &all[cqe->user_data >> 1];
	if (!(cqe->user_data & 1)) {
		received(c, cqe->res);
		return;
	}
	if (cqe->res < 0)
		die("send", -cqe->res);
	c->sent += cqe->res;
	if (c->sent < c->sending || c->owed)
		send_on(c);
}

static void turn(void)
{
	struct io_uring_cqe *c;
	unsigned head, n = 0;
	// It does not sleep if it can help it: between a server and a load that take turns waking each other up, the rate would be that of waking up.
	int err = alone ? io_uring_submit_and_get_events(&ring) : io_uring_submit_and_wait(&ring, 1);
	if (err < 0 && err != -EINTR)
		die("io_uring_submit_and_wait", -err);
	io_uring_for_each_cqe(&ring, head, c) {
		completed(c);
		n++;
	}
	io_uring_cq_advance(&ring, n);
}

static void run(uint64_t until)
{
	while (now_ns() < until)
		turn();
}

static void read_request(void)
{
	static char one[REQUEST_MAX];
	request = fread(one, 1, sizeof one, stdin);
	if (!request)
		die("no request", EINVAL);
	requests = malloc(request * in_flight);
	for (unsigned i = 0; i < in_flight; i++)
		memcpy(requests + i * request, one, request);
}

int main(int argc, char **argv)
{
	if (argc != 8)
		die("usage: load PORT CONNECTIONS IN_FLIGHT REPLY_BYTES WARM_MS MEASURE_MS echo|fixed|reconnect", EINVAL);
	server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	connections = atoi(argv[2]);
	in_flight = atoi(argv[3]);
	reply = strtoull(argv[4], NULL, 10);
	echo = !strcmp(argv[7], "echo");
	reconnect = !strcmp(argv[7], "reconnect");
	read_request();
	away_from_parent();
	all = calloc(connections, sizeof *all);
	int err = io_uring_queue_init(ENTRIES, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
	if (err == -EINVAL) // before 6.1
		err = io_uring_queue_init(ENTRIES, &ring, 0);
	if (err < 0)
		die("io_uring_queue_init", -err);
	for (unsigned i = 0; i < connections; i++)
		open_connection(&all[i]);
	run(now_ns() + strtoull(argv[5], NULL, 10) * 1000000);
	checking = false;
	puts("start");
	fflush(stdout);
	done = 0;
	uint64_t at = now_ns();
	run(at + strtoull(argv[6], NULL, 10) * 1000000);
	printf("{\"ops\":%" PRIu64 ",\"elapsed\":%" PRIu64 "}\n", done, now_ns() - at);
	return 0;
}
