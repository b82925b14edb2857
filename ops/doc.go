// Package ops holds one small value per io_uring operation: how it fills a submission entry, what its completion means, how a
// result that nobody waits for is given back, and the plain system call that does the same.
//
// An [Op] is a value. It names all memory that the kernel will touch, so whoever keeps the Op keeps that memory alive; the
// driver does, from submission to the terminal completion. The type parameter is what travels with the request and comes back
// with its completion: the buffer of a read, the list of buffers of a vectored write, the statx record.
//
// A buffer given to an operation belongs to the kernel until its [Result] is in. Touching it before that is a data race, and
// the race detector reports it as one.
//
// To add an operation: write its file, give it a [Kind], and add its plain system call to [Calls]. Nothing above or
// below changes.
package ops
