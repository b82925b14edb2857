package ring

import (
	"io"
	"sync"
	"unsafe"
)

// SimFile is a file of the model: bytes with offsets, or a pipe. One SimFile may stand under several descriptor numbers.
type SimFile struct {
	mu     sync.Mutex
	data   []byte
	pos    int64
	pipe   bool
	hangup bool
	sims   []*Sim
}

// NewSimFile returns a file with the given contents, which it keeps.
func NewSimFile(data []byte) *SimFile { return &SimFile{data: data} }

// NewSimPipe returns a pipe: reads take what writes brought, and wait while there is nothing.
func NewSimPipe() *SimFile { return &SimFile{pipe: true} }

func (f *SimFile) bind(s *Sim) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sims = append(f.sims, s)
}

// Bytes returns a copy of what is in the file, or waiting in the pipe.
func (f *SimFile) Bytes() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]byte(nil), f.data...)
}

// ReadAt is [io.ReaderAt] for a look from outside.
func (f *SimFile) ReadAt(b []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// Feed adds bytes at the end, from any goroutine.
func (f *SimFile) Feed(b []byte) {
	f.mu.Lock()
	f.data = append(f.data, b...)
	f.mu.Unlock()
	f.ring()
}

// Hangup ends a pipe: reads find its end once it is empty.
func (f *SimFile) Hangup() {
	f.mu.Lock()
	f.hangup = true
	f.mu.Unlock()
	f.ring()
}

func (f *SimFile) ring() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sims {
		s.ring()
	}
}

// read moves bytes to to; ready is false if there is nothing yet. An offset of -1 is the file position.
func (f *SimFile) read(to [][]byte, off int64) (n int, ready bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pipe {
		for _, b := range to {
			m := move(b, f.data)
			f.data = f.data[m:]
			n += m
		}
		return n, n > 0 || f.hangup || total(to) == 0
	}
	at := off
	if off == -1 {
		at = f.pos
	}
	for _, b := range to {
		if at >= int64(len(f.data)) {
			break
		}
		m := move(b, f.data[at:])
		at += int64(m)
		n += m
	}
	if off == -1 {
		f.pos = at
	}
	return n, true
}

// write moves bytes from from, and extends the file as needed.
func (f *SimFile) write(from [][]byte, off int64) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := off
	switch {
	case f.pipe:
		at = int64(len(f.data))
	case off == -1:
		at = f.pos
	}
	for _, b := range from {
		f.grow(at + int64(len(b)))
		move(f.data[at:], b)
		at += int64(len(b))
		n += len(b)
	}
	if !f.pipe && off == -1 {
		f.pos = at
	}
	return n
}

func (f *SimFile) grow(size int64) {
	if more := size - int64(len(f.data)); more > 0 {
		f.data = append(f.data, make([]byte, more)...)
	}
}

func (f *SimFile) truncate(size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.grow(size)
	f.data = f.data[:size]
}

func (f *SimFile) extend(size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.grow(size)
}

func total(bufs [][]byte) (n int) {
	for _, b := range bufs {
		n += len(b)
	}
	return n
}

// memory returns the n bytes at an address that an entry names. The model is the kernel here: the address is all there is,
// so it takes a way on which neither vet nor checkptr asks where it came from.
func memory(addr uint64, n int) []byte {
	if n == 0 {
		return nil
	}
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&addr)), n)
}

// move is copy, and fill fills, as the kernel does it: unseen by the race detector. Drivers tell the detector themselves who owns
// what, and the model must not have another opinion.
//
//go:norace
func move(to, from []byte) int {
	n := min(len(to), len(from))
	for i := range n { // the built-in copy would be seen
		to[i] = from[i]
	}
	return n
}

//go:norace
func fill(b []byte, v byte) {
	for i := range b {
		b[i] = v
	}
}
