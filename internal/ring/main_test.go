package ring_test

import (
	"testing"

	"go.uber.org/goleak"

	"uringo/internal/testenv"
)

func TestMain(m *testing.M) {
	testenv.OpenNetpoller()
	goleak.VerifyTestMain(m)
}
