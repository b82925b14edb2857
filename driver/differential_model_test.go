package driver_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"uringo/buf"
	"uringo/driver"
)

// state is one that a lane of TestDifferential may be in. The model of a lane is the set of them.
type state struct {
	i          int    // whose turn it is
	done       int    // what earlier parts of its transfer moved
	got        string // by reading
	in, sock   string // what has come and was not read
	file, sent string
	room       int    // free pages of out
	place      bool   // a file is open in the place of the ring's table
	emptied    int    // how often somebody else will have closed that
	leaving    bool   // somebody has put another file under the number of file, of which nothing can be read
	left       bool   // and it shows
	released   uint32 // members whose buffers their owner has given back
	hungUp     bool   // nothing more comes in
	broken     bool   // no more will run
	out        string // what became of those before i, each with a line
	cancelled  uint32 // members that will end when their turn has come
	hit        uint32 // members that may: ops.CancelFD does not find those of which the kernel knows only that they come later
	closing    bool
	givenUp    bool // by a Close that did not wait
}

// says is a result in the form in which states have it.
func says(n int, err error, data string) string {
	if err == driver.ErrAbandoned {
		return "abandoned\n"
	}
	return fmt.Sprintf("%d %v %q\n", n, err, data)
}

// next is s with a result of the member whose turn it was.
func (l *lane) next(s state, n int, err error, data string, well bool) state {
	m := l.members[s.i]
	s.out += says(n, err, data)
	s.broken = s.broken || !well && !m.hard
	s.i++
	s.done, s.got = 0, ""
	return s
}

// steps returns the states that may follow by themselves, and whether s may last.
func (l *lane) steps(s state) (all []state, lasts bool) {
	if s.i == len(l.members) {
		return nil, true
	}
	if s.emptied > 0 {
		t := s
		t.emptied, t.place = s.emptied-1, false
		all = append(all, t)
	}
	if s.leaving && !s.left {
		t := s
		t.left = true
		all = append(all, t)
	}
	byOthers := len(all)
	m, bit := l.members[s.i], uint32(1)<<s.i
	ended := func(err error) { all = append(all, l.next(s, s.done, err, s.got, false)) }
	switch {
	case s.broken:
		ended(syscall.ECANCELED)
		if s.closing {
			ended(driver.ErrClosed)
		}
	default:
		var own []state
		own, lasts = l.perform(s, m)
		all = append(all, own...)
		if s.released&bit != 0 { // and it had not begun, or is to be repeated
			ended(buf.ErrReleased)
		}
		if (s.cancelled|s.hit)&bit != 0 {
			ended(syscall.ECANCELED)
		}
		if s.closing {
			ended(driver.ErrClosed)
		}
		if ((s.cancelled|s.hit)&bit != 0 || s.closing) && s.done > 0 {
			ended(nil) // it came when a part had been done, and does not go on
		}
		if l.spoiled && m.hard { // the kernel has followed the link
			ended(syscall.EINTR)
			ended(syscall.EAGAIN)
		}
		if s.cancelled&bit != 0 || s.closing {
			lasts = false
		}
	}
	if l.grace && s.cancelled&bit != 0 || s.givenUp {
		for _, n := range all[byOthers:] {
			if n.i > s.i { // whatever it does, nobody hears of it
				n.out = s.out + says(0, driver.ErrAbandoned, "")
				if m.what == openPlace && n.place {
					n.emptied++
				}
				all = append(all, n)
			}
		}
	}
	return all, lasts
}

// perform is steps for a member that runs.
func (l *lane) perform(s state, m *step) (all []state, lasts bool) {
	done := func(s state, n int, err error, well bool) { all = append(all, l.next(s, n, err, "", well)) }
	// moved is for transfers: n bytes at most can be moved now, of which move moves some, and 0 is the end.
	moved := func(n, most int, repeats bool, move func(s *state, n int)) {
		least := n
		if l.spoiled {
			least = min(n, 1)
		}
		for k := least; k <= n; k++ {
			s := s
			move(&s, k)
			s.done += k
			short := s.done < most
			if short && k > 0 && repeats {
				all = append(all, s)
			}
			if !short || k == 0 || !repeats || m.hard && k == n {
				all = append(all, l.next(s, s.done, nil, s.got, !short))
			}
		}
	}
	if err := l.barred(s, m); err != nil {
		return []state{l.next(s, s.done, err, s.got, false)}, false
	}
	switch m.what {
	case doNothing, syncFile:
		done(s, 0, nil, true)
	case openPlace, closePlace:
		s.place = m.what == openPlace
		done(s, 0, nil, true)
	case failSync:
		done(s, 0, syscall.EINVAL, false)
	case failRead:
		done(s, 0, syscall.EBADF, false)
	case readFile, readPlace:
		off := min(m.off+s.done, len(s.file))
		moved(min(m.n-s.done, len(s.file)-off), m.n, l.chain, func(t *state, n int) { t.got += s.file[off:][:n] })
	case writeFile, writePlace:
		moved(m.n-s.done, m.n, l.chain, func(t *state, n int) {
			off := m.off + s.done
			t.file = s.file[:off] + m.data[s.done:][:n] + s.file[min(off+n, len(s.file)):]
		})
	case readPipe:
		if s.in == "" && !s.hungUp {
			return nil, true
		}
		moved(min(m.n-s.done, len(s.in)), m.n, l.chain, func(t *state, n int) { t.got, t.in = s.got+s.in[:n], s.in[n:] })
	case receive:
		if s.sock == "" {
			return nil, true
		}
		moved(min(m.n, len(s.sock)), m.n, false, func(t *state, n int) { t.got, t.sock = s.sock[:n], s.sock[n:] })
	case send:
		moved(m.n, m.n, false, func(t *state, n int) { t.sent += m.data[:n] })
	case writePipe:
		if s.room == 0 {
			return nil, true
		}
		page := os.Getpagesize()
		t := s
		t.room--
		if t.done += page; t.done == m.n*page {
			done(t, t.done, nil, true)
			break
		}
		if l.chain {
			all = append(all, t)
		}
		if !l.chain || m.hard {
			done(t, t.done, nil, false)
		}
	case pollPipe:
		n := 0
		if s.in != "" {
			n |= unix.POLLIN
		}
		if s.hungUp {
			n |= unix.POLLHUP
		}
		if n == 0 {
			return nil, true
		}
		done(s, n, nil, true)
	case timeOut:
		done(s, 0, nil, true)
	case timeOutLate:
		return nil, true
	}
	return all, false
}

// barred returns why a member cannot be performed.
func (l *lane) barred(s state, m *step) error {
	switch {
	case m.refusal != nil:
		return m.refusal
	case (m.onPlace || m.what == closePlace) && !s.place, m.fd == l.file && !m.onPlace && s.left:
		return syscall.EBADF
	}
	return nil
}

// reach returns all states that may follow, and of these those that may last.
func (l *lane) reach() (all, lasting map[state]bool) {
	all, lasting = map[state]bool{}, map[state]bool{}
	work := slices.Collect(maps.Keys(l.states))
	for len(work) > 0 {
		s := work[len(work)-1]
		if work = work[:len(work)-1]; all[s] {
			continue
		}
		all[s] = true
		next, lasts := l.steps(s)
		if lasts {
			lasting[s] = true
		}
		work = append(work, next...)
	}
	return all, lasting
}

// happens has something happen to a lane, at whatever point of its way it is.
func (l *lane) happens(what string, f func(*state)) {
	l.history = append(l.history, what)
	all, _ := l.reach()
	l.states = map[state]bool{}
	for s := range all {
		f(&s)
		l.states[s] = true
	}
}

// sees leaves those states that fit what was seen.
func (l *lane) sees(what string, fits func(*state) bool) {
	l.history = append(l.history, what)
	all, _ := l.reach()
	l.states = map[state]bool{}
	for s := range all {
		if fits(&s) {
			l.states[s] = true
		}
	}
	if len(l.states) > 0 {
		return
	}
	var might []string
	for s := range all {
		might = append(might, fmt.Sprintf("%+v", s))
	}
	slices.Sort(might)
	l.Fatalf("%s\nis nothing that may be after\n%s\nof\n%s\nThere may be:\n%s", what, strings.Join(l.history, "\n"), l,
		strings.Join(might[:min(len(might), 30)], "\n"))
}

// sealed reports whether the results up to j can be told while those behind it are in the kernel: nothing is to be repeated.
func (l *lane) sealed(out string, j int) bool {
	for i, m := range l.members[:j+1] {
		var n int
		var err string
		_, _ = fmt.Sscan(nth(out, i), &n, &err) // or it is abandoned
		well := err == "<nil>"
		switch m.what {
		case readFile, writeFile, readPlace, writePlace, readPipe, receive, send:
			well = well && n == m.n
		case writePipe:
			well = well && n == m.n*os.Getpagesize()
		}
		if err == "" || !well && !m.hard {
			return false
		}
	}
	return true
}

// nth returns one of the lines.
func nth(lines string, i int) string { return strings.SplitAfter(lines, "\n")[i] }
