package fs

// AllRemote has every file system count as remote until restore is called.
func AllRemote() (restore func()) {
	const forEver = 1 << 62
	was := mounts.Swap(&mountTable{read: forEver, points: []mountPoint{{path: "/"}}})
	return func() { mounts.Store(was) }
}

// WithoutOpenat2 has the package believe that the kernel has no openat2 until restore is called.
func WithoutOpenat2() (restore func()) {
	was := noOpenat2.Swap(true)
	return func() { noOpenat2.Store(was) }
}
