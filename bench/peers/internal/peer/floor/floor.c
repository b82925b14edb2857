// The floor: what C and liburing do with one thread, one ring and nothing around them. It keeps as many requests in
// flight as a runtime has tasks, and prints one JSON object.
//
//	floor nop|read|write|stat DEPTH WARM_MS MEASURE_MS [PATH SIZE DIRECT]
//
// PATH is a file of SIZE bytes; for stat it is a directory with SIZE files named 0, 1, 2 ...
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { ENTRIES = 1024, BLOCK = 4096, STAT_FILES_MAX = 1024 };

static struct io_uring ring;
static unsigned depth;
static int fd = -1;
static uint64_t size;
static char *blocks;
static struct statx *stats;
static char names[STAT_FILES_MAX][8];

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

// cpu_ns includes the kernel's io-wq workers: they are threads of this process.
static uint64_t cpu_ns(void)
{
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000 +
	       (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
}

static int threads(void)
{
	DIR *d = opendir("/proc/self/task");
	int n = 0;
	if (!d)
		return -1;
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2; // . and ..
}

static uint64_t next_random(void)
{
	static uint64_t x = 88172645463325252ull;
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

static void prepare_nop(struct io_uring_sqe *e, unsigned slot) { io_uring_prep_nop(e); }

static void prepare_read(struct io_uring_sqe *e, unsigned slot)
{
	io_uring_prep_read(e, fd, blocks + (size_t)slot * BLOCK, BLOCK, next_random() % (size / BLOCK) * BLOCK);
}

static void prepare_write(struct io_uring_sqe *e, unsigned slot)
{
	io_uring_prep_write(e, fd, blocks + (size_t)slot * BLOCK, BLOCK, next_random() % (size / BLOCK) * BLOCK);
}

static void prepare_stat(struct io_uring_sqe *e, unsigned slot)
{
	static uint64_t at;
	io_uring_prep_statx(e, fd, names[at++ % size], 0, STATX_BASIC_STATS, &stats[slot]);
}

struct work {
	const char *name;
	void (*prepare)(struct io_uring_sqe *, unsigned slot);
	int result;
	bool whole_batch; // wait for the whole batch: right where nothing is ever late
};

static const struct work works[] = {
	{"nop", prepare_nop, 0, true},
	{"read", prepare_read, BLOCK, false},
	{"write", prepare_write, BLOCK, false},
	{"stat", prepare_stat, 0, false},
};

static void issue(const struct work *w, unsigned slot)
{
	struct io_uring_sqe *e = io_uring_get_sqe(&ring);
	w->prepare(e, slot);
	io_uring_sqe_set_data64(e, slot);
}

// turn submits what is queued, waits, and issues anew what has completed. It returns the number of completions.
static unsigned turn(const struct work *w)
{
	struct io_uring_cqe *c;
	unsigned head, n = 0;
	int err = io_uring_submit_and_wait(&ring, w->whole_batch ? depth : 1);
	if (err < 0 && err != -EINTR)
		die("io_uring_submit_and_wait", -err);
	io_uring_for_each_cqe(&ring, head, c) {
		if (c->res < 0)
			die(w->name, -c->res);
		if (c->res != w->result)
			die("short result", EIO);
		issue(w, c->user_data);
		n++;
	}
	io_uring_cq_advance(&ring, n);
	return n;
}

// run looks at the clock once in a few turns, as reading it costs a good part of a no-op.
static uint64_t run(const struct work *w, uint64_t until)
{
	uint64_t ops = 0;
	while (now_ns() < until)
		for (int i = 0; i < 16; i++)
			ops += turn(w);
	return ops;
}

static void open_target(char **argv, int argc, const struct work *w)
{
	if (argc < 8)
		return;
	bool stat = w->prepare == prepare_stat;
	size = strtoull(argv[6], NULL, 10);
	fd = open(argv[5], (stat ? O_DIRECTORY : w->prepare == prepare_write ? O_RDWR : O_RDONLY) |
			       (atoi(argv[7]) ? O_DIRECT : 0) | O_CLOEXEC);
	if (fd < 0)
		die(argv[5], errno);
	for (unsigned i = 0; stat && i < size && i < STAT_FILES_MAX; i++)
		snprintf(names[i], sizeof names[i], "%u", i);
}

int main(int argc, char **argv)
{
	const struct work *w = NULL;
	for (size_t i = 0; argc >= 5 && i < sizeof works / sizeof *works; i++)
		if (!strcmp(argv[1], works[i].name))
			w = &works[i];
	if (!w)
		die("usage: floor nop|read|write|stat DEPTH WARM_MS MEASURE_MS [PATH SIZE DIRECT]", EINVAL);
	depth = atoi(argv[2]);
	open_target(argv, argc, w);
	blocks = mmap(NULL, (size_t)depth * BLOCK, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE | MAP_POPULATE, -1, 0);
	stats = calloc(depth, sizeof *stats);
	if (blocks == MAP_FAILED || !stats)
		die("memory", ENOMEM);

	int err = io_uring_queue_init(ENTRIES, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
	if (err == -EINVAL) // before 6.1
		err = io_uring_queue_init(ENTRIES, &ring, 0);
	if (err < 0)
		die("io_uring_queue_init", -err);
	for (unsigned slot = 0; slot < depth; slot++)
		issue(w, slot);

	run(w, now_ns() + strtoull(argv[3], NULL, 10) * 1000000);
	uint64_t cpu = cpu_ns(), at = now_ns();
	uint64_t ops = run(w, at + strtoull(argv[4], NULL, 10) * 1000000);
	uint64_t elapsed = now_ns() - at;
	cpu = cpu_ns() - cpu;
	printf("{\"ops\":%" PRIu64 ",\"elapsed\":%" PRIu64 ",\"cpu\":%" PRIu64 ",\"threads\":%d,\"allocs\":-1}\n",
	       ops, elapsed, cpu, threads());
	return 0;
}
