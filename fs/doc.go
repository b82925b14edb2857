// Package fs is files and directories as package os has them, performed through io_uring or, where that is faster, by plain system
// calls.
//
//	f, err := fs.Open(ctx, "hello.txt")
//	if err != nil {
//		return err
//	}
//	defer f.Close(ctx)
//	buf := make([]byte, 4096)
//	n, buf, err := f.ReadAt(ctx, buf, 0)
//
// # Buffers
//
// A buffer given to a call belongs to the kernel until the call returns, and the call hands the same slice back, on errors too. It
// is nil only with an error that wraps driver.ErrAbandoned: then the caller was let go while the kernel still had it. Mind the
// scope: n, buf, err := in an inner block makes a new buf.
//
// # Contexts
//
// ctx is the task: a task of package executor, or any context made by driver.NewContext. When it ends, the operation is cancelled
// and the call returns what became of it, so data that arrived is not lost; if nothing did, the error matches context.Canceled or
// context.DeadlineExceeded (and os.ErrDeadlineExceeded). A plain system call, once begun, cannot be cancelled; see [Route].
//
// # Errors
//
// Errors are those of package os: *[PathError] with the same verbs, *[LinkError] for two names, io.EOF bare, and errors.Is works
// with [ErrNotExist], [ErrExist], [ErrPermission] and [ErrClosed]. The error of a call that was cancelled matches what ended ctx, too
// (context.Cause): where that may be the error of another call, as in an errgroup, ask for context.Canceled first.
//
// # Files
//
// A [File] is positional: [File.ReadAt] and [File.WriteAt] take an offset, and may be called from many tasks at once. Each is one
// operation and may be short; [File.ReadExactAt] and [File.WriteAllAt] move everything. [File.Read] and [File.Write] are for pipes, terminals
// and files opened to append. [File.NewReader] and [File.NewWriter] adapt a File to package io; [File.NewStreamReader] and
// [File.NewStreamWriter] do so with blocks that are read ahead, or written behind.
//
// A file that is to appear whole or not at all is written by [WriteFileAtomic], or opened without a name ([OpenOptions]) and given one by
// [File.Link].
//
// Operations on one file are not ordered among each other: what a Sync must cover, or a read must see, has to have returned before
// it is called.
//
// [File.Close] ends the operations in flight on the file and waits for them, so that the kernel cannot reuse the number of the
// descriptor under one of them. A File that is dropped without Close is closed in the background, at some time.
//
// The name clashes with io/fs. Where both are needed, import that one as iofs; most of what one wants from it is here under the
// same name.
package fs
