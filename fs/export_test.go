package fs

// AllRemote has every file system count as remote until restore is called.
func AllRemote() (restore func()) {
	const forEver = 1 << 62
	was := mounts.Swap(&mountTable{read: forEver, points: []mountPoint{{path: "/"}}})
	return func() { mounts.Store(was) }
}
