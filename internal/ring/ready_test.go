package ring_test

import (
	"testing"
	"time"

	"uringo/internal/ring"
)

// TestReady looks out for a completion without waiting in the kernel: it is not there before its time, and then it is until it is reaped.
// Submit asks the kernel only when something is queued, or the kernel keeps something.
func TestReady(t *testing.T) {
	for _, c := range []struct {
		name    string
		locked  bool
		without uint32
	}{
		{name: "unlocked"},
		{name: "locked", locked: true},
		{name: "before 6.1", locked: true, without: singleIssuer | deferTaskrun},
		{name: "before 5.19", without: 1<<8 | 1<<9},
	} {
		t.Run(c.name, func(t *testing.T) {
			lockThread(t)
			g := rigOn(t, ring.Config{Kernel: withoutFlags{ring.Linux(), c.without}, Locked: c.locked})
			for i := range uint64(100) {
				p := realPipe(t)
				g.put(g.read(i, p.fd, make([]byte, 1), -1))
				enters := g.r.Enters
				for range 10 {
					if g.submit(); g.r.Ready() || g.r.Enters != enters {
						t.Fatalf("nothing has come: ready %v, %d enters", g.r.Ready(), g.r.Enters-enters)
					}
				}
				p.feed([]byte{1})
				for begin := time.Now(); !g.r.Ready(); g.submit() {
					if time.Since(begin) > 10*time.Second {
						t.Fatal("no completion")
					}
				}
				g.reap()
				if got, ok := g.got[i]; !ok || got.Res != 1 || g.r.Ready() {
					t.Fatalf("%+v, %v; then ready %v", got, ok, g.r.Ready())
				}
			}
		})
	}
}
