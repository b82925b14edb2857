package buf

// Waiting returns how many wait for a buffer.
func (p *Pool) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, c := range p.classes {
		n += c.waiters.Len()
	}
	return n
}
