//go:build !race

package buf

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mapping is memory between two pages that nobody may touch: running over an arena's end is a fault, not a corruption.
type mapping struct{ whole []byte }

// mapMemory maps n bytes, a multiple of the page size, at a multiple of align, a power of two. A child of the process does not get them:
// while it shared the pages, a write of ours would move us to copies, and the kernel would go on with the originals.
func mapMemory(n, align int) (m mapping, mem []byte, err error) {
	page := os.Getpagesize()
	spare := max(0, align-page) // the kernel aligns to pages only
	whole, err := unix.Mmap(-1, 0, n+spare+2*page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return m, nil, fmt.Errorf("buf: map %d bytes: %w", n, err)
	}
	from := page + -int(address(whole[page:]))&(max(align, page)-1)
	mem = whole[from : from+n : from+n]
	if err = unix.Mprotect(mem, unix.PROT_READ|unix.PROT_WRITE); err == nil {
		err = unix.Madvise(whole, unix.MADV_DONTFORK)
	}
	if err != nil {
		return m, nil, fmt.Errorf("buf: map %d bytes: %w", n, errors.Join(err, unix.Munmap(whole)))
	}
	return mapping{whole}, mem, nil
}

// unmap gives the memory back. It can fail only for what is not mapped.
func (m *mapping) unmap() error {
	whole := m.whole
	m.whole = nil
	return unix.Munmap(whole)
}
