package ring

import (
	"os"
	"testing"
	"time"
)

// TestCloseDisarms closes a ring whose wake-up read is in flight. It must be over before the memory it writes to may go.
func TestCloseDisarms(t *testing.T) {
	r, err := Open(Config{Entries: 2})
	if Unavailable(err) {
		release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
		t.Skipf("needs io_uring: %v, running Linux %s", err, release)
	}
	if err != nil {
		t.Fatal(err)
	}
	for !r.wakeArmed || r.Queued() > 0 {
		if err := r.SubmitAndWait(time.Microsecond); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if r.wakeArmed {
		t.Error("the wake-up read is still in flight")
	}
}
