package buf

import (
	"fmt"
	"unsafe"
)

// Aligned returns n bytes of the Go heap whose address is a multiple of align, a power of two, as files opened with O_DIRECT want it: the
// alignment is in statx(2), stx_dio_mem_align (6.1), and 4096 does everywhere. The garbage collector frees them as any slice.
func Aligned(n, align int) []byte {
	checkAlign(align)
	if n < 0 {
		panic(fmt.Sprintf("buf: %d bytes", n))
	}
	if n == 0 {
		return []byte{}
	}
	if b := make([]byte, n); IsAligned(b, align) {
		return b // as large ones mostly are
	}
	b := make([]byte, n+align-1)
	skip := -int(address(b)) & (align - 1)
	return b[skip : skip+n : skip+n]
}

// IsAligned reports whether the address of b is a multiple of align, a power of two. An empty b is.
func IsAligned(b []byte, align int) bool {
	checkAlign(align)
	return len(b) == 0 || address(b)&uintptr(align-1) == 0
}

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

func checkAlign(align int) {
	if align <= 0 || align&(align-1) != 0 {
		panic(fmt.Sprintf("buf: alignment %d is not a power of two", align))
	}
}

// roundUp returns the multiple of align, a power of two, that is not below n.
func roundUp(n, align int) int { return (n + align - 1) &^ (align - 1) }
