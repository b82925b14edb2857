package peer

import (
	"testing"
	"time"
)

func TestParseFio(t *testing.T) {
	s, err := parseFio([]byte(`{"jobs": [{"error": 0, "read": {"total_ios": 5000, "runtime": 500}, "usr_cpu": 2.5, "sys_cpu": 7.5}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if s.Rate() != 10000 || s.CPU != 50*time.Millisecond {
		t.Errorf("got %+v", s)
	}
	for _, bad := range []string{``, `{}`, `{"jobs": [{"error": 5, "read": {"runtime": 500}}]}`, `{"jobs": [{}]}`} {
		if _, err := parseFio([]byte(bad)); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}
