// Package copier copies files and trees from inside a task of uringo/executor, as cp does where that is defined, and so that
// nothing it does can be turned against its user:
//
//   - Below the arguments it works only relative to open directories, and follows no symbolic link.
//   - A file is written under a temporary name beside its target, completed with owner, mode, attributes and times, synced, and
//     renamed. An error, a signal or a crash leaves the old content or the new under the final name, never half of one.
//   - What a name stands for is looked at before it is opened, and again once it is open, so no FIFO or device is ever read by
//     mistake.
//   - One failure does not stop the rest; all are listed.
//
// A fixed number of workers take names from a shared stack of directories. No task waits for the ones it started: the worker that
// ends the last entry of a directory also finishes that directory. So the number of open descriptors and the memory depend on the
// number of workers and the largest directory, not on the tree.
package copier
