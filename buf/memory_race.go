//go:build race

package buf

import "os"

// mapping is nothing here: with the race detector, which sees no other memory, arenas are on the heap.
type mapping struct{}

func mapMemory(n, align int) (m mapping, mem []byte, err error) {
	return m, Aligned(n, max(align, os.Getpagesize())), nil
}

func (*mapping) unmap() error { return nil }
