package copier

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// perWorker is the most descriptors that a worker has open beside what may be closed at any time: the source, its copy and
	// the two directories they are in; or two directories, those they are in, and on the way to them one more on either side.
	perWorker = 6

	// spare is left for what the runtime and the libraries open meanwhile.
	spare = 8

	defaultDescriptors = 256
)

// budget shares the descriptors between the workers and the directories kept open for later, and returns the number of either.
func budget(jobs, descriptors int) (workers, folders int) {
	if descriptors <= 0 {
		descriptors = defaultDescriptors
		var lim unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err == nil && lim.Cur < defaultDescriptors {
			descriptors = int(lim.Cur)
		}
	}
	free := descriptors - spare
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		free -= len(open)
	} else {
		free -= spare
	}
	workers = max(1, min(jobs, free/perWorker))
	return workers, max(2, free-4*workers)
}

// buffers hands out the large buffers, up to a number.
type buffers struct {
	mu   sync.Mutex
	left int // that may still be made
	free [][]byte
}

const (
	// largeBlock is what one operation moves of a large file.
	largeBlock = 1 << 20

	// maxLarge bounds them all: more blocks in flight gain nothing, and every one costs memory and cache.
	maxLarge = 16
)

// get returns a buffer, or nil if all are in use.
func (b *buffers) get() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.free); n > 0 {
		buf := b.free[n-1]
		b.free = b.free[:n-1]
		return buf
	}
	if b.left == 0 {
		return nil
	}
	b.left--
	return make([]byte, largeBlock)
}

// put takes a buffer back. Nil, from an operation that the kernel did not let go of, means that another one may be made.
func (b *buffers) put(buf []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if buf == nil {
		b.left++
		return
	}
	b.free = append(b.free, buf)
}
