package ring

// Waiting returns how many entries wait for readiness or a time.
func (p *Pool) Waiting() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, j := range p.waiting {
		for ; j != nil; j = j.same {
			n++
		}
	}
	return n
}
