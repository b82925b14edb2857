package net

import (
	"golang.org/x/sys/unix"
)

// pipe is a pipe of the kernel's through which [Conn.Splice] and [Conn.SendFile] pass data that the process never sees.
type pipe struct {
	r, w int
	size int // how many bytes it has room for, in whole pages
	held int // how many bytes are in it
}

// pipeSize is what is asked for. A pipe of it costs the kernel ten KiB; the data are pages that somebody else has. Who has many pipes and
// no privileges is given less. pipe(7).
const pipeSize = 1 << 20

// pipes keeps some for the next user: making one and giving it its size takes longer than many a transfer.
var pipes = make(chan *pipe, 32)

func takePipe() (*pipe, error) {
	select {
	case p := <-pipes:
		return p, nil
	default:
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, sysError("pipe2", err)
	}
	p := &pipe{r: fds[0], w: fds[1], size: 64 << 10}
	if n, err := unix.FcntlInt(uintptr(p.w), unix.F_SETPIPE_SZ, pipeSize); err == nil {
		p.size = n
	}
	return p, nil
}

// give returns a pipe that is no longer used. One that is not empty would hand the next user what is not his.
func (p *pipe) give() {
	if p.held == 0 {
		select {
		case pipes <- p:
			return
		default:
		}
	}
	p.close()
}

func (p *pipe) close() {
	_ = unix.Close(p.r)
	_ = unix.Close(p.w)
}

// taken asks the kernel how much of what was in the pipe is not any more. ioctl(2), FIONREAD.
func (p *pipe) taken() int {
	left, err := unix.IoctlGetInt(p.r, unix.TIOCINQ) // the other name of FIONREAD
	if err != nil {
		return 0
	}
	return p.held - left
}

// empty takes out what is in the pipe.
func (p *pipe) empty() []byte {
	b := make([]byte, p.held)
	n := 0
	for n < len(b) {
		k, err := unix.Read(p.r, b[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || k == 0 {
			break // which leaves it to be closed
		}
		n += k
	}
	p.held -= n
	return b[:n]
}
